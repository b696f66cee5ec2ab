"""With which journal does a fork begin? With what had happened in another run before one of its steps.

What had ended is taken over as it stands, times included. What was open is not: steps and child runs that had no
outcome begin anew in the fork, under its own identity; waits stay open and keep their due times. A pause or a request
to cancel concerned the other run and is left out, with what the body did because it was to end.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import msgspec

from stepwell.errors import RequestRefused
from stepwell.model.entries import (
    AnyEntry,
    InputWithdrawn,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
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
from stepwell.model.ids import StepPath
from stepwell.model.state import replay
from stepwell.programs.matching import Records

_ENDS = RunCompleted | RunFailed | RunCancelled
_CLOSING = StepCancelled | WaitWithdrawn
_BEGINS = StepStarted | WaitStarted | ValueRecorded
_OF_STEPS = StepStarted | StepCompleted | StepFailed | StepCancelled | StreamBlock


def begin_of(run_id: str, entries: Sequence[AnyEntry], text: str) -> tuple[int, StepStarted | WaitStarted]:
    """The seq of the entry with which a step or wait first began, and that entry; `#1` may be left out of its path.

    Raises:
        RequestRefused: the run has no such step; the text suggests others.
    """
    names: dict[str, None] = {}
    for seq, entry in enumerate(entries, 1):
        if isinstance(entry, StepStarted | WaitStarted):
            name = str(entry.path)
            if text in (name, name.removesuffix("#1")):
                return seq, entry
            names[name] = None
    near = difflib.get_close_matches(text, names, n=2, cutoff=0.5) or list(names)[:5]
    hint = f"; there is {', '.join(near)}" if near else "; it has begun none"
    raise RequestRefused(f"run {run_id} has begun no step {text!r}{hint}")


def prefix(run_id: str, entries: Sequence[AnyEntry], seq: int) -> list[AnyEntry]:
    """What a fork of the run after its entry `seq` begins with, `run.created` first, which is still the other run's.

    Raises:
        RequestRefused: there is no such entry, or nothing could go on from there.
    """
    if not 1 <= seq <= len(entries):
        raise RequestRefused(f"run {run_id} has the entries 1 to {len(entries)}; there is no entry {seq} to fork after")
    kept = list(entries[: _before_closing(entries, seq)])
    state = replay(kept)
    if state.ended is not None:
        failed = ", ".join(map(str, state.failed_steps))
        hint = f"fork it before a step that failed ({failed})" if failed else "fork it before one of its steps"
        raise RequestRefused(
            f"run {run_id} is {state.ended} after entry {seq}, and nothing goes on from there: {hint}, or rerun it"
        )
    if state.cancel is not None:
        kept = _uncancelled(run_id, kept)
    if state.pause is not None:
        last = max(n for n, entry in enumerate(kept) if isinstance(entry, RunPaused))
        del kept[last]
    return _without_open_steps(run_id, kept)


def _before_closing(entries: Sequence[AnyEntry], cut: int) -> int:
    """The cut, or before what closed the run when it lies among that: these cancellations belong to the end."""
    end = cut
    while end < len(entries) and isinstance(entries[end], _CLOSING):
        end += 1
    if end < len(entries) and isinstance(entries[end], _ENDS):
        while cut and isinstance(entries[cut - 1], _CLOSING):
            cut -= 1
    return cut


def _uncancelled(run_id: str, entries: list[AnyEntry]) -> list[AnyEntry]:
    """As if nobody had asked for the end: of what came after, only the outcomes of what had begun before."""
    asked = max(n for n, entry in enumerate(entries) if isinstance(entry, RunCancelRequested))
    after = entries[asked + 1 :]
    if any(isinstance(entry, RunResumed) and entry.retry for entry in after):
        raise RequestRefused(
            f"run {run_id} was asked to cancel by its entry {asked + 1}, and retried while it undid its work: fork it "
            "from before that entry"
        )
    begun = {entry.path for entry in entries[:asked] if isinstance(entry, _BEGINS)}

    def is_kept(entry: AnyEntry) -> bool:
        path = getattr(entry, "path", None)
        return not isinstance(entry, _CLOSING) and (path is None or path in begun)

    return [*entries[:asked], *(entry for entry in after if is_kept(entry))]


def _without_open_steps(run_id: str, entries: list[AnyEntry]) -> list[AnyEntry]:
    """Leave out what was begun and had no outcome; of a step that a retry of the run took up, what came since."""
    records = Records(entries)
    opened = {
        path: record.start
        for path, record in records.by_path.items()
        if record.outcome is None and not record.cancelled and isinstance(record.start, StepStarted)
    }
    if not opened:
        return entries
    failed = {
        entry.path: n
        for n, entry in enumerate(entries)
        if isinstance(entry, StepFailed) and entry.retry_at is None and entry.path in opened
    }
    for path in failed:
        start = opened[path]
        if isinstance(start, StepStarted) and start.step == "child":
            raise RequestRefused(
                f"run {run_id}: child run {start.child} of step {path} had failed and was retried with its parent, "
                f"which a fork cannot take over: fork before {path}, or from an entry after that step's end"
            )
    return [
        entry
        for n, entry in enumerate(entries)
        if not (isinstance(entry, _OF_STEPS) and entry.path in opened and n > failed.get(entry.path, -1))
    ]


def with_edits(
    entries: list[AnyEntry],
    *,
    step: StepPath | None,
    edit: StepEdited | None,
    variables: Mapping[str, msgspec.Raw],
    by: str,
    reason: str,
) -> list[AnyEntry]:
    """The entries with what is to be otherwise: the input of a step (`edit`), and keys of `ctx.state`.

    The keys are set before the turn in which `step` is called, so that the call sees them: in front of the outcomes
    that led to that turn. Those that the body itself sets in that turn are set once more at the end. Without a step
    they are set at the end.
    """
    place = len(entries) if step is None else _before_last_turn(entries)
    at_place = entries[place - 1].at if place else 0
    at_end = entries[-1].at
    own = {entry.key for entry in entries[place:] if isinstance(entry, StateSet)}

    def sets(keys: Mapping[str, msgspec.Raw], at: int) -> list[AnyEntry]:
        return [StateSet(at=at, key=key, payload=value, by=by, reason=reason) for key, value in keys.items()]

    edited = [*entries[:place], *sets(variables, at_place), *entries[place:]]
    if place < len(entries):
        edited += sets({key: value for key, value in variables.items() if key in own}, at_end)
    return edited if edit is None else [*edited, msgspec.structs.replace(edit, at=at_end)]


def _before_last_turn(entries: Sequence[AnyEntry]) -> int:
    """Where the outcomes begin that the body heard of last, or where the body began when it has heard of none."""
    place = len(entries)
    while place and not _moves_the_body(entries[place - 1]):
        place -= 1
    while place and _moves_the_body(entries[place - 1]):
        place -= 1
    return place or len(entries)


def _moves_the_body(entry: AnyEntry) -> bool:
    if isinstance(entry, StepFailed):
        return entry.retry_at is None
    return isinstance(entry, StepCompleted | WaitSatisfied | WaitTimedOut | InputWithdrawn | RunStarted)
