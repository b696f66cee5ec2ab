"""Log records come out of a child process: there as data, here given to the logger that they were meant for.

A child process has no handlers of the user's. There `Outbox` is the only one: it hands each record as data to a thread
that writes it to the pipe, so a task never waits for its log. When records come faster than they go, further ones are
dropped and counted, and the count is a record of its own as soon as there is room. The parent gives the records to the
logger of the same name, where they meet the handlers, filters and levels that the program has set up.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, Final

from stepwell.observe.records import STANDARD, exception_of, extras_of, message_of

ROOT: Final = "root"
"""The name under which the root logger's level travels."""

PENDING_BYTES: Final = 1_000_000
"""Bytes of records that wait in a child process."""

_FLUSH_SECONDS: Final = 5.0
_MESSAGE: Final = 16 * 1024
_EXCEPTION: Final = 64 * 1024
_SENT: Final = (
    "name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "created", "msecs",
    "thread", "threadName", "process", "processName", "stack_info",
)  # fmt: skip


def levels() -> dict[str, int]:
    """The levels that this program has given to its loggers: of those that have one of their own, and of the root."""
    loggers = logging.root.manager
    least = loggers.disable + 1 if loggers.disable else 0  # what `logging.disable` switches off is not sent either
    known = {ROOT: max(logging.root.level, least)}
    for name, logger in tuple(loggers.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            known[name] = max(logger.level, least)
    return known


def set_levels(given: Mapping[str, int]) -> None:
    """Make loggers here as quiet or talkative as those of the process that `levels` was called in."""
    for name, level in given.items():
        logger = logging.root if name == ROOT else logging.getLogger(name)
        if logger.level != level:
            logger.setLevel(level)


def packed(record: logging.LogRecord) -> dict[str, Any]:
    """A record as fields that JSON can hold, except for the values that the caller added."""
    fields: dict[str, Any] = {name: getattr(record, name) for name in _SENT}  # Any: whatever these attributes are
    fields["msg"] = message_of(record)[:_MESSAGE]
    fields["exc_text"] = exception_of(record)[-_EXCEPTION:] or None
    fields["extra"] = extras_of(record)
    return fields


def unpacked(fields: Mapping[str, Any]) -> logging.LogRecord:
    """The record that `packed` gave the fields of."""
    known = {name: value for name, value in fields.items() if name != "extra"}
    extra = {name: value for name, value in fields.get("extra", {}).items() if name not in STANDARD}
    return logging.makeLogRecord({**extra, **known, "args": None, "exc_info": None})


def hand_over(record: logging.LogRecord) -> None:
    """Give a record to the logger that it names, as if it had been made here."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


class Outbox(logging.Handler):
    """The handler of a child process: its records go out through `send`, called in a thread of its own.

    Args:
        encode: makes one record's fields into bytes.
        send: takes bytes with the number of the attempt that they belong to; may block.
        number: the number of the attempt that runs now; 0 when none does.
        room: bytes that may wait; warnings and errors have as much again.
    """

    def __init__(
        self,
        encode: Callable[[dict[str, Any]], bytes],
        send: Callable[[int, bytes], None],
        number: Callable[[], int],
        room: int = PENDING_BYTES,
    ) -> None:
        super().__init__()
        self._encode = encode
        self._send = send
        self._number = number
        self._room = room
        # The `put` of this queue may be interrupted by a signal without harm. Each count has one writer: `emit` runs
        # under the handler's lock, the rest in the thread.
        self._queue: SimpleQueue[tuple[int, bytes] | threading.Event] = SimpleQueue()
        self._put = 0
        self._sent = 0
        self._dropped = 0
        self._told = 0
        self._process = os.getpid()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it as dropped."""
        if os.getpid() != self._process:  # a task has forked: the pipe is not for this process
            if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
                logging.lastResort.handle(record)
            return
        number = self._number()
        if not number:  # no attempt runs that it could belong to
            return
        try:
            data = self._encode(packed(record))
        except Exception:
            self.handleError(record)
            return
        room = self._room if record.levelno < logging.WARNING else 2 * self._room
        if self._put - self._sent + len(data) > room:
            self._dropped += 1
            return
        self._put += len(data)
        self._queue.put((number, data))
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_sending, name="stepwell-records", daemon=True)
            self._thread.start()

    def drain(self) -> None:
        """Return when all records made so far are sent, or after a few seconds if nobody takes them."""
        if self._thread is not None:
            done = threading.Event()
            self._queue.put(done)
            done.wait(_FLUSH_SECONDS)

    def _keep_sending(self) -> None:
        number = 0
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                self._tell_dropped(number)
                item.set()
                continue
            number, data = item
            self._send(number, data)
            self._sent += len(data)
            self._tell_dropped(number)

    def _tell_dropped(self, number: int) -> None:
        """Say how many were dropped, once the flood is over."""
        dropped = self._dropped
        if dropped == self._told or self._put != self._sent:
            return
        text = f"{dropped - self._told:,} log records were dropped: they came faster than they could be sent"
        self._told = dropped
        fields = {"name": "stepwell.engine", "levelno": logging.WARNING, "levelname": "WARNING", "msg": text}
        record = packed(logging.makeLogRecord(fields))
        self._send(number, self._encode(record))
