"""What is known of a run: the fold of its journal. Nobody but `evolve` changes a `State`.

A state is small on purpose: it keeps what is *open* (steps in flight or to be retried, waits) and counts what is
done, so a run of 40,000 finished steps folds to a few hundred bytes. What finished steps returned is read from
the journal when the body is rebuilt. `evolve` changes the state in place: a persistent copy per entry would make
every fan-out quadratic. Folding the same entries always gives an equal state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from stepwell.model.entries import (
    NO_PAYLOAD,
    AnyEntry,
    DefinitionPatched,
    InputAnswered,
    InputReassigned,
    InputReminded,
    InputWithdrawn,
    NodePassed,
    OnCancel,
    OnChange,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunInputSet,
    RunPaused,
    RunResumed,
    RunStarted,
    RunUpgraded,
    ScopeClosed,
    ScopeOpened,
    StateSet,
    StepCancelled,
    StepCompleted,
    StepEdited,
    StepFailed,
    StepKind,
    StepSkipped,
    StepStarted,
    StreamBlock,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import Status
from stepwell.model.requests import read_event_spec, read_input_spec


class OpenStep(msgspec.Struct, gc=False):
    """A step that has started and not ended. `retry_at` is set between attempts, `in_flight` during one.

    `first_attempt` is 1, or the number with which a retry of the whole run began: policies count from there. `usage` is
    what the present attempt has streamed.
    """

    path: StepPath
    step: StepKind
    attempt: int
    in_flight: bool
    started_at: int
    input: msgspec.Raw
    input_blob: str
    fingerprint: str
    child: str
    first_attempt: int = 1
    retry_at: int | None = None
    error: Failure | None = None
    on_cancel: OnCancel = "cancel"
    usage: dict[str, int] = {}


class Asked(msgspec.Struct, gc=False):
    """What has become of an open input request: its answers so far, when it was asked, and its next reminder."""

    at: int
    reminders: tuple[int, ...]
    answers: list[tuple[str, bytes, int]] = []
    reminded: int = 0

    @property
    def remind_at(self) -> int | None:
        """When the next reminder is due (microseconds)."""
        return self.at + self.reminders[self.reminded] if self.reminded < len(self.reminders) else None


class State(msgspec.Struct, gc=False):
    """A run as it stands after entry `seq`. Times in microseconds."""

    run_id: str = ""
    workflow: str = ""
    version: str = ""
    root: str = ""
    parent: str | None = None
    parent_step: StepPath | None = None
    priority: int = 0
    durability: str = "sync"
    labels: dict[str, str] = {}
    queue: str = ""
    begin_at: int | None = None
    deadline: int | None = None
    origin: str = ""
    seed: int = 0
    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    seq: int = 0
    created_at: int = 0
    started_at: int | None = None
    updated_at: int = 0
    ended: Status | None = None
    pause: RunPaused | None = None
    cancel: RunCancelRequested | None = None
    on_change: OnChange | None = None
    retried_at: int | None = None
    steps: dict[StepPath, OpenStep] = {}
    waits: dict[StepPath, WaitStarted] = {}
    asked: dict[StepPath, Asked] = {}
    edits: dict[StepPath, StepEdited] = {}
    cursors: dict[str, int] = {}
    attempts_in_flight: int = 0
    completed: int = 0
    failed: int = 0
    retries: int = 0
    variables: dict[str, msgspec.Raw] = {}
    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""
    error: Failure | None = None
    failed_steps: tuple[StepPath, ...] = ()
    undone: bool = False
    undoing: bool = False
    usage: dict[str, int] = {}
    patch: msgspec.Raw = NO_PAYLOAD
    patch_blob: str = ""
    event: msgspec.Raw = NO_PAYLOAD

    @property
    def has_patch(self) -> bool:
        """Whether it is a run of a graph with a definition of its own."""
        return bool(self.patch_blob or bytes(self.patch))

    @property
    def status(self) -> Status:
        """The run's status as these facts give it."""
        if self.ended is not None:
            return self.ended
        if self.pause is not None:
            return "paused" if self.pause.cause in ("request", "code_change") else "stuck"
        if self.started_at is None:
            return "pending"
        idle = self.attempts_in_flight == 0 and bool(self.waits or self.steps)
        return "waiting" if idle else "running"

    def is_early(self, now: int) -> bool:
        """Whether the body may not begin yet."""
        return self.started_at is None and self.begin_at is not None and now < self.begin_at and self.cancel is None

    @property
    def next_due(self) -> int | None:
        """The earliest time at which something is due: its beginning, a timer, a deadline, a retry, a reminder."""
        dues = [wait.due for wait in self.waits.values() if wait.due is not None]
        dues += [step.retry_at for step in self.steps.values() if step.retry_at is not None]
        dues += [at for asked in self.asked.values() if (at := asked.remind_at) is not None]
        if self.deadline is not None and self.cancel is None:
            dues.append(self.deadline)
        if self.begin_at is not None and self.started_at is None:
            dues.append(self.begin_at)
        return min(dues, default=None)


def replay(entries: Iterable[AnyEntry]) -> State:
    """Fold a journal from its beginning."""
    state = State()
    for entry in entries:
        evolve(state, entry)
    return state


def evolve(state: State, entry: AnyEntry) -> None:
    """Apply one entry to `state`, in place."""
    state.seq += 1
    state.updated_at = entry.at
    match entry:
        case StepStarted():
            _start_step(state, entry)
        case StepCompleted():
            step = state.steps.pop(entry.path, None)
            _end_attempt(state, step)
            state.completed += 1
            if entry.usage:
                streamed = {} if step is None else step.usage
                _use(state, {name: count - streamed.get(name, 0) for name, count in entry.usage.items()})
            if state.edits:
                state.edits.pop(entry.path, None)
        case StepFailed():
            _fail_attempt(state, entry)
        case StepCancelled():
            _end_attempt(state, state.steps.pop(entry.path, None))
        case WaitStarted():
            _start_wait(state, entry)
        case WaitSatisfied() | WaitTimedOut() | WaitWithdrawn() | InputWithdrawn():
            _end_wait(state, entry)
        case InputAnswered() | InputReassigned() | InputReminded():
            _change_request(state, entry)
        case StepEdited():
            state.edits[entry.path] = entry
        case StreamBlock():
            if entry.usage:
                _stream(state, entry)
        case ValueRecorded() | StepSkipped() | NodePassed() | ScopeOpened() | ScopeClosed():
            pass
        case DefinitionPatched():
            state.patch = entry.definition
            state.patch_blob = entry.definition_blob
        case StateSet():
            if entry.deleted:
                state.variables.pop(entry.key, None)
            else:
                state.variables[entry.key] = entry.payload
        case _:
            _evolve_run(state, entry)


def _use(state: State, usage: dict[str, int]) -> None:
    for name, count in usage.items():
        state.usage[name] = state.usage.get(name, 0) + count


def _stream(state: State, entry: StreamBlock) -> None:
    """What was used is counted as it is used: tokens are spent, whatever becomes of the attempt."""
    _use(state, entry.usage)
    step = state.steps.get(entry.path)
    if step is not None:
        for name, count in entry.usage.items():
            step.usage[name] = step.usage.get(name, 0) + count


def _start_step(state: State, entry: StepStarted) -> None:
    step = state.steps.get(entry.path)
    if step is None:
        state.steps[entry.path] = OpenStep(
            entry.path,
            entry.step,
            entry.attempt,
            True,
            entry.at,
            entry.input,
            entry.input_blob,
            entry.fingerprint,
            entry.child,
            entry.attempt,
            on_cancel=entry.on_cancel,
        )
    else:
        # A crash leaves an attempt in flight with no outcome; its successor takes its place in the count.
        _end_attempt(state, step)
        step.attempt = entry.attempt
        step.usage = {}
        step.in_flight = True
        step.retry_at = None
        state.retries += 1
    if entry.step != "child":
        state.attempts_in_flight += 1


def _end_attempt(state: State, step: OpenStep | None) -> None:
    if step is not None and step.in_flight:
        step.in_flight = False
        if step.step != "child":
            state.attempts_in_flight -= 1


def _fail_attempt(state: State, entry: StepFailed) -> None:
    step = state.steps.get(entry.path)
    _end_attempt(state, step)
    if entry.retry_at is None:
        state.steps.pop(entry.path, None)
        state.failed += 1
    elif step is not None:
        step.retry_at = entry.retry_at
        step.error = entry.error


def _start_wait(state: State, entry: WaitStarted) -> None:
    state.waits[entry.path] = entry
    if entry.wait == "input":
        state.asked[entry.path] = Asked(entry.at, read_input_spec(entry.spec).reminders)


def _end_wait(state: State, entry: WaitSatisfied | WaitTimedOut | WaitWithdrawn | InputWithdrawn) -> None:
    wait = state.waits.pop(entry.path, None)
    if wait is None:
        return
    if wait.wait == "input":
        state.asked.pop(entry.path, None)
    elif wait.wait == "event" and isinstance(entry, WaitSatisfied):
        subscription = read_event_spec(wait.spec).subscription(wait.name)
        state.cursors[subscription] = max(entry.position, state.cursors.get(subscription, 0))


def _change_request(state: State, entry: InputAnswered | InputReassigned | InputReminded) -> None:
    wait, asked = state.waits.get(entry.path), state.asked.get(entry.path)
    if wait is None or asked is None:
        return
    match entry:
        case InputAnswered():
            if not entry.late:
                asked.answers.append((entry.by, bytes(entry.payload), entry.at))
        case InputReassigned():
            spec = msgspec.structs.replace(read_input_spec(wait.spec), who=entry.who)
            state.waits[entry.path] = msgspec.structs.replace(wait, spec=msgspec.Raw(msgspec.json.encode(spec)))
        case InputReminded():
            asked.reminded = entry.number
        case _:
            assert_never(entry)


def _evolve_run(
    state: State,
    entry: RunCreated
    | RunInputSet
    | RunStarted
    | RunPaused
    | RunResumed
    | RunCancelRequested
    | RunCancelled
    | RunCompleted
    | RunFailed
    | RunUpgraded,
) -> None:
    match entry:
        case RunCreated():
            _create(state, entry)
        case RunInputSet():
            state.input = entry.input
            state.input_blob = entry.input_blob
            state.begin_at = state.begin_at if entry.begin_at is None else entry.begin_at
        case RunStarted():
            state.started_at = entry.at
            if entry.version:
                state.version = entry.version
        case RunPaused():
            state.pause = entry
        case RunResumed():
            _resume(state, entry)
        case RunCancelRequested():
            state.cancel = entry
        case RunCancelled():
            state.ended = "cancelled"
            state.undone = entry.undone
        case RunCompleted():
            state.ended = "completed"
            state.output = entry.output
            state.output_blob = entry.output_blob
        case RunFailed():
            state.ended = "failed"
            state.error = entry.error
            state.failed_steps = entry.steps
            state.undone = entry.undone
            state.undoing = entry.undoing
        case RunUpgraded():
            state.version = entry.version
        case _:
            assert_never(entry)


def _create(state: State, entry: RunCreated) -> None:
    state.run_id = entry.run_id
    state.workflow = entry.workflow
    state.version = entry.version
    state.root = entry.root
    state.parent = entry.parent
    state.parent_step = entry.parent_step
    state.input = entry.input
    state.input_blob = entry.input_blob
    state.seed = entry.seed
    state.priority = entry.priority
    state.durability = entry.durability
    state.labels = dict(entry.labels)
    state.queue = entry.queue
    state.begin_at = entry.begin_at
    state.deadline = entry.deadline
    state.origin = entry.origin
    state.created_at = entry.at
    state.event = entry.event


def _resume(state: State, entry: RunResumed) -> None:
    state.pause = None
    state.on_change = entry.on_change
    if entry.retry:
        state.retried_at = entry.at
        state.ended = None
        state.error = None
        state.failed_steps = ()
        state.undoing = False
        state.failed -= len(entry.retried)
        if state.cancel is not None and state.cancel.deadline:
            state.deadline = None  # it has passed: whoever retries the run gives it all the time that it needs
        if not entry.undoing:
            state.cancel = None
