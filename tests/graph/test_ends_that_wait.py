"""What ends late: a node that outlasts its child run, a lock that is kept to the end, a scope undone for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwell import graph_workflow, task, workflow
from stepwell.errors import RequestRefused
from stepwell.model.entries import RunFailed, ScopeClosed, ScopeOpened, StepCancelled, StepCompleted
from stepwell.testing import Bench, BenchRun


@task
async def slow(seconds: int) -> int:
    """Takes so long."""
    await asyncio.sleep(seconds)
    return seconds


@task
async def bad() -> None:
    """Fails."""
    raise ValueError("no")


@workflow
async def stubborn() -> int:
    """A child that takes its time to end, even when it is cancelled."""
    try:
        return await slow(100)
    finally:
        await slow(5)


def play(nodes: dict[str, Any], **verbs: str) -> BenchRun[Any]:
    graph = graph_workflow({"stepwell": 1, "id": "graph", "nodes": nodes}, tasks=[slow, bad])
    with Bench([graph, stubborn]) as bench:
        run = bench.start(graph)
        bench.until(lambda: run.status in ("completed", "failed", "cancelled"))
        for verb in verbs:
            with pytest.raises(RequestRefused):
                getattr(run, verb)()
    return run


def test_a_node_with_on_cancel_wait_ends_when_its_child_has_ended() -> None:
    child = {"workflow": {"workflow": "stubborn", "on_cancel": "wait"}}
    run = play(
        {
            "child": child,
            "quick": {"task": "slow", "inputs": {"seconds": 1}, "cancels": ["child"]},
            "last": {"task": "slow", "inputs": {"seconds": 1}, "needs": ["child", "quick"]},
        }
    )
    (ended,) = run.children
    assert (run.status, ended.status) == ("completed", "cancelled")
    entries = [one.entry for one in run.journal]
    assert not any(isinstance(entry, StepCancelled) for entry in entries)
    done = next(e for e in entries if isinstance(e, StepCompleted) and e.path.name == "last")
    assert done.at >= ended.journal[-1].entry.at


def test_a_lock_is_taken_over_when_its_holder_is_closed() -> None:
    inside = {"critical": "bridge", "do": {"work": {"task": "slow", "inputs": {"seconds": 2}}}}
    again = {"critical": "bridge", "do": {"more": {"task": "slow", "inputs": {"seconds": 2}}}}
    run = play({"one": {"scope": inside}, "two": {"scope": again}})
    kinds = [(type(e).__name__, e.path.name) for e in (one.entry for one in run.journal) if hasattr(e, "path")]
    told = [one for one in kinds if one[0] in (ScopeOpened.__name__, ScopeClosed.__name__)]
    assert told == [("ScopeOpened", "one"), ("ScopeClosed", "one"), ("ScopeOpened", "two"), ("ScopeClosed", "two")]


def test_a_run_of_which_a_scope_was_undone_is_not_retried() -> None:
    undo = {"undo": {"task": "slow", "inputs": {"seconds": 0}}}
    done = {"task": "slow", "inputs": {"seconds": 1}, "compensate": undo}
    run = play({"trip": {"scope": {"do": {"made": done, "fail": {"task": "bad", "needs": "made"}}}}}, retry="refused")
    last = run.journal[-1].entry
    assert isinstance(last, RunFailed)
    assert last.undone
