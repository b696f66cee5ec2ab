"""Does a journal say what the reference tells from its outcomes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from driving import decoded, is_moment, moments
from reference import Prediction, Record, Seen, predict
from reference_rules import NEVER, Error

from stepwell.graph.definition import Definition
from stepwell.model.entries import (
    AnyEntry,
    NodePassed,
    RunCompleted,
    RunFailed,
    ScopeClosed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    WaitSatisfied,
    WaitStarted,
    WaitWithdrawn,
)

# -- what a journal says -------------------------------------------------------------------------------------------


def seen_in(journal: Sequence[AnyEntry]) -> Seen:
    """When steps and waits began and ended."""
    seen = Seen()
    for moment, entry in moments(journal):
        match entry:
            case StepStarted() | WaitStarted():
                seen.begun.setdefault(str(entry.path), moment)
            case StepCompleted():
                seen.ended[str(entry.path)] = (moment, decoded(entry.output))
            case StepFailed() if entry.retry_at is None:
                error = entry.error
                data = {"type": error.type, "message": error.message, "timed_out": False, "step": str(entry.path)}
                seen.ended[str(entry.path)] = (moment, Error((error.type, *error.kinds), data))
            case WaitSatisfied():
                seen.ended[str(entry.path)] = (moment, None)
            case NodePassed() | ScopeClosed() if entry.ports:
                seen.left.add(str(entry.path))
            case StepCancelled() | WaitWithdrawn():
                seen.closed[str(entry.path)] = moment
            case _:
                pass
    seen.closed |= {path: moment for path, (moment, _) in seen.ended.items()}
    return seen


def records_in(journal: Sequence[AnyEntry]) -> list[Record]:
    """What the reference would call records."""
    found = []
    for moment, entry in moments(journal):
        match entry:
            case StepStarted() if entry.attempt == 1:
                found.append(Record("step", str(entry.path), moment, (entry.input and decoded(entry.input))))
            case WaitStarted():
                found.append(Record("wait", str(entry.path), moment, (entry.due or 0) - entry.at))
            case NodePassed():
                found.append(Record("passed", str(entry.path), moment, (entry.ports, decoded(entry.output))))
            case StepSkipped() if entry.reason != "cancelled":
                found.append(Record("skipped", str(entry.path), moment))
            case _:
                pass
    return found


# -- whether it is what was told -------------------------------------------------------------------------------------


def check(definition: Definition, input: Mapping[str, Any], journal: Sequence[AnyEntry], *, exact: bool = True) -> None:
    """See that a journal says what the reference tells from its outcomes; with `exact` in the very moment."""
    told = predict(definition, input, seen_in(journal))
    found = records_in(journal)
    here = {(one.kind, one.path): one for one in reversed(found)}  # of a node that is skipped again, the first counts
    expected = {(one.kind, one.path): one for one in reversed(told.records)}
    for key, one in expected.items():
        assert not one.sure or key in here or one.when >= told.unsure_from, f"missing: {one}"
    for key, one in here.items():
        if one.when >= told.unsure_from:
            continue
        if key not in expected:
            assert _is_let_pass(one, told), f"not told: {one}"
            continue
        other = expected[key]
        assert _what(other) == one.what, f"{one} is not {other}"
        assert one.when == other.when if exact else one.when >= other.when, f"{one} is not {other}"
    if exact:
        assert len(found) == len(here), "something was recorded twice"


def _what(record: Record) -> Any:
    return record.what[1] if record.kind == "step" else record.what


def _is_let_pass(one: Record, told: Prediction) -> bool:
    """Whether it belongs to what is done on the way out of something that is being stopped."""
    for scope, when in told.lenient:
        inner = one.path.removeprefix(scope)
        if not one.path.startswith(scope) or one.when < when:
            continue
        if ".finally:" in inner or ".compensate:" in inner or (one.kind == "skipped" and one.when == when):
            return True
    return False


def check_end(definition: Definition, input: Mapping[str, Any], journal: Sequence[AnyEntry]) -> None:
    """See that the run has ended when and as the reference says, or goes on."""
    told = predict(definition, input, seen_in(journal))
    match journal[-1]:
        case RunCompleted() as last:
            found: tuple[str, Any] | None = ("completed", decoded(last.output))
        case RunFailed() as last:
            found = ("failed", last.error.message)
        case _:
            found = None
    if told.unsure_from < NEVER:
        return
    assert told.outcome == found
    assert found is None or told.when == sum(map(is_moment, journal))
