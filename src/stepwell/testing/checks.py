"""What a journal shows of a run's steps, as values to compare and as a table to read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from stepwell.model.durations import spoken
from stepwell.model.entries import (
    AnyEntry,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepStarted,
    kind_of,
)
from stepwell.model.failure import Failure
from stepwell.model.state import State
from stepwell.observe.telling import preview_of, tell
from stepwell.stores.protocol import Stored
from stepwell.testing.crashing import is_named

StepEnd: TypeAlias = Literal["open", "completed", "failed", "cancelled"]

Payload: TypeAlias = Callable[[msgspec.Raw, str], bytes]
"""The JSON of a payload, wherever its entry keeps it."""

UNSET: Final = msgspec.UNSET

HEAD, TAIL = 15, 45
"""Entries that a table shows of a long journal, from its beginning and its end."""


class CheckFailed(AssertionError):
    """The journal does not show what the test expects; the text ends with the journal."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal shows of one step.

    `input` is plain JSON, the arguments of a task by name; `output` is plain JSON, None until it is completed.
    `attempts` counts those that began, `path` is the readable path, times are in microseconds.
    """

    path: str
    name: str
    attempts: int
    ended: StepEnd
    input: object
    output: object = None
    error: Failure | None = None
    started_at: int
    ended_at: int | None = None
    child: str = ""


def steps_of(journal: Iterable[Stored], payload: Payload, names: Collection[str] | None = None) -> list[StepRecord]:
    """The steps of a journal in the order in which they began; with `names` only those that one of them means."""
    records: dict[str, StepRecord] = {}
    for stored in journal:
        entry = stored.entry
        if isinstance(entry, StepStarted | StepCompleted | StepFailed | StepCancelled) and (
            names is None or any(is_named(entry.path, name) for name in names)
        ):
            path = str(entry.path)
            records[path] = _with_entry(records.get(path), entry, payload)
    return list(records.values())


def _with_entry(
    known: StepRecord | None, entry: StepStarted | StepCompleted | StepFailed | StepCancelled, payload: Payload
) -> StepRecord:
    if known is None:
        assert isinstance(entry, StepStarted), "a journal begins a step before it ends it"
        return StepRecord(
            path=str(entry.path),
            name=entry.path.name,
            attempts=1,
            ended="open",
            input=_json(payload(entry.input, entry.input_blob)),
            started_at=entry.at,
            child=entry.child,
        )
    match entry:
        case StepStarted():
            return msgspec.structs.replace(known, attempts=known.attempts + 1, ended="open", ended_at=None)
        case StepCompleted():
            output = _json(payload(entry.output, entry.output_blob))
            return msgspec.structs.replace(known, ended="completed", output=output, error=None, ended_at=entry.at)
        case StepFailed():
            ended: StepEnd = "failed" if entry.retry_at is None else "open"
            return msgspec.structs.replace(known, ended=ended, error=entry.error, ended_at=entry.at)
        case _:
            return msgspec.structs.replace(known, ended="cancelled", ended_at=entry.at)


def _json(data: bytes) -> object:
    return msgspec.json.decode(data) if data else None


def compare(
    records: Sequence[StepRecord],
    name: str,
    *,
    times: int | None = None,
    attempts: int | None = None,
    input: object = UNSET,
    output: object = UNSET,
) -> str:
    """What is wrong with the steps called `name`, in one sentence; empty when all is as expected."""
    if times is None and not records:
        return f"step {name} did not run"
    if times is not None and len(records) != times:
        return f"step {name} ran {_times(len(records))}, not {_times(times)}"
    for record in records:
        if attempts is not None and record.attempts != attempts:
            return f"step {record.path} took {_count(record.attempts)}, not {_count(attempts)}"
        if input is not UNSET and record.input != input:
            return f"step {record.path} had the input {record.input!r}, not {input!r}"
        if output is not UNSET and (record.ended != "completed" or record.output != output):
            found = repr(record.output) if record.ended == "completed" else f"no output: it is {record.ended}"
            return f"step {record.path} has {found}, not the output {output!r}"
    return ""


def _times(number: int) -> str:
    return {0: "no time", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _count(number: int) -> str:
    return f"{number} attempt" + ("" if number == 1 else "s")


def waits_of(state: State) -> tuple[str, ...]:
    """What a run waits for, in the order in which it began to: `timer`, `signal approved`, `retry of charge#1`, …"""
    if state.ended is not None:
        return ()
    if state.pause is not None:
        return ("resume",)
    waits = [(wait.at, f"{wait.wait} {wait.name}".strip()) for wait in state.waits.values()]
    for step in state.steps.values():
        if step.child:
            waits.append((step.started_at, f"child run {step.child}"))
        elif step.in_flight:
            waits.append((step.started_at, f"step {step.path}"))
        elif step.retry_at is not None:
            waits.append((step.started_at, f"retry of {step.path}"))
    return tuple(text for _, text in sorted(waits, key=lambda wait: wait[0]))


def table(journal: Sequence[Stored], state: State, now: int) -> str:
    """A run's journal for people: a line about the run, then a line per entry, times since the run was created."""
    waits = ", ".join(waits_of(state))
    due = f", next due in {spoken(max(0, state.next_due - now))}" if state.next_due is not None else ""
    reason = f": {state.pause.reason}" if state.pause is not None and state.pause.reason else ""
    waiting = f" for {waits}{due}" if state.status == "waiting" else reason
    head = f"run {state.run_id} of {state.workflow}: {state.status}{waiting}"
    rows = [_row(stored, state.created_at) for stored in journal]
    if len(rows) > HEAD + TAIL:
        left_out = ("…", "", f"{len(rows) - HEAD - TAIL} entries", "", "")
        rows = [*rows[:HEAD], left_out, *rows[-TAIL:]]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    lines = [
        "  ".join([row[0].rjust(widths[0]), row[1].rjust(widths[1]), row[2].ljust(widths[2]), row[3].ljust(widths[3])])
        + f"  {row[4]}"
        for row in rows
    ]
    return "\n".join([head, *(f"  {line}".rstrip() for line in lines)])


def _row(stored: Stored, since: int) -> tuple[str, str, str, str, str]:
    entry: AnyEntry = stored.entry
    path = getattr(entry, "path", None)
    text = "  ".join(part for part in (tell(entry), preview_of(entry)) if part)
    return str(stored.seq), f"+{spoken(entry.at - since)}", kind_of(entry), "" if path is None else str(path), text
