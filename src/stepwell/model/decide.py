"""What follows from a command: entries, or a refusal that changes nothing. Pure; `now` and chance are arguments."""

from __future__ import annotations

from typing import assert_never

import msgspec

from stepwell.errors import StepwellBug, WrongStatus
from stepwell.model.commands import (
    AnswerInput,
    AnyCommand,
    Begin,
    CancelStep,
    CompleteAttempt,
    CompleteRun,
    EditStep,
    EndCancelled,
    FailAttempt,
    FailRun,
    KeepChunks,
    Pause,
    ReassignInput,
    RecordFact,
    RecordValue,
    RemindInput,
    RequestCancel,
    Resume,
    RetryRun,
    SatisfyWait,
    SetInput,
    SetState,
    StartAttempt,
    StartWait,
    TimeOutWait,
    Upgrade,
    WithdrawInput,
    WithdrawWait,
)
from stepwell.model.entries import (
    AnyEntry,
    InputAnswered,
    InputReassigned,
    InputReminded,
    InputWithdrawn,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunFailed,
    RunInputSet,
    RunPaused,
    RunResumed,
    RunStarted,
    RunUpgraded,
    StateSet,
    StepCancelled,
    StepCompleted,
    StepEdited,
    StepFailed,
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
from stepwell.model.lifecycle import RETRYABLE
from stepwell.model.state import State

Entries = tuple[AnyEntry, ...]

_DEADLINE = Failure("stepwell.errors.DeadlinePassed", "the run's deadline passed before it had ended", retryable=False)


def decide(state: State, command: AnyCommand, now: int) -> Entries:
    """Return the entries that `command` causes in `state` at `now` (microseconds); empty when nothing follows.

    An outcome for an attempt that is no longer in flight (it was cancelled, or a newer attempt runs) causes
    nothing: what is in the journal stays true.

    Raises:
        WrongStatus: a person's verb does not fit the run's status.
        StepwellBug: the engine asked for what cannot be.
    """
    match command:
        case StartAttempt():
            return _start_attempt(state, command, now)
        case CompleteAttempt():
            if not _is_in_flight(state, command.path, command.attempt):
                return ()
            return (
                StepCompleted(
                    at=now,
                    path=command.path,
                    attempt=command.attempt,
                    output=command.output,
                    output_blob=command.output_blob,
                    usage=command.usage,
                ),
            )
        case FailAttempt():
            return _fail_attempt(state, command, now)
        case CancelStep():
            return (StepCancelled(at=now, path=command.path),) if command.path in state.steps else ()
        case RecordValue():
            return (ValueRecorded(at=now, path=command.path, value=command.value, payload=command.payload),)
        case RecordFact():
            return (msgspec.structs.replace(command.fact, at=now),)
        case SetState():
            return (
                StateSet(
                    at=now,
                    key=command.key,
                    path=command.path,
                    payload=command.payload,
                    deleted=command.deleted,
                    by=command.by,
                    reason=command.reason,
                ),
            )
        case KeepChunks():
            if not _is_in_flight(state, command.path, command.attempt):
                return ()
            return (
                StreamBlock(
                    at=now,
                    path=command.path,
                    attempt=command.attempt,
                    first=command.first,
                    chunks=command.chunks,
                    usage=command.usage,
                ),
            )
        case AnswerInput() | WithdrawInput() | ReassignInput() | RemindInput():
            return _decide_request(state, command, now)
        case EditStep() | SetInput() | Upgrade():
            return _decide_edit(state, command, now)
        case StartWait() | SatisfyWait() | TimeOutWait() | WithdrawWait():
            return _decide_wait(state, command, now)
        case Begin() | CompleteRun() | FailRun() | EndCancelled():
            return _decide_end(state, command, now)
        case Pause() | Resume() | RequestCancel() | RetryRun():
            return _decide_verb(state, command, now)
        case _:
            assert_never(command)


def _is_in_flight(state: State, path: StepPath, attempt: int) -> bool:
    step = state.steps.get(path)
    return step is not None and step.in_flight and step.attempt == attempt and state.ended is None


def _start_attempt(state: State, command: StartAttempt, now: int) -> Entries:
    if state.ended is not None or state.pause is not None:
        raise StepwellBug(
            f"run {state.run_id}: an attempt of {command.path} was to start while the run is {state.status}"
        )
    step = state.steps.get(command.path)
    if step is None:
        return (
            StepStarted(
                at=now,
                path=command.path,
                attempt=command.attempt,
                step=command.step,
                input=command.input,
                input_blob=command.input_blob,
                fingerprint=command.fingerprint,
                child=command.child,
                on_cancel=command.on_cancel,
            ),
        )
    # The clock was read again since this moment began: a retry never stands before its time in the journal.
    at = max(now, step.retry_at or now)
    return (StepStarted(at=at, path=command.path, attempt=step.attempt + 1, step=step.step, child=step.child),)


def _fail_attempt(state: State, command: FailAttempt, now: int) -> Entries:
    if not _is_in_flight(state, command.path, command.attempt):
        return ()
    retry_at = None
    step = state.steps[command.path]
    if state.cancel is None or step.step == "compensation":  # what undoes the work of a cancelled run must get through
        retry_at = command.retry.retry_at(
            command.error,
            command.attempt - step.first_attempt + 1,
            now=now,
            started_at=step.started_at,
            chance=command.chance,
        )
    return (StepFailed(at=now, path=command.path, attempt=command.attempt, error=command.error, retry_at=retry_at),)


def _decide_wait(state: State, command: StartWait | SatisfyWait | TimeOutWait | WithdrawWait, now: int) -> Entries:
    if isinstance(command, StartWait):
        return (
            WaitStarted(
                at=now,
                path=command.path,
                wait=command.wait,
                name=command.name,
                due=command.due,
                spec=command.spec,
            ),
        )
    wait = state.waits.get(command.path)
    if wait is None:
        return ()
    match command:
        case SatisfyWait():
            # A timer never fires early: the journal's time of firing is at or after its due time.
            at = max(now, wait.due) if wait.wait == "timer" and wait.due is not None else now
            return (
                WaitSatisfied(
                    at=at,
                    path=command.path,
                    payload=command.payload,
                    payload_blob=command.payload_blob,
                    by=command.by,
                    position=command.position,
                ),
            )
        case TimeOutWait():
            return (WaitTimedOut(at=max(now, wait.due or now), path=command.path),)
        case WithdrawWait():
            return (WaitWithdrawn(at=now, path=command.path),)
        case _:
            assert_never(command)


def _decide_request(
    state: State, command: AnswerInput | WithdrawInput | ReassignInput | RemindInput, now: int
) -> Entries:
    asked = state.asked.get(command.path)
    match command:
        case AnswerInput():
            late = asked is None or any(by == command.by for by, _, _ in asked.answers)
            return (InputAnswered(at=now, path=command.path, payload=command.payload, by=command.by, late=late),)
        case _ if asked is None:
            return ()
        case WithdrawInput():
            return (InputWithdrawn(at=now, path=command.path, by=command.by, reason=command.reason),)
        case ReassignInput():
            return (InputReassigned(at=now, path=command.path, who=command.who, by=command.by, reason=command.reason),)
        case RemindInput():
            return (InputReminded(at=max(now, asked.remind_at or now), path=command.path, number=asked.reminded + 1),)
        case _:
            assert_never(command)


def _decide_edit(state: State, command: EditStep | SetInput | Upgrade, now: int) -> Entries:
    match command:
        case EditStep():
            if command.path not in state.steps and command.path not in state.failed_steps:
                raise WrongStatus(
                    f"run {state.run_id}: step {command.path} is not open and did not fail; only the input of a step "
                    "that will be tried again can be edited (fork the run to do a finished one anew)"
                )
            return (
                StepEdited(
                    at=now,
                    path=command.path,
                    input=command.input,
                    input_blob=command.input_blob,
                    by=command.by,
                    reason=command.reason,
                ),
            )
        case SetInput():
            if state.started_at is not None or state.ended is not None:
                return ()
            return (
                RunInputSet(
                    at=now,
                    input=command.input,
                    input_blob=command.input_blob,
                    by=command.by,
                    begin_at=command.begin_at,
                ),
            )
        case Upgrade():
            _refuse_ended(state, "upgraded")
            return (RunUpgraded(at=now, version=command.version, by=command.by, reason=command.reason),)
        case _:
            assert_never(command)


def _decide_end(state: State, command: Begin | CompleteRun | FailRun | EndCancelled, now: int) -> Entries:
    if state.ended is not None:
        raise StepwellBug(f"run {state.run_id} is {state.ended} and was to end again")
    match command:
        case Begin():
            return (RunStarted(at=now, version=command.version),)
        case CompleteRun():
            last: AnyEntry = RunCompleted(at=now, output=command.output, output_blob=command.output_blob)
        case FailRun():
            last = RunFailed(
                at=now, error=command.error, steps=command.steps, undone=command.undone, undoing=command.undoing
            )
        case EndCancelled() if state.cancel is not None and state.cancel.deadline:
            last = RunFailed(at=now, error=_DEADLINE, undone=command.undone)
        case EndCancelled():
            last = RunCancelled(at=now, undone=command.undone)
        case _:
            assert_never(command)
    return (*_close_open(state, now), last)


def _close_open(state: State, now: int) -> Entries:
    """What a body leaves open when it ends is cancelled, as `asyncio.run` cancels the tasks that are left."""
    return (
        *(StepCancelled(at=now, path=path) for path in state.steps),
        *(WaitWithdrawn(at=now, path=path) for path in state.waits),
    )


def _decide_verb(state: State, command: Pause | Resume | RequestCancel | RetryRun, now: int) -> Entries:
    match command:
        case Pause():
            _refuse_ended(state, "paused")
            if state.pause is not None:
                return ()
            return (RunPaused(at=now, cause=command.cause, by=command.by, reason=command.reason),)
        case Resume():
            _refuse_ended(state, "resumed")
            if state.pause is None:
                raise WrongStatus(f"run {state.run_id} is {state.status}; only a paused or stuck run can be resumed")
            return (RunResumed(at=now, by=command.by, reason=command.reason, on_change=command.on_change),)
        case RequestCancel():
            _refuse_ended(state, "cancelled")
            if state.cancel is not None:
                return ()
            return (RunCancelRequested(at=now, by=command.by, reason=command.reason, deadline=command.deadline),)
        case RetryRun():
            if state.ended not in RETRYABLE:
                raise WrongStatus(
                    f"run {state.run_id} is {state.status}; only a failed or cancelled run can be retried"
                )
            if state.undone:
                raise nothing_left(state.run_id, state.status)
            return (
                RunResumed(
                    at=now,
                    by=command.by,
                    reason=command.reason,
                    on_change=command.on_change,
                    retry=True,
                    retried=state.failed_steps,
                    undoing=state.undoing,
                ),
            )
        case _:
            assert_never(command)


def nothing_left(run_id: str, status: str) -> WrongStatus:
    """The refusal to retry a run whose work compensations have undone."""
    return WrongStatus(
        f"run {run_id} is {status} and compensations have undone its work: there is nothing to go on from; rerun it "
        "to start anew with the same input"
    )


def _refuse_ended(state: State, verb: str) -> None:
    if state.ended is not None:
        raise WrongStatus(f"run {state.run_id} is {state.ended}; a run that has ended cannot be {verb}")
