"""How far is a run? Kept up to date by what the engine commits and says, for screens to look at."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from stepwell.cli.parts.nodes import Nodes
from stepwell.engine.feed import Live
from stepwell.model.entries import StepCancelled, StepCompleted, StepFailed
from stepwell.model.failure import Failure
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.model.state import State, evolve
from stepwell.stores.protocol import Stored


class Failed(msgspec.Struct, frozen=True):
    """A step that failed for good."""

    step: str
    attempt: int
    error: Failure


class Logged(msgspec.Struct, frozen=True):
    """A line that the run's own body, one of its steps or a node of a graph logged; only nodes say a `level`."""

    step: str
    message: str
    fields: Mapping[str, Any]  # Any: whatever was logged
    level: str = ""


class Tracker:
    """A reader of the feed that follows one run, and counts the steps of its child runs.

    `settled` is set whenever the run turns out to have ended or to be paused; whoever waits for it clears it. `nodes`
    are those of a graph, as far as its journal was given to them before; None for functions.

    Args:
        belongs: whether another run belongs to the tree of the one that is followed.
    """

    def __init__(self, belongs: Callable[[str], bool]) -> None:
        self.run_id = ""
        self.state: State = State()
        self.maps: dict[str, tuple[int, int, int]] = {}
        self.said: dict[str, tuple[float, float | None, str]] = {}
        self.news: deque[Failed | Logged] = deque(maxlen=1000)
        self.child_steps = 0
        self.nodes: Nodes | None = None
        self.settled = asyncio.Event()
        self._belongs = belongs
        self._family: dict[str, bool] = {}
        self._early: list[tuple[str, Sequence[Stored]] | Live] = []

    def begin(self, state: State, nodes: Nodes | None = None) -> None:
        """Follow this run from the fold of its journal on; what was heard before and is not in it is added."""
        self.state = state
        self.nodes = nodes
        self.run_id = state.run_id
        early, self._early = self._early, []
        for heard in early:
            if isinstance(heard, Live):
                self.live(heard)
            else:
                self.entries(*heard)

    def entries(self, run_id: str, stored: Sequence[Stored]) -> None:
        """See `Reader`."""
        if not self.run_id:
            self._early.append((run_id, stored))
        elif run_id != self.run_id:
            if self._is_family(run_id):
                self.child_steps += sum(isinstance(one.entry, StepCompleted) for one in stored)
        else:
            self._take(stored)

    def live(self, note: Live) -> None:
        """See `Reader`."""
        if not self.run_id:
            self._early.append(note)
        if note.run_id != self.run_id:
            return
        fields: Mapping[str, Any] = note.fields
        match note.kind:
            case "maps":
                self.maps = dict(fields)
            case "progress":
                total = fields.get("total")
                self.said[note.step] = (float(fields["done"]), total, str(fields.get("message") or ""))
            case "log":
                level = str(fields.get("level", "")) if note.step and not note.attempt else ""
                own = {"message", "level"} if level else {"message"}
                rest = {key: value for key, value in fields.items() if key not in own}
                self.news.append(Logged(note.step, str(fields.get("message", "")), rest, level))

    def has_settled(self, beyond: int) -> bool:
        """Whether the run has ended or is set aside by something that came after entry `beyond`."""
        return self.state.seq > beyond and self.state.status in TERMINAL | SET_ASIDE

    def _take(self, stored: Sequence[Stored]) -> None:
        for one in stored:
            entry = one.entry
            is_new = one.seq > self.state.seq
            if is_new:
                evolve(self.state, entry)
            if self.nodes is not None and is_new:
                self.nodes.add(entry)
            if isinstance(entry, StepFailed) and entry.retry_at is None:
                self.news.append(Failed(str(entry.path), entry.attempt, entry.error))
            if isinstance(entry, StepCompleted | StepFailed | StepCancelled):
                self.said.pop(str(entry.path), None)
        if self.state.ended is not None or self.state.pause is not None:
            self.settled.set()

    def _is_family(self, run_id: str) -> bool:
        known = self._family.get(run_id)
        if known is None:
            known = self._family[run_id] = self._belongs(run_id)
        return known
