"""Records of the standard library's `logging`: in which run, step and attempt they were made, and what they hold."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

_OWN: Final = frozenset({"stepwell_run", "stepwell_workflow", "stepwell_step", "stepwell_attempt"})
STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes that every record has."""


class Place(NamedTuple):
    """Where code runs. `step` is empty and `attempt` 0 in a workflow body.

    `replaying` says that a body only does again what it did before, because it is being rebuilt.
    """

    run: str
    step: str
    attempt: int
    workflow: str = ""
    replaying: bool = False


class PlaceFilter(logging.Filter):
    """Gives each record the attributes `stepwell_run`, `stepwell_workflow`, `stepwell_step` and `stepwell_attempt`.

    They are empty (the attempt 0) for records that were made outside of any run. What a workflow body logs while it is
    rebuilt from its journal is left out: it was logged when it happened. Attributes that a record has are kept.

    Args:
        where: tells in which place the calling code runs; None outside any run.
    """

    def __init__(self, where: Callable[[], Place | None]) -> None:
        super().__init__()
        self._where = where

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark the record; False for one that is said again."""
        if hasattr(record, "stepwell_run"):
            return True
        place = self._where() or Place("", "", 0)
        if place.replaying:
            return False
        record.stepwell_run = place.run
        record.stepwell_workflow = place.workflow
        record.stepwell_step = place.step
        record.stepwell_attempt = place.attempt
        return True


def message_of(record: logging.LogRecord) -> str:
    """What a record says, also when its arguments do not fit its format."""
    try:
        return record.getMessage()
    except Exception:  # what was meant is still worth a line
        return str(record.msg)


def exception_of(record: logging.LogRecord) -> str:
    """The traceback that a record carries, or nothing."""
    if record.exc_info and record.exc_info[0] is not None:
        return logging.Formatter().formatException(record.exc_info)
    return record.exc_text or ""


def extras_of(record: logging.LogRecord) -> dict[str, object]:
    """The attributes that the caller has added with `extra=`."""
    return {key: value for key, value in vars(record).items() if key not in STANDARD and key not in _OWN}
