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
StepKind: TypeAlias = Literal["task", "child", "compensation"]
WaitKind: TypeAlias = Literal["timer", "signal", "event", "input"]
ValueKind: TypeAlias = Literal["now", "uuid", "random", "start", "patch", "publish", "signal", "response", "env"]
OnCancel: TypeAlias = Literal["cancel", "abandon", "wait"]
OnChange: TypeAlias = Literal["pause", "rerun", "reuse", "fail"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", gc=False):
    """One fact in a run's journal."""

    at: int


class RunCreated(Entry, frozen=True, omit_defaults=True, tag="run.created"):
    """A run was accepted. `root` and `parent` are run ids (`root` is the run itself at the top of a tree).

    Its body does not begin before `begin_at`; at `deadline` it is cancelled if it has not ended. `origin` is the run
    that this one was forked from (after its entry `origin_seq`), reruns (`origin_seq` 0) or was imported from;
    `trigger` is what fired it, `event` the envelope of the event that did, if its input was made of one (without the
    data).
    """

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
    queue: str = ""
    queue_key: str = ""
    begin_at: int | None = None
    deadline: int | None = None
    trigger: str = ""
    origin: str = ""
    origin_seq: int = 0
    reason: str = ""
    event: msgspec.Raw = NO_PAYLOAD


class RunInputSet(Entry, frozen=True, omit_defaults=True, tag="run.input_set"):
    """A later start replaced the input before the body began (debounce), or a fork was given another one.

    `begin_at` is before when the body now does not begin (None: as it was).
    """

    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    by: str = ""
    begin_at: int | None = None


class RunStarted(Entry, frozen=True, omit_defaults=True, tag="run.started"):
    """The workflow body began; the time of its first turn is this entry's `at`."""

    version: str = ""


class RunPaused(Entry, frozen=True, omit_defaults=True, tag="run.paused"):
    """No new attempt starts until the run is resumed; `cause` tells a request from what the engine saw itself."""

    cause: PauseCause = "request"
    by: str = ""
    reason: str = ""


class RunResumed(Entry, frozen=True, omit_defaults=True, tag="run.resumed"):
    """A pause was undone, or (`retry`) an ended run goes on from the steps whose failures are withdrawn.

    `on_change` overrides the policy of every step for the rebuild that follows. `undoing` says that what is retried is
    a compensation: a cancellation that was asked for stays in force.
    """

    by: str = ""
    reason: str = ""
    on_change: OnChange | None = None
    retry: bool = False
    retried: tuple[StepPath, ...] = ()
    undoing: bool = False


class RunCancelRequested(Entry, frozen=True, omit_defaults=True, tag="run.cancel_requested"):
    """The body is sent `asyncio.CancelledError` at its next turn; `deadline` says that the run's deadline passed."""

    by: str = ""
    reason: str = ""
    deadline: bool = False


class RunCancelled(Entry, frozen=True, omit_defaults=True, tag="run.cancelled"):
    """The run ended because it was cancelled; `undone` says that compensations undid its work."""

    undone: bool = False


class RunCompleted(Entry, frozen=True, omit_defaults=True, tag="run.completed"):
    """The run ended with a result."""

    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""


class RunFailed(Entry, frozen=True, omit_defaults=True, tag="run.failed"):
    """The run ended with an error; `steps` are the failed steps that led to it and that `retry` would try again.

    `undone` says that compensations undid its work, so that only a rerun makes sense; `undoing` that a compensation
    is what failed: a retry goes on undoing.
    """

    error: Failure = Failure("", "")
    steps: tuple[StepPath, ...] = ()
    undone: bool = False
    undoing: bool = False


class RunUpgraded(Entry, frozen=True, omit_defaults=True, tag="run.upgraded"):
    """The run goes on under another version of its workflow."""

    version: str = ""
    by: str = ""
    reason: str = ""


class StepStarted(Entry, frozen=True, omit_defaults=True, tag="step.started"):
    """An attempt began. Input, key and fingerprint stand on the first attempt only; `child` is a child run's id.

    `on_cancel` is what becomes of the child run when its parent no longer waits for it.
    """

    path: StepPath
    attempt: int = 1
    step: StepKind = "task"
    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    fingerprint: str = ""
    child: str = ""
    on_cancel: OnCancel = "cancel"


class StepCompleted(Entry, frozen=True, omit_defaults=True, tag="step.completed"):
    """An attempt succeeded; the step is done and does not run again in this run.

    `usage` counts what this attempt used (tokens, for one), what its `stream.block` entries count included.
    """

    path: StepPath
    attempt: int = 1
    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""
    port: str = "out"
    usage: dict[str, int] = {}


class StepFailed(Entry, frozen=True, omit_defaults=True, tag="step.failed"):
    """An attempt failed; with `retry_at` the next one starts then, without it the step has failed for good."""

    path: StepPath
    attempt: int = 1
    error: Failure = Failure("", "")
    retry_at: int | None = None


class StepCancelled(Entry, frozen=True, omit_defaults=True, tag="step.cancelled"):
    """The body no longer wants the step's outcome (a lost race, a passed deadline, a cancelled run)."""

    path: StepPath


class StepEdited(Entry, frozen=True, omit_defaults=True, tag="step.edited"):
    """The next attempts of a step are given this input instead of the one that the body called it with."""

    path: StepPath
    input: msgspec.Raw = NO_PAYLOAD
    input_blob: str = ""
    by: str = ""
    reason: str = ""


class StepSkipped(Entry, frozen=True, omit_defaults=True, tag="step.skipped"):
    """A node of a graph does not run: no path that was taken leads to it, or (`reason`) its own condition is false."""

    path: StepPath
    reason: str = ""


class NodePassed(Entry, frozen=True, omit_defaults=True, tag="node.passed"):
    """A node of a graph that needs no attempt has its outcome: a choice, a transformation, a mock, a cached output.

    `ports` are those by which it was left.
    """

    path: StepPath
    ports: tuple[str, ...] = ("out",)
    output: msgspec.Raw = NULL
    output_blob: str = ""


class ScopeOpened(Entry, frozen=True, omit_defaults=True, tag="scope.opened"):
    """A container of a graph began; `type` is its node type, `total` how many items or turns it has, if that is known.

    A map that takes in further items says so with another entry, which has the new `total`.
    """

    path: StepPath
    type: str = ""
    total: int | None = None


class ScopeClosed(Entry, frozen=True, omit_defaults=True, tag="scope.closed"):
    """A container of a graph ended, and was left by these ports (none: it was cancelled, or it failed)."""

    path: StepPath
    ports: tuple[str, ...] = ()


class DefinitionPatched(Entry, frozen=True, omit_defaults=True, tag="definition.patched"):
    """The run goes on under a changed definition, which is of this run alone: nodes and edges were added to it.

    `definition` is the whole of it as canonical JSON, `digest` its content hash.
    """

    definition: msgspec.Raw = NULL
    definition_blob: str = ""
    digest: str = ""
    by: str = ""
    reason: str = ""


class WaitStarted(Entry, frozen=True, omit_defaults=True, tag="wait.started"):
    """The body waits until `due` (None: for ever): a timer, the signal `name`, an event of topic `name`, an answer.

    `spec` is what else there is to know: an `EventSpec` or an `InputSpec` (see `model.requests`) as JSON.
    """

    path: StepPath
    wait: WaitKind = "timer"
    name: str = ""
    due: int | None = None
    spec: msgspec.Raw = NO_PAYLOAD


class WaitSatisfied(Entry, frozen=True, omit_defaults=True, tag="wait.satisfied"):
    """What was waited for has come; `position` is the place of an event among all events of the store."""

    path: StepPath
    payload: msgspec.Raw = NO_PAYLOAD
    payload_blob: str = ""
    by: str = ""
    position: int = 0


class WaitTimedOut(Entry, frozen=True, omit_defaults=True, tag="wait.timed_out"):
    """The deadline of a wait passed first."""

    path: StepPath


class WaitWithdrawn(Entry, frozen=True, omit_defaults=True, tag="wait.withdrawn"):
    """The body no longer waits (a cancelled timer, a lost race)."""

    path: StepPath


class InputAnswered(Entry, frozen=True, omit_defaults=True, tag="input.answered"):
    """Somebody answered an input request; `late` when it had ended, or had this person's answer: it changes nothing."""

    path: StepPath
    payload: msgspec.Raw = NULL
    by: str = ""
    late: bool = False


class InputWithdrawn(Entry, frozen=True, omit_defaults=True, tag="input.withdrawn"):
    """Somebody took an input request back: it ends, and the body gets `InputWithdrawn`."""

    path: StepPath
    by: str = ""
    reason: str = ""


class InputReassigned(Entry, frozen=True, omit_defaults=True, tag="input.reassigned"):
    """Others may answer an input request from now on (nobody named: anybody)."""

    path: StepPath
    who: tuple[str, ...] = ()
    by: str = ""
    reason: str = ""


class InputReminded(Entry, frozen=True, omit_defaults=True, tag="input.reminded"):
    """An input request has been open for so long that those who may answer were reminded, for the `number`th time."""

    path: StepPath
    number: int = 1


class ValueRecorded(Entry, frozen=True, omit_defaults=True, tag="value.recorded"):
    """A value from outside that the body read: the time, a random number, a uuid, a graph's environment variables."""

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
    reason: str = ""


class StreamBlock(Entry, frozen=True, omit_defaults=True, tag="stream.block"):
    """What an attempt emitted, several chunks together: `chunks` is a JSON list, `first` the number of its first.

    Chunks of one attempt count from 1. A step that was tried again emits anew under its next attempt. `usage` counts
    what these chunks stand for; the run's usage has it even if the attempt then fails, is cancelled or cut off.
    """

    path: StepPath
    attempt: int = 1
    first: int = 1
    chunks: msgspec.Raw = NULL
    usage: dict[str, int] = {}


GraphFact: TypeAlias = StepSkipped | NodePassed | ScopeOpened | ScopeClosed | DefinitionPatched

AnyEntry: TypeAlias = (
    RunCreated
    | RunInputSet
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
    | StepEdited
    | StepSkipped
    | NodePassed
    | ScopeOpened
    | ScopeClosed
    | DefinitionPatched
    | WaitStarted
    | WaitSatisfied
    | WaitTimedOut
    | WaitWithdrawn
    | InputAnswered
    | InputWithdrawn
    | InputReassigned
    | InputReminded
    | ValueRecorded
    | StateSet
    | StreamBlock
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
