"""Which changes can be carried out together? Those that need not come after one another."""

from __future__ import annotations

from typing import Final

from stepwell.stores.rules import gives_up
from stepwell.stores.sqlite.changes import Appending, Creation, Posting

_CREATES: Final = 0
_APPENDS: Final = 1
_POSTS: Final = 2


class Batch:
    """Changes that can run together, by kind: first creations, then appends, then posts.

    A change is turned away when one of the same run that must come before it would run after it.
    """

    def __init__(self) -> None:
        self.creates: list[Creation] = []
        self.appends: dict[str, list[Appending]] = {}
        self.posts: list[Posting] = []
        self._touched: dict[str, int] = {}

    def add(self, change: Creation | Appending | Posting) -> bool:
        """Take the change in, if its place in the order allows."""
        if isinstance(change, Appending):
            return self._add_append(change)
        touched = self._touched
        if isinstance(change, Creation):
            run_id = change.new.run_id
            if run_id in touched or (change.new.unique and (self.appends or self.posts)):
                return False  # whether a unique key is free is decided by what came before
            touched[run_id] = _CREATES
            self.creates.append(change)
        else:
            touched[change.message.run_id] = _POSTS
            self.posts.append(change)
        return True

    def _add_append(self, change: Appending) -> bool:
        append = change.append
        touched = self._touched
        if touched.get(append.run_id, _CREATES) > _APPENDS:
            return False
        line = self.appends.get(append.run_id)
        if line is not None and not _continues(line[-1], change):
            return False
        if append.children or append.posts:
            others = [child.run_id for child in append.children] + [message.run_id for message in append.posts]
            if any(run_id in touched for run_id in others):
                return False
            touched.update(dict.fromkeys(others, _POSTS))
        touched[append.run_id] = _APPENDS
        if line is None:
            self.appends[append.run_id] = [change]
        else:
            line.append(change)
        return True


def _continues(before: Appending, change: Appending) -> bool:
    one, other = before.append, change.append
    return one.epoch == other.epoch and one.seq + len(one.entries) == other.seq and not gives_up(one)
