"""How far is a run of a graph? Its own nodes, and which of them are done, skipped or under way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from stepwell.model.entries import (
    AnyEntry,
    DefinitionPatched,
    NodePassed,
    RunResumed,
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

_BEGINS: Final = (StepStarted, WaitStarted, ScopeOpened)
_ENDS: Final = (StepCompleted, NodePassed, ScopeClosed, WaitSatisfied, WaitTimedOut, WaitWithdrawn, StepCancelled)


class Nodes:
    """The nodes of a run's own body, those inside containers left to them. Give it the journal's entries in order.

    `done`, `skipped`, `failed` and `running` are their ids, in the order in which it happened; a node is in one of
    them at most.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self.done: dict[str, None] = {}
        self.skipped: dict[str, None] = {}
        self.failed: dict[str, None] = {}
        self.running: dict[str, None] = {}

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def behind(self) -> int:
        """How many nothing more is to be expected of."""
        return len(self.done) + len(self.skipped)

    def add(self, entry: AnyEntry) -> None:
        """Take in what happened next."""
        if isinstance(entry, DefinitionPatched):
            self.names |= _names_in(entry)
            return
        if isinstance(entry, RunResumed) and entry.retry:
            self.failed.clear()
            return
        path = getattr(entry, "path", None)
        if path is None or path.scope or path.name not in self.names:
            return
        if isinstance(entry, _BEGINS):
            self._put(path.name, self.running)
        elif isinstance(entry, StepSkipped):
            if path.name not in self.done:  # of a node in a cycle it is only this time
                self._put(path.name, self.skipped)
        elif isinstance(entry, StepFailed):
            if entry.retry_at is None:
                self._put(path.name, self.failed)
        elif isinstance(entry, _ENDS):
            self._put(path.name, self.done)

    def _put(self, name: str, where: dict[str, None]) -> None:
        for one in (self.done, self.skipped, self.failed, self.running):
            one.pop(name, None)
        where[name] = None

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "total": self.total,
            "done": len(self.done),
            "skipped": len(self.skipped),
            "failed": list(self.failed),
            "running": list(self.running),
        }


def _names_in(entry: DefinitionPatched) -> set[str]:
    """The ids of the nodes in a definition, unless it is too large to stand in the entry itself."""
    data = bytes(entry.definition)
    try:
        nodes = msgspec.json.decode(data).get("nodes", [])
    except (msgspec.DecodeError, AttributeError):
        return set()
    return (
        {one["id"] for one in nodes if isinstance(one, dict) and "id" in one} if isinstance(nodes, list) else set(nodes)
    )
