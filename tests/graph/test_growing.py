"""What becomes of nodes that are added to a run, or to a node, while the run is under way?"""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Expand, InvalidDefinition, graph_workflow, task
from stepwell.testing import Bench

ORDER = """
stepwell: 1
id: order
nodes:
  paid: {wait_signal: paid}
  ship: {task: note, inputs: {what: ship}, needs: paid}
  sent: {wait_signal: sent}
"""


@task
async def note(what: str) -> str:
    return what


@task
async def plan(rooms: list[str]) -> Expand:
    nodes: dict[str, Any] = {room: {"task": "note", "inputs": {"what": room}} for room in rooms}
    return Expand(
        nodes | {"clean": {"transform": ["{{ tool }}", *(f"{{{{ {room} }}}}" for room in rooms)]}},
        inputs={"tool": "mop"},
    )


def patch(bench: Bench, id: str, nodes: Any) -> None:
    bench.verb(bench.app.patch(id, nodes, by="ann", reason="a gift"), None)


def test_a_node_that_is_added_to_a_run_runs_there_and_nowhere_else() -> None:
    with Bench(tasks=[note]) as bench:
        order = graph_workflow(ORDER)
        run, other = bench.start(order, id="one"), bench.start(order, id="two")
        patch(bench, "one", {"wrap": {"task": "note", "inputs": {"what": "wrap"}, "needs": "paid"}})
        bench.crash()
        for each in (run, other):
            each.signal("paid")
            each.signal("sent")
        assert "definition.patched" in run.kinds
        run.ran("wrap", times=1, output="wrap")
        run.ran("ship", times=1)
        other.did_not_run("wrap")


def test_a_node_that_needs_what_is_done_begins_at_once() -> None:
    with Bench(tasks=[note]) as bench:
        run = bench.start(graph_workflow(ORDER))
        run.signal("paid")
        patch(bench, run.id, {"after": {"task": "note", "inputs": {"what": "after"}, "needs": "ship"}})
        run.ran("after", times=1)


def test_what_cannot_be_added_is_refused_and_the_run_goes_on() -> None:
    with Bench(tasks=[note]) as bench:
        run = bench.start(graph_workflow(ORDER))
        with pytest.raises(InvalidDefinition, match="nobody"):
            patch(bench, run.id, {"wrap": {"task": "note", "needs": "nobody"}})
        assert run.waiting_for == ("signal paid", "signal sent")


def test_a_task_decides_a_sub_graph_which_is_the_same_after_a_crash() -> None:
    house = graph_workflow(
        {"stepwell": 1, "id": "house", "nodes": {"work": {"task": "plan", "inputs": {"rooms": "{{ input.rooms }}"}}}}
    )
    with Bench(tasks=[note, plan]) as bench:
        bench.crash_at("work:1/hall#1")
        run = bench.start(house, rooms=["attic", "hall"])
        assert run.result() == ["mop", "attic", "hall"]
        run.ran("work", times=1, attempts=1)
