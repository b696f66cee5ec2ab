"""Is one of several nodes sure to be done where another one runs? So that `{{ a ?? b }}` needs no third value.

A node runs because a live edge leads to it, and that edge is live because its source ran: back to a start of the body
there is a way of nodes that ran. When every such way leads through one of some nodes, by a port that says that it is
done, then one of them is done, whichever way was taken. The other way round, when all ways from a node that runs in
every case lead to one of some nodes, then one of them is done in the end; and where all of them have ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, TypeAlias

from stepwell.expressions.names import Reference
from stepwell.graph.certain import FAILED, Certain
from stepwell.graph.guards import ALWAYS
from stepwell.graph.reach import Link, Reached, is_off
from stepwell.graph.roots import node_of
from stepwell.nodes.protocol import ERROR

Through: TypeAlias = frozenset[tuple[int, str]]
"""Nodes, each with the ports by which it is left when what is wanted of it is there."""

_MOST: Final = 5_000_000
"""Links that are looked at for one body; what is asked after that is answered with no."""

_PATIENT: Final = ("all", "any")
"""Joins that fire when one of their edges is live, if perhaps not at once, and if each is told one time."""


class Cover:
    """Answers for one body."""

    def __init__(self, reached: Reached, certain: Certain) -> None:
        self._reached = reached
        self._certain = certain
        self._room = _MOST
        self._past: dict[Through, Collection[int]] = {}
        self._in_the_end: dict[Through, bool] = {}

    def through(self, references: Iterable[Reference]) -> Through:
        """What lookups of nodes' outputs need; those of anything else are nothing to rely on."""
        found: set[tuple[int, str]] = set()
        for reference in references:
            id, path = node_of(reference)
            node = self._reached.by_id.get(id or "")
            if node is not None and self._reached.nodes[node].options.get("on_error") != "continue":
                wants_error = path[:1] == (ERROR,)
                found |= {(node, port) for port in self._reached.ways[node] if (port in FAILED) == wants_error}
        return frozenset(found)

    def is_sure_at(self, at: int, facts: int, through: Through) -> bool:
        """Whether one of some nodes is done where `at` runs; `facts` is what is certain there."""
        if through not in self._past:
            self._past[through] = self._reached_past(through)
        has_ended = all(self._certain.has_ended(facts, node) for node, _ in through)
        return at not in self._past[through] or (has_ended and self.is_sure_in_the_end(through))

    def is_sure_in_the_end(self, through: Through) -> bool:
        """Whether one of some nodes is done whenever the body has ended."""
        if through not in self._in_the_end:
            self._in_the_end[through] = self._lead_all(through)
        return self._in_the_end[through]

    def _reached_past(self, through: Through) -> Collection[int]:
        """The nodes to which a way leads that passes none of some."""
        reached = self._reached
        self._room -= len(reached.links)
        if self._room < 0:
            return range(len(reached.nodes))
        # A join with a condition of its own may fire although no live edge leads to it.
        left = [*reached.starts, *(node for node in range(len(reached.nodes)) if reached.join_of(node) == "when")]
        seen = set(left)
        while left:
            node = left.pop()
            for number in reached.outs[node]:
                link = reached.links[number]
                if (node, link.port) not in through and link.target not in seen:
                    seen.add(link.target)
                    left.append(link.target)
        return seen

    def _lead_all(self, through: Through) -> bool:
        """Whether all ways from a node that runs in every case lead to one of some."""
        self._room -= len(self._reached.links)
        if self._room < 0:
            return False
        leads = [False] * len(self._reached.nodes)
        for node in reversed(self._reached.order):
            leads[node] = self._leads(node, through, leads)
            if leads[node] and self._certain.guards[node] == ALWAYS and node not in self._certain.cancelled:
                return True
        return False

    def _leads(self, node: int, through: Through, leads: list[bool]) -> bool:
        """Whether all ways on from a node lead to one of some nodes, or it is one itself."""
        ways = self._reached.ways[node]
        onward = {
            link.port
            for number in self._reached.outs[node]
            if leads[(link := self._reached.links[number]).target] and self._follows(link)
        }
        return bool(ways) and all((node, port) in through or port in onward for port in ways)

    def _follows(self, link: Link) -> bool:
        """Whether the target runs whenever the link is live."""
        node = self._reached.nodes[link.target]
        depends = node.has_condition or "milestone" in node.options or is_off(node)
        if link.back or depends or link.target in self._certain.cancelled:
            return False
        join = self._reached.join_of(link.target)
        if len(self._reached.ins[link.target]) == 1:
            return join not in ("threads", "when")
        return join == "each" or (join in _PATIENT and not self._certain.may_run_often(link.source))
