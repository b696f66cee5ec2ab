"""A graph as a message pipeline: in memory, at once, without a run."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Stepwell, graph_workflow
from stepwell.errors import ArgumentError, RequestRefused, RunFailed

PIPELINE: dict[str, Any] = {
    "stepwell": 1,
    "id": "price",
    "input": {"type": "object", "required": ["net"], "properties": {"net": {"type": "number"}}},
    "result": "{{ dear ?? cheap }}",
    "nodes": {
        "sum": {"transform": {"logic": {"gross": {"*": [{"var": "input.net"}, 1.5]}}}},
        "large": {"condition": {">": [{"var": "sum.gross"}, 100]}, "needs": "sum"},
        "dear": {"transform": {"value": {"band": "dear", "gross": "{{ sum.gross }}"}}, "needs": "large:true"},
        "cheap": {"transform": {"value": {"band": "cheap", "gross": "{{ sum.gross }}"}}, "needs": "large:false"},
    },
}


def evaluate(definition: dict[str, Any], input: Any) -> Any:
    return Stepwell("memory://").evaluate(graph_workflow(definition), input)


def test_a_pure_graph_gives_its_result_at_once() -> None:
    assert evaluate(PIPELINE, {"net": 100}) == {"band": "dear", "gross": 150}
    assert evaluate(PIPELINE, b'{"net": 10}') == {"band": "cheap", "gross": 15}


def test_the_input_is_checked() -> None:
    with pytest.raises(ArgumentError, match="net"):
        evaluate(PIPELINE, {})


def test_a_loop_over_ten_thousand_items_needs_no_stack() -> None:
    nodes = {"each": {"loop": {"foreach": "{{ input.items }}"}, "do": {"a": {"transform": {"value": "{{ item }}"}}}}}
    found = evaluate({"stepwell": 1, "id": "many", "nodes": nodes}, {"items": list(range(10_000))})
    assert found["iterations"] == 10_000
    assert found["results"][-1] == 9_999


def test_a_failure_is_told() -> None:
    with pytest.raises(RunFailed, match="no luck"):
        evaluate({"stepwell": 1, "id": "bad", "nodes": {"a": {"fail": "no luck"}}}, {})


@pytest.mark.parametrize(
    "node",
    [{"wait": "1h"}, {"emit": "done"}, {"wait_signal": "go"}, {"task": "work"}, {"workflow": "other"}],
    ids=["timer", "event", "signal", "task", "child"],
)
def test_what_needs_an_engine_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused, match="needs an engine"):
        evaluate({"stepwell": 1, "id": "far", "nodes": {"a": node}}, {})
