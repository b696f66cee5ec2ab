"""Which recorded step is this call? The journal of a run, indexed for the rebuild of its body.

A step is found by scope, name, occurrence and the fingerprint of its input. With unchanged code every call finds
its record at its exact path. With changed code:

* same name and input recorded elsewhere, not yet taken → that record (the call has moved);
* nothing left under its path or, in its scope, under its name → a fresh step (the call was inserted);
* a record of this name with another input is left there → the `on_change` policy of the task decides.

Records that no call takes are orphans: listed, never run again.

A retry of a run withdraws the failures that ended it. From the first withdrawn entry on, steps and waits that the
dying body cancelled count as open again, because their cancellation was a consequence of what is withdrawn. Steps that
began there, the *aftermath*, are taken only by a call that fits exactly: a `finally` block that was run with other
values on the way out is no change of the code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from stepwell.model.codec import content_hash
from stepwell.model.entries import (
    NO_PAYLOAD,
    AnyEntry,
    DefinitionPatched,
    GraphFact,
    InputWithdrawn,
    NodePassed,
    RunCancelled,
    RunCancelRequested,
    RunFailed,
    RunResumed,
    RunStarted,
    ScopeClosed,
    ScopeOpened,
    StateSet,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.failure import RUN_CANCELLED
from stepwell.model.ids import StepPath

Scope: TypeAlias = tuple[tuple[str, int], ...]
Delivery: TypeAlias = (
    StepCompleted
    | StepFailed
    | WaitSatisfied
    | WaitTimedOut
    | InputWithdrawn
    | RunCancelRequested
    | StateSet
    | DefinitionPatched
)


ROUNDING = 2
"""By how much the lengths of one timer may differ (microseconds): times are floats in a body."""


class Record:
    """What the journal knows of one step or wait."""

    __slots__ = ("cancelled", "consumed", "is_aftermath", "outcome", "passed", "start", "started_attempts")

    def __init__(self, start: StepStarted | WaitStarted, is_aftermath: bool = False) -> None:
        self.start = start
        self.is_aftermath = is_aftermath
        self.started_attempts = 1
        self.outcome: Delivery | None = None
        self.consumed = False
        self.cancelled = False
        self.passed = False

    @property
    def path(self) -> StepPath:
        """Where it was recorded."""
        return self.start.path

    @property
    def fingerprint(self) -> str:
        """The content hash of its input; empty for a wait."""
        return self.start.fingerprint if isinstance(self.start, StepStarted) else ""


def payload_in(delivery: Delivery) -> tuple[msgspec.Raw, str]:
    """What a delivery brings the body: the payload itself, or the content hash under which it is kept."""
    match delivery:
        case StepCompleted():
            return delivery.output, delivery.output_blob
        case WaitSatisfied():
            return delivery.payload, delivery.payload_blob
        case DefinitionPatched():
            return delivery.definition, delivery.definition_blob
        case _:
            return NO_PAYLOAD, ""


class Changed(msgspec.Struct, frozen=True):
    """A call whose input differs from the record that stands in its place."""

    record: Record


class Records:
    """The index over one journal, made of all of it, or entry by entry with `add` where nothing was withdrawn.

    It keeps what a rebuild needs and lets the rest go: of a journal of 30,000 entries about a third of their size.
    `variables` are those that were set from outside before the body began, `taken` counts the records that calls found.
    """

    def __init__(self, entries: Sequence[AnyEntry] = ()) -> None:
        self.by_path: dict[StepPath, Record] = {}
        self.values: dict[StepPath, ValueRecorded] = {}
        self.states: dict[StepPath, StateSet] = {}
        self.facts: dict[tuple[type, StepPath], GraphFact] = {}
        self.variables: dict[str, msgspec.Raw] = {}
        self.has_begun = False
        self.taken = 0
        self._read = 0
        self.deliveries: list[Delivery] = []
        self.blobs: set[str] = set()
        self._scopes: dict[Scope, Scope] = {}
        self._moved: dict[tuple[str, str], list[Record]] | None = None
        self._in_scope: dict[tuple[Scope, str], list[Record]] = {}
        self._timers: dict[tuple[Scope, str], list[Record]] | None = None
        if not entries:
            return
        withdrawn, aftermath = _withdrawn(entries)
        for index, entry in enumerate(entries):
            if index not in withdrawn:
                self.add(entry, is_aftermath=index in aftermath)

    def add(self, entry: AnyEntry, *, is_aftermath: bool = False) -> None:
        """Take in the journal's next entry."""
        match entry:
            case StepStarted():
                record = self.by_path.get(entry.path)
                if record is None:
                    path = self._slim(entry.path)
                    self.by_path[path] = Record(msgspec.structs.replace(entry, path=path), is_aftermath)
                else:
                    record.started_attempts = entry.attempt
            case StepCompleted():
                # The decoded payload is a view into all of the entry's bytes; a copy lets these go.
                path = self.by_path[entry.path].path
                slim = msgspec.structs.replace(entry, path=path, output=entry.output.copy())
                self._deliver(slim, entry.output_blob)
            case WaitSatisfied():
                self._deliver(entry, entry.payload_blob)
            case WaitTimedOut() | InputWithdrawn():
                self._deliver(entry)
            case StepFailed():
                if entry.retry_at is None:
                    self._deliver(entry)
            case StepCancelled() | WaitWithdrawn():
                if entry.path in self.by_path:
                    self.by_path[entry.path].cancelled = True
            case WaitStarted():
                self.by_path[entry.path] = Record(entry)
            case ValueRecorded():
                self.values[entry.path] = entry
            case RunStarted():
                self.has_begun = True
            case StateSet() if entry.path is not None:
                self.states[entry.path] = entry
            case StateSet() if not self.has_begun and entry.deleted:
                self.variables.pop(entry.key, None)
            case StateSet() if not self.has_begun:
                self.variables[entry.key] = entry.payload
            case StepSkipped() | NodePassed() | ScopeOpened() | ScopeClosed():
                self.facts[type(entry), entry.path] = entry
            case DefinitionPatched():
                self.deliveries.append(entry)
                if entry.definition_blob:
                    self.blobs.add(entry.definition_blob)
            case RunCancelRequested() | StateSet():
                self.deliveries.append(entry)
            case _:
                pass

    def _deliver(
        self, entry: StepCompleted | StepFailed | WaitSatisfied | WaitTimedOut | InputWithdrawn, blob: str = ""
    ) -> None:
        self.deliveries.append(entry)
        self.by_path[entry.path].outcome = entry
        if blob:
            self.blobs.add(blob)

    def _slim(self, path: StepPath) -> StepPath:
        """The same path, sharing its scope and name with others: a decoder makes new ones each time."""
        scope = self._scopes.setdefault(path.scope, path.scope)
        return StepPath(scope, sys.intern(path.name), path.occurrence, path.revision)

    @property
    def has_left(self) -> bool:
        """Whether there are records that no call has taken; where there are none, every call is new."""
        return self.taken < len(self.by_path)

    def match(self, path: StepPath, fingerprint: str, names: tuple[str, ...], *, live: bool) -> Record | Changed | None:
        """Find the record of a call; take it (mark it consumed) when it fits.

        `names` are the task's name and its aliases. None: the call is new. Once the body is `live` (all recorded
        outcomes are delivered), or when a key pins the call's identity, only a record at the very same path can say
        that the input has changed; before, any record of that name left in the scope can.
        """
        exact = self.by_path.get(path)
        if exact is not None and not exact.consumed and exact.fingerprint == fingerprint:
            return self._take(exact)
        moved = self._find_moved(path, fingerprint, names)
        if moved is not None:
            return self._take(moved)
        if exact is not None and not exact.consumed:
            return None if exact.is_aftermath else Changed(exact)
        if live or isinstance(path.occurrence, str):
            return None
        left = [r for name in names for r in self._in_scope.get((path.scope, name), ()) if not r.consumed]
        return next((Changed(r) for r in left if not (r.is_aftermath or _comes_later(r.path, path))), None)

    def match_here(
        self, path: StepPath, fingerprint: str, names: tuple[str, ...], *, live: bool
    ) -> Record | Changed | None:
        """`match` where a path says which call it is: nothing has moved, so only the record at this path fits."""
        found = self.by_path.get(path)
        if found is None or found.consumed:
            return None
        if found.fingerprint == fingerprint:
            return self._take(found)
        return None if found.is_aftermath else Changed(found)

    def has_fact(self, fact: GraphFact) -> bool:
        """Whether the journal says the same of this node already."""
        if not self.facts or isinstance(fact, DefinitionPatched):
            return False
        known = self.facts.get((type(fact), fact.path))
        if known is None:
            return False
        if isinstance(known, NodePassed) and isinstance(fact, NodePassed) and known.output_blob:
            return known.ports == fact.ports and known.output_blob == content_hash(bytes(fact.output))
        return msgspec.structs.replace(known, at=0) == fact

    def take(self, path: StepPath) -> Record | None:
        """The record at this very path, if no call has taken it."""
        record = self.by_path.get(path)
        return None if record is None or record.consumed else self._take(record)

    def take_timer(self, path: StepPath, due: int, now: int) -> Record | None:
        """The record of a timer that is set at `now` for `due` (microseconds), within its scope.

        The one that was due then, or lasted as long; else the one at this very path, whose due time stays although how
        long it is to last was edited.
        """
        exact = self.by_path.get(path)
        if exact is not None and not exact.consumed and _due(exact) == due:
            return self._take(exact)
        left = [r for r in self._timers_in(path.scope, path.name) if not r.consumed]
        same = [r for r in left if _due(r) == due] or [r for r in left if abs(_lasts(r) - (due - now)) <= ROUNDING]
        return self._take(same[0]) if same else self.take(path)

    def _timers_in(self, scope: Scope, name: str) -> list[Record]:
        if self._timers is None:
            self._timers = {}
            for record in self.by_path.values():
                if isinstance(record.start, WaitStarted) and record.start.wait == "timer":
                    self._timers.setdefault((record.path.scope, record.path.name), []).append(record)
        return self._timers.get((scope, name), [])

    def _take(self, record: Record) -> Record:
        record.consumed = True
        self.taken += 1
        return record

    def give_back(self, record: Record) -> None:
        """The call that took it does not want it any more: another one may."""
        record.consumed = False
        self.taken -= 1

    def _find_moved(self, path: StepPath, fingerprint: str, names: tuple[str, ...]) -> Record | None:
        if self._moved is None:
            self._moved = {}
            for record in self.by_path.values():
                self._moved.setdefault((record.path.name, record.fingerprint), []).append(record)
                self._in_scope.setdefault((record.path.scope, record.path.name), []).append(record)
        free = [r for name in names for r in self._moved.get((name, fingerprint), ()) if not r.consumed]
        if free and path not in self.by_path:  # this call never got a slot before; a later one with its input did
            free = [r for r in free if r.path.scope != path.scope or not _comes_later(r.path, path)]
        return next((r for r in free if r.path.scope == path.scope), free[0] if free else None)

    def value(self, path: StepPath) -> ValueRecorded | None:
        """What was recorded for a value that the body reads here; each is read once."""
        found = self.values.get(path)
        self._read += found is not None
        return found

    def state(self, path: StepPath) -> StateSet | None:
        """The change of `ctx.state` that was recorded here; each is read once."""
        found = self.states.get(path)
        self._read += found is not None
        return found

    @property
    def is_used_up(self) -> bool:
        """Whether calls have found all that is recorded, but for what a dying body did before a retry."""
        if self._read < len(self.values) + len(self.states):
            return False
        return all(record.consumed or record.is_aftermath for record in self.by_path.values())

    def free_path(self, path: StepPath) -> StepPath:
        """`path`, or its first revision that no record stands at."""
        while path in self.by_path:
            path = StepPath(path.scope, path.name, path.occurrence, path.revision + 1)
        return path

    def settle(self) -> None:
        """All that was recorded is delivered: keep of what was found again only that its place is taken."""
        self.deliveries.clear()
        self.facts.clear()
        self._moved = None
        self._timers = None
        self._in_scope.clear()
        self._scopes.clear()
        for path, record in self.by_path.items():
            if record.consumed and (record.outcome is not None or record.cancelled):
                self.by_path[path] = _TAKEN

    def orphans(self) -> list[StepPath]:
        """Recorded steps and waits that today's body has not asked for, in journal order.

        What a body did while it died, before a retry of the run, is none: the body that lives may do otherwise.
        """
        return [
            path
            for path, record in self.by_path.items()
            if not (record.consumed or record.cancelled or record.is_aftermath)
        ]


def _due(timer: Record) -> int:
    return getattr(timer.start, "due", None) or 0


def _lasts(timer: Record) -> int:
    return _due(timer) - timer.start.at


def _comes_later(recorded: StepPath, called: StepPath) -> bool:
    """Whether a record belongs to a call still to come: calls that wait for a slot start out of order."""
    later, now = recorded.occurrence, called.occurrence
    return recorded.name == called.name and isinstance(later, int) and isinstance(now, int) and later > now


_TAKEN = Record(WaitStarted(at=0, path=StepPath((), "", 0)))
_TAKEN.consumed = True


def _withdrawn(entries: Sequence[AnyEntry]) -> tuple[set[int], set[int]]:
    """Positions of entries that a later retry of the run took back, and of the aftermath of these."""
    result: set[int] = set()
    aftermath: set[int] = set()
    for position, entry in enumerate(entries):
        if isinstance(entry, RunResumed) and entry.retry:
            taken = _withdrawn_by(entry, entries[:position])
            result |= taken
            aftermath |= set(range(min(taken, default=position), position))
    return result, aftermath


def _withdrawn_by(retry: RunResumed, before: Sequence[AnyEntry]) -> set[int]:
    retried = set(retry.retried)
    last_retry = max((i for i, e in enumerate(before) if isinstance(e, RunResumed) and e.retry), default=0)
    taken = {
        i
        for i, entry in enumerate(before)
        if (i >= last_retry and isinstance(entry, RunFailed | RunCancelled))
        or (i >= last_retry and isinstance(entry, RunCancelRequested) and not retry.undoing)
        or (isinstance(entry, StepFailed) and entry.retry_at is None and entry.path in retried)
    }
    first = min(min(taken, default=len(before)), _closing_block(before))
    called_off = {i for i in range(first, len(before)) if _is_called_off(before[i])}
    if retry.undoing:  # nothing goes forward any more
        undo = {entry.path for entry in before if isinstance(entry, StepStarted) and entry.step == "compensation"}
        called_off = {i for i in called_off if getattr(before[i], "path", None) in undo}
    return taken | called_off


def _is_called_off(entry: AnyEntry) -> bool:
    """Whether this tells that a step or wait was given up; of a child run that is outlasted its own end tells it."""
    if isinstance(entry, StepFailed):
        return entry.retry_at is None and entry.error.type == RUN_CANCELLED
    return isinstance(entry, StepCancelled | WaitWithdrawn)


def _closing_block(before: Sequence[AnyEntry]) -> int:
    """Where the cancellations that closed the run's last end begin."""
    position = len(before)
    while position and not isinstance(before[position - 1], RunFailed | RunCancelled):
        position -= 1
    position -= 1
    while position > 0 and isinstance(before[position - 1], StepCancelled | WaitWithdrawn):
        position -= 1
    return max(position, 0)


NO_RECORDS = Records()
"""The index of a journal in which nothing has happened yet; all fresh runs share it, and nobody adds to it."""
