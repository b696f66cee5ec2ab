"""Graphs that nobody here wrote: every task once, its parents first, and no slot idle while a task is ready.

With m slots, a scheduler that never lets a slot idle while something is ready takes at most work/m + (1 - 1/m) times
the longest chain (R. L. Graham, Bounds on multiprocessing timing anomalies, 1969), and never less than either.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from wfformat import INSTANCES, MISSING, Instance, instance, instances

from stepwell import Limits, task
from stepwell.authoring.graph import graph_workflow
from stepwell.testing import Bench

pytestmark = pytest.mark.skipif(not INSTANCES.is_dir(), reason=MISSING)

SMALL = ("helloworld-chain-5-chameleon", "srasearch-chameleon-10a-003", "blast-chameleon-small-001")


def play(found: Instance, slots: int) -> tuple[float, dict[str, list[tuple[float, float]]]]:
    """Run it in virtual time with so many slots: how long it took, and when each task began and ended (seconds)."""
    seen: dict[str, list[tuple[float, float]]] = {}

    @task
    async def work(of: str, seconds: float) -> None:
        began = bench.now_micros
        await asyncio.sleep(seconds)
        seen.setdefault(of, []).append((began / 1e6, bench.now_micros / 1e6))

    workflow = graph_workflow(found.definition(), tasks=[work])
    with Bench([workflow], limits=Limits(attempts=slots)) as bench:
        start = bench.now_micros
        run: Any = bench.start(workflow, {})
        assert run.result() == {"tasks": len(found.parents)}
        length = (run.journal[-1].entry.at - start) / 1e6
    return length, seen


def verify(found: Instance, slots: int) -> None:
    """Run it, and look at what happened when."""
    length, seen = play(found, slots)
    assert {id: len(times) for id, times in seen.items()} == dict.fromkeys(found.parents, 1)
    for id, parents in found.parents.items():
        began = seen[id][0][0]
        assert all(seen[parent][0][1] <= began for parent in parents), f"{id} began before its parents had ended"
    rounding = 1e-5 * len(found.parents) + 1e-6  # virtual time goes by microseconds
    assert length >= max(found.work / slots, found.critical_path) - rounding
    assert length <= found.work / slots + (1 - 1 / slots) * found.critical_path + rounding


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_a_scientific_workflow_runs_every_task_once_and_keeps_its_slots_busy(name: str, slots: int) -> None:
    verify(instance(INSTANCES / f"{name}.json.gz"), slots)


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", instances(), ids=lambda path: path.name.removesuffix(".json.gz"))
def test_all_scientific_workflows_run_every_task_once_and_keep_their_slots_busy(path: Path) -> None:
    verify(instance(path), 16)
