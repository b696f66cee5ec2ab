"""Compiles definitions for tests: from YAML text, against a few tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from stepwell.graph.compile import compile_plan
from stepwell.graph.parse import parse
from stepwell.graph.plan import Plan, PlanBody, PlanNode
from stepwell.graph.problems import Findings, InvalidDefinition, Problem
from stepwell.graph.reading import read
from stepwell.graph.tasks import Parameter, TaskInfo
from stepwell.nodes.registry import NodeTypes

TYPES = NodeTypes.standard()


class KnownTasks:
    """Tasks by name, as graphs are checked against them."""

    def __init__(self, *infos: TaskInfo) -> None:
        self._infos = {info.name: info for info in infos}

    def get(self, name: str) -> TaskInfo | None:
        """The task of this name."""
        return self._infos.get(name)

    def names(self) -> Collection[str]:
        """The names of all."""
        return self._infos.keys()


SHOP = KnownTasks(
    TaskInfo("fetch", (Parameter("url", True, str), Parameter("size", False, int))),
    TaskInfo("send", (Parameter("to", True, list[str]), Parameter("text", False, str))),
    TaskInfo("work", (), has_var_keyword=True),
)


def compiled(nodes: str, *, head: str = "", tasks: KnownTasks | None = SHOP) -> Plan:
    """The plan of a definition, of which `nodes` are the nodes, each on a line that begins with two spaces."""
    findings = Findings()
    document = read(f"stepwell: 1\nid: shop\nnodes:\n{nodes.strip(chr(10))}\n{head}", findings)
    assert document is not None
    definition = parse(document, TYPES, findings)
    assert definition is not None
    return compile_plan(definition, TYPES, tasks, findings=findings)


def problems_of(nodes: str, *, head: str = "", tasks: KnownTasks | None = SHOP) -> tuple[Problem, ...]:
    """What is wrong with it, warnings included."""
    try:
        return compiled(nodes, head=head, tasks=tasks).warnings
    except InvalidDefinition as error:
        return error.problems


def codes(nodes: str, *, head: str = "", tasks: KnownTasks | None = SHOP) -> list[str]:
    """The codes of what is wrong with it."""
    return [problem.code for problem in problems_of(nodes, head=head, tasks=tasks)]


def node(body: Plan | PlanBody, id: str) -> PlanNode:
    """A node of a body by its id."""
    body = body.body if isinstance(body, Plan) else body
    return body.nodes[body.by_id[id]]


def shape(body: PlanBody) -> Mapping[str, Any]:
    """What two plans of the same definition have in common, expressions by what they were compiled from."""
    return {
        "nodes": [
            {
                **{name: getattr(one, name) for name in one.__struct_fields__ if name not in ("type", "bodies")},
                "type": one.type.name,
                "settings": one.settings.source,
                "condition": one.condition and one.condition.source,
                "join": (one.join.kind, one.join.count, one.join.rest, one.join.when and one.join.when.source),
                "bodies": {name: shape(inner) for name, inner in one.bodies.items()},
            }
            for one in body.nodes
        ],
        "result": body.result and body.result.source,
        **{
            name: getattr(body, name)
            for name in ("edges", "by_id", "starts", "sinks", "exits", "has_general", "has_milestones")
        },
    }
