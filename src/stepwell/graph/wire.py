"""Fourth stage: the plan of a body, in which everything is told by number and nothing is left to find out.

* An edge that goes back, or that leads out of a cycle, brings no dead token when its source is done: the first brings
  none at all, the second when the cycle has come to rest.
* **Starts** are the nodes to which no edge leads, those that go back excepted.
* **Sinks** are the nodes from which no edge leads on: none but from `error` and `timeout` ports, and back. Nodes that
  run only after such ports, handlers, are none as long as there are others: a handler that is there does not change
  what a body gives.
* A node **keeps** its output when an expression looks it up, or when it is a sink and the body says no result of its
  own; `output.retain` decides otherwise (`run`: always, `none`: never). It is let go when the last node that looks it
  up has ended, where each node of the body runs once.
* The **victims** of a join with `rest: cancel` are the nodes before it from which every path leads to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stepwell.graph.cycles import components
from stepwell.graph.expand import Expanded
from stepwell.graph.plan import MAX_VISITS, Join, PlanBody, PlanEdge, PlanNode
from stepwell.graph.reach import Reached
from stepwell.graph.scope import Scoped
from stepwell.nodes.protocol import ERROR, TIMEOUT, NodeType

_HANDLED: Final = (ERROR, TIMEOUT)


def wire(expanded: Expanded) -> PlanBody:
    """The plan of a body and of the bodies in it. There must be nothing wrong with it."""
    scoped = expanded.scoped
    reached = scoped.reached
    count = len(reached.nodes)
    sinks = _sinks(reached)
    general = _ancestors(reached)
    kept = set(scoped.readers) if reached.body.has_result else {*scoped.readers, *sinks}
    let_go = _let_go(scoped, sinks)
    reads: dict[int, list[int]] = {}
    for node, readers in scoped.readers.items():
        for reader in readers:
            reads.setdefault(reader, []).append(node)
    edges = tuple(_edge(reached, number) for number in range(len(reached.links)))
    return PlanBody(
        nodes=tuple(
            _node(
                expanded,
                index,
                index in kept,
                general.get(index, 0),
                tuple(sorted(reads.get(index, ()))),
                len(scoped.readers[index]) if index in let_go else 0,
            )
            for index in range(count)
        ),
        edges=edges,
        by_id=reached.by_id,
        starts=reached.starts,
        sinks=sinks,
        result=scoped.result,
        exits=_exits(reached.cycles, edges),
        has_general=bool(general),
        has_milestones=any("milestone" in node.options for node in reached.nodes),
    )


def _edge(reached: Reached, number: int) -> PlanEdge:
    link = reached.links[number]
    cycle = reached.cycle[link.source]
    leaves = cycle if cycle >= 0 and reached.cycle[link.target] != cycle else -1
    most = link.edge.max_visits
    return PlanEdge(
        index=number,
        source=link.source,
        port=link.port,
        target=link.target,
        back=link.back,
        max_visits=MAX_VISITS if most is None else most,
        tells_dead=not link.back and leaves < 0,
        leaves=leaves,
    )


def _let_go(scoped: Scoped, sinks: tuple[int, ...]) -> set[int]:
    """The nodes whose outputs are let go once their readers have ended, in a body where each node runs once."""
    reached = scoped.reached
    runs_once = not reached.cycles and not any(
        node.join.kind in ("each", "threads") or "split" in node.options for node in reached.nodes
    )
    if not runs_once:
        return set()
    last = () if reached.body.has_result else sinks
    return {
        node
        for node, readers in scoped.readers.items()
        if -1 not in readers
        and node not in readers
        and node not in last
        and reached.nodes[node].options.get("output", {}).get("retain", "used") == "used"
    }


def _node(
    expanded: Expanded, index: int, is_read: bool, ancestors: int, reads: tuple[int, ...], readers: int
) -> PlanNode:
    scoped = expanded.scoped
    reached, compiled = scoped.reached, scoped.compiled[index]
    definition, type = reached.nodes[index], reached.types[index]
    assert isinstance(type, NodeType), "unknown types have been refused"
    outs: dict[str, list[int]] = {}
    for number in reached.outs[index]:
        outs.setdefault(reached.links[number].port, []).append(number)
    join = Join(reached.join_of(index), definition.join.count or 1, definition.join.rest, compiled.when)  # type: ignore[arg-type]  # one of the kinds
    is_first = join.kind == "first"
    retain = definition.options.get("output", {}).get("retain", "used")
    parts: Mapping[str, Any] = expanded.parts[index]  # Any: values of many types
    return PlanNode(
        index=index,
        id=definition.id,
        type=type,
        settings=compiled.settings,
        condition=compiled.condition,
        join=join,
        ins=reached.ins[index],
        outs={port: tuple(numbers) for port, numbers in outs.items()},
        bodies={name: wire(body) for name, body in expanded.bodies[index].items()},
        cycle=reached.cycle[index],
        keeps=retain == "run" or (retain == "used" and is_read),
        victims=_victims(reached, index) if is_first and join.rest == "cancel" else (),
        ancestors=ancestors,
        reads=reads,
        readers=readers,
        **parts,
    )


def _exits(cycles: int, edges: tuple[PlanEdge, ...]) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = [[] for _ in range(cycles)]
    for edge in edges:
        if edge.leaves >= 0:
            found[edge.leaves].append(edge.index)
    return tuple(map(tuple, found))


def _sinks(reached: Reached) -> tuple[int, ...]:
    links = reached.links
    last, handlers = [], set()
    for node in reached.order:
        ins = [links[number] for number in reached.ins[node] if not links[number].back]
        if ins and all(link.port in _HANDLED or link.source in handlers for link in ins):
            handlers.add(node)
    for node, outs in enumerate(reached.outs):
        if not reached.ways[node]:  # it fails, or ends its body: it never has an output that would be the result
            continue
        if all(links[number].back or links[number].port in _HANDLED for number in outs):
            last.append(node)
    return tuple(node for node in last if node not in handlers) or tuple(last)


def _victims(reached: Reached, join: int) -> tuple[int, ...]:
    left: dict[int, int] = {}
    found = []
    waiting = [join]
    for node in waiting:
        for number in reached.ins[node]:
            source = reached.links[number].source
            left[source] = left.get(source, len(reached.outs[source])) - 1
            if not left[source] and source != join:
                found.append(source)
                waiting.append(source)
    return tuple(sorted(found))


def _ancestors(reached: Reached) -> Mapping[int, int]:
    """For each general join the bit set of the nodes from which it can be reached."""
    wanted = {node for node in range(len(reached.nodes)) if reached.join_of(node) == "general"}
    if not wanted:
        return {}
    links = reached.links
    above = [0] * len(reached.nodes)
    readers = [len(outs) for outs in reached.outs]
    found: dict[int, int] = {}
    for members in reversed(components([[links[number].target for number in outs] for outs in reached.outs])):
        seen = 0
        for number in (number for node in members for number in reached.ins[node]):
            source = links[number].source
            seen |= above[source] | 1 << source
            readers[source] -= 1
            if not readers[source]:
                above[source] = 0
        for node in members:
            above[node] = seen
            if node in wanted:
                found[node] = seen
    return found
