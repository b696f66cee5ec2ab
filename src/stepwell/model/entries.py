"""The facts a journal is made of: small, frozen, past tense, never changed. This is the waist of the engine.

Every entry is one JSON object whose `kind` names it. `at` is when it happened, in microseconds (UTC). Payloads
(`input`, `output`, …) are already encoded JSON; one of more than `INLINE_LIMIT` bytes is kept in the blob table
and the entry holds its content hash in the field that ends in `_blob` instead.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath

INLINE_LIMIT = 64 * 1024
"""Payload bytes up to which an entry carries the payload itself."""

PAYLOAD_LIMIT = 32 * 1024 * 1024
"""Payload bytes over which a value is refused."""

NO_PAYLOAD = msgspec.Raw(b"")
NULL = msgspec.Raw(b"null")

PauseCause: TypeAlias = Literal["request", "code_change", "deadlock", "crash_loop", "body_error"]
StepKind: TypeAlias = Literal["task", "child"]
WaitKind: TypeAlias = Literal["timer", "signal"]
ValueKind: TypeAlias = Literal["now", "uuid", "random", "start"]
OnChange: TypeAlias = Literal["pause", "rerun", "reuse", "fail"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", gc=False):
    """One fact in a run's journal."""

    at: int


class RunCreated(Entry, frozen=True, omit_defaults=True, tag="run.created"):
    """A run was accepted. `root` and `parent` are run ids (`root` is the run itself at the top of a tree)."""

    run_id: str
    workflow: str
    version: str
    root: str
    parent: str | None = None
    parent_step: StepPath | None = None
    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    seed: int = 0
    priority: int = 0
    durability: str = "sync"
    labels: dict[str, str] = {}
    by: str = ""


class RunStarted(Entry, frozen=True, omit_defaults=True, tag="run.started"):
    """The workflow body began; the time of its first turn is this entry's `at`."""

    version: str = ""


class RunPaused(Entry, frozen=True, omit_defaults=True, tag="run.paused"):
    """No new attempt starts until the run is resumed; `cause` tells a request from what the engine saw itself."""

    cause: PauseCause = "request"
    by: str = ""
    reason: str = ""


class RunResumed(Entry, frozen=True, omit_defaults=True, tag="run.resumed"):
    """A pause was undone, or (`retried` set) a failed run goes on from the steps whose failures are withdrawn.

    `on_change` overrides the policy of every step for the rebuild that follows.
    """

    by: str = ""
    reason: str = ""
    on_change: OnChange | None = None
    retry: bool = False
    retried: tuple[StepPath, ...] = ()


class RunCancelRequested(Entry, frozen=True, omit_defaults=True, tag="run.cancel_requested"):
    """The body is sent `asyncio.CancelledError` at its next turn."""

    by: str = ""
    reason: str = ""


class RunCancelled(Entry, frozen=True, omit_defaults=True, tag="run.cancelled"):
    """The run ended because it was cancelled."""


class RunCompleted(Entry, frozen=True, omit_defaults=True, tag="run.completed"):
    """The run ended with a result."""

    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""


class RunFailed(Entry, frozen=True, omit_defaults=True, tag="run.failed"):
    """The run ended with an error; `steps` are the failed steps that led to it and that `retry` would try again."""

    error: Failure = Failure("", "")
    steps: tuple[StepPath, ...] = ()


class RunUpgraded(Entry, frozen=True, omit_defaults=True, tag="run.upgraded"):
    """The run goes on under another version of its workflow."""

    version: str = ""
    by: str = ""


class StepStarted(Entry, frozen=True, omit_defaults=True, tag="step.started"):
    """An attempt began. Input, key and fingerprint stand on the first attempt only; `child` is a child run's id."""

    path: StepPath
    attempt: int = 1
    step: StepKind = "task"
    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    fingerprint: str = ""
    child: str = ""


class StepCompleted(Entry, frozen=True, omit_defaults=True, tag="step.completed"):
    """An attempt succeeded; the step is done and does not run again in this run."""

    path: StepPath
    attempt: int = 1
    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""
    port: str = "out"


class StepFailed(Entry, frozen=True, omit_defaults=True, tag="step.failed"):
    """An attempt failed; with `retry_at` the next one starts then, without it the step has failed for good."""

    path: StepPath
    attempt: int = 1
    error: Failure = Failure("", "")
    retry_at: int | None = None


class StepCancelled(Entry, frozen=True, omit_defaults=True, tag="step.cancelled"):
    """The body no longer wants the step's outcome (a lost race, a passed deadline, a cancelled run)."""

    path: StepPath


class WaitStarted(Entry, frozen=True, omit_defaults=True, tag="wait.started"):
    """The body waits: for a timer due at `due`, or for the signal `name` until `due` (None: for ever)."""

    path: StepPath
    wait: WaitKind = "timer"
    name: str = ""
    due: int | None = None


class WaitSatisfied(Entry, frozen=True, omit_defaults=True, tag="wait.satisfied"):
    """What was waited for has come."""

    path: StepPath
    payload: msgspec.Raw = NO_PAYLOAD
    payload_blob: str = ""
    by: str = ""


class WaitTimedOut(Entry, frozen=True, omit_defaults=True, tag="wait.timed_out"):
    """The deadline of a wait passed first."""

    path: StepPath


class WaitWithdrawn(Entry, frozen=True, omit_defaults=True, tag="wait.withdrawn"):
    """The body no longer waits (a cancelled timer, a lost race)."""

    path: StepPath


class ValueRecorded(Entry, frozen=True, omit_defaults=True, tag="value.recorded"):
    """A value from outside that the body read: the time, a random number, a uuid."""

    path: StepPath
    value: ValueKind = "now"
    payload: msgspec.Raw = NULL


class StateSet(Entry, frozen=True, omit_defaults=True, tag="state.set"):
    """A key of `ctx.state` was set, or deleted (`deleted`). `path` is None for an edit from outside."""

    key: str
    path: StepPath | None = None
    payload: msgspec.Raw = NULL
    deleted: bool = False
    by: str = ""


AnyEntry: TypeAlias = (
    RunCreated
    | RunStarted
    | RunPaused
    | RunResumed
    | RunCancelRequested
    | RunCancelled
    | RunCompleted
    | RunFailed
    | RunUpgraded
    | StepStarted
    | StepCompleted
    | StepFailed
    | StepCancelled
    | WaitStarted
    | WaitSatisfied
    | WaitTimedOut
    | WaitWithdrawn
    | ValueRecorded
    | StateSet
)

_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[AnyEntry] = msgspec.json.Decoder(AnyEntry)


def encode(entry: Entry) -> bytes:
    """Return the entry as one JSON object; equal entries give equal bytes."""
    return _ENCODER.encode(entry)


def decode(body: bytes) -> AnyEntry:
    """Return the entry that `encode` wrote.

    Raises:
        msgspec.DecodeError: the bytes are not JSON, or not an entry that this version knows.
    """
    return _DECODER.decode(body)


def kind_of(entry: Entry) -> str:
    """The entry's name, such as `step.completed`."""
    return str(type(entry).__struct_config__.tag)
