"""What a message or an append means for a run's row: the rules that are the same in every store."""

from __future__ import annotations

from stepwell.errors import StepwellError, WrongStatus
from stepwell.model.lifecycle import RETRYABLE, SET_ASIDE, TERMINAL, Status
from stepwell.stores.protocol import Append, MessageKind, NewRun, RunRow

_VERB: dict[MessageKind, str] = {
    "signal": "sent a signal",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
    "retry": "retried",
    "again": "asked for its end",
    "child": "told of a child run",
    "state": "given state",
}


def refusal(kind: MessageKind, run_id: str, status: Status) -> StepwellError | None:
    """Why a run in this status takes no message of this kind; None when it does."""
    if kind == "again":
        return None
    if kind == "retry":
        fits, when = status in RETRYABLE, "one that failed or was cancelled"
    elif kind == "resume":
        fits, when = status in SET_ASIDE, "one that is paused or stuck"
    else:
        fits, when = status not in TERMINAL, "one that has not ended"
    if fits:
        return None
    return WrongStatus(f"run {run_id} is {status} and cannot be {_VERB[kind]}: only {when} can")


def first_row(run: NewRun) -> RunRow:
    """The row with which a run begins."""
    owned = run.owner is not None
    return RunRow(
        run_id=run.run_id,
        workflow=run.workflow,
        version=run.version,
        status="pending",
        root=run.root,
        parent=run.parent,
        priority=run.priority,
        labels=dict(run.labels),
        created_at=run.created_at,
        updated_at=run.created_at,
        finished_at=None,
        next_seq=len(run.entries) + 1,
        epoch=1 if owned else 0,
        owner=run.owner,
        wake_at=None if owned else run.wake_at,
        claims=0,
        input_hash=run.input_hash,
    )


def gives_up(append: Append) -> bool:
    """Whether the run is nobody's after this append: released, or ended."""
    return append.release or append.status in TERMINAL


def wake_after(append: Append) -> int | None:
    """The row's `wake_at` after this append: an ended run has none."""
    return None if append.status in TERMINAL else append.wake_at


def earliest(one: int | None, other: int) -> int:
    """The earlier of two times, the first of which may be never."""
    return other if one is None else min(one, other)
