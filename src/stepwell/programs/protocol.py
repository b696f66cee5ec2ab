"""What the engine asks of a program, and what a program asks of the engine: turns and requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.model.codec import content_hash
from stepwell.model.commands import (
    CancelStep,
    CompleteRun,
    EndCancelled,
    FailRun,
    RecordFact,
    RecordValue,
    SetState,
    StartWait,
    WithdrawWait,
)
from stepwell.model.entries import OnChange, StepKind
from stepwell.model.ids import StepPath
from stepwell.programs.matching import Delivery


class Slot(msgspec.Struct, frozen=True, gc=False):
    """A limit that a step counts under: so many at once, or with a `period` (microseconds) so many begun in it."""

    name: str
    limit: int
    period: int = 0


class StepExtras(msgspec.Struct, frozen=True, gc=False):
    """What a node of a graph may want for its step besides the task.

    `slots` are further limits. `secrets` maps the markers that stand in the input for secrets to the names of the
    environment variables that replace them when an attempt is made. Under `cache_key`, if any, a completed output is
    kept for other runs, for `cache_ttl` microseconds (None: for ever), and taken from there.
    """

    slots: tuple[Slot, ...] = ()
    secrets: Mapping[str, str] = {}
    cache_key: str = ""
    cache_ttl: int | None = None


class StepRequest(msgspec.Struct, frozen=True, gc=False):
    """Run this task as the step at `path`; `attempt` is the number of its next attempt.

    `key` is its idempotency key, if it is not to be the one made of run and path.
    """

    path: StepPath
    task: Task[..., Any]  # Any: whatever it returns
    input: msgspec.Raw
    fingerprint: str
    attempt: int = 1
    step: StepKind = "task"
    key: str = ""
    extras: StepExtras | None = None


class ChildRequest(msgspec.Struct, frozen=True, gc=False):
    """Start a run of `workflow` under `run_id`. When `awaited`, its end is the outcome of the step at `path`.

    An empty `run_id` stands for the one that `named` gives.
    """

    path: StepPath
    workflow: Workflow[..., Any]  # Any: whatever it returns
    input: msgspec.Raw
    fingerprint: str
    run_id: str
    awaited: bool
    new_identity: bool
    attempt: int = 1

    def named(self, parent: str) -> ChildRequest:
        """The same, under a run id made of its parent's and its path: a crash never starts two for one call."""
        if self.run_id:
            return self
        readable = f"{parent}/{self.path}"
        if len(readable) > 120 or "[" in readable:
            readable = f"{parent[:120]}/{self.path.name[:40]}~{content_hash(readable.encode())[:16]}"
        return msgspec.structs.replace(self, run_id=readable)


class CancelChild(msgspec.Struct, frozen=True, gc=False):
    """Ask the child run of the step at `path` to end; the program goes on waiting for it."""

    path: StepPath


class PublishEvent(msgspec.Struct, frozen=True, gc=False):
    """Publish an event with the next commit; `path` is where the body said so."""

    path: StepPath
    topic: str
    data: msgspec.Raw
    subject: str = ""
    transient: bool = False


class SendSignal(msgspec.Struct, frozen=True, gc=False):
    """Send a signal to other runs with the next commit; `path` is where it was said."""

    path: StepPath
    runs: tuple[str, ...]
    name: str
    payload: msgspec.Raw


Request: TypeAlias = (
    StepRequest
    | ChildRequest
    | CancelChild
    | PublishEvent
    | SendSignal
    | StartWait
    | WithdrawWait
    | CancelStep
    | RecordValue
    | RecordFact
    | SetState
    | CompleteRun
    | FailRun
    | EndCancelled
)


class Divergence(msgspec.Struct, frozen=True):
    """Today's code calls a recorded step with another input, or cannot read what it returned; the policy is to stop."""

    path: StepPath
    policy: OnChange
    recorded: bytes
    called: bytes
    place: str
    unreadable: str = ""

    def explain(self) -> str:
        """The difference, for people."""
        if self.unreadable:
            return (
                f"step {self.path} returned {_short(self.recorded)} when it ran, and today's code cannot read that: "
                f"{self.unreadable}. Give the task upgrade=, a function from the old JSON value to one that fits, or "
                "put its return type back, and resume"
            )
        return (
            f"step {self.path} was recorded with the input {_short(self.recorded)} and is now called with "
            f"{_short(self.called)} at {self.place}; nothing was run. Resume with on_change=rerun (run it with the "
            "new input), reuse (take the recorded result), or put the code back and resume"
        )


def _short(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return text if len(text) <= 300 else text[:297] + "…"


class Note(msgspec.Struct, frozen=True):
    """Something for readers that is no fact: a log line, a tick of progress; `step` is the path of a graph's node."""

    kind: str
    fields: Mapping[str, object]
    step: str = ""


class Program(Protocol):
    """A definition in execution. Deterministic: the same deliveries in the same order give the same requests.

    The engine calls `begin` once, then `deliver` for each outcome in journal order, each from a plain loop callback;
    after each call it takes the requests. A program whose `divergence` or `deadlock` is set is not called again.
    """

    deadlock: str
    ended: bool

    @property
    def divergence(self) -> Divergence | None:
        """Set when the program cannot go on because the definition has changed under its journal."""

    @property
    def notes(self) -> list[Note]:
        """What has been said since the engine last looked; the engine clears it."""

    @property
    def maps(self) -> dict[str, tuple[int, int, int]]:
        """Per map: how many items are done, of how many, and how many failed."""

    def take_requests(self) -> list[Request]:
        """What has been asked for since the last call, in order."""

    def begin(self, at: int, variables: Mapping[str, msgspec.Raw] = ...) -> None:
        """Run the first turn at this time of the journal; `variables` were set from outside before it."""

    def deliver(self, delivery: Delivery, payload: msgspec.Raw) -> None:
        """Run the turn in which this outcome (with its payload, wherever it was kept) reaches the program."""

    def go_live(self) -> None:
        """All that was recorded has been delivered: what is asked for from now on is new."""

    def close(self) -> None:
        """Drop everything without any effect outside; the program cannot be used again."""
