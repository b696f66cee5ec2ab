"""Bodies that come while a run is under way: a sub-graph that a task returned, and nodes that a patch adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stepwell.graph.bodies import parse_body
from stepwell.graph.compile import Surroundings, compile_body
from stepwell.graph.definition import Definition
from stepwell.graph.form import Types
from stepwell.graph.places import Places
from stepwell.graph.plan import Plan, PlanBody
from stepwell.graph.problems import Findings, InvalidDefinition, Place


def compile_expansion(
    plan: Plan,
    around: Sequence[str],
    nodes: Any,  # Any: JSON, as the two after it
    edges: Any,
    result: Any,
    types: Types,
    tasks: Collection[str] = (),
) -> PlanBody:
    """The body that a task has decided on.

    `around` are the names that it sees; `tasks` those of the registered tasks.

    Raises:
        InvalidDefinition: it has problems; all of them are told.
    """
    findings = Findings()
    data = {"nodes": nodes}
    if edges is not None:
        data["edges"] = edges
    if result is not None:
        data["result"] = result
    body = parse_body(data, Places(), types, findings, tasks)
    return compile_body(body, Surroundings(definition=plan.definition, names=around), types, None, findings=findings)


def grown(definition: Definition, nodes: Any, edges: Any) -> dict[str, Any]:  # Any: JSON
    """A definition, as data, with further nodes and edges in the run's own body.

    Raises:
        InvalidDefinition: a node is there already, or the parts are no nodes and edges at all.
    """
    whole = {**definition.canonical}
    given = _listed(nodes)
    taken = [one["id"] for one in given if one["id"] in definition.body.nodes]
    if taken:
        raise _wrong("node-taken", f"there is a node {taken[0]!r} already; a patch only adds", "give it another id")
    whole["nodes"] = [*whole["nodes"], *given]
    if edges:
        if not isinstance(edges, list):
            raise _wrong("not-edges", "edges are a list of {from, port, to}", "write edges: [{from: a, to: b}]")
        whole["edges"] = [*(whole.get("edges") or ()), *edges]
    return whole


def _listed(nodes: Any) -> list[dict[str, Any]]:  # Any: JSON
    if isinstance(nodes, Mapping) and all(isinstance(one, Mapping) for one in nodes.values()):
        return [{"id": id, **one} for id, one in nodes.items()]
    if isinstance(nodes, list) and all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in nodes):
        return nodes
    raise _wrong("not-nodes", "nodes are a mapping from ids to nodes, or a list of nodes with ids", "write nodes: {…}")


def _wrong(code: str, message: str, hint: str) -> InvalidDefinition:
    found = Findings()
    found.add(code, Place("$"), message, hint)
    return InvalidDefinition(found.problems, "the patch")
