"""What a message, an append or a new run means for a run's row: the rules that are the same in every store."""

from __future__ import annotations

from typing import Final

from stepwell.errors import LabelTaken, RequestNotFound, StepwellError, WrongStatus
from stepwell.model.lifecycle import RETRYABLE, SET_ASIDE, TERMINAL, Status
from stepwell.stores.protocol import Append, MessageKind, NewMessage, NewRun, RunRow
from stepwell.stores.tables import DRAFT, NewDefinition

_VERB: dict[MessageKind, str] = {
    "signal": "sent a signal",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
    "retry": "retried",
    "again": "asked for its end",
    "child": "told of a child run",
    "state": "given state",
    "answer": "answered",
    "withdraw": "relieved of an input request",
    "reassign": "asked of others",
    "upgrade": "upgraded",
    "patch": "patched",
    "outcome": "told of an outcome",
    "input": "given another input",
}

ABOUT_A_WAIT: Final[frozenset[MessageKind]] = frozenset({"answer", "withdraw", "reassign"})
"""Kinds of messages whose name is the id of an open wait."""


def refusal(
    kind: MessageKind, run_id: str, status: Status, *, owned: bool = False, pausing: bool = False
) -> StepwellError | None:
    """Why a run in this status takes no message of this kind; None when it does.

    `pausing` says that a pause waits in its mailbox: what follows it may undo it.
    """
    if kind == "again":
        return None
    if kind == "retry":
        fits, when = status in RETRYABLE, "one that failed or was cancelled"
    elif kind == "resume":
        fits, when = status in SET_ASIDE or (pausing and status not in TERMINAL), "one that is paused or stuck"
    elif kind == "input":
        fits, when = status == "pending" and not owned, "one that has not begun"
        if owned and status == "pending":
            return WrongStatus(f"run {run_id} is about to begin and cannot be {_VERB[kind]}: only {when} can")
    else:
        fits, when = status not in TERMINAL, "one that has not ended"
    if fits:
        return None
    return WrongStatus(f"run {run_id} is {status} and cannot be {_VERB[kind]}: only {when} can")


def no_such_wait(message: NewMessage) -> StepwellError:
    """The refusal of a message about an open wait that the run does not have."""
    return RequestNotFound(
        f"run {message.run_id} has no open request {message.name}: it was answered, withdrawn, or never there; "
        "list the open ones and choose again"
    )


def first_row(run: NewRun) -> RunRow:
    """The row with which a run begins."""
    owned = run.owner is not None
    held = run.held and not owned
    ended = run.status in TERMINAL
    return RunRow(
        run_id=run.run_id,
        workflow=run.workflow,
        version=run.version,
        status=run.status,
        root=run.root,
        parent=run.parent,
        priority=run.priority,
        labels=dict(run.labels),
        created_at=run.created_at,
        updated_at=run.created_at,
        finished_at=run.finished_at,
        next_seq=len(run.entries) + 1,
        epoch=1 if owned else 0,
        owner=run.owner,
        wake_at=None if owned or held or ended else run.wake_at,
        claims=0,
        input_hash=run.input_hash,
        queue=run.queue,
        queue_key=run.queue_key,
        held_until=held_from(run) if held else None,
    )


def held_from(run: NewRun) -> int:
    """From when on a held run waits to be let in."""
    return run.created_at if run.wake_at is None else run.wake_at


def let_in_at(run: NewRun) -> int | None:
    """When a new run counts as let into its queue: at once when it is not held; None while it waits, or has none."""
    return run.created_at if run.queue and not (run.held and run.owner is None) else None


def keeps_key(status: Status, until: str) -> bool:
    """Whether a run in this status still keeps its unique key from others; `until` is `begun` or `ended`."""
    return status == "pending" if until == "begun" else status not in TERMINAL


def wakes(row: RunRow, kind: MessageKind) -> bool:
    """Whether a message of this kind makes the run want to be driven: nobody owns it, nor does its queue hold it."""
    return row.owner is None and (row.held_until is None or kind == "cancel")


def gives_up(append: Append) -> bool:
    """Whether the run is nobody's after this append: released, or ended."""
    return append.release or append.status in TERMINAL


def wake_after(append: Append) -> int | None:
    """The row's `wake_at` after this append: an ended run has none."""
    return None if append.status in TERMINAL else append.wake_at


def earliest(one: int | None, other: int) -> int:
    """The earlier of two times, the first of which may be never."""
    return other if one is None else min(one, other)


def refuse_draft(definition: NewDefinition, *, activate: bool) -> None:
    """Refuse a draft with a label, or one that is to be active.

    Raises:
        WrongStatus: it is such a draft.
    """
    if definition.digest == DRAFT and (activate or definition.label):
        what = "serve new runs" if activate else f"have the label {definition.label!r}"
        raise WrongStatus(f"workflow {definition.name}: a draft cannot {what}; deploy it first")


def label_taken(definition: NewDefinition, other: str) -> StepwellError:
    """The refusal of a label that stands for the version `other`."""
    return LabelTaken(
        f"workflow {definition.name}: the label {definition.label!r} stands for version {other} and this one is "
        f"{definition.digest}; choose another label, or move this one"
    )
