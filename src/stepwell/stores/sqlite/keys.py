"""Who has a unique key? The run that was created with it, until it has begun or ended, or another took the key over."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.stores.protocol import NewRun, RunRow
from stepwell.stores.rules import keeps_key
from stepwell.stores.sqlite.rows import run_row
from stepwell.stores.sqlite.session import Session


class Keys:
    """The unique keys of runs that are being created together, in their order."""

    def __init__(self, session: Session, news: Sequence[NewRun]) -> None:
        self._session = session
        self._holders: dict[str, RunRow] = {}
        self._freed: set[str] = set()
        self._last: dict[str, str] = {}
        wanted = {new.unique for new in news if new.unique}
        if wanted:
            for key, until, *columns in session.among("live_of_keys", list(wanted)):
                row = run_row(columns)
                if keeps_key(row.status, until):
                    self._holders.setdefault(key, row)

    def holder(self, new: NewRun) -> RunRow | None:
        """The run that keeps its key from a new one."""
        return None if not new.unique or new.takes_over else self._holders.get(new.unique)

    def take(self, new: NewRun, row: RunRow) -> None:
        """A new run gets its key."""
        if not new.unique:
            return
        if new.takes_over:
            self._freed.add(new.unique)
            self._last[new.unique] = new.run_id
            self._holders.pop(new.unique, None)
        if keeps_key(row.status, new.unique_until):
            self._holders.setdefault(new.unique, row)

    def free(self) -> None:
        """Take keys that were taken over from who had them in the file."""
        if self._freed:
            self._session.among("free_keys", list(self._freed))

    def columns(self, new: NewRun) -> tuple[str | None, str | None]:
        """The columns `unique_key` and `unique_until` of a new run: it has no key if one created with it took it."""
        if not new.unique or self._last.get(new.unique, new.run_id) != new.run_id:
            return None, None
        return new.unique, new.unique_until
