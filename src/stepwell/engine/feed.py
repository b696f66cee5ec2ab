"""Who is told what: committed entries by seq, live notes, and ends of runs, to any number of readers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from stepwell.stores.protocol import Stored

_log = logging.getLogger("stepwell.engine")


class Live(msgspec.Struct, frozen=True):
    """Something that is no fact: `kind` is log, progress, maps or chunk; `step` is empty for the workflow body.

    A `log` node of a graph speaks under its path, without an attempt, and gives the line's `level` among the fields.
    """

    run_id: str
    kind: str
    at: int
    fields: Mapping[str, object]
    step: str = ""
    attempt: int = 0


class Reader(Protocol):
    """Somebody who listens to all runs of an engine. Must be quick; what it raises is logged and dropped."""

    def entries(self, run_id: str, stored: Sequence[Stored]) -> None:
        """These entries were committed, in order, none left out for runs that this engine drives."""

    def live(self, note: Live) -> None:
        """This was said."""


class Feed:
    """Hands out what was committed and what was said."""

    def __init__(self) -> None:
        self._readers: list[Reader] = []

    @property
    def has_readers(self) -> bool:
        """Whether anybody listens at all."""
        return bool(self._readers)

    def subscribe(self, reader: Reader) -> Callable[[], None]:
        """Add a reader; returns the function that removes it."""
        self._readers.append(reader)
        return lambda: self._readers.remove(reader)

    def publish(self, run_id: str, stored: Sequence[Stored]) -> None:
        """Tell all readers."""
        for reader in tuple(self._readers):
            try:
                reader.entries(run_id, stored)
            except Exception:  # a reader's fault must not reach the run
                _log.exception("a reader of the feed failed on entries of run %s", run_id)

    def say(self, note: Live) -> None:
        """Tell all readers."""
        for reader in tuple(self._readers):
            try:
                reader.live(note)
            except Exception:
                _log.exception("a reader of the feed failed on a note of run %s", note.run_id)
