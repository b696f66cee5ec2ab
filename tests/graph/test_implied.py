"""A node that says nothing of what it needs needs what it refers to; the example of the design is one."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.graph.parse import load
from stepwell.nodes.registry import NodeTypes

TYPES = NodeTypes.standard()


def edges(nodes: str) -> set[tuple[str, str, str]]:
    definition = load(f"stepwell: 1\nid: flow\nnodes:\n{nodes}", TYPES)
    return {(edge.source, edge.port, edge.target) for edge in definition.body.edges}


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ("  a: {noop: {}}\n  b: {log: '{{ a }}'}", {("a", "out", "b")}),
        ("  a: {noop: {}}\n  b: {noop: {}, if: '{{ a }}'}", {("a", "out", "b")}),
        ("  a: {noop: {}}\n  b: {condition: {'>': [{var: a.n}, 1]}}", {("a", "out", "b")}),
        ("  a: {noop: {}}\n  b: {noop: {}, delay: '{{ a }}'}", {("a", "out", "b")}),
        ("  a b: {noop: {}}\n  c: {log: '{{ nodes[\"a b\"] }}'}", {("a b", "out", "c")}),
        (
            "  a: {condition: '{{ input.x }}'}\n  b: {log: '{{ a }}'}",
            {("a", "true", "b"), ("a", "false", "b")},
        ),
        ("  a: {noop: {}}\n  b: {map: [1], do: {c: {log: '{{ a }}'}}}", {("a", "out", "b")}),
    ],
    ids=["setting", "if", "rule", "option", "odd id", "choice", "inside a container"],
)
def test_a_reference_is_an_edge_where_nothing_else_leads(nodes: str, found: Any) -> None:
    assert edges(nodes) == found


@pytest.mark.parametrize(
    "nodes",
    [
        "  a: {noop: {}}\n  b: {log: '{{ a ?? 1 }}'}",
        "  a: {noop: {}}\n  b: {log: '{{ a.error.message }}'}",
        "  a: {noop: {}}\n  b: {log: '{{ a }}', needs: []}",
        "  a: {log: '{{ a }}'}",
        "  a: {map: [1], do: {c: {noop: {}}, d: {log: '{{ c }}', needs: c}}}",
    ],
    ids=["default", "error", "needs nothing", "itself", "inner node"],
)
def test_what_is_no_need_is_no_edge(nodes: str) -> None:
    assert edges(nodes) == set()


def test_what_is_written_is_all_there_is() -> None:
    nodes = "  a: {noop: {}}\n  b: {noop: {}}\n  c: {log: '{{ a }}', needs: b}"
    assert edges(nodes) == {("b", "out", "c")}
