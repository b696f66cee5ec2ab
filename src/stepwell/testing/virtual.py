"""Time that moves only when nothing is left to do, and event loops that live in it: one per simulated process.

A `VirtualTime` owns the timers of all its loops. It runs what is ready, one *batch* of one loop at a time, and when
nothing is ready it jumps to the next timer; no test that uses it ever sleeps. Which loop goes next, and how long a
batch seems to take, is drawn from a seed, so the same seed gives the same execution.

Within one loop callbacks run in the order in which they became ready: asyncio promises that order and code may rely on
it. What a real loop leaves open is *when* something from outside (an answer of the store, the end of an attempt, a
timer) gets into that order. That is what the seed varies: outside events come after drawn delays, and with
`dawdle > 0` virtual time sometimes passes between two batches although more is ready, so that an outside event can
come between any two callbacks of a chain.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from random import Random
from typing import Any, NoReturn, Protocol, TypeVar, cast

from stepwell.engine.clock import LONGEST_ALARM

T = TypeVar("T")
L = TypeVar("L", bound="SimLoop")

BASE = 1_800_000_000_000_000
"""The wall time at which virtual time begins (microseconds; in January 2027)."""

RESTLESS = 20_000
"""Batches in a row without a moment's rest after which a simulated process is taken to spin."""

_log = logging.getLogger("stepwell.testing")


class NeverAtRest(AssertionError):
    """Something is always ready: a process spins, and on a real machine it would keep a core busy for nothing."""


class OutOfTime(AssertionError):
    """Nothing is ready and no timer is set, or the virtual time limit has passed: what is awaited cannot come."""


class Outside(Protocol):
    """Real work outside all loops, such as threads, for which time stands still."""

    def take_in(self) -> bool:
        """Hand one thing that has come to its loop, waiting for it if need be; False when nothing is under way."""


class VirtualTime:
    """The time of any number of `SimLoop`s, in whole microseconds from 0.

    Args:
        seed: decides every choice.
        dawdle: the chance that time passes after a batch although more is ready.
        restless: batches in a row without a moment's rest that are taken for spinning.
        outside: what is waited for before time moves.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        dawdle: float = 0.0,
        restless: int = RESTLESS,
        outside: Outside | None = None,
    ) -> None:
        self.micros = 0
        self.batches = 0
        self._chance = Random(seed)
        self._dawdle = dawdle
        self._restless = restless
        self._outside = outside
        self._since_rest = 0
        self._timers: list[tuple[int, int, asyncio.TimerHandle, SimLoop]] = []
        self._set = 0
        self._loops: list[SimLoop] = []

    def run(self, until: Callable[[], bool], *, limit: int | None = None) -> None:
        """Run all loops until `until()` holds; it is asked after every batch.

        Raises:
            NeverAtRest: some loop spins.
            OutOfTime: nothing can happen any more, or `limit` microseconds of virtual time have passed.
        """
        end = None if limit is None else self.micros + limit
        self._since_rest = 0
        while not until():
            if not self._go_on(end):
                raise OutOfTime(f"at {self.micros} µs nothing is ready, and the next timer is too far away or missing")

    def pass_by(self, duration: int, *, until: Callable[[], bool]) -> bool:
        """Let time pass, with all that comes due in it; True as soon as `until()` holds, which is asked as by `run`.

        A duration of 0 runs what is ready now. Raises `NeverAtRest`.
        """
        end = self.micros + duration
        self._since_rest = 0
        while not until():
            if not self._go_on(end):
                self.micros = max(self.micros, end)
                return False
        return True

    def _go_on(self, end: int | None) -> bool:
        """Run one batch, or else jump to the next timer; False when there is none up to `end`."""
        self._ring()
        ready = [loop for loop in self._loops if loop.ready and not loop.frozen]
        if ready:
            self._since_rest += 1
            if self._since_rest > self._restless:
                raise NeverAtRest(
                    f"{self._restless:,} batches in a row at {self.micros} µs, and still something is ready"
                )
            self._batch(ready[0] if len(ready) == 1 else self._chance.choice(ready))
            return True
        if self._outside is not None and self._outside.take_in():
            return True
        self._since_rest = 0
        if not self._timers or (end is not None and self._timers[0][0] > end):
            return False
        self.micros = max(self.micros, self._timers[0][0])
        return True

    def _batch(self, loop: SimLoop) -> None:
        self.batches += 1
        loop.run_batch()
        if self._dawdle and self._chance.random() < self._dawdle:
            self.micros += int(self._chance.expovariate(1 / 500)) + 1

    def _ring(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self.micros:
            _, _, handle, loop = heapq.heappop(timers)
            if not handle.cancelled():
                loop.ready.append(handle)
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)

    def set_timer(self, loop: SimLoop, due: int, handle: asyncio.TimerHandle) -> None:
        """Make `handle` ready at `due`; timers of the same microsecond ring in the order in which they were set."""
        self._set += 1
        heapq.heappush(self._timers, (due, self._set, handle, loop))

    def timers_of(self, loop: SimLoop) -> list[asyncio.TimerHandle]:
        """The timers of a loop that are set and not cancelled."""
        return [handle for _, _, handle, owner in self._timers if owner is loop and not handle.cancelled()]

    def loop(self, name: str = "process") -> SimLoop:
        """A new event loop that lives in this time."""
        loop = SimLoop(self, name)  # type: ignore[abstract]  # the end of this module answers every method
        return self.add(loop)

    def add(self, loop: L) -> L:
        """Let a loop of another kind live in this time."""
        self._loops.append(loop)
        return loop

    def remove(self, loop: SimLoop) -> None:
        """A loop's life ends, with all that it still meant to do."""
        if loop in self._loops:
            self._loops.remove(loop)
        self._timers = [timer for timer in self._timers if timer[3] is not loop]
        heapq.heapify(self._timers)


class SimLoop(asyncio.AbstractEventLoop):
    """An asyncio event loop in virtual time, without selector, threads or I/O: the loop of one simulated process.

    `VirtualTime.loop` makes one. `frozen` stops it as SIGSTOP stops a process: timers still become ready, nothing runs.
    `kill` ends it as SIGKILL does: nothing of it runs again. `errors` holds what asyncio would have logged about lost
    exceptions.
    """

    def __init__(self, time: VirtualTime, name: str) -> None:
        self.virtual = time
        self.name = name
        self.frozen = False
        self.ready: deque[asyncio.Handle] = deque()
        self.errors: list[str] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}  # Any: whatever they return
        self._dead = False

    # -- running ------------------------------------------------------------------------------------------------

    def run_until_complete(self, future: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:  # type: ignore[override]
        """Run this loop, and all others of its time, until `future` is done; return its result or raise its error."""
        awaited = cast("asyncio.Future[T]", asyncio.ensure_future(future, loop=self))
        self.virtual.run(awaited.done)
        return awaited.result()

    def run_batch(self) -> None:
        """Run what is ready now; what becomes ready meanwhile waits for the next batch, as on a real loop."""
        ready = self.ready
        with self.running():
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
                if not ready:  # the process was killed by one of its own callbacks, or has no more to do
                    break

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop for a while, for code that is called from outside any loop."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def kill(self) -> None:
        """End at once: queued callbacks and timers vanish, coroutines are closed where they stand.

        Their `finally` blocks run, as Python insists, but on a dead loop: nothing that they schedule ever runs.
        """
        if self._dead:
            return
        self._dead = True
        self.ready.clear()
        self.virtual.remove(self)
        with self.running():
            for task in tuple(self.tasks):
                _dispose(task)
        self.tasks.clear()
        self.ready.clear()

    def close(self) -> None:
        """End; what is still pending is dropped."""
        self.kill()

    async def shutdown_asyncgens(self) -> None:
        """Nothing is kept of asynchronous generators here."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    # -- what asyncio asks of a loop ----------------------------------------------------------------------------

    def time(self) -> float:
        return self.virtual.micros / 1_000_000

    def call_soon(  # type: ignore[override]  # typeshed's variadic form says no more
        self,
        callback: Callable[..., object],
        *args: Any,  # Any: asyncio's own signature
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._dead:
            self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # all simulated processes share one thread

    def call_later(  # type: ignore[override]  # as call_soon
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,  # Any: asyncio's own signature
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as call_soon
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,  # Any: asyncio's own signature
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._dead:
            # Never early: rounded up, but for what floating point adds to a whole number of microseconds.
            self.virtual.set_timer(self, math.ceil(when * 1_000_000 - 0.01), handle)
        return handle

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """Cancelled timers leave the heap when their time comes."""

    def create_future(self) -> asyncio.Future[Any]:  # Any: asyncio's own signature
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # typeshed's union of coroutine and generator is wider than ours
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None, **_: object
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        if self._dead:
            _dispose(task)
            return task
        self.tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """There is no debug mode."""

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:  # Any: asyncio's own signature
        if self._dead:
            return
        error = context.get("exception")
        self.errors.append(f"{context.get('message', 'an error')}: {error!r}")
        _log.error("%s: %s", self.name, context.get("message"), exc_info=error)

    default_exception_handler = call_exception_handler


class VirtualClock:
    """The engine's clock on a `SimLoop`: `BASE` plus virtual time, plus what `jump` has added.

    As with the machine's clock, an alarm may ring before `now()` has reached its time: when the clock was set back
    meanwhile, and after `longest_alarm` in any case (microseconds).
    """

    def __init__(self, loop: SimLoop, *, base: int = BASE, longest_alarm: int = LONGEST_ALARM) -> None:
        self._loop = loop
        self._base = base
        self._longest_alarm = longest_alarm

    def now(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        return self._base + self._loop.virtual.micros

    def jump(self, by: int) -> None:
        """Set the clock forward or back (microseconds), as an administrator or NTP does."""
        self._base += by

    def call_at(self, when: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """See `engine.clock.Clock`."""
        delay = max(0, min(when - self.now(), self._longest_alarm))
        return self._loop.call_later(delay / 1_000_000, callback)


def _dispose(task: asyncio.Task[Any]) -> None:  # Any: whatever it returns
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch for "was destroyed but is pending"
    coroutine = cast("Coroutine[Any, Any, Any]", task.get_coro())
    for _ in range(100):
        try:
            coroutine.close()
        except RuntimeError:  # its finally block awaits, or it is what runs just now
            continue
        except BaseException:  # the dead tell nobody
            pass
        return


def _refusing(name: str) -> Callable[..., NoReturn]:
    def method(self: SimLoop, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError(
            f"{self.name}: {name} needs a real event loop; virtual time has no I/O and no threads"
        )

    method.__name__ = name
    return method


for _name in asyncio.AbstractEventLoop.__dict__:
    if not _name.startswith("_") and _name not in SimLoop.__dict__:
        setattr(SimLoop, _name, _refusing(_name))
SimLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # every method is answered above
