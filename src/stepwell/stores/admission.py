"""Which runs does a queue let in? Those first in line that its limits leave room for; one rule for every store.

A store says what stands in the queue (`Line`); `choose` decides. Limits on how many are under way open when a run
ends. Limits on how many are let in per period are sliding windows: the place of a run is free again one period after
it was let in.

The exception keeps a limit from stopping what it waits for. A queue of one place, taken by a run that waits for its
own child in the same queue, would never move again; so when all who are under way do nothing but wait for such
children, one held child goes in over the limit, and the next one only when that holds again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from stepwell.stores.tables import Queue

_NEVER: Final = 1 << 62


class Held(msgspec.Struct, frozen=True, gc=False, order=True):
    """A run that waits in a queue and is due. They compare as they stand in line; `number` is the order of creation."""

    behind: int
    held_until: int
    number: int
    key: str
    awaited: bool


class Line(Protocol):
    """What stands in one queue at the moment of asking."""

    def under_way(self, key: str | None) -> int:
        """How many runs are under way, of one key or (None) in all."""

    def newest(self, key: str | None, *, since: int, limit: int) -> list[int]:
        """When the last runs were let in, after `since`, newest first, of one key or (None) of all."""

    def due(self, closed: Callable[[str], bool]) -> Iterator[Held]:
        """Runs that are due, in line. Of a key that is `closed`, those after its first may be left out."""

    def awaited(self) -> Iterator[Held]:
        """Runs that are due and that a parent waits for, in line."""

    def stands_still(self, key: str | None) -> bool:
        """Whether somebody is under way (of a key, or None: at all), and all who are wait for a child run.

        That is: the status is `waiting`, and a run that is awaited, and has not ended, has it for its parent.
        """

    def next_due(self) -> int | None:
        """When the next one that is not due yet will be."""


class Choice(msgspec.Struct, frozen=True):
    """The numbers of the runs to let in, and when to look again."""

    numbers: tuple[int, ...]
    again_at: int | None


def choose(queue: Queue, line: Line, *, now: int, limit: int) -> Choice:
    """Who goes in now."""
    if queue.paused:
        return Choice((), None)
    turnstile = _Turnstile(queue, line, now)
    if turnstile.is_full(None):
        if limit > 0 and line.stands_still(None):
            turnstile.let_one_over(line.awaited())
    else:
        turnstile.let_in(limit)
    return Choice(tuple(turnstile.chosen), turnstile.again(line.next_due()))


class _Turnstile:
    """The limits of a queue, and how far they are used up."""

    def __init__(self, queue: Queue, line: Line, now: int) -> None:
        self.chosen: list[int] = []
        self._queue = queue
        self._line = line
        self._now = now
        self._under_way: dict[str | None, int] = {}
        self._let_in: dict[str | None, list[int]] = {}
        self._stood_still: dict[str, bool] = {}
        self._again: int | None = None

    def let_in(self, limit: int) -> None:
        """Let in who is first in line, until there is no room or `limit` are in."""
        in_line = self._line.due(self._closed)
        if self._queue.concurrency_per_key is not None:
            in_line = heapq.merge(in_line, self._line.awaited())
        before = -1
        for run in in_line:
            if run.number == before:  # it stands in both lines
                continue
            before = run.number
            if self._is_too_fast(None) or self.is_full(None):
                return
            if len(self.chosen) >= limit:
                self._look_at(self._now)
                return
            if not self._is_too_fast(run.key) and (not self.is_full(run.key) or self._goes_over(run)):
                self._take(run)

    def let_one_over(self, awaited: Iterator[Held]) -> None:
        """Let in the first awaited run, though there is no room."""
        for run in awaited:
            if self._is_too_fast(None):
                return
            if not self._is_too_fast(run.key) and (not self.is_full(run.key) or self._goes_over(run)):
                self._take(run)
                return

    def is_full(self, key: str | None) -> bool:
        """Whether as many are under way as may be, of a key or (None) in all. Runs without a key share no limit."""
        limit = self._queue.concurrency if key is None else self._queue.concurrency_per_key
        if limit is None or key == "":
            return False
        if key not in self._under_way:
            self._under_way[key] = self._line.under_way(key)
        return self._under_way[key] >= limit

    def again(self, next_due: int | None) -> int | None:
        """When to look again."""
        if next_due is not None:
            self._look_at(next_due)
        return self._again

    def _is_too_fast(self, key: str | None) -> bool:
        """Whether as many were let in during the last period as may be; somebody waits, so it notes when to look."""
        opens_at = self._opens_at(key)
        if opens_at is None:
            return False
        if opens_at < _NEVER:
            self._look_at(opens_at)
        return True

    def _opens_at(self, key: str | None) -> int | None:
        """When the rate lets the next one in; None when that is now."""
        limit = self._queue.rate if key is None else self._queue.rate_per_key
        if limit is None or key == "" or self._queue.period <= 0:
            return None
        if limit <= 0:
            return _NEVER
        if key not in self._let_in:
            since = self._now - self._queue.period
            self._let_in[key] = self._line.newest(key, since=since, limit=limit)
        times = self._let_in[key]
        return None if len(times) < limit else times[limit - 1] + self._queue.period

    def _closed(self, key: str) -> bool:
        return self.is_full(key) or self._opens_at(key) is not None

    def _goes_over(self, run: Held) -> bool:
        """Whether the limit of its key would keep those under way waiting for it, or for one like it."""
        if not run.awaited:
            return False
        if run.key not in self._stood_still:
            self._stood_still[run.key] = self._line.stands_still(run.key)
        return self._stood_still[run.key]

    def _take(self, run: Held) -> None:
        self.chosen.append(run.number)
        self._stood_still[run.key] = False
        for key in (None, run.key):
            if key in self._under_way:
                self._under_way[key] += 1
            if key in self._let_in:
                self._let_in[key].insert(0, self._now)

    def _look_at(self, time: int) -> None:
        self._again = time if self._again is None else min(self._again, time)
