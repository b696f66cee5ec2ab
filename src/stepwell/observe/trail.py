"""Which way did a run take through its graph? For each node what became of it, and by which ports it was left.

A node stands in a definition once and may run many times: in each turn of a loop, for each item of a map. Its *site*
is the way to it through the definition: the ids of its containers with the names of their bodies, and its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from stepwell.model.entries import (
    AnyEntry,
    DefinitionPatched,
    NodePassed,
    RunCancelled,
    RunFailed,
    RunUpgraded,
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

Site: TypeAlias = tuple[str, ...]
"""Labels of scopes, without their numbers, and the node's id."""

_AGAIN: Final = re.compile(r"#\d+(?=\.|$)")
"""What stands behind the id of a container that ran before in the same scope."""

_TELLING: Final = ("running", "waiting", "retrying", "failed", "timed_out", "completed", "cancelled", "skipped")
"""Statuses, those that tell most of many first."""


class Passage(msgspec.Struct):
    """What became of one node: how many of its steps have each status, how often each port was taken."""

    statuses: dict[str, int] = {}
    ports: dict[str, int] = {}
    retries: int = 0
    error: str = ""

    @property
    def status(self) -> str:
        """The one that tells most; "" when the run has not come to the node."""
        return next((status for status in _TELLING if self.statuses.get(status)), "")


class Trail:
    """The way of one run. Give it the entries of the run's journal with `add`, in order.

    `version` is the one that it was upgraded to, if it was; `patch` what was last added to its definition.
    """

    def __init__(self) -> None:
        self.ended = ""
        self.version = ""
        self.patch: DefinitionPatched | None = None
        self._statuses: dict[StepPath, str] = {}
        self._ports: dict[StepPath, tuple[str, ...]] = {}
        self._retries: Counter[Site] = Counter()
        self._errors: dict[Site, str] = {}

    def add(self, entry: AnyEntry) -> None:
        """Take in what happened next."""
        match entry:
            case StepStarted() | ScopeOpened():
                self._set(entry.path, "running")
                if isinstance(entry, StepStarted) and entry.attempt > 1:
                    self._retries[site_of(entry.path)] += 1
            case WaitStarted():
                self._set(entry.path, "waiting")
            case StepCompleted():
                self._set(entry.path, "completed", entry.port)
            case NodePassed():
                self._set(entry.path, "completed", *entry.ports)
            case ScopeClosed():
                self._set(entry.path, "completed" if entry.ports else "cancelled", *entry.ports)
            case StepFailed():
                self._set(entry.path, "failed" if entry.retry_at is None else "retrying", "error")
                self._errors[site_of(entry.path)] = entry.error.summary()
            case WaitSatisfied():
                self._set(entry.path, "completed", "out")
            case WaitTimedOut():
                self._set(entry.path, "timed_out", "timeout")
            case StepSkipped():
                self._set(entry.path, "skipped")
            case StepCancelled() | WaitWithdrawn():
                self._set(entry.path, "cancelled")
            case RunFailed() | RunCancelled():
                self.ended = "failed" if isinstance(entry, RunFailed) else "cancelled"
            case RunUpgraded():
                self.version, self.patch = entry.version, None
            case DefinitionPatched():
                self.patch = entry
            case _:
                pass

    def passages(self) -> dict[Site, Passage]:
        """What is known of each node that the run came to."""
        found: dict[Site, Passage] = {}
        for path, status in self._statuses.items():
            passage = found.setdefault(site_of(path), Passage())
            passage.statuses[status] = passage.statuses.get(status, 0) + 1
            for port in self._ports.get(path, ()) if status not in ("retrying", "running", "waiting") else ():
                passage.ports[port] = passage.ports.get(port, 0) + 1
        for site, retries in self._retries.items():
            found[site].retries = retries
        for site, error in self._errors.items():
            if found[site].statuses.get("failed") or found[site].statuses.get("retrying"):
                found[site].error = error
        return found

    def _set(self, path: StepPath, status: str, *ports: str) -> None:
        self._statuses[path] = status
        self._ports[path] = ports


def site_of(path: StepPath) -> Site:
    """Where the node of a step stands in its definition."""
    return (*(_once(label) for label, _ in path.scope), path.name)


def sites(above: Site, container: str, body: str) -> Iterator[Site]:
    """How the scope of a container's body may be labelled: with the body's name, or by the container's id alone."""
    yield (*above, _once(f"{container}.{body}"))
    if body == "do":
        yield (*above, _once(container))


def _once(label: str) -> str:
    return _AGAIN.sub("", label)
