"""Are drawn journals such as the engine could have written?"""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import get_args

import pytest
from bench_flows import in_order, order_flow, parent
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, NoSuchExample

from stepwell import task, workflow
from stepwell.model.entries import AnyEntry, RunCreated, decode, encode, kind_of
from stepwell.model.lifecycle import NEXT, Status
from stepwell.model.state import State, evolve, replay
from stepwell.observe.telling import tell
from stepwell.testing import journals

FEW = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

LONG = settings(
    max_examples=5000, phases=[Phase.generate], deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
"""For what is rare: until it has been found."""

UNBEGUN = {("cancelled", "pending"), ("failed", "pending")}
"""A run that ended before its body had begun has that still to do when it is retried."""


def check(journal: list[AnyEntry]) -> list[Status]:
    """What every reader may rely on; returns the statuses that the run went through."""
    assert isinstance(journal[0], RunCreated)
    assert [decode(encode(entry)) for entry in journal] == journal
    assert all(before.at <= after.at for before, after in pairwise(journal))
    state = State()
    statuses: list[Status] = []
    for entry in journal:
        evolve(state, entry)
        statuses.append(state.status)
        tell(entry)
        assert state.attempts_in_flight >= 0
        assert set(state.asked) <= set(state.waits)
    assert state == replay(journal)
    return statuses


@FEW
@given(journals())
def test_a_journal_of_no_workflow_in_particular_is_valid(journal: list[AnyEntry]) -> None:
    statuses = check(journal)
    for before, after in pairwise(statuses):
        assert after == before or after in NEXT[before] or (before, after) in UNBEGUN, f"{before} → {after}"


def test_every_kind_of_entry_is_drawn() -> None:
    missing = {str(kind.__struct_config__.tag) for kind in get_args(AnyEntry)}

    def is_last(journal: list[AnyEntry]) -> bool:
        missing.difference_update(map(kind_of, journal))
        return not missing

    with contextlib.suppress(NoSuchExample):
        find(journals(most=60), is_last, settings=LONG)
    assert not missing


@FEW
@given(journals(order_flow, signals={"approved": st.booleans()}))
def test_a_journal_of_a_workflow_is_what_the_engine_wrote(journal: list[AnyEntry]) -> None:
    check(journal)
    assert isinstance(journal[0], RunCreated)
    assert journal[0].workflow == "order_flow"


@pytest.mark.parametrize("status", ["completed", "failed", "waiting", "cancelled", "paused"])
def test_runs_of_a_workflow_come_to_different_ends(status: str) -> None:
    journal = find(journals(order_flow), lambda journal: replay(journal).status == status, settings=LONG)
    assert replay(journal).status == status


@FEW
@given(journals(parent, inputs=st.tuples(st.lists(st.integers(0, 3), max_size=2)), results={"fetch": st.just(5)}))
def test_inputs_and_results_are_drawn_as_told(journal: list[AnyEntry]) -> None:
    state = replay(journal)
    if state.status == "completed":
        assert set(bytes(state.output)) <= set(b"[5,]")


@FEW
@given(journals(in_order, inputs=st.fixed_dictionaries({"order": st.just("o-7")})))
def test_synchronous_workflows_are_drawn_too(journal: list[AnyEntry]) -> None:
    check(journal)


def test_hints_that_say_nothing_give_json() -> None:
    @task
    async def anything(value):  # type: ignore[no-untyped-def]
        return value

    @workflow
    async def untyped(value, other: object = None):  # type: ignore[no-untyped-def]
        return await anything(value)

    @FEW
    @given(journals(untyped))
    def draw(journal: list[AnyEntry]) -> None:
        check(journal)

    draw()


def test_inputs_of_another_kind_are_refused() -> None:
    @given(journals(parent, inputs=st.just([1])))
    def draw(journal: list[AnyEntry]) -> None: ...

    with pytest.raises(InvalidArgument, match="draws tuples or dicts"):
        draw()
