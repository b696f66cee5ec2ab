"""What a child process does: run one step after the other until it is told to quit or its parent is gone.

The pipes to the parent are the process's standard input and output. They are moved aside before any of the user's
code runs, so a task may print what it likes: it comes out on the parent's standard error, line by line. Tasks run
in the main thread, so that SIGTERM can interrupt them: it raises `Terminated` there, which lets `finally` and
`with` blocks clean up before the parent loses patience. A second thread reads the pipe and so sees it end at once
when the parent dies, whatever the task is doing.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import BinaryIO

from stepwell.engine.envelope import Note, encode, run_step
from stepwell.engine.frames import Kind, frame, read_frame
from stepwell.observe.outbox import Outbox


class Terminated(SystemExit):
    """The parent wants this attempt to end. A `SystemExit`, because that is what asyncio lets through."""


class Server:
    """Serves the parent at the other end of the pipes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._running = 0
        self._terminated = False
        self._records = Outbox(lambda fields: encode(Note("record", fields)), self.tell, lambda: self._running)

    def serve(self) -> None:
        """Answer envelopes until QUIT. Does not return when the parent dies."""
        reader = threading.Thread(target=self._read, name="stepwell-pipe", daemon=True)
        reader.start()
        logging.root.addHandler(self._records)
        me = os.getpid()
        self._send(Kind.READY)
        number = 0
        while (envelope := self._inbox.get()) is not None:
            number += 1
            self._running = number
            self._send(Kind.BEGUN)
            reply = run_step(envelope, _Teller(self, number), lambda: self._terminated)
            _flush_prints()
            if os.getpid() != me:
                os._exit(0)  # a task that forked has returned in both processes: only the first may answer
            if self._terminated:
                raise Terminated  # the task has swallowed it
            self._records.drain()
            self._send(Kind.REPLY, reply)
        reader.join()

    def on_sigterm(self, _number: int, _frame: object) -> None:
        """Interrupt what the main thread does, once: a second signal does not disturb the cleaning up."""
        if not self._terminated:
            self._terminated = True
            raise Terminated

    def tell(self, number: int, note: bytes) -> None:
        """Send a note of the step with this number; a thread that outlives its step is not heard any more."""
        with self._lock:
            if self._running == number:
                self._write(frame(Kind.NOTE, note))

    def _send(self, kind: Kind, body: bytes = b"") -> None:
        with self._lock:
            if kind is Kind.REPLY:
                self._running = 0
            self._write(frame(kind, body))

    def _write(self, data: bytes) -> None:
        try:
            self._sink.write(data)
            self._sink.flush()
        except OSError:  # nobody reads: the parent is gone
            end_group()

    def _read(self) -> None:
        while (received := read_frame(self._source)) is not None:
            kind, body = received
            self._inbox.put(None if kind is Kind.QUIT else body)
            if kind is Kind.QUIT:
                return
        end_group()


class _Teller:
    """`note` of one step."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._number = number

    def __call__(self, note: bytes) -> None:
        self._server.tell(self._number, note)


def main(lifeline: int) -> None:
    """Entry of the child process; `lifeline` is the descriptor of a pipe that the parent holds open."""
    source, sink = _take_pipes()
    _die_with_parent(lifeline)
    server = Server(source, sink)
    signal.signal(signal.SIGTERM, server.on_sigterm)
    try:
        server.serve()
    except Terminated:  # tell the truth about how we ended
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    source.close()
    sink.close()


def end_group() -> None:
    """End this process at once, and with it what its tasks have started."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the pipes to private descriptors and give the user's code harmless standard streams."""
    source, sink = os.dup(0), os.dup(1)  # not inherited by what a task starts
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # the parent has no standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(source, os.O_BINARY)
        msvcrt.setmode(sink, os.O_BINARY)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # nobody has replaced it yet
    return open(source, "rb"), open(sink, "wb")


def _flush_prints() -> None:
    """Let out what the task has printed without a newline."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the task has replaced or closed it
            pass


def _die_with_parent(lifeline: int) -> None:
    """Have the kernel kill our group when the parent dies: a task may hold the interpreter so that no thread can.

    Nothing is ever written to the lifeline, so the only news on it is that its other end was closed. Better than
    `PR_SET_PDEATHSIG`, which spares what the task has started and goes off when the starting thread ends.
    """
    if sys.platform == "win32":
        return
    os.set_inheritable(lifeline, False)
    if sys.platform != "linux":
        return
    import fcntl

    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:  # a kernel that does not know it: the reading thread has to do
        pass
