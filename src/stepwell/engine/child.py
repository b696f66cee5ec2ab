"""One child process as its parent sees it: started, given a step, ended, and read until its last word.

Each process leads a process group of its own, so that what a task has started can be ended with it, and Ctrl-C in
a terminal reaches the engine alone. The process itself is `childmain`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

from stepwell.engine.frames import Frames, Kind, frame

_BOOT = """\
import sys
lifeline = int(sys.argv[1])
sys.path[:] = sys.argv[2:]
del sys.argv[1:]
from stepwell.engine.childmain import main
main(lifeline)
"""
_DRAIN_SECONDS = 1.0
"""How long the pipe of an ended process is read for an answer: a process it forked may hold the pipe open for ever."""
_KILL_SECONDS = 5.0
"""How long the kernel may take for SIGKILL before the process is left to it (it waits for a device)."""


class Child(asyncio.SubprocessProtocol):
    """A child process. Make one with `start`; every one must be ended with `quit` or `end`.

    `exited` is done when the process has ended; its value is the exit code, negative for a signal. `begun` says
    whether the user's code of the last step may have run.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._answer: asyncio.Future[bytes | None] = self._loop.create_future()  # the first one is READY
        self._on_note: Callable[[bytes], asyncio.Future[None] | None] | None = None
        self._holds = 0
        self._lifeline: int | None = None
        self._pipe_ended = False
        self._quitting = False
        self.begun = False
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.idle_timer: asyncio.TimerHandle | None = None

    @staticmethod
    async def start() -> Child:
        """Start a process with this one's interpreter, its flags, `sys.path`, environment and working directory.

        Raises:
            OSError: the system cannot start it.
        """
        path = [entry for entry in sys.path if isinstance(entry, str)]
        far, near = os.pipe()
        apart: dict[str, Any] = {"start_new_session": True, "pass_fds": (far,)}  # Any: options of different types
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        command = [sys.executable, *_flags(), "-c", _BOOT, str(far), *path]
        try:
            _, child = await asyncio.get_running_loop().subprocess_exec(
                Child, *command, stdin=subprocess.PIPE, stderr=None, **apart
            )
        except BaseException:
            os.close(near)
            raise
        finally:
            os.close(far)
        child._lifeline = near
        return child

    async def ready(self, seconds: float) -> bool:
        """Whether the process can be given a step, waiting for it at most so long."""
        await asyncio.wait({self._answer}, timeout=seconds)
        return self._answer.done() and self._answer.result() is not None

    async def call(self, envelope: bytes, on_note: Callable[[bytes], asyncio.Future[None] | None]) -> bytes | None:
        """Have the process run a step; its reply, or None when it ended without one. Not while another runs.

        While a future that `on_note` returns is not done, nothing more is read from the process, so that in the end it
        has to wait when it says more.
        """
        self._answer = self._loop.create_future()
        self._on_note = on_note
        self.begun = False
        if self.exited.done():
            return None
        self._write(frame(Kind.ENVELOPE, envelope))
        try:
            return await self._answer
        finally:
            self._on_note = None

    async def quit(self, grace: float) -> None:
        """Let a process without work end by itself; `end` it when it does not within `grace` seconds."""
        self._quitting = True
        if not self.exited.done():
            self._write(frame(Kind.QUIT))
            await asyncio.wait({self.exited}, timeout=max(grace, _DRAIN_SECONDS))
        self._quitting = False
        await self.end(grace)

    async def end(self, grace: float) -> None:
        """End the process and what it has started (SIGTERM, after `grace` seconds SIGKILL); return when it is gone."""
        if not self.exited.done():
            self._signal(signal.SIGTERM)
            await asyncio.wait({self.exited}, timeout=grace)
        if not self.exited.done():
            self._kill()
            await asyncio.wait({self.exited}, timeout=_KILL_SECONDS)
        self._give_up_answer()
        self._transport.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._pid

    # -- what asyncio calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process was started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)  # declared too widely in the base class
        self._pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Part of a frame, a frame, or several have come."""
        for kind, body in self._frames.feed(data):
            if kind is Kind.BEGUN:
                self.begun = True
            elif kind is Kind.NOTE and self._on_note is not None:
                self._tell(body)
            elif kind in (Kind.READY, Kind.REPLY) and not self._answer.done():
                self._answer.set_result(body)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The process closed a pipe: it has ended or is about to, or the task closes what it did not open."""
        if fd != 1:
            return
        self._pipe_ended = True
        if self.exited.done():
            self._give_up_answer()
        else:
            self._loop.call_later(_DRAIN_SECONDS, self._kill)

    def process_exited(self) -> None:
        """The process has ended; an answer may still be in the pipe."""
        code = self._transport.get_returncode()
        self.exited.set_result(-1 if code is None else code)
        if not self._quitting:
            self._sweep()
        if self._pipe_ended:
            self._give_up_answer()
        else:
            self._loop.call_later(_DRAIN_SECONDS, self._give_up_answer)

    # -----------------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        pipe = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))  # it is standard input
        if pipe is not None and not pipe.is_closing():
            pipe.write(data)

    def _tell(self, note: bytes) -> None:
        try:
            assert self._on_note is not None
            waiting = self._on_note(note)
            if waiting is not None and not waiting.done():
                self._hold()
                waiting.add_done_callback(lambda _: self._let_go())
        except Exception as error:  # the listener's trouble is not the step's
            self._loop.call_exception_handler({"message": "a listener to notes of a step failed", "exception": error})

    def _hold(self) -> None:
        self._holds += 1
        pipe = self._output()
        if self._holds == 1 and pipe is not None:
            pipe.pause_reading()

    def _let_go(self) -> None:
        self._holds -= 1
        pipe = self._output()
        if self._holds == 0 and pipe is not None:
            pipe.resume_reading()

    def _output(self) -> asyncio.ReadTransport | None:
        """The process's standard output, while it can be read."""
        pipe = cast("asyncio.ReadTransport | None", self._transport.get_pipe_transport(1))
        return None if pipe is None or pipe.is_closing() else pipe

    def _give_up_answer(self) -> None:
        if not self._answer.done():
            self._answer.set_result(None)

    def _kill(self) -> None:
        if not self.exited.done():
            self._signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)

    def _sweep(self) -> None:
        """End what the ended process has left running in its group."""
        if sys.platform != "win32":
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # Not through the transport: its `send_signal` may reap the process, and its exit code would be lost.
        try:
            if sys.platform == "win32":
                self._transport.kill()
            else:
                os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):  # gone; macOS says EPERM for a group of zombies
            pass


def _flags() -> list[str]:
    """The interpreter's own command line flags (`-O`, `-W`, `-X`, …), as multiprocessing passes them on."""
    known: Callable[[], list[str]] | None = getattr(subprocess, "_args_from_interpreter_flags", None)
    return known() if known is not None else []
