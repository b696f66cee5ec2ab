"""Is one of several nodes sure to be done where another one runs? So that `{{ a ?? b }}` needs no third value.

A node runs because a live edge leads to it, and that edge is live because its source ran: back to a start of the body
there is a way of nodes that ran. When every such way leads through one of some nodes, by a port that says that it is
done, then one of them is done, whichever way was taken. The other way round, when all ways from a node that runs in
every case lead to one of some nodes, then one of them is done in the end; and where all of them have ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeAlias

from stepwell.expressions.names import Reference
from stepwell.graph.certain import FAILED, Certain
from stepwell.graph.guards import ALWAYS
from stepwell.graph.reach import Link, Reached, is_off
from stepwell.graph.roots import node_of
from stepwell.nodes.protocol import ERROR

Through: TypeAlias = Mapping[int, Collection[str]]
"""Nodes, and the ports by which each is left when what is wanted of it is there."""

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
        decides_itself = [node for node in range(len(reached.nodes)) if reached.join_of(node) == "when"]
        self._starts = (*reached.starts, *decides_itself)

    def through(self, references: Iterable[Reference]) -> Through:
        """What lookups of nodes' outputs need; those of anything else are nothing to rely on."""
        found: dict[int, set[str]] = {}
        for reference in references:
            id, path = node_of(reference)
            node = self._reached.by_id.get(id or "")
            if node is None or self._reached.nodes[node].options.get("on_error") == "continue":
                continue
            wants_error = path[:1] == (ERROR,)
            ports = {port for port in self._reached.ways[node] if (port in FAILED) == wants_error}
            found.setdefault(node, set()).update(ports)
        return found

    def is_sure_at(self, at: int, facts: int, through: Through) -> bool:
        """Whether one of some nodes is done where `at` runs; `facts` is what is certain there."""
        has_ended = all(self._certain.has_ended(facts, node) for node in through)
        return self._leads_to(at, through) or (has_ended and self.is_sure_in_the_end(through))

    def is_sure_in_the_end(self, through: Through) -> bool:
        """Whether one of some nodes is done whenever the body has ended."""
        self._room -= len(self._reached.links)
        if self._room < 0:
            return False
        leads = [False] * len(self._reached.nodes)
        for node in reversed(self._reached.order):
            leads[node] = self._leads(node, through, leads)
            if leads[node] and self._certain.guards[node] == ALWAYS and node not in self._certain.cancelled:
                return True
        return False

    def _leads_to(self, at: int, through: Through) -> bool:
        """Whether every way to a node leads through one of some."""
        seen, left = set(self._starts), list(self._starts)
        while left:
            node = left.pop()
            if node == at or self._room < 0:
                return False
            done = through.get(node, ())
            self._room -= len(self._reached.outs[node])
            for number in self._reached.outs[node]:
                link = self._reached.links[number]
                if link.port not in done and link.target not in seen:
                    seen.add(link.target)
                    left.append(link.target)
        return True

    def _leads(self, node: int, through: Through, leads: list[bool]) -> bool:
        """Whether all ways on from a node lead to one of some nodes, or it is one itself."""
        ways, done = self._reached.ways[node], through.get(node, ())
        onward = {
            link.port
            for number in self._reached.outs[node]
            if leads[(link := self._reached.links[number]).target] and self._follows(link)
        }
        return bool(ways) and all(port in done or port in onward for port in ways)

    def _follows(self, link: Link) -> bool:
        """Whether the target runs whenever the link is live."""
        target = self._reached.nodes[link.target]
        depends = target.has_condition or "milestone" in target.options or is_off(target)
        join, is_alone = self._reached.join_of(link.target), len(self._reached.ins[link.target]) == 1
        is_told_once = join in _PATIENT and not self._certain.may_run_often(link.source)
        return (is_alone or join == "each" or is_told_once) and not (
            link.back or depends or link.target in self._certain.cancelled
        )
