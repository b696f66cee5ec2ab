"""What became of each node of a graph's run, scope by scope? A visit for each time that the run came to a node."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal, TypeAlias

import msgspec

from stepwell.model.entries import (
    AnyEntry,
    NodePassed,
    ScopeClosed,
    ScopeOpened,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.ids import StepPath
from stepwell.observe.causation import ScopePath

VisitStatus: TypeAlias = Literal[
    "running", "retrying", "waiting", "completed", "failed", "timed_out", "cancelled", "skipped"
]

WEIGHT: Final[tuple[VisitStatus, ...]] = (
    *("failed", "retrying", "running", "waiting", "timed_out", "cancelled"),
    *("completed", "skipped"),
)
"""Statuses, those that somebody may have to look at first."""


class Visit(msgspec.Struct):
    """One time that a run came to a node. Times in microseconds.

    `ports` are those by which the node was left; `type` and `total` say what a container is and how many items or
    turns it has, as far as that is known; `reason` why the node was skipped; `scopes` are the places inside it.
    """

    path: StepPath
    status: VisitStatus
    started_at: int
    ended_at: int | None = None
    ports: tuple[str, ...] = ()
    attempts: int = 0
    error: str = ""
    reason: str = ""
    child: str = ""
    type: str = ""
    total: int | None = None
    scopes: list[Place] = []

    @property
    def name(self) -> str:
        """The node's id, with the number of the visit from the second on."""
        return self.path.name if self.path.occurrence == 1 else f"{self.path.name}#{self.path.occurrence}"


class Place:
    """A scope: the run itself, an item, a turn, a branch; with the visits in it in the order in which they began."""

    __slots__ = ("label", "path", "visits")

    def __init__(self, path: ScopePath, label: str) -> None:
        self.path = path
        self.label = label
        self.visits: list[Visit] = []

    @property
    def status(self) -> VisitStatus:
        """The one among its visits that tells most."""
        found = {visit.status for visit in self.visits}
        return next((status for status in WEIGHT if status in found), "completed")


class Visits:
    """The visits of one run. Give it the entries of the run's journal with `add`, in order."""

    def __init__(self) -> None:
        self.root = Place((), "")
        self._places: dict[ScopePath, Place] = {(): self.root}
        self._visits: dict[StepPath, Visit] = {}
        self._of_label: dict[tuple[ScopePath, str], Visit] = {}

    def add(self, entry: AnyEntry) -> None:
        """Take in what happened next."""
        match entry:
            case StepStarted():
                visit = self._begin(entry.path, "running", entry.at)
                visit.attempts, visit.child = entry.attempt, entry.child or visit.child
            case ScopeOpened():
                visit = self._begin(entry.path, "running", entry.at)
                visit.type, visit.total = entry.type, entry.total
            case WaitStarted():
                self._begin(entry.path, "waiting", entry.at)
            case StepCompleted():
                self._end(entry.path, "completed", entry.at, entry.port)
            case NodePassed():
                self._begin(entry.path, "running", entry.at)
                self._end(entry.path, "completed", entry.at, *entry.ports)
            case ScopeClosed():
                visit = self._begin(entry.path, "running", entry.at)
                is_failed = not entry.ports and any(place.status == "failed" for place in visit.scopes)
                status: VisitStatus = "completed" if entry.ports else "failed" if is_failed else "cancelled"
                self._end(entry.path, status, entry.at, *entry.ports)
            case StepFailed():
                visit = self._end(entry.path, "failed", entry.at)
                visit.error = entry.error.summary()
                if entry.retry_at is not None:
                    visit.status, visit.ended_at = "retrying", None
            case StepSkipped():
                self._begin(entry.path, "running", entry.at)
                self._end(entry.path, "skipped", entry.at).reason = entry.reason
            case WaitSatisfied():
                self._end(entry.path, "completed", entry.at, "out")
            case WaitTimedOut():
                self._end(entry.path, "timed_out", entry.at, "timeout")
            case StepCancelled() | WaitWithdrawn():
                self._end(entry.path, "cancelled", entry.at)
            case _:
                pass

    # -- parts --------------------------------------------------------------------------------------------------

    def _begin(self, path: StepPath, status: VisitStatus, at: int) -> Visit:
        visit = self._visits.get(path)
        if visit is None:
            visit = self._visits[path] = Visit(path, status, at, scopes=[])
            self._of_label[path.scope, visit.name] = visit
            self._place(path.scope).visits.append(visit)
        visit.status, visit.ended_at, visit.error = status, None, ""
        return visit

    def _end(self, path: StepPath, status: VisitStatus, at: int, *ports: str) -> Visit:
        visit = self._visits.get(path) or self._begin(path, status, at)
        visit.status, visit.ended_at, visit.ports = status, at, ports
        return visit

    def _place(self, path: ScopePath) -> Place:
        place = self._places.get(path)
        if place is None:
            label, number = path[-1]
            above = self._place(path[:-1])
            owner, branch = self._owner(above.path, label)
            shown = str(number) if not branch else branch if number == 1 else f"{branch} {number}"
            place = self._places[path] = Place(path, shown)
            if owner is not None:
                owner.scopes.append(place)
        return place

    def _owner(self, scope: ScopePath, label: str) -> tuple[Visit | None, str]:
        """The container that a scope is of, by the scope's label (`each`, `both.left`), and the body's name."""
        name, rest = label, ""
        while True:
            visit = self._of_label.get((scope, name))
            if visit is not None or "." not in name:
                return visit, rest
            name, _, last = name.rpartition(".")
            rest = f"{last}.{rest}" if rest else last


def told_first(places: list[Place], shown: int) -> tuple[list[Place], Counter[str]]:
    """Of many places those to show, in their order, and the statuses of the others: what needs a look goes first."""
    ranked = sorted(range(len(places)), key=lambda at: (WEIGHT.index(places[at].status), at))
    chosen = set(ranked[:shown])
    rest = Counter[str](place.status for at, place in enumerate(places) if at not in chosen)
    return [place for at, place in enumerate(places) if at in chosen], rest
