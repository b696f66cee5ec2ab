"""What may be asked of a run, in the imperative; `decide` answers with entries or refuses."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from stepwell.model.entries import (
    NO_PAYLOAD,
    NULL,
    GraphFact,
    OnCancel,
    OnChange,
    PauseCause,
    StepKind,
    ValueKind,
    WaitKind,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.model.retry import Retry


class Command(msgspec.Struct, frozen=True, gc=False):
    """A request to change a run."""


class Begin(Command, frozen=True):
    """The body begins its first turn."""

    version: str


class StartAttempt(Command, frozen=True):
    """Start the next attempt of a step; the first one carries what the step is.

    `attempt` numbers the first attempt after the step's last outcome was withdrawn; the engine counts the others.
    """

    path: StepPath
    step: StepKind = "task"
    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    fingerprint: str = ""
    child: str = ""
    attempt: int = 1
    on_cancel: OnCancel = "cancel"


class CompleteAttempt(Command, frozen=True):
    """The attempt has returned."""

    path: StepPath
    attempt: int
    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""
    usage: dict[str, int] = {}


class FailAttempt(Command, frozen=True):
    """The attempt has failed; `retry` and `chance` (from [0, 1)) decide whether and when the next one starts."""

    path: StepPath
    attempt: int
    error: Failure
    retry: Retry
    chance: float


class CancelStep(Command, frozen=True):
    """The body no longer wants this step; no entry when it has ended already."""

    path: StepPath


class StartWait(Command, frozen=True):
    """The body waits."""

    path: StepPath
    wait: WaitKind
    name: str = ""
    due: int | None = None
    spec: msgspec.Raw = NO_PAYLOAD


class SatisfyWait(Command, frozen=True):
    """What was waited for has come; a timer that is due is satisfied."""

    path: StepPath
    payload: msgspec.Raw = NO_PAYLOAD
    payload_blob: str = ""
    by: str = ""
    position: int = 0


class AnswerInput(Command, frozen=True):
    """Somebody answers an input request; one that has ended keeps it as a late answer."""

    path: StepPath
    payload: msgspec.Raw = NULL
    by: str = ""


class WithdrawInput(Command, frozen=True):
    """Somebody takes an input request back; no entry when it has ended already."""

    path: StepPath
    by: str = ""
    reason: str = ""


class ReassignInput(Command, frozen=True):
    """Others may answer an input request; no entry when it has ended already."""

    path: StepPath
    who: tuple[str, ...] = ()
    by: str = ""
    reason: str = ""


class RemindInput(Command, frozen=True):
    """The time of an open request's next reminder has come."""

    path: StepPath


class EditStep(Command, frozen=True):
    """Give a step's next attempts another input."""

    path: StepPath
    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    by: str = ""
    reason: str = ""


class SetInput(Command, frozen=True):
    """Replace the input of a run that has not begun, and when it may begin; no entry once it has."""

    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    by: str = ""
    begin_at: int | None = None


class Upgrade(Command, frozen=True):
    """Let the run go on under another version of its workflow."""

    version: str
    by: str = ""
    reason: str = ""


class KeepChunks(Command, frozen=True):
    """Journal what an attempt emitted; no entry when the attempt is no longer in flight."""

    path: StepPath
    attempt: int
    first: int
    chunks: msgspec.Raw
    usage: dict[str, int] = {}


class TimeOutWait(Command, frozen=True):
    """The deadline of a wait has passed."""

    path: StepPath


class WithdrawWait(Command, frozen=True):
    """The body no longer waits; no entry when the wait has ended already."""

    path: StepPath


class RecordValue(Command, frozen=True):
    """The body read a value from outside."""

    path: StepPath
    value: ValueKind
    payload: msgspec.Raw


class RecordFact(Command, frozen=True):
    """Something has happened in a graph; `fact` is the entry that says so, but for its time."""

    fact: GraphFact


class SetState(Command, frozen=True):
    """A key of `ctx.state` changes."""

    key: str
    payload: msgspec.Raw
    path: StepPath | None = None
    deleted: bool = False
    by: str = ""
    reason: str = ""


class CompleteRun(Command, frozen=True):
    """The body returned."""

    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""


class FailRun(Command, frozen=True):
    """The body raised."""

    error: Failure
    steps: tuple[StepPath, ...] = ()
    undone: bool = False
    undoing: bool = False


class EndCancelled(Command, frozen=True):
    """The body ended by the cancellation that was asked for, or never began."""

    undone: bool = False


class Pause(Command, frozen=True):
    """Start no new attempt until resumed."""

    cause: PauseCause = "request"
    by: str = ""
    reason: str = ""


class Resume(Command, frozen=True):
    """Undo a pause; `on_change` overrides the steps' own policy for changed code."""

    by: str = ""
    reason: str = ""
    on_change: OnChange | None = None


class RequestCancel(Command, frozen=True):
    """Ask the body to end; `deadline` says that the run's deadline has passed."""

    by: str = ""
    reason: str = ""
    deadline: bool = False


class RetryRun(Command, frozen=True):
    """Let a failed or cancelled run go on: the failures that led to its end are withdrawn."""

    by: str = ""
    reason: str = ""
    on_change: OnChange | None = None


AnyCommand: TypeAlias = (
    StartAttempt
    | CompleteAttempt
    | FailAttempt
    | CancelStep
    | StartWait
    | SatisfyWait
    | TimeOutWait
    | WithdrawWait
    | AnswerInput
    | WithdrawInput
    | ReassignInput
    | RemindInput
    | EditStep
    | SetInput
    | Upgrade
    | KeepChunks
    | RecordValue
    | RecordFact
    | SetState
    | Begin
    | CompleteRun
    | FailRun
    | EndCancelled
    | Pause
    | Resume
    | RequestCancel
    | RetryRun
)
