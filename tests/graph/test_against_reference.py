"""Whatever the graph and the order in which its attempts end, a run does what the slow and obvious reading says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from driving import Driver, decoded, essence, happened, is_moment, moments, planned, portrait
from graph_strategies import dags, inputs, nested
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference import Error, Prediction, Record, Seen, predict

from stepwell.graph.definition import Definition
from stepwell.graph.plan import Plan
from stepwell.graph.problems import InvalidDefinition
from stepwell.model.entries import (
    AnyEntry,
    NodePassed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    WaitSatisfied,
    WaitStarted,
    WaitWithdrawn,
)

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))

MEANT = {"join-never-fires"}
"""What the compiler may refuse of what is drawn."""


def compiled(source: Mapping[str, Any]) -> Plan:
    """The plan; a graph that is refused for good reason is drawn anew."""
    try:
        return planned(source)
    except InvalidDefinition as error:
        assert {problem.code for problem in error.problems if not problem.warning} <= MEANT, error
        assume(False)
        raise AssertionError from None


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
    here = {(one.kind, one.path): one for one in found}
    expected = {(one.kind, one.path): one for one in told.records}
    for key, one in expected.items():
        assert not one.sure or key in here, f"missing: {one}"
    for key, one in here.items():
        if key not in expected:
            assert _is_let_pass(one, told), f"not told: {one}"
            continue
        other = expected[key]
        assert _what(other) == one.what, f"{one} is not {other}"
        if one.kind != "skipped" or not _runs_again(found, one):
            assert one.when == other.when if exact else one.when >= other.when, f"{one} is not {other}"
    if exact:
        twice = [one.path for one in found if one.kind != "skipped"]
        assert len(twice) == len(set(twice)), "something was recorded twice"


def _what(record: Record) -> Any:
    return record.what[1] if record.kind == "step" else record.what


def _runs_again(found: Sequence[Record], one: Record) -> bool:
    return sum(other.path == one.path and other.kind == one.kind for other in found) > 1


def _is_let_pass(one: Record, told: Prediction) -> bool:
    """Whether it belongs to what is done on the way out of something that is being stopped."""
    for scope, when in told.lenient:
        inner = one.path.removeprefix(scope)
        if one.path.startswith(scope) and one.when >= when and (".finally:" in inner or ".compensate:" in inner):
            return True
    return False


def check_end(definition: Definition, input: Mapping[str, Any], driver: Driver) -> None:
    """See that the run has ended when and as the reference says."""
    told = predict(definition, input, seen_in(driver.journal))
    if driver.state.ended is None:
        assert told.outcome is None, f"it should have ended: {told.outcome}"
        return
    assert told.outcome is not None, "it should go on"
    status, value = driver.outcome
    assert told.outcome[0] == status, (told.outcome, driver.outcome)
    assert told.outcome[1] == value
    assert told.when == sum(map(is_moment, driver.journal))


def play(source: Mapping[str, Any], input: Mapping[str, Any], seed: int) -> Driver:
    """Run a graph, and compare it with the reference after each thing that happens."""
    plan = compiled(source)
    driver = Driver(plan, input=input, seed=seed)
    while True:
        check(plan.definition, input, driver.journal)
        check_end(plan.definition, input, driver)
        if not driver.step():
            break
    assert driver.state.ended is not None, f"it stands still: {driver.choices()}"
    return driver


def crash(source: Mapping[str, Any], input: Mapping[str, Any], seed: int, cuts: Sequence[int] | None = None) -> None:
    """Run a graph; then let it crash at every entry, and go on in the same order: nothing must have changed."""
    plan = compiled(source)
    driver = Driver(plan, input=input, seed=seed)
    portraits = {len(driver.journal): portrait(driver.program)}
    while driver.step():
        portraits[len(driver.journal)] = portrait(driver.program)
    whole, order = essence(driver.journal), happened(driver.journal)
    for length in range(1, len(driver.journal)) if cuts is None else cuts:
        prefix = driver.journal[: length % len(driver.journal)] or driver.journal[:1]
        again = Driver(plan, input=input, journal=prefix, order=order[len(happened(prefix)) :])
        if len(prefix) in portraits:
            assert portrait(again.program) == portraits[len(prefix)]
        again.run()
        assert essence(again.journal) == whole
        assert again.outcome == driver.outcome


seeds = st.integers(0, 2**32)


@QUICK
@given(dags(), inputs(), seeds)
def test_a_graph_without_containers_runs_as_the_reference_says(
    source: dict[str, Any], input: dict[str, int], seed: int
) -> None:
    play(source, input, seed)


@QUICK
@given(nested(), inputs(), seeds)
def test_containers_in_containers_run_as_the_reference_says(
    source: dict[str, Any], input: dict[str, int], seed: int
) -> None:
    play(source, input, seed)


@settings(QUICK, max_examples=25)
@given(st.one_of(dags(), nested()), inputs(), seeds)
def test_a_run_that_crashes_at_any_entry_goes_on_as_if_nothing_had_happened(
    source: dict[str, Any], input: dict[str, int], seed: int
) -> None:
    crash(source, input, seed)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@LONG
@given(st.one_of(dags(), nested()), inputs(), seeds)
def test_thousands_of_graphs_run_as_the_reference_says(
    source: dict[str, Any], input: dict[str, int], seed: int
) -> None:
    play(source, input, seed)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@settings(LONG, max_examples=600)
@given(st.one_of(dags(), nested()), inputs(), seeds)
def test_hundreds_of_graphs_survive_a_crash_at_each_entry(
    source: dict[str, Any], input: dict[str, int], seed: int
) -> None:
    crash(source, input, seed)
