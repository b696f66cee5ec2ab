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
    OnChange,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    RunUpgraded,
    StateSet,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepKind,
    StepStarted,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import Status


class OpenStep(msgspec.Struct):
    """A step that has started and not ended. `retry_at` is set between attempts, `in_flight` during one.

    `first_attempt` is 1, or the number with which a retry of the whole run began: policies count from there.
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


class State(msgspec.Struct):
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
    steps: dict[StepPath, OpenStep] = {}
    waits: dict[StepPath, WaitStarted] = {}
    attempts_in_flight: int = 0
    completed: int = 0
    failed: int = 0
    retries: int = 0
    variables: dict[str, msgspec.Raw] = {}
    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""
    error: Failure | None = None
    failed_steps: tuple[StepPath, ...] = ()

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

    @property
    def next_due(self) -> int | None:
        """The earliest time at which something in the run is due: a timer, a deadline, a retry."""
        dues = [wait.due for wait in self.waits.values() if wait.due is not None]
        dues += [step.retry_at for step in self.steps.values() if step.retry_at is not None]
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
            _end_attempt(state, state.steps.pop(entry.path, None))
            state.completed += 1
        case StepFailed():
            _fail_attempt(state, entry)
        case StepCancelled():
            _end_attempt(state, state.steps.pop(entry.path, None))
        case WaitStarted():
            state.waits[entry.path] = entry
        case WaitSatisfied() | WaitTimedOut() | WaitWithdrawn():
            state.waits.pop(entry.path, None)
        case ValueRecorded():
            pass
        case StateSet():
            if entry.deleted:
                state.variables.pop(entry.key, None)
            else:
                state.variables[entry.key] = entry.payload
        case _:
            _evolve_run(state, entry)


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
        )
    else:
        # A crash leaves an attempt in flight with no outcome; its successor takes its place in the count.
        _end_attempt(state, step)
        step.attempt = entry.attempt
        step.in_flight = True
        step.retry_at = None
        state.retries += 1
    if entry.step == "task":
        state.attempts_in_flight += 1


def _end_attempt(state: State, step: OpenStep | None) -> None:
    if step is not None and step.in_flight:
        step.in_flight = False
        if step.step == "task":
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


def _evolve_run(
    state: State,
    entry: RunCreated
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
        case RunStarted():
            state.started_at = entry.at
        case RunPaused():
            state.pause = entry
        case RunResumed():
            _resume(state, entry)
        case RunCancelRequested():
            state.cancel = entry
        case RunCancelled():
            state.ended = "cancelled"
        case RunCompleted():
            state.ended = "completed"
            state.output = entry.output
            state.output_blob = entry.output_blob
        case RunFailed():
            state.ended = "failed"
            state.error = entry.error
            state.failed_steps = entry.steps
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
    state.created_at = entry.at


def _resume(state: State, entry: RunResumed) -> None:
    state.pause = None
    state.on_change = entry.on_change
    if entry.retry:
        state.ended = None
        state.error = None
        state.failed_steps = ()
        state.cancel = None
        state.failed -= len(entry.retried)
