"""What followed what? A journal has no arrows; they are read off the order of its entries and the scopes of its steps.

The rule, which draws sequential code as a chain, and `gather` and maps as fans:

* Each scope has a *point*: the set of steps and waits that whatever it starts next follows. A run begins at an empty
  one.
* A step follows what has **ended in its scope since the scope's point**, and in the scopes that were opened inside it:
  that is the join. Together these are the scope's new point.
* A step that starts when nothing has ended since follows the point itself: it runs beside the one before it.
* A scope (an asyncio task, a map, a map's item) begins at the point of the scope that it was opened in. That one is
  joined first when something of its own has ended, or when everything in it is at rest: two `gather`s in a row are two
  fans. The second condition is a guess, as the journal does not say when a task was made: where limits let only one
  branch run at a time, branches look like steps in a row.
* The items of a map never follow each other, although a full window starts the next one when one ends.
* What was cancelled or withdrawn is followed by nothing.
"""

from __future__ import annotations

from typing import TypeAlias

ScopePath: TypeAlias = tuple[tuple[str, int], ...]

BEGINNING = 0
"""The point at which a run begins: nothing was there before."""


def is_map(label: str) -> bool:
    """Whether a scope's label is that of a map call: `fetch.map`."""
    return label.endswith(".map")


class Causation:
    """Told of starts and ends in journal order, it says what each start followed.

    `points[n]` are the numbers of the steps and waits that a start at point `n` follows. The cost of each call does
    not depend on the length of the journal, except that a join costs as much as it joins.
    """

    def __init__(self) -> None:
        self.points: list[tuple[int, ...]] = [()]
        self._tracks: dict[ScopePath, _Track] = {(): _Track(None, BEGINNING, False)}

    def start(self, scope: ScopePath) -> int:
        """Something starts in this scope; returns the number of the point that it follows."""
        track = self._track(scope)
        if not track.is_map:
            self._join(track)
        self._count(track)
        return track.entry if track.is_map else track.point

    def end(self, scope: ScopePath, number: int, *, counts: bool) -> None:
        """What bears this number in this scope has ended; with `counts` something may follow it."""
        track = self._tracks[scope]
        if counts:
            track.loose[number] = None
        upper: _Track | None = track
        while upper is not None:
            upper.running -= 1
            upper = upper.parent

    def restart(self, scope: ScopePath, number: int) -> None:
        """What had ended goes on: its end was withdrawn by a retry of the run."""
        track = self._tracks[scope]
        track.loose.pop(number, None)
        self._count(track)

    def finish(self) -> int:
        """The number of the point that the run stands at."""
        root = self._tracks[()]
        self._join(root)
        return root.point

    def _track(self, scope: ScopePath) -> _Track:
        track = self._tracks.get(scope)
        if track is None:
            parent = self._track(scope[:-1])
            if not parent.is_map and (parent.loose or parent.running == 0):
                self._join(parent)
            entry = parent.entry if parent.is_map else parent.point
            track = self._tracks[scope] = _Track(parent, entry, is_map(scope[-1][0]))
        return track

    def _count(self, track: _Track) -> None:
        """One more runs in this scope, and in those around it."""
        upper: _Track | None = track
        while upper is not None:
            upper.running += 1
            if upper.parent is not None:
                upper.parent.forks[upper] = None
            upper = upper.parent

    def _join(self, track: _Track) -> None:
        """Move the scope's point behind all that has ended in it, if anything has."""
        ended = list(track.loose)
        for fork in tuple(track.forks):
            self._join(fork)
            if fork.point not in (fork.entry, fork.taken):
                ended += self.points[fork.point]
                fork.taken = fork.point
            if fork.running == 0:
                del track.forks[fork]
        if ended:
            track.loose.clear()
            track.point = len(self.points)
            self.points.append(tuple(ended))


class _Track:
    """How far one scope has come."""

    __slots__ = ("entry", "forks", "is_map", "loose", "parent", "point", "running", "taken")

    def __init__(self, parent: _Track | None, entry: int, is_map: bool) -> None:
        self.parent = parent
        self.entry = entry
        self.point = entry
        self.is_map = is_map
        self.loose: dict[int, None] = {}
        self.forks: dict[_Track, None] = {}
        self.running = 0
        self.taken = entry
