"""What happened in a run? Its journal as steps, waits and child runs in scopes, with attempts, times and order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from stepwell.model.entries import (
    AnyEntry,
    InputWithdrawn,
    RunCancelled,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepStarted,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.ids import StepPath
from stepwell.observe.causation import Causation, ScopePath
from stepwell.observe.telling import preview_of

AttemptOutcome: TypeAlias = Literal["running", "completed", "failed", "cancelled", "lost"]
PartStatus: TypeAlias = Literal[
    "running", "retrying", "waiting", "completed", "failed", "cancelled", "satisfied", "timed_out", "withdrawn"
]

OPEN: Final[frozenset[PartStatus]] = frozenset({"running", "retrying", "waiting"})
"""Statuses of what has not ended."""

CANCELLED: Final[frozenset[PartStatus]] = frozenset({"cancelled", "withdrawn"})
"""Statuses of what was no longer wanted."""


class Attempt(msgspec.Struct):
    """One try of a step. Times in microseconds; `lost` means that the process ended before the attempt did."""

    number: int
    started_at: int
    ended_at: int | None = None
    outcome: AttemptOutcome = "running"
    error: str = ""
    retry_at: int | None = None


class Part(msgspec.Struct):
    """One step, wait or child run of a run.

    `index` is its number in the history, from 0, `seq` that of the entry it began with. `kind` is `task`, `child`,
    `compensation`, the kind of a wait (`timer`, `signal`, …), or `start` for a run that was started and not awaited.
    `after` is the number of the point that it follows (see `History.follows`). `input`, `output` and `error` are short
    forms. A step has attempts, a wait has none.
    """

    index: int
    seq: int
    path: StepPath
    kind: str
    status: PartStatus
    after: int
    started_at: int
    ended_at: int | None = None
    input: str = ""
    output: str = ""
    error: str = ""
    attempts: list[Attempt] = []
    child: str = ""
    due: int | None = None
    by: str = ""

    @property
    def retries(self) -> int:
        """How many attempts came after the first."""
        return max(0, len(self.attempts) - 1)


class Pause(msgspec.Struct):
    """A time in which the run was paused or stuck; `until` is None while it is."""

    at: int
    until: int | None
    cause: str
    by: str
    reason: str


class Scope:
    """A scope: the numbers of the parts directly in it, and the scopes inside it, in the order in which they began."""

    __slots__ = ("parts", "path", "scopes")

    def __init__(self, path: ScopePath) -> None:
        self.path = path
        self.parts: list[int] = []
        self.scopes: dict[tuple[str, int], Scope] = {}

    def walk(self) -> Iterator[Scope]:
        """This scope and all inside it."""
        yield self
        for scope in self.scopes.values():
            yield from scope.walk()


class History:
    """A run's past, in the order in which it happened. Give it entries with `add`; it may be looked at in between.

    `ended_at` is None while the run has not ended; `updated_at` is the time of the last entry.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.workflow = ""
        self.version = ""
        self.parent: str | None = None
        self.status = "pending"
        self.input = ""
        self.output = ""
        self.error = ""
        self.created_at = 0
        self.started_at: int | None = None
        self.ended_at: int | None = None
        self.updated_at = 0
        self.entries = 0
        self.parts: list[Part] = []
        self.pauses: list[Pause] = []
        self.root = Scope(())
        self._scopes: dict[ScopePath, Scope] = {(): self.root}
        self._indices: dict[StepPath, int] = {}
        self._causation = Causation()

    @property
    def points(self) -> list[tuple[int, ...]]:
        """By number of a point: the indices of the parts that whatever starts there follows (see `causation`)."""
        return self._causation.points

    def follows(self, part: Part) -> tuple[int, ...]:
        """The indices of the parts that a part follows."""
        return self.points[part.after]

    def end_point(self) -> int:
        """The number of the point that the run has come to."""
        return self._causation.finish()

    # -- entries ------------------------------------------------------------------------------------------------

    def add(self, entry: AnyEntry) -> None:
        """Take in the journal's next entry. Entries that say nothing of steps, waits or the run's status are passed."""
        self.entries += 1
        self.updated_at = entry.at
        match entry:
            case StepStarted():
                self._start_step(entry)
            case StepCompleted():
                self._end_step(entry, "completed")
            case StepFailed():
                self._fail_step(entry)
            case StepCancelled():
                self._end_step(entry, "cancelled")
            case WaitStarted():
                # A body that is run anew after a retry waits again at the same place.
                part = self._part(entry.path, entry.wait, "waiting", entry.at)
                part.due = entry.due
            case WaitSatisfied():
                self._end_wait(entry, "satisfied")
            case WaitTimedOut():
                self._end_wait(entry, "timed_out")
            case WaitWithdrawn() | InputWithdrawn():
                self._end_wait(entry, "withdrawn")
            case ValueRecorded() if entry.value == "start":
                part = self._part(entry.path, "start", "completed", entry.at)
                part.child = bytes(entry.payload).decode("utf-8", "replace").strip('"')
                self._end(part, entry.at, "completed")
            case _:
                self._add_of_run(entry)

    def _add_of_run(self, entry: AnyEntry) -> None:
        match entry:
            case RunCreated():
                self.run_id, self.workflow, self.version = entry.run_id, entry.workflow, entry.version
                self.parent, self.created_at = entry.parent, entry.at
                self.input = preview_of(entry)
            case RunStarted():
                self.started_at = entry.at
            case RunPaused():
                self.pauses.append(Pause(entry.at, None, entry.cause, entry.by, entry.reason))
            case RunResumed():
                if self.pauses and self.pauses[-1].until is None:
                    self.pauses[-1].until = entry.at
                if entry.retry:
                    self.status, self.ended_at, self.error = "running", None, ""
            case RunCompleted():
                self.output = preview_of(entry)
                self._end_run("completed", entry.at)
            case RunFailed():
                self.error = entry.error.summary()
                self._end_run("failed", entry.at)
            case RunCancelled():
                self._end_run("cancelled", entry.at)
            case _:
                pass
        if self.ended_at is None:
            pause = self.pauses[-1] if self.pauses and self.pauses[-1].until is None else None
            if pause is not None:
                self.status = "paused" if pause.cause in ("request", "code_change") else "stuck"
            else:
                self.status = "pending" if self.started_at is None else "running"

    def _end_run(self, status: str, at: int) -> None:
        self.status, self.ended_at = status, at

    # -- steps and waits ----------------------------------------------------------------------------------------

    def _part(self, path: StepPath, kind: str, status: PartStatus, at: int) -> Part:
        """The part at this path, begun now: a new one, or the known one if it begins again."""
        known = self._indices.get(path)
        if known is not None:
            part = self.parts[known]
            if part.status not in OPEN:
                self._causation.restart(path.scope, known)
                part.ended_at, part.error = None, ""
            part.status = status
            return part
        index = len(self.parts)
        after = self._causation.start(path.scope)
        part = Part(index, self.entries, path, kind, status, after, at)
        self._indices[path] = index
        self.parts.append(part)
        self._scope(path.scope).parts.append(index)
        return part

    def _scope(self, path: ScopePath) -> Scope:
        scope = self._scopes.get(path)
        if scope is None:
            scope = self._scopes[path] = Scope(path)
            self._scope(path[:-1]).scopes[path[-1]] = scope
        return scope

    def _start_step(self, entry: StepStarted) -> None:
        part = self._part(entry.path, entry.step, "running", entry.at)
        if not part.attempts:
            part.input = preview_of(entry)
            part.child = entry.child
            part.attempts = []
        elif part.attempts[-1].outcome == "running":
            part.attempts[-1].outcome = "lost"
        part.attempts.append(Attempt(entry.attempt, entry.at))

    def _fail_step(self, entry: StepFailed) -> None:
        part = self._end_attempt(entry.path, entry.at, "failed")
        if part is None:
            return
        part.error = entry.error.summary()
        if part.attempts:
            part.attempts[-1].error = part.error
            part.attempts[-1].retry_at = entry.retry_at
        if entry.retry_at is None:
            self._end(part, entry.at, "failed")
        else:
            part.status = "retrying"

    def _end_step(self, entry: StepCompleted | StepCancelled, outcome: Literal["completed", "cancelled"]) -> None:
        part = self._end_attempt(entry.path, entry.at, outcome)
        if part is None:
            return
        part.output = preview_of(entry)
        if outcome == "completed":
            part.error = ""
        self._end(part, entry.at, outcome)

    def _end_attempt(self, path: StepPath, at: int, outcome: AttemptOutcome) -> Part | None:
        index = self._indices.get(path)
        if index is None:
            return None
        part = self.parts[index]
        if part.attempts and part.attempts[-1].outcome == "running":
            part.attempts[-1].ended_at = at
            part.attempts[-1].outcome = outcome
        return part

    def _end_wait(
        self, entry: WaitSatisfied | WaitTimedOut | WaitWithdrawn | InputWithdrawn, status: PartStatus
    ) -> None:
        index = self._indices.get(entry.path)
        if index is None:
            return
        part = self.parts[index]
        part.output = preview_of(entry)
        part.by = getattr(entry, "by", "")
        self._end(part, entry.at, status)

    def _end(self, part: Part, at: int, status: PartStatus) -> None:
        if part.ended_at is None:
            # An input request that somebody took back raises in the body: something may follow it.
            counts = status not in CANCELLED or (status == "withdrawn" and part.kind == "input")
            self._causation.end(part.path.scope, part.index, counts=counts)
        part.ended_at, part.status = at, status


def history(entries: Iterable[AnyEntry]) -> History:
    """Read a whole journal, from its first entry on."""
    made = History()
    for entry in entries:
        made.add(entry)
    return made
