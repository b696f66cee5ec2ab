"""Whatever the graph and the order in which its attempts end, a run does what the slow and obvious reading says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from driving import Driver, essence, happened, planned, portrait
from graph_strategies import dags, inputs, nested
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from judging import check, check_end

from stepwell.graph.plan import Plan
from stepwell.graph.problems import InvalidDefinition

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))

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


def play(source: Mapping[str, Any], input: Mapping[str, Any], seed: int) -> Driver:
    """Run a graph, and compare it with the reference after each thing that happens."""
    plan = compiled(source)
    driver = Driver(plan, input=input, seed=seed)
    while True:
        check(plan.definition, input, driver.journal)
        check_end(plan.definition, input, driver.journal)
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


@settings(QUICK, max_examples=50)
@given(nested(), inputs(), seeds)
def test_containers_in_containers_run_as_the_reference_says(
    source: dict[str, Any], input: dict[str, int], seed: int
) -> None:
    play(source, input, seed)


@settings(QUICK, max_examples=10)
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
@settings(LONG, max_examples=400)
@given(st.one_of(dags(), nested()), inputs(), seeds)
def test_hundreds_of_graphs_survive_a_crash_at_each_entry(
    source: dict[str, Any], input: dict[str, int], seed: int
) -> None:
    crash(source, input, seed)
