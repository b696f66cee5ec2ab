"""The event loop on which a workflow body runs: deterministic, without I/O, driven one turn at a time.

A *turn* delivers one outcome and runs every callback that becomes ready, in order, until all coroutines wait.
The order of callbacks depends on nothing but the order of deliveries, and those come in journal order, so ordinary
`asyncio` code (gather, TaskGroup, wait, Queue, Semaphore, timeout, …) does the same on every replay. `time()` is
the journal's time of the turn. Whatever would reach outside raises `WorkflowBodyError`.

Every asyncio task made here belongs to a *scope*, numbered where it was made, which is how steps called in
concurrent branches keep their identity (DESIGN, "Which recorded step is this call?").
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import sys
import weakref
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from stepwell.errors import ControlFlow, WorkflowBodyError

T = TypeVar("T")

CALLBACKS_PER_TURN = 2_000_000
"""A turn of more callbacks than this is taken for a loop that never waits."""

_log = logging.getLogger("stepwell.workflow")


class Scope:
    """Where names and occurrences count: the run's body, or one asyncio task in it."""

    __slots__ = ("counts", "path", "tasks")

    def __init__(self, path: tuple[tuple[str, int], ...]) -> None:
        self.path = path
        self.counts: dict[str, int] = {}
        self.tasks = 0

    def occurrence(self, name: str) -> int:
        """Number this call of `name`, from 1."""
        number = self.counts.get(name, 0) + 1
        self.counts[name] = number
        return number

    def child(self, label: str, number: int) -> Scope:
        """A scope inside this one."""
        return Scope((*self.path, (label, number)))


class TurnTask(asyncio.Task[T]):
    """An asyncio task that knows its scope, and whose place in a set does not depend on its address.

    `asyncio.wait` hands tasks back in sets; with hashes by number a loop over such a set is the same on every replay.
    """

    __slots__ = ("_number", "context", "scope")

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        loop: TurnLoop,
        name: str | None,
        context: Context | None,
        scope: Scope,
        number: int,
    ) -> None:
        self.scope = scope
        # asyncio puts the task into a set of all tasks of all loops while it is made; thousands of bodies with a task
        # number 1 each would collide there. Weak references keep the hash that they saw first.
        self._number = id(self)
        self.context = copy_context() if context is None else context
        super().__init__(coro, loop=loop, name=name, context=self.context)
        self._number = number
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class TimerSink(Protocol):
    """Who turns a loop's timers into durable ones."""

    def timer_set(self, timer: asyncio.TimerHandle) -> None:
        """A callback was scheduled for later."""

    def timer_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """It was cancelled before it ran."""


class _Handle(asyncio.Handle):
    """A callback that is ready: what `asyncio.Handle` is without its debug mode, in half of the time to make it."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],  # Any: asyncio's own signature
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _Nobody:
    """Listens to the timers of a loop that is closed."""

    def timer_set(self, timer: asyncio.TimerHandle) -> None:
        pass

    def timer_cancelled(self, timer: asyncio.TimerHandle) -> None:
        pass


_NOBODY = _Nobody()


class TurnLoop(asyncio.AbstractEventLoop):
    """An `asyncio` event loop that runs only when told to, and only what is ready."""

    def __init__(self, timers: TimerSink) -> None:
        self.root_scope = Scope(())
        self.now = 0.0
        self.closed = False
        self.tasks: set[TurnTask[Any]] = set()  # Any: whatever they return
        self.on_failure: Callable[[BaseException], None] | None = None
        self.has_given_up = False
        self._timers = timers
        self._made = 0
        self._group: _Group | None = None
        self._ready: deque[asyncio.Handle] = deque()
        self._generators: weakref.WeakSet[AsyncGenerator[Any, Any]] | None = None  # Any: whatever they yield
        self._generators_left = 0
        self.context: Context | None = None  # the body's own; whoever begins it sets it

    def turn(self) -> None:
        """Run until nothing is ready. Call it from a plain callback of the host loop, never from inside a task."""
        before = self._take_charge()
        ready = self._ready
        count = 0
        try:
            while ready:
                self._group = None
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                count += 1
                if count > CALLBACKS_PER_TURN:
                    ready.clear()
                    self.has_given_up = True
                    raise WorkflowBodyError(
                        f"the workflow body ran {CALLBACKS_PER_TURN:,} callbacks without waiting for anything; "
                        "a loop over `await asyncio.sleep(0)` never gives way here: wait for a step, timer or signal"
                    )
        finally:
            _give_back(*before)

    def dispose(self) -> None:
        """Close all coroutines and generators of the body, and run nothing more.

        Each is closed in its own context: what its `finally` blocks ask for is asked of the closed body, which answers
        nothing, and never becomes a plain call of a task outside the engine.
        """
        self.closed = True
        self._ready.clear()
        before = self._take_charge()
        try:
            while self.tasks:
                task = self.tasks.pop()
                if not task.done():
                    task.context.run(_close, task.get_coro().close)
                    _wake_no_more(task)
            for generator in tuple(self._generators or ()):
                self._generator_left(generator)
        finally:
            _give_back(*before)
        # What refers to itself is freed by the garbage collector only, and with thousands of runs that takes longer
        # than the runs: the context has the body, which has this loop, which has the program, which has the loop.
        self.context = None
        self._timers = _NOBODY

    def _take_charge(self) -> tuple[asyncio.AbstractEventLoop | None, Any]:  # Any: whatever hooks the host has
        """From here on this is the running loop, and it is told of asynchronous generators; returns what was before."""
        before = events._get_running_loop(), sys.get_asyncgen_hooks()
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_begun, self._generator_left)
        return before

    def _generator_begun(self, generator: AsyncGenerator[Any, Any]) -> None:  # Any: whatever it yields
        if self._generators is None:
            self._generators = weakref.WeakSet()
        self._generators.add(generator)

    def _generator_left(self, generator: AsyncGenerator[Any, Any]) -> None:  # Any: whatever it yields
        """Nobody iterates over it any more: run its clean-up, as asyncio does, in a task whose scope is its own."""
        if self._generators is not None:
            self._generators.discard(generator)
        if self.context is None:  # the body is gone, and nothing of it runs any more
            return
        context = self.context.copy()
        if self.closed:
            context.run(_close, lambda: _throw_into(generator.aclose()))
            return
        self._generators_left += 1
        scope = self.root_scope.child("generator", self._generators_left)
        self.call_soon(lambda: self.create_task(generator.aclose(), context=context, scope=scope))

    def tasks_in_order(self) -> list[TurnTask[Any]]:  # Any: whatever they return
        """The tasks that have not ended, in the order in which they were made."""
        return sorted(self.tasks, key=hash)

    def current_scope(self) -> Scope:
        """The scope of the running task; the body's own when none runs."""
        task = asyncio.current_task(self)
        return task.scope if isinstance(task, TurnTask) else self.root_scope

    # -- what asyncio asks of a loop ----------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]  # typeshed's variadic form says no more
        self,
        callback: Callable[..., object],
        *args: Any,  # Any: asyncio's own signature
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        if not self.closed:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # as call_soon
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,  # Any: asyncio's own signature
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as call_soon
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,  # Any: asyncio's own signature
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.closed:
            self._timers.timer_set(timer)
        return timer

    def fire(self, timer: asyncio.TimerHandle) -> None:
        """Make a timer's callback ready."""
        if not timer.cancelled():
            self._ready.append(timer)

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        self._timers.timer_cancelled(timer)

    def create_future(self) -> asyncio.Future[Any]:  # Any: asyncio's own signature
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # typeshed's union of coroutine and generator is wider than ours
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        scope: Scope | None = None,
        **_ignored: object,
    ) -> TurnTask[T]:
        """Make a task in a scope of its own, numbered where it is made (or in `scope`)."""
        place = None
        if scope is None:
            parent = self.current_scope()
            place = _place_among(coro)
            if place is None:
                parent.tasks += 1
                scope = parent.child("task", parent.tasks)
            else:
                scope = self._scope_of_one_among(parent, place)
        self._made += 1
        task: TurnTask[T] = TurnTask(coro, loop=self, name=name, context=context, scope=scope, number=self._made)
        if place is not None:
            self._start_in_order(place)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: TurnTask[Any]) -> None:  # Any: whatever it returns
        self.tasks.discard(task)
        error = task._exception  # asked for with `exception()`, one that nobody looks at would never be told of
        if error is not None and self.on_failure is not None:
            self.on_failure(error)

    def _scope_of_one_among(self, parent: Scope, place: _Place) -> Scope:
        """`as_completed` makes its tasks in the order of a set; number them as the caller listed them."""
        if self._group is None or self._group.key != place.key:
            self._group = _Group(place.key, parent.tasks, len(self._ready), [])
            parent.tasks += place.listed
        return parent.child("task", self._group.first + place.position + 1)

    def _start_in_order(self, place: _Place) -> None:
        """Move the new task's first step, just put at the end, to where the caller's order has it."""
        assert self._group is not None, "the scope was taken from it"
        handle = self._ready.pop()
        position = bisect.bisect(self._group.begun, place.position)
        self._group.begun.insert(position, place.position)
        self._ready.insert(self._group.position + position, handle)

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        pass

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:  # Any: asyncio's own signature
        error = context.get("exception")
        if not self.closed and not isinstance(error, ControlFlow):
            _log.error(context.get("message", "error in a workflow body"), exc_info=error)

    default_exception_handler = call_exception_handler

    async def shutdown_asyncgens(self) -> None:
        pass

    # -- what a workflow body may not do ------------------------------------------------------------------------

    def _refuse(self, what: str) -> NoReturn:
        raise WorkflowBodyError(
            f"{what} in a workflow body cannot be replayed: put this in a task (`@task`) and call the task here"
        )

    def run_in_executor(self, *_: object, **__: object) -> NoReturn:
        self._refuse("a thread (asyncio.to_thread, run_in_executor)")

    def call_soon_threadsafe(self, *_: object, **__: object) -> NoReturn:
        self._refuse("a call from another thread (call_soon_threadsafe)")

    def run_forever(self) -> NoReturn:
        self._refuse("running an event loop")

    def run_until_complete(self, *_: object) -> NoReturn:
        self._refuse("running an event loop")


def _give_back(loop: asyncio.AbstractEventLoop | None, hooks: Any) -> None:  # Any: as they were taken
    sys.set_asyncgen_hooks(*hooks)
    events._set_running_loop(loop)


def _close(close: Callable[[], object]) -> None:
    """Close for good: what awaits while it is closed is closed again."""
    for _ in range(1000):
        try:
            close()
        except RuntimeError:  # "… ignored GeneratorExit": its finally block awaits
            continue
        except BaseException:  # whatever it raises on its way out reaches nobody
            pass
        return


def _wake_no_more(task: TurnTask[Any]) -> None:  # Any: whatever it returns
    """A task and the future that it waits for hold each other: let that go, as `dispose` says why."""
    waited_for: Any = getattr(task, "_fut_waiter", None)  # Any: a future, of a class that is asyncio's own affair
    for callback, _ in getattr(waited_for, "_callbacks", None) or ():
        waited_for.remove_done_callback(callback)


def _throw_into(ending: Coroutine[Any, Any, None]) -> None:
    ending.throw(GeneratorExit)
    raise RuntimeError("the generator ignored GeneratorExit")  # as a coroutine's `close` says it


class _Place(NamedTuple):
    """Where a coroutine stands in the list that was given to `asyncio.as_completed`."""

    key: int
    position: int
    listed: int


class _Group(NamedTuple):
    """The tasks of one call of `as_completed`: tasks before them, where their first steps stand, which are there."""

    key: int
    first: int
    position: int
    begun: list[int]


def _place_among(coro: object) -> _Place | None:
    """`asyncio.as_completed` iterates a *set* of its coroutines; read the caller's own order off its frame.

    None when the task is made by anybody else, or from an iterator that cannot be looked at again.
    """
    frame = sys._getframe(2)
    if frame.f_code.co_filename != asyncio.tasks.__file__:
        return None
    while frame is not None and frame.f_code.co_filename == asyncio.tasks.__file__:
        if frame.f_code.co_name in ("as_completed", "__init__"):
            given = frame.f_locals.get("fs", frame.f_locals.get("aws"))
            if isinstance(given, list | tuple):
                for position, one in enumerate(given):
                    if one is coro:
                        return _Place(id(frame), position, len(given))
            return None
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def _refusing(name: str, what: str) -> Callable[..., NoReturn]:
    def method(self: TurnLoop, *_: object, **__: object) -> NoReturn:
        self._refuse(what)

    method.__name__ = name
    return method


for _what, _names in {
    "network I/O": "create_connection create_server create_datagram_endpoint create_unix_connection create_unix_server "
    "connect_accepted_socket start_tls getaddrinfo getnameinfo sock_recv sock_recv_into sock_recvfrom "
    "sock_recvfrom_into sock_sendall sock_sendto sock_connect sock_accept sock_sendfile sendfile add_reader "
    "remove_reader add_writer remove_writer connect_read_pipe connect_write_pipe",
    "a subprocess": "subprocess_exec subprocess_shell",
    "a signal handler": "add_signal_handler remove_signal_handler",
}.items():
    for _name in _names.split():
        setattr(TurnLoop, _name, _refusing(_name, _what))
TurnLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # every method is answered above
