"""What happens to threads in virtual time: time stands while one works, and what they tell arrives one by one.

A thread takes real time and no virtual time. Whatever it hands to its loop waits in a queue and is taken from there
only when nothing else is ready, one thing at a time. So with one thread at a time (the default of `ThreadedLoop`) a
test does the same on every machine, whatever the scheduler does.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import Any, ParamSpec, TypeVar, cast

from stepwell.engine.executor import Attempt, Executor
from stepwell.testing.virtual import SimLoop, VirtualTime

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 10.0
"""How long a thread may work, in real seconds, until the test is given up."""


class StillWorking(AssertionError):
    """A thread has worked for longer than the bench's patience, and virtual time stands still for it."""


class Threads:
    """The threads of any number of loops: how many work, and what they have told. An `Outside` of `VirtualTime`.

    Args:
        patience: how long to wait for a thread that works (real seconds).
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._changed = threading.Condition()
        self._working: dict[int, str] = {}
        self._begun = 0
        self._told: deque[tuple[ThreadedLoop, asyncio.Handle]] = deque()

    def begin(self, what: str) -> int:
        """A thread is about to work on `what`; give the number back to `end`."""
        with self._changed:
            self._begun += 1
            self._working[self._begun] = what
            return self._begun

    def end(self, number: int) -> None:
        """It has ended, and all that it told is told."""
        with self._changed:
            self._working.pop(number, None)
            self._changed.notify_all()

    def tell(self, loop: ThreadedLoop, handle: asyncio.Handle) -> None:
        """Hand something to a loop from any thread."""
        with self._changed:
            self._told.append((loop, handle))
            self._changed.notify_all()

    def take_in(self) -> bool:
        """See `virtual.Outside`.

        Raises:
            StillWorking: nothing came within the patience.
        """
        with self._changed:
            while not self._told:
                if not self._working:
                    return False
                if not self._changed.wait(self.patience):
                    what = ", ".join(sorted(set(self._working.values())))
                    raise StillWorking(
                        f"{what}: still at work in a thread after {self.patience:g} real seconds; virtual time stands "
                        "while a thread works, so stub what waits for the outside world, or for time, in a thread"
                    )
            loop, handle = self._told.popleft()
        loop.receive(handle)
        return True

    def wait_for_all(self) -> None:
        """Wait until no thread works; what they told stays to be taken in. Raises StillWorking."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._working, self.patience):
                raise StillWorking(f"{', '.join(self._working.values())}: still at work after its process has ended")


class CountedPool(ThreadPoolExecutor):
    """A thread pool whose work is counted by `Threads` until the last callback of its future has run."""

    def __init__(self, threads: Threads, size: int) -> None:
        super().__init__(size, thread_name_prefix="stepwell-bench")
        self._counted = threads

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `concurrent.futures.Executor.submit`."""
        number = self._counted.begin(_name_of(fn, args))
        told: Future[T] = Future()

        def work() -> None:
            if not told.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                told.set_exception(error)
            else:
                told.set_result(result)

        super().submit(work).add_done_callback(lambda _: self._counted.end(number))
        return told


class ThreadedLoop(SimLoop):
    """A `SimLoop` that threads may talk to and that can start some: what `asyncio.to_thread` needs.

    `frozen` also ends the batch that is running, so that a process can be cut off by one of its own callbacks.
    """

    def __init__(self, time: VirtualTime, name: str, threads: Threads, size: int = 1) -> None:
        super().__init__(time, name)
        self.pool = CountedPool(threads, size)
        self._threads = threads
        self._own = threading.get_ident()

    def run_batch(self) -> None:
        """See `SimLoop.run_batch`."""
        ready = self.ready
        with self.running():
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
                if self.frozen or not ready:
                    break

    def receive(self, handle: asyncio.Handle) -> None:
        """What a thread told is ready now."""
        if not self.is_closed():
            self.ready.append(handle)

    def call_soon_threadsafe(  # type: ignore[override]  # as call_soon
        self,
        callback: Callable[..., object],
        *args: Any,  # Any: asyncio's own signature
        context: Context | None = None,
    ) -> asyncio.Handle:
        if threading.get_ident() == self._own:
            return self.call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._threads.tell(self, handle)
        return handle

    def run_in_executor(  # type: ignore[override]  # typeshed's variadic form says no more
        self,
        executor: FuturesExecutor | None,
        func: Callable[..., T],
        *args: Any,  # Any: asyncio's own signature
    ) -> asyncio.Future[T]:
        if executor is None:
            return asyncio.wrap_future(self.pool.submit(func, *args), loop=self)
        number = self._threads.begin(_name_of(func, args))
        future = executor.submit(func, *args)
        told = asyncio.wrap_future(future, loop=self)  # its callback comes first: it has told before the work has ended
        future.add_done_callback(lambda _: self._threads.end(number))
        return told

    def kill(self) -> None:
        """See `SimLoop.kill`; work that no thread has begun is dropped."""
        super().kill()
        self.pool.shutdown(wait=False, cancel_futures=True)


def _name_of(fn: Callable[..., object], args: tuple[object, ...]) -> str:
    """What people call the work; engine and asyncio wrap the function in `Context.run`."""
    for candidate in (*args[:2], *getattr(fn, "args", ())[:1], fn):
        if isinstance(candidate, Attempt):
            return f"step {candidate.path}"
        name = getattr(candidate, "__qualname__", None)
        if name is not None and name not in ("Context.run", Executor._thread_main.__qualname__):
            return cast(str, name)  # a qualified name is text
    return "some work"
