"""When does the log go back into the file? At about 4 MB, and whole when nothing is going on.

SQLite tells how long its log is only when asked to checkpoint it, so between two checkpoints the length is estimated
from what was written, by a factor that the last one measured. Only the process that writes checkpoints, in its turn:
checkpointing and writing at the same moment from two connections has damaged files (SQLite 3.7.0 to 3.51.2).
"""

from __future__ import annotations

from typing import Final

from stepwell.stores.sqlite.session import Session

PAGE_BYTES: Final = 4096

DUE_PAGES: Final = 1024
"""4 MB."""

LARGE_PAGES: Final = 16 * 1024
"""64 MB: the log is cut off even though that waits for a moment without readers."""

_PAGES_A_COMMIT: Final = 4.0
_PAGES_A_ROW: Final = 0.25


class Checkpoints:
    """The log's length, as far as is known, and shortening it."""

    def __init__(self, session: Session) -> None:
        self._execute = session.connection.execute
        self._written = 0.0
        self._factor = 1.0
        self._left_over = 0
        self._clean = False

    @property
    def due(self) -> bool:
        """Whether about 4 MB have been written since the last time."""
        return self._written * self._factor > DUE_PAGES

    def wrote(self, rows: int, size: int) -> None:
        """A commit wrote so many rows with so many bytes in them."""
        self._written += _PAGES_A_COMMIT + _PAGES_A_ROW * rows + size / PAGE_BYTES
        self._clean = False

    def hurry(self) -> None:
        """There was no room: what the log holds already may be copied back, so that its place is used again."""
        self._written = DUE_PAGES / self._factor + 1

    def run(self) -> None:
        """Copy back what no reader still needs."""
        pages, done = self._checkpoint("PASSIVE")
        grown = pages - self._left_over
        if grown > 0 and self._written > 0:
            self._factor = min(64.0, max(0.05, grown / self._written))
        self._written = 0.0
        self._left_over = 0 if done >= pages else pages
        if pages > LARGE_PAGES:
            self._truncate()

    def idle(self) -> None:
        """Nothing is going on: copy all back and cut the log off, unless a reader holds on to it."""
        if not self._clean:
            self._truncate()

    def _truncate(self) -> None:
        pages, done = self._checkpoint("TRUNCATE")
        self._clean = done >= pages
        if self._clean:
            self._written, self._left_over = 0.0, 0

    def _checkpoint(self, mode: str) -> tuple[int, int]:
        _busy, pages, done = self._execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return int(pages), int(done)
