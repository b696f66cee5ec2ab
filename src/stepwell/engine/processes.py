"""Attempts run in child processes of our own, because only a process can be ended while its task does not want to.

`concurrent.futures.ProcessPoolExecutor` cannot end one worker and is unusable after one has died. This pool ends
exactly the process whose attempt is cancelled, tells how a process died, and starts another. Processes are started
when they are needed and end after a while without work.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import msgspec

from stepwell.engine.child import Child, Interpreter
from stepwell.engine.envelope import Envelope
from stepwell.engine.scripts import refuse_while_loading
from stepwell.errors import StepwellError

_FRESH_TRIES = 3
"""How many processes may die before they have begun a step, until that is told: it is safe to try another one."""

_HINTS = {
    "SIGKILL": "; somebody killed it, or the system did for lack of memory",
    "SIGSEGV": "; a native library that the task uses has crashed",
    "SIGABRT": "; a native library that the task uses has given up",
}


class WorkerDied(StepwellError):
    """A child process ended, or could not start, without an answer to the step it was given.

    `exit_code` is as in `subprocess`: negative for a signal, None when the process never ran.
    """

    code: ClassVar[str] = "worker_died"

    def __init__(self, text: str, exit_code: int | None = None) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class ProcessPool:
    """At most `size` child processes on this event loop; each runs one attempt at a time.

    Args:
        size: how many attempts run at once.
        start_grace: seconds that a process may take to become ready before it is given up.
        end_grace: seconds between SIGTERM, which a task may use to clean up, and SIGKILL.
        idle_seconds: how long a process without work is kept.
        interpreter: the Python that they are; this process's own by default.
    """

    def __init__(
        self,
        size: int,
        *,
        start_grace: float = 30.0,
        end_grace: float = 0.5,
        idle_seconds: float = 60.0,
        interpreter: Interpreter | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"size={size}: a pool needs at least one process")
        self._slots = asyncio.Semaphore(size)
        self._start_grace = start_grace
        self._end_grace = end_grace
        self._idle_seconds = idle_seconds
        self._interpreter = interpreter or Interpreter()
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._calls: set[asyncio.Future[None]] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, envelope: bytes, *, on_note: Callable[[bytes], asyncio.Future[None] | None]) -> bytes:
        """Run the attempt in a child process and return the reply that `run_step` gave there.

        Waits for a free process. `on_note` is called on the loop with each encoded note, before this returns;
        a future that it returns holds the process up until it is done.
        When the awaiting task is cancelled, the process and all it has started are ended, and the cancellation goes
        on once they are gone: nothing of the attempt is running any more then.

        Raises:
            WorkerDied: the process ended without an answer; the pool serves on with another one.
            DefinitionError: a script came here while a child process loads it.
        """
        refuse_while_loading("runs a task")
        call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls.add(call)
        try:
            async with self._slots:
                return await self._run(envelope, on_note)
        finally:
            self._calls.discard(call)
            call.set_result(None)

    async def close(self, *, grace: float) -> None:
        """Refuse new attempts, let those in flight end for `grace` seconds, then end all processes. Idempotent.

        An attempt that has not ended by then raises `WorkerDied`, and so does one that waits for a process.
        """
        self._closed = True
        for child in tuple(self._idle):
            self._retire(child)
        if self._calls and grace > 0:
            await asyncio.wait(self._calls, timeout=grace)
        for child in self._busy:
            self._chore(child.end(self._end_grace))
        if self._calls:
            await asyncio.wait(self._calls)
        while self._chores:
            await asyncio.wait(self._chores)

    async def _run(self, envelope: bytes, on_note: Callable[[bytes], asyncio.Future[None] | None]) -> bytes:
        for left in reversed(range(_FRESH_TRIES)):
            child = await self._child(envelope)
            try:
                reply = await child.call(envelope, on_note)
            except BaseException:  # cancelled: the slot is kept until the process is gone
                await asyncio.shield(self._chore(child.end(self._end_grace)))
                raise
            finally:
                self._busy.discard(child)
            if reply is not None:
                self._keep(child)
                return reply
            self._chore(child.end(self._end_grace))
            if child.begun or self._closed or not left:
                break
        code = child.exited.result() if child.exited.done() else None
        raise WorkerDied(_closing(envelope) if self._closed else _obituary(envelope, child), code)

    async def _child(self, envelope: bytes) -> Child:
        """A process that is ready: an idle one, the last used first so that the others may end, or a new one."""
        while self._idle and not self._closed:
            child = self._idle.pop()
            self._stop_timer(child)
            if not child.exited.done():
                self._busy.add(child)
                return child
            self._chore(child.end(0))
        if self._closed:
            raise WorkerDied(_closing(envelope))
        starting = asyncio.create_task(Child.start(self._interpreter))
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._chore(self._end_started(starting))
            raise
        except (OSError, TypeError, ValueError) as error:  # the latter: no interpreter to start (embedded Python)
            raise WorkerDied(f"{_place(envelope)}: no child process can be started: {error}") from error
        self._busy.add(child)
        try:
            if not self._closed and await child.ready(self._start_grace):
                return child
            text = _closing(envelope) if self._closed else _false_start(envelope, child, self._start_grace)
            raise WorkerDied(text, child.exited.result() if child.exited.done() else None)
        except BaseException:
            try:
                await asyncio.shield(self._chore(child.end(self._end_grace)))
            finally:
                self._busy.discard(child)
            raise

    def _keep(self, child: Child) -> None:
        """Put a process that has answered aside for the next step."""
        if self._closed:
            self._chore(child.quit(self._end_grace))
            return
        child.idle_timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._retire, child)
        self._idle.append(child)

    def _retire(self, child: Child) -> None:
        """Let an idle process end."""
        self._stop_timer(child)
        self._idle.remove(child)
        self._chore(child.quit(self._end_grace))

    def _stop_timer(self, child: Child) -> None:
        if child.idle_timer is not None:
            child.idle_timer.cancel()
            child.idle_timer = None

    async def _end_started(self, starting: asyncio.Task[Child]) -> None:
        """End the process that nobody waits for any more."""
        try:
            child = await starting
        except (OSError, TypeError, ValueError):  # it never was
            return
        await child.end(self._end_grace)

    def _chore(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this to its end, whoever is cancelled meanwhile; `close` waits for it."""
        chore = asyncio.create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)
        return chore


def _closing(envelope: bytes) -> str:
    return f"{_place(envelope)}: not run to its end, because the engine is closing"


def _obituary(envelope: bytes, child: Child) -> str:
    begun = "without an answer" if child.begun else "before it began"
    return f"{_place(envelope)}: child process {child.pid} {_how(child, begun)}"


def _false_start(envelope: bytes, child: Child, seconds: float) -> str:
    how = f"was not ready after {seconds:g} s; is the machine overloaded?"
    if child.exited.done():
        how = _how(child, "before it was ready") + "; its error output says why"
    return f"{_place(envelope)}: child process {child.pid} {how}"


def _how(child: Child, when: str) -> str:
    """How the process ended, and what that may mean."""
    code = child.exited.result() if child.exited.done() else None
    if code is None:
        return f"cannot be ended: it waits for a device ({when})"
    if code >= 0:
        return f"ended with exit code {code} {when}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = "a signal"
    return f"was ended by {name} (signal {-code}) {when}{_HINTS.get(name, '')}"


def _place(envelope: bytes) -> str:
    try:
        work = msgspec.json.decode(envelope, type=Envelope)
    except msgspec.DecodeError:
        return "an unreadable envelope"
    return f'run {work.run_id}: step "{work.step}", attempt {work.attempt}'
