"""The engine itself, in virtual time: graphs run as the reference says, and end alike however often it crashes."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from driving import scripted
from graph_strategies import drawn
from judging import check, check_end

from stepwell import ctx, task
from stepwell.authoring.graph import GraphWorkflow, graph_workflow
from stepwell.authoring.task import Task
from stepwell.graph.problems import InvalidDefinition
from stepwell.model.entries import StepCompleted, StepStarted
from stepwell.testing import Bench, BenchRun


def named(name: str) -> Task[..., Any]:
    """A task that does what its script says, in some seconds that differ from step to step."""

    @task(name=name)
    async def work(**inputs: Any) -> Any:
        await asyncio.sleep(zlib.crc32(f"{ctx.step}{ctx.run_id}".encode()) % 70 / 10)
        return scripted(name, inputs)

    return work


TASKS = [named("work"), named("flaky"), named("undo")]


def graph(seed: int) -> tuple[GraphWorkflow, dict[str, int]] | None:
    """The drawn graph of this seed; None for the few that the compiler refuses."""
    source, input = drawn(seed)
    try:
        return graph_workflow({"stepwell": 1, "id": "graph", **source}, tasks=TASKS), input
    except InvalidDefinition:
        return None


def play(workflow: GraphWorkflow, input: Mapping[str, int], crashes: Sequence[tuple[str, Any]] = ()) -> BenchRun[Any]:
    """Run it to its end in virtual time."""
    with Bench([workflow]) as bench:
        for step, when in crashes:
            bench.crash_at(step, when)
        run = bench.start(workflow, dict(input))
        bench.until(run._is_at_rest)
        # A crash changes what ends first, so that a step of the run without crashes may never begin.
        bench._points[:] = [point for point in bench._points if point.has_struck]
    return run


def verify(workflow: GraphWorkflow, input: Mapping[str, int], run: BenchRun[Any]) -> None:
    """See that the run did what the reference says, given when its attempts ended."""
    journal = [one.entry for one in run.journal]
    definition = workflow.plan.definition
    check(definition, input, journal, exact=False)
    check_end(definition, input, journal)
    done = Counter(entry.path for entry in journal if isinstance(entry, StepCompleted))
    assert not done or max(done.values()) == 1


@pytest.mark.parametrize("seed", range(12))
def test_the_engine_runs_graphs_as_the_reference_says(seed: int) -> None:
    found = graph(seed)
    if found is not None:
        verify(*found, play(*found))


@pytest.mark.parametrize("seed", range(100, 108))
def test_a_graph_whose_process_dies_at_any_step_still_does_what_the_reference_says(seed: int) -> None:
    crash(seed)


def crash(seed: int) -> None:
    """Let the process die at three steps of a drawn graph, in three ways."""
    found = graph(seed)
    if found is None:
        return
    steps = [entry.path for entry in _entries(play(*found)) if isinstance(entry, StepStarted) and entry.attempt == 1]
    crashes = [
        (str(path), ("before", "after", "committed")[(seed + number) % 3])
        for number, path in enumerate(steps[seed % 4 :: max(1, len(steps) // 3)][:3])
    ]
    verify(*found, play(*found, crashes))


def _entries(run: BenchRun[Any]) -> list[Any]:
    return [one.entry for one in run.journal]


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_hundreds_of_graphs_in_the_engine_crash_and_do_what_the_reference_says() -> None:
    for seed in range(1000, 1400):
        print(f"seed {seed}")
        found = graph(seed)
        if found is not None:
            verify(*found, play(*found))
            crash(seed)
