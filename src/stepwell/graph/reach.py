"""First stage: which nodes are there, by which edges does one reach another, and in which order?

Knows nodes and edges by number, finds the cycles, and says what is wrong with the shape: edges to nodes that are not
there or that stand in another body, by ports that their source does not have, cycles that nobody marked, nodes that
nothing can reach. A node that is `disabled`, or whose `if` is simply false, is skipped; so is what only such nodes lead
to, which is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from stepwell.graph.cycles import components, in_order, shortest_cycle, shown
from stepwell.graph.definition import BodyDef, EdgeDef, NodeDef
from stepwell.graph.form import Types
from stepwell.graph.homes import DEEPEST, Homes, Where
from stepwell.graph.ports import ports_of, ways_of
from stepwell.graph.saying import Say
from stepwell.nodes.protocol import ERROR, NodeType

_ALONE: Final = ("all", "each", "threads", "when")
"""Joins that mean something where one edge leads too."""


class Link(msgspec.Struct, frozen=True, gc=False):
    """An edge by the numbers of its nodes."""

    source: int
    target: int
    port: str
    back: bool
    edge: EdgeDef


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of one body, everything by number.

    `where` says which body it is. `ins` and `outs` are the numbers of links. `ways` are the ports by which each node
    may be left, unless that fails its body. `order` has each node after all that lead to it, links that go back
    excepted. `cycle` is the number of the cycle that a node is in, or -1. `bodies` are the bodies inside each node.
    """

    where: Where
    body: BodyDef
    nodes: tuple[NodeDef, ...]
    types: tuple[NodeType | None, ...]
    by_id: dict[str, int]
    links: tuple[Link, ...]
    ins: tuple[tuple[int, ...], ...]
    outs: tuple[tuple[int, ...], ...]
    ways: tuple[tuple[str, ...], ...]
    order: tuple[int, ...]
    cycle: tuple[int, ...]
    cycles: int
    starts: tuple[int, ...]
    bodies: tuple[Mapping[str, Reached], ...]

    def join_of(self, node: int) -> str:
        """The kind of a node's join, the default being `each` where a link goes back to, else `all`."""
        kind = self.nodes[node].join.kind
        if kind:
            return kind
        return "each" if any(self.links[link].back for link in self.ins[node]) else "all"

    def name(self, node: int) -> str:
        """The node as problems name it."""
        return self.nodes[node].id


def is_off(node: NodeDef) -> bool:
    """Whether the definition itself says that a node never runs."""
    return node.disabled or (node.has_condition and node.condition is False)


def reach(body: BodyDef, types: Types, say: Say, homes: Homes, *, in_loop: bool = False) -> Reached:
    """The shape of a body and of all bodies in it; with `in_loop` there is a loop around it."""
    return _Reach(types, say, homes).shape(body, (), in_loop)


class _Reach:
    def __init__(self, types: Types, say: Say, homes: Homes) -> None:
        self.types = types
        self.say = say
        self.homes = homes

    def shape(self, body: BodyDef, where: Where, in_loop: bool) -> Reached:
        nodes = tuple(body.nodes.values())
        by_id = {node.id: index for index, node in enumerate(nodes)}
        types = tuple(self._type(node, in_loop) for node in nodes)
        links = self._links(body, where, by_id, types)
        ins: list[list[int]] = [[] for _ in nodes]
        outs: list[list[int]] = [[] for _ in nodes]
        for index, link in enumerate(links):
            ins[link.target].append(index)
            outs[link.source].append(index)
        for node, links_in in zip(nodes, ins, strict=True):
            self._check_join(node, len(links_in))
        wired = [{links[index].port for index in out} for out in outs]
        forward = [[links[index].target for index in out if not links[index].back] for out in outs]
        order = in_order(forward)
        if len(order) < len(nodes):
            self._name_cycles(nodes, links, forward)
            order += sorted(set(range(len(nodes))) - set(order))
        cycle, cycles = _cycles(links, outs)
        found = Reached(
            where=where,
            body=body,
            nodes=nodes,
            types=types,
            by_id=by_id,
            links=tuple(links),
            ins=tuple(map(tuple, ins)),
            outs=tuple(map(tuple, outs)),
            ways=tuple(ways_of(node, type, wired[i]) for i, (node, type) in enumerate(zip(nodes, types, strict=True))),
            order=tuple(order),
            cycle=cycle,
            cycles=cycles,
            starts=tuple(node for node, links_in in enumerate(ins) if all(links[one].back for one in links_in)),
            bodies=tuple(self._inside(node, where, in_loop) for node in nodes),
        )
        self._check_back(found)
        self._check_reached(found)
        return found

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _type(self, node: NodeDef, in_loop: bool) -> NodeType | None:
        found = self.types.get(node.type)
        if found is None:
            hint = self.say.meant(node.type, self.types.names())
            if node.type:  # that it has none has been said
                self.say.error_once("unknown-node-type", node.at("type"), f"there is no node type {node.type!r}", hint)
        elif found.name == "break" and not in_loop:
            hint = "use `end` to end a body or the run"
            self.say.error("outside-loop", node.place, f"{node.id}: `break` ends a loop, and there is none", hint)
        return found

    def _check_join(self, node: NodeDef, ins: int) -> None:
        """A join that has nothing to join; the event dialect writes them all, without a place."""
        kind = node.join.kind
        if kind and kind not in _ALONE and ins < 2 and ("join" in node.places or not node.places):
            edges = "no edge leads" if not ins else "only one edge leads"
            message = f"{node.id} has `join: {kind}`, but {edges} to it"
            self.say.warning("join-of-nothing", node.at("join"), message, "take it away, or connect more nodes")

    def _inside(self, node: NodeDef, where: Where, in_loop: bool) -> Mapping[str, Reached]:
        if not node.bodies:
            return {}
        if len(where) >= DEEPEST:
            self.say.error("too-deep", node.place, f"{node.id}: bodies are nested more than {DEEPEST} deep")
            return {}
        loops = in_loop or node.type == "loop"
        return {
            name: self.shape(body, (*where, (node.id, name)), loops and name != "compensate")
            for name, body in node.bodies.items()
        }

    # -- edges ------------------------------------------------------------------------------------------------------

    def _links(
        self, body: BodyDef, where: Where, by_id: Mapping[str, int], types: Sequence[NodeType | None]
    ) -> list[Link]:
        links: dict[tuple[str, str, str], Link] = {}
        allowed: dict[str, tuple[tuple[str, ...], bool]] = {}
        for edge in body.edges:
            source, target = by_id.get(edge.source), by_id.get(edge.target)
            if source is None or target is None:
                self._nowhere(edge, edge.source if source is None else edge.target, where, by_id)
                continue
            key = (edge.source, edge.port, edge.target)
            if key in links:
                message = f"the edge from {edge.source} ({edge.port}) to {edge.target} is there twice"
                self.say.warning("edge-twice", edge.place, message, "it counts once; take one away")
                continue
            if edge.source not in allowed:
                allowed[edge.source] = ports_of(body.nodes[edge.source], types[source])
            self._check_port(edge, body.nodes[edge.source], *allowed[edge.source])
            links[key] = Link(source, target, edge.port, edge.back, edge)
        return list(links.values())

    def _check_port(self, edge: EdgeDef, node: NodeDef, ports: tuple[str, ...], is_open: bool) -> None:
        if edge.port in ports or is_open:
            return
        named = [port for port in ports if port != ERROR]
        if not named:
            message = f"nothing follows {edge.source}: a node of type {node.type} has no port {edge.port!r}"
            hint = "take the edge away"
        else:
            message = f"{edge.source}, of type {node.type}, has no port {edge.port!r}"
            hint = self.say.meant_or_listed(edge.port, ports, "it has")
        self.say.error("unknown-port", edge.place, message, hint)

    def _nowhere(self, edge: EdgeDef, id: str, where: Where, by_id: Mapping[str, int]) -> None:
        end = "comes from" if id == edge.source else "leads to"
        home = self.homes.elsewhere(id, where)
        if home:
            message = f"an edge {end} {id!r}, which stands {home}: edges do not cross the border of a container"
            near = self.homes.holder(id, where)
            hint = f"connect {near!r} itself" if near else f"connect {where[-1][0]!r}, the container, instead"
            self.say.error_once("crosses-border", edge.place, message, hint)
            return
        hint = self.say.meant(id, by_id)
        self.say.error_once("unknown-node", edge.place, f"an edge {end} {id!r}, but there is no such node here", hint)

    # -- cycles and reach -------------------------------------------------------------------------------------------

    def _name_cycles(self, nodes: Sequence[NodeDef], links: Sequence[Link], forward: Sequence[Sequence[int]]) -> None:
        for members in components(forward):
            if len(members) == 1 and members[0] not in forward[members[0]]:
                continue
            way = shortest_cycle(forward, members)
            last = next(one for one in links if not one.back and (one.source, one.target) == (way[-2], way[-1]))
            message = f"there is a cycle: {shown([nodes[index].id for index in way])}"
            hint = "say `back: true` at the edge that goes back, or use a `loop`"
            self.say.error("cycle", last.edge.place, message, hint)

    def _check_back(self, found: Reached) -> None:
        """Edges that go back must lead to a node from which edges that go forward lead to where they came from."""
        backs = [link for link in found.links if link.back]
        if not backs:
            return
        bit = {target: 1 << index for index, target in enumerate(dict.fromkeys(link.target for link in backs))}
        behind = [0] * len(found.nodes)
        for node in found.order:
            behind[node] |= bit.get(node, 0)
            for index in found.outs[node]:
                link = found.links[index]
                if not link.back:
                    behind[link.target] |= behind[node]
        for link in backs:
            if not behind[link.source] & bit[link.target]:
                message = f"the edge from {found.name(link.source)} back to {found.name(link.target)} closes no cycle"
                hint = f"{found.name(link.target)} does not lead to {found.name(link.source)}; leave out `back`"
                self.say.error("back-without-cycle", link.edge.place, message, hint)

    def _check_reached(self, found: Reached) -> None:
        runs = _spread(found, lambda node: not is_off(found.nodes[node]))
        if len(runs) == len(found.nodes):
            return
        could = _spread(found, lambda node: True)
        for index in found.order:
            node = found.nodes[index]
            if index in runs:
                continue
            if index in could:
                if not is_off(node):
                    message = f"{node.id} is always skipped: only disabled nodes lead to it"
                    self.say.warning("always-skipped", node.place, message, "enable them, or disable it too")
            elif found.ins[index] and any(found.links[one].source in could for one in found.ins[index]):
                before = ", ".join(dict.fromkeys(found.name(found.links[one].source) for one in found.ins[index]))
                message = f"{node.id} can never be reached: nothing comes after {before}"
                self.say.error("unreachable", node.place, message, "take it away, or connect it to another node")


def _spread(found: Reached, is_left: Callable[[int], bool]) -> set[int]:
    """The nodes that tokens can come to; those for which `is_left` is false pass none on.

    What lies behind a cycle that nobody marked has no start: that is said elsewhere.
    """
    ahead = list(found.starts)
    seen = set(ahead)
    for node in ahead:
        if not is_left(node):
            continue
        for index in found.outs[node]:
            link = found.links[index]
            if link.target not in seen and found.ways[node]:
                seen.add(link.target)
                ahead.append(link.target)
    return seen


def _cycles(links: Sequence[Link], outs: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], int]:
    cycle = [-1] * len(outs)
    if not any(link.back for link in links):
        return tuple(cycle), 0
    targets = [[links[index].target for index in out] for out in outs]
    count = 0
    for members in reversed(components(targets)):
        if len(members) > 1 or members[0] in targets[members[0]]:
            for node in members:
                cycle[node] = count
            count += 1
    return tuple(cycle), count
