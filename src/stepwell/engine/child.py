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
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from stepwell.engine.frames import Frames, Kind, frame, header

_PATH = """\
import sys
count, given = int(sys.argv[1]), sys.argv[2:]
own = [] if count < 0 else [entry for entry in sys.path if entry not in ("", *given)]
sys.path[:] = [*given[:count], *own, *given[count:]] if own else given
del sys.argv[1:], count, given, own
"""
_BOOT = """\
from stepwell.engine.childmain import main
main({lifeline})
"""
_SLICE = 256 * 1024
"""Bytes of an envelope that are handed to the pipe at a time: what the process has not read yet is copied there."""
_DRAIN_SECONDS = 1.0
"""How long the pipe of an ended process is read for an answer: a process it forked may hold the pipe open for ever."""
_KILL_SECONDS = 5.0
"""How long the kernel may take for SIGKILL before the process is left to it (it waits for a device)."""


class Interpreter(msgspec.Struct, frozen=True):
    """The Python that a child process is: this process's own, or that of the virtual environment in `folder`.

    The own one looks for modules exactly where this process does. That of an environment looks where this process
    looks before it comes to the standard library (the script's folder, `PYTHONPATH`), then at its own packages, and
    last at this process's: so what the environment has goes before what is installed here, while Stepwell itself and
    the task's module are found without being installed again.
    """

    executable: str = ""
    folder: str = ""

    def command(self, script: str) -> list[str]:
        """The command that runs `script` so."""
        entries = [entry for entry in sys.path if isinstance(entry, str)]
        if not self.folder:
            return [sys.executable, *_flags(), "-c", _PATH + script, "-1", *entries]
        before, behind = _around_library(entries)
        flags = [flag for flag in _flags() if flag != "-S"]  # it would hide the environment's packages
        return [self.executable, *flags, "-c", _PATH + script, str(len(before)), *before, *behind]

    @property
    def environ(self) -> Mapping[str, str] | None:
        """The process's environment variables; None: as they are here."""
        if not self.folder:
            return None
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
        path = [os.path.dirname(self.executable), *filter(None, [variables.get("PATH")])]
        return {**variables, "PATH": os.pathsep.join(path), "VIRTUAL_ENV": self.folder}


def _around_library(entries: list[str]) -> tuple[list[str], list[str]]:
    """What stands in `sys.path` before and behind the standard library."""
    library = os.path.dirname(os.__file__)
    whole = {library, os.path.join(library, "lib-dynload"), os.path.join(os.path.dirname(library), _ZIP)}
    first = next((number for number, entry in enumerate(entries) if entry in whole), len(entries))
    return entries[:first], [entry for entry in entries[first:] if entry not in whole]


_ZIP = f"python{sys.version_info.major}{sys.version_info.minor}.zip"


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
        self._room: asyncio.Future[None] | None = None
        self._lifeline: int | None = None
        self._pipe_ended = False
        self._quitting = False
        self.begun = False
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.idle_timer: asyncio.TimerHandle | None = None

    @staticmethod
    async def start(interpreter: Interpreter) -> Child:
        """Start a process with this one's flags and working directory.

        Raises:
            OSError: the system cannot start it.
        """
        far, near = os.pipe()
        apart: dict[str, Any] = {"start_new_session": True, "pass_fds": (far,)}  # Any: options of different types
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        command = interpreter.command(_BOOT.format(lifeline=far))
        try:
            _, child = await asyncio.get_running_loop().subprocess_exec(
                Child, *command, stdin=subprocess.PIPE, stderr=None, env=interpreter.environ, **apart
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
        try:
            await self._send(envelope)
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

    def pause_writing(self) -> None:
        """The process does not read as fast as it is written to."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """It has read what there was."""
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

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

    async def _send(self, envelope: bytes) -> None:
        """Write an envelope, a large one slice by slice: megabytes would stand in memory three times otherwise."""
        if len(envelope) <= _SLICE:
            self._write(frame(Kind.ENVELOPE, envelope))
            return
        self._write(header(Kind.ENVELOPE, len(envelope)))
        for at in range(0, len(envelope), _SLICE):
            self._write(memoryview(envelope)[at : at + _SLICE])
            if self._room is not None:
                waits: list[asyncio.Future[Any]] = [self._room, self.exited]  # Any: of different results
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

    def _write(self, data: bytes | memoryview) -> None:
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
