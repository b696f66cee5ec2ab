"""Which nodes are sure to be done when a node runs? So that what it refers to is there, whichever way it was reached.

The rule. *X is certain at Y* when X has completed, by no `error` or `timeout` port, in every case in which Y runs:

* A live edge says what was certain at its source, and that the source is done (or has failed, by an error port).
* A join of kind `any`, `each`, `threads`, `first` with one: what every in-edge says that may be live.
* `all_strict`, and `first` with as many as there are edges: what any of them says. `first` with n of k edges: what more
  than k - n of them say.
* `all` and `general` wait for every path: whatever comes before has ended or was skipped. What is certain is what all
  in-edges say; what those say that are sure to be live whenever the node runs; and of what it has waited for, all that
  runs in every case in which the node does. So a fork and its join leave nothing uncertain. Edges that come from all
  the ports by which a node may be left are, together, as good as the node.
* `when`: nothing, since any state of the edges may fulfil its condition.
* An `if`, a milestone, or being named in another's `cancels` make what follows depend on it; a failure that no port
  takes, or an edge that goes back too often, ends the body, and nothing follows.
* A node that may run several times at once, since a join before it fires for each token or a node splits, is not
  known to have ended when something that waits for it runs: what that is told may be of another time. Nor is a join
  of what comes from it sure to fire.
* Where edges go back, the first time counts: what was done once stays done. A port from which the way leads back in
  any case, and to the node again, does not count among the ways out: in the end the node is left by another.

At the end of its body a node is certain that runs in every case and cannot be left by an error port.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from stepwell.graph.cycles import components
from stepwell.graph.guards import ALWAYS, NEVER, Guards
from stepwell.graph.joins import Arrival, Joins
from stepwell.graph.ports import leaves_by_several
from stepwell.graph.reach import Link, Reached, is_off
from stepwell.graph.saying import Say
from stepwell.nodes.protocol import ERROR, OUT, TIMEOUT

FAILED: Final = (ERROR, TIMEOUT)
_FACTS: Final = 3
"""Bits for each node: it is done; it has failed; it has ended, one way or another, or was skipped."""

_PASSES: Final = 12

_LONGEST_WAY: Final = 30
"""How many nodes are looked at, one behind the other, to see whether a way leads back."""


class Certain:
    """What is certain in one body. `asked` are the nodes of which somebody wants to know.

    `guards[node]` says in which cases each node runs; it is complete after `sweep`.
    """

    def __init__(self, reached: Reached, asked: Collection[int]) -> None:
        self.reached = reached
        self._bit = {node: 1 << (_FACTS * place) for place, node in enumerate(sorted(asked))}
        self._awaited = sum(bit << 2 for bit in self._bit.values())
        heads = dict.fromkeys(link.target for link in reached.links if link.back)
        self._entry = {node: 1 << (_FACTS * len(self._bit) + place) for place, node in enumerate(heads)}
        self._open: set[int] = set()
        """Targets of edges that go back which may be reached by those first, so that they count as in-edges."""
        self._back: dict[int, int] = {}
        self._is_hopeless = False
        named = [id for node in reached.nodes for id in node.options.get("cancels", ())]
        self.cancelled = {reached.by_id[id] for id in named if id in reached.by_id}
        self._reset()

    def _reset(self) -> None:
        self.tree = Guards()
        self.guards = [NEVER] * len(self.reached.nodes)
        self._ports: list[dict[str, int]] = [{} for _ in self.reached.nodes]
        self._facts = [0] * len(self.reached.nodes)
        self._readers = [len(out) for out in self.reached.outs]  # with an edge that goes back it never comes to 0
        self._joins = Joins(self.reached, self.tree, self.guards, self._awaited)

    # -- questions ----------------------------------------------------------------------------------------------

    def is_done(self, facts: int, node: int, at: int) -> bool:
        """Whether `node` is sure to be done where `at` runs, by the facts that `sweep` gives for that."""
        bit = self._bit[node]
        if facts & bit:
            return True
        done = self._done(node) if facts & bit << 2 else None
        return done is not None and self.guards[at] != NEVER and self.tree.is_above(done, self.guards[at])

    def _done(self, node: int) -> int | None:
        """In which cases a node is done, if there is a guard for that."""
        ways = [way for way in self.reached.ways[node] if way not in FAILED]
        if node in self.cancelled or self.guards[node] == NEVER:
            return None
        if len(ways) == len(self.reached.ways[node]):
            return self.guards[node]
        return self._ports[node].get(ways[0]) if len(ways) == 1 else None

    def has_failed(self, facts: int, node: int) -> bool:
        """Whether a node is sure to have been left by `error` or `timeout`."""
        return bool(facts & self._bit[node] << 1)

    def has_ended(self, facts: int, node: int) -> bool:
        """Whether a node is sure to have ended, one way or another, or to have been skipped."""
        return bool(facts & self._bit[node] << 2)

    def may_run_often(self, node: int) -> bool:
        """Whether a node may run again while what comes after its first run has not ended."""
        return self._joins.often[node]

    def is_done_at_end(self, node: int) -> bool:
        """Whether a node is sure to be done when its body has ended."""
        ways = self.reached.ways[node]
        is_free = node not in self.cancelled and ERROR not in ways and TIMEOUT not in ways
        return is_free and self.guards[node] == ALWAYS

    def exclude_each_other(self, one: int, other: int) -> bool:
        """Whether two nodes never both run."""
        return self._joins.exclude_each_other(one, other)

    # -- the sweep ----------------------------------------------------------------------------------------------

    def sweep(self, say: Say | None = None) -> Iterator[tuple[int, int]]:
        """Each node, after all that lead to it, with what is certain where it runs.

        Facts are kept only as long as a node is ahead that needs them. Joins that can never fire are said.
        """
        if self._entry:
            self._settle()
        self._joins.say = say
        yield from self._pass()

    def _settle(self) -> None:
        """Find out which edges that go back may come before those that go forward, until nothing changes."""
        for _ in range(_PASSES):
            known, before = set(self._open), dict(self._back)
            for _ in self._pass():
                pass
            for number, link in enumerate(self.reached.links):
                if link.back:
                    facts = self._said(link)
                    if not facts & self._entry[link.target]:
                        self._open.add(link.target)
                    self._back[number] = facts
            self._reset()
            if self._open == known and (self._back == before or not known):
                return
        self._is_hopeless = True
        self._open = set(self._entry)

    def _pass(self) -> Iterator[tuple[int, int]]:
        for node in self.reached.order:
            guard, facts = self._enter(node)
            guard, facts = self._narrowed(node, guard, facts)
            self.guards[node] = guard
            self._facts[node] = facts
            self._ports[node] = self._leave(node, guard)
            self._joins.often[node] = self._runs_often(node)
            yield node, facts
            for number in self.reached.ins[node]:
                link = self.reached.links[number]
                if not link.back:
                    self._readers[link.source] -= 1
                    if not self._readers[link.source]:
                        self._facts[link.source] = 0

    def _runs_often(self, node: int) -> bool:
        """Whether a node may run again while what comes after its first run has not ended."""
        reached = self.reached
        kind = reached.join_of(node)
        if kind in ("any", "when"):
            return False
        before = [link.source for number in reached.ins[node] if not (link := reached.links[number]).back]
        if (kind in ("each", "threads") and len(before) > 1) or node in self._open:
            return True
        return any(self._joins.often[source] or "split" in reached.nodes[source].options for source in before)

    def _enter(self, node: int) -> tuple[int, int]:
        """In which cases a node's join fires, and what is certain then."""
        reached = self.reached
        ins = reached.ins[node]
        is_open = node in self._open
        arrivals = [
            Arrival(number, self._guard(link), self._said(link))
            for number in ins
            if not (link := reached.links[number]).back
        ]
        if not arrivals and not is_open:
            return ALWAYS, 0
        if is_open:
            facts = 0 if self._is_hopeless else -1
            for arrival in arrivals:
                facts &= arrival.facts
            for number in ins:
                if reached.links[number].back:
                    facts &= self._back.get(number, -1)
            return self._joins.either([*(one.guard for one in arrivals), self.tree.below(ALWAYS)]), facts
        guard, facts = self._joins.fire(node, arrivals)
        # Two dead tokens of two runs of a node may say that nothing comes, before the live ones of the same runs.
        is_misled = any(self._joins.often[reached.links[one.link].source] for one in arrivals)
        if is_misled and guard != NEVER and len(ins) > 1 and reached.join_of(node) != "each":
            guard = self.tree.below(guard)
        return guard, facts

    def _narrowed(self, node: int, guard: int, facts: int) -> tuple[int, int]:
        definition = self.reached.nodes[node]
        if guard == NEVER or is_off(definition):
            return NEVER, -1
        if definition.has_condition and definition.condition is not True:
            guard = self.tree.below(guard)
        milestone = definition.options.get("milestone")
        if milestone:
            guard = self.tree.below(guard)
            after = self.reached.by_id.get(milestone.get("after", ""))
            if after is not None and not set(self.reached.ways[after]) & set(FAILED):
                facts |= self._bit.get(after, 0)
        return guard, facts

    def _leave(self, node: int, guard: int) -> dict[str, int]:
        """The guard of each wired port."""
        reached = self.reached
        ahead = self._ahead(node)
        ways = reached.ways[node]
        if guard == NEVER or not ways:
            return dict.fromkeys(ahead, NEVER)
        type = reached.types[node]
        ports: dict[str, int] = {}
        if type is not None and leaves_by_several(type) and OUT in ways:
            ports[OUT] = guard
            ways = tuple(way for way in ways if way != OUT)
        elif reached.cycle[node] >= 0 and len(ways) > 1:
            ways = tuple(way for way in ways if not self._comes_back(ahead.get(way, ()), guard))
        is_sure = node not in self.cancelled
        if is_sure and len(ways) == 1 and OUT not in ports:
            ports[ways[0]] = guard
        elif is_sure and OUT not in ports:
            self._joins.ways[node] = len(ways)
        for port in ahead:
            if port not in ports:
                ports[port] = self.tree.below(guard, (node, port) if port in ways else None)
        return ports

    def _comes_back(self, links: Collection[Link], guard: int, room: int = _LONGEST_WAY) -> bool:
        """Whether one of these links leads back, whatever happens on the way, to where this node runs again.

        That is a node that goes back to runs in the same cases. What is on the way has one in-edge, no `if`, and leads
        back by each of the ports by which it may be left.
        """
        for link in links:
            target = link.target
            if link.back:
                is_known = target not in self._open and self.reached.join_of(target) == "each"
                if is_known and self.guards[target] == guard:
                    return True
            elif self.reached.cycle[target] >= 0 and room and self._is_passed(target):
                ahead = self._ahead(target)
                ways = self.reached.ways[target]
                if ways and all(self._comes_back(ahead.get(way, ()), guard, room - 1) for way in ways):
                    return True
        return False

    def _is_passed(self, node: int) -> bool:
        definition = self.reached.nodes[node]
        depends = definition.has_condition or "milestone" in definition.options or node in self.cancelled
        return len(self.reached.ins[node]) == 1 and not (depends or definition.disabled)

    def _ahead(self, node: int) -> dict[str, list[Link]]:
        """The links that leave a node, by port."""
        ahead: dict[str, list[Link]] = {}
        for number in self.reached.outs[node]:
            ahead.setdefault(self.reached.links[number].port, []).append(self.reached.links[number])
        return ahead

    def _guard(self, link: Link) -> int:
        return self._ports[link.source].get(link.port, NEVER)

    def _said(self, link: Link) -> int:
        bit = self._bit.get(link.source, 0)
        own = bit << 1 if link.port in FAILED else bit
        ended = 0 if self._joins.often[link.source] else bit << 2
        return self._facts[link.source] | own | ended | self._entry.get(link.source, 0)


def upstream(reached: Reached, pairs: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of some pairs of nodes whose first leads to the second; nodes of one cycle lead to each other."""
    if not pairs:
        return set()
    bit = {node: 1 << place for place, node in enumerate(dict.fromkeys(first for first, _ in pairs))}
    wanted: dict[int, list[int]] = {}
    for first, second in pairs:
        wanted.setdefault(second, []).append(first)
    links, above = reached.links, [0] * len(reached.nodes)
    found: set[tuple[int, int]] = set()
    readers = [len(out) for out in reached.outs]
    targets = [[links[number].target for number in out] for out in reached.outs]
    for members in reversed(components(targets)):
        seen = 0
        for number in (number for node in members for number in reached.ins[node]):
            source = links[number].source
            seen |= above[source] | bit.get(source, 0)
            readers[source] -= 1
            if not readers[source]:
                above[source] = 0
        for node in members:
            above[node] = seen
            found.update((first, node) for first in wanted.get(node, ()) if seen & bit[first])
    return found
