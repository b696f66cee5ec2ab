"""Outputs that nobody will look up any more are let go, so that a long graph does not hold what its beginning gave."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from stepwell import graph_workflow
from stepwell.authoring.context import Identity
from stepwell.programs.graph.program import GraphProgram

CHAIN: dict[str, Any] = {
    "a": {"transform": {"value": "A"}},
    "b": {"transform": {"value": "{{ a }}B"}, "needs": "a"},
    "c": {"transform": {"value": "{{ b }}C"}, "needs": "b"},
}


def kept(nodes: dict[str, Any], **more: Any) -> set[str]:
    """The ids of the nodes whose outputs are held when the run has ended."""
    workflow = graph_workflow({"stepwell": 1, "id": "flow", "nodes": nodes, **more})
    program = GraphProgram(workflow.plan, Identity("r", "flow", None, "r"), msgspec.Raw(b"{}"), around=cast(Any, None))
    program.begin(1)
    assert program.ended
    root = program._root
    assert root is not None
    return set(root.outputs)


def test_an_output_is_let_go_when_its_last_reader_has_ended() -> None:
    assert kept(CHAIN) == {"c"}


def test_what_the_result_refers_to_is_kept() -> None:
    assert kept(CHAIN, result="{{ a }}") == {"a"}


def test_what_is_read_by_several_waits_for_all_of_them() -> None:
    nodes = CHAIN | {"d": {"transform": {"value": "{{ a }}{{ c }}"}, "needs": "c", "if": False}}
    assert kept(nodes) == set()
    assert kept(nodes, result="{{ b }}") == {"b"}


def test_an_author_may_keep_it_or_never_have_it() -> None:
    nodes = CHAIN | {"a": {"transform": {"value": "A"}, "output": {"retain": "run"}}}
    assert kept(nodes) == {"a", "c"}
    assert kept({"a": {"transform": {"value": "A"}, "output": {"retain": "none"}}}) == set()


def test_what_is_read_inside_a_container_is_kept_until_that_has_ended() -> None:
    loop = {"loop": {"for": 2}, "do": {"x": {"transform": {"value": "{{ a }}"}}}, "needs": "a"}
    nodes = {"a": CHAIN["a"], "again": loop, "last": {"noop": {}, "needs": "again"}}
    assert kept(nodes) == {"last"}


def test_where_a_node_may_run_again_nothing_is_let_go_early() -> None:
    nodes = CHAIN | {"again": {"condition": False, "needs": "c", "next": {"true": {"to": "a", "back": True}}}}
    assert "a" in kept(nodes)
