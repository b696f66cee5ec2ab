"""What went wrong, as data that survives the journal: type, message, traceback, cause."""

from __future__ import annotations

from typing import Any, Final

import msgspec

MESSAGE_LIMIT = 16 * 1024
TRACEBACK_LIMIT = 64 * 1024

RUN_CANCELLED: Final = "stepwell.errors.RunCancelled"
"""The `type` with which the step of a child run fails when the child was cancelled."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as data.

    `type` is the class as `module.qualname` (`ValueError` for builtins); `kinds` are the same for its base
    classes, nearest first, so that a handler can match by class without importing anything. `retryable` is false
    when no further attempt may help, `timed_out` is true when a time limit ended it. `details` is what the error says
    for programs, as JSON; `retry_after` is how many microseconds to wait at least before a further attempt.
    """

    type: str
    message: str
    kinds: tuple[str, ...] = ()
    traceback: str = ""
    retryable: bool = True
    timed_out: bool = False
    cause: Failure | None = None
    details: Any = None  # Any: JSON
    retry_after: int | None = None

    def summary(self) -> str:
        """One line: type and message."""
        first = self.message.strip().splitlines()[0] if self.message.strip() else ""
        name = self.type.rsplit(".", 1)[-1]
        return f"{name}: {first}" if first else name
