"""In a graph a step is called as its node; a check that is given the task finds the nodes that call it."""

from __future__ import annotations

import pytest

from stepwell import graph_workflow, task
from stepwell.testing import Bench, CheckFailed, returns


@task
async def put_back(what: str) -> str:
    """Not called for real here."""
    raise AssertionError(what)


@task
async def charge(what: str) -> str:
    """Never called."""
    raise AssertionError(what)


FLOW = {
    "stepwell": 1,
    "id": "flow",
    "nodes": {"each": {"map": ["a", "b"], "do": {"keep": {"task": "put_back", "inputs": {"what": "{{ item }}"}}}}},
}


def test_a_task_means_the_nodes_that_call_it() -> None:
    with Bench([graph_workflow(FLOW, tasks=[put_back, charge])], stubs={put_back: returns("ok")}) as bench:
        run = bench.start(graph_workflow(FLOW), {})
        run.result()
        run.ran(put_back, times=2)
        run.ran("keep", times=2)
        run.did_not_run(charge)
        with pytest.raises(CheckFailed):
            run.did_not_run(put_back)


def test_a_stub_by_name_stands_for_a_task_that_nobody_has() -> None:
    with Bench([graph_workflow(FLOW)], stubs={"put_back": returns("ok")}) as bench:
        assert bench.start(graph_workflow(FLOW), {}).result()["results"] == ["ok", "ok"]
