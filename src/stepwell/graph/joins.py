"""When does a join fire, and what is certain then? The cases of `certain`, one function for each kind of join."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from typing import Final, NamedTuple

from stepwell.graph.guards import ALWAYS, NEVER, Guards
from stepwell.graph.ports import are_exclusive
from stepwell.graph.reach import Reached
from stepwell.graph.saying import Say

_COMPARED: Final = 64
"""Of so many edges at most each is compared with each."""


class Arrival(NamedTuple):
    """What a live token says that comes over a link: in which cases it comes, and what is certain then."""

    link: int
    guard: int
    facts: int


class Joins:
    """The joins of one body.

    `ways[node]` is the number of ports of which a node is left by one, where it matters. `awaited` are the facts that
    say of nodes that they have ended or were skipped. `often[node]` says that a node may run several times at once.
    """

    def __init__(self, reached: Reached, tree: Guards, guards: list[int], awaited: int) -> None:
        self.awaited = awaited
        self.reached = reached
        self.tree = tree
        self.guards = guards
        self.ways: dict[int, int] = {}
        self.often = [False] * len(reached.nodes)
        self.say: Say | None = None

    def fire(self, node: int, arrivals: Sequence[Arrival]) -> tuple[int, int]:
        """The guard of a node with these in-edges, and what is certain when it runs."""
        count = len(self.reached.ins[node])
        join = self.reached.nodes[node].join
        kind = self.reached.join_of(node)
        alive = [one for one in arrivals if one.guard != NEVER]
        wanted = self._wanted(kind, join.count, count)
        self._check(node, kind, wanted, arrivals, alive)
        if kind == "when":
            return self.tree.below(ALWAYS), 0
        if len(alive) < wanted:
            return NEVER, -1
        if kind == "threads" or (kind == "general" and self.reached.cycle[node] >= 0):
            kind = "any"
        if len(alive) == 1:
            return alive[0].guard, alive[0].facts
        if kind in ("any", "each") or (kind == "first" and wanted == 1):
            return self.either([one.guard for one in alive]), _all_say(alive)
        if kind in ("all", "general"):
            return self._all(alive)
        if wanted == len(alive):
            return self._together(node, alive)
        guard = self.tree.below(reduce(self.tree.meet, (one.guard for one in alive)))
        return guard, _most_say(alive, len(alive) - wanted + 1)

    @staticmethod
    def _wanted(kind: str, count: int, ins: int) -> int:
        """How many edges must be live at least."""
        return {"all_strict": ins, "first": max(1, count)}.get(kind, 1)

    # -- kinds ------------------------------------------------------------------------------------------------------

    def either(self, guards: Sequence[int]) -> int:
        """The guard of what runs when one of these holds."""
        return self._over(dict.fromkeys((guard for guard in guards if guard != NEVER), 0))

    def _all(self, alive: Sequence[Arrival]) -> tuple[int, int]:
        """Every edge has said whether it is live: those that are sure to be add what they say."""
        items: dict[int, int] = {}
        for one in alive:
            is_sure = not self.often[self.reached.links[one.link].source]
            items[one.guard] = items.get(one.guard, 0) | (one.facts if is_sure else 0)
        guard = self._over(items)
        awaited = reduce(int.__or__, (one.facts for one in alive)) & self.awaited
        return guard, _all_say(alive) | items.get(guard, 0) | awaited

    def _together(self, node: int, alive: Sequence[Arrival]) -> tuple[int, int]:
        """All must be live."""
        facts = reduce(int.__or__, (one.facts for one in alive))
        bottoms = self.tree.bottoms([one.guard for one in alive])
        if self._clash(bottoms):
            return NEVER, -1
        if len(bottoms) == 1:
            return bottoms[0], facts
        return self.tree.both(frozenset(bottoms), bottoms[0]), facts

    def _over(self, items: dict[int, int]) -> int:
        """The guard of what runs when one of the items holds; what holds then is added to them."""
        whole = [guard for guard in items if guard in self.tree.parts]
        for guard in whole:
            for part in self.tree.parts[guard]:
                items[part] = items.get(part, 0) | items[guard]
        self._add_completed(items)
        single = frozenset(items).difference(whole)
        meet = reduce(self.tree.meet, single)
        tops = self.tree.tops(single, meet)
        return next(iter(tops)) if len(tops) == 1 else self.tree.either(tops, meet)

    def _add_completed(self, items: dict[int, int]) -> None:
        """Where edges come from all ports by which a node is left, they are as good as the node itself."""
        seen: dict[int, list[int]] = {}
        waiting = list(items)
        for guard in waiting:
            origin = self.tree.origin[guard]
            if origin is None:
                continue
            node = origin[0]
            found = seen.setdefault(node, [])
            found.append(guard)
            if len(found) == self.ways.get(node, 0):
                whole = self.guards[node]
                facts = reduce(int.__and__, (items[one] for one in found))
                if whole not in items:
                    waiting.append(whole)
                items[whole] = items.get(whole, 0) | facts

    # -- what can never fire ----------------------------------------------------------------------------------------

    def _check(self, node: int, kind: str, wanted: int, arrivals: Sequence[Arrival], alive: Sequence[Arrival]) -> None:
        if self.say is None:
            return
        ins = self.reached.ins[node]
        problem = hint = ""
        if kind in ("all", "all_strict") and len(arrivals) < len(ins):
            problem = f"{kind} waits for the edge that goes back to it, which comes only after it"
            hint = "use `join: each` (the default here) or `any`"
        elif kind == "first" and wanted > len(arrivals):
            problem = f"it waits for {wanted} of {len(arrivals)} edges"
            hint = f"give a number up to {len(arrivals)}"
        elif kind == "threads" and self._is_plain(node) and self.reached.nodes[node].join.count > len(ins):
            problem = f"it waits for {self.reached.nodes[node].join.count} threads, and {len(ins)} can come"
            hint = "let a node before it `split`, or wait for fewer"
        elif kind in ("all_strict", "first") and len(alive) >= wanted > 1:
            problem, hint = self._excluded(kind, wanted, alive)
        elif kind in ("all_strict", "first") and 0 < len(alive) < wanted:
            definition = self.reached.nodes[node]
            message = f"{definition.id} is always skipped: its join waits for {wanted} edges, and of those that are not"
            message += f" disabled there are {len(alive)}"
            self.say.warning("always-skipped", definition.at("join"), message, "enable them, or disable it too")
        if problem:
            definition = self.reached.nodes[node]
            message = f"the join of {definition.id} can never fire: {problem}"
            self.say.error("join-never-fires", definition.at("join"), message, hint)

    def _is_plain(self, node: int) -> bool:
        """Whether no edge to a node can bring more than one token, to judge by the other nodes of the body."""
        kinds = {one.join.kind for one in self.reached.nodes if one is not self.reached.nodes[node]}
        splits = any("split" in node.options for node in self.reached.nodes)
        return not (splits or self.reached.cycles or kinds & {"each", "threads"})

    def _excluded(self, kind: str, wanted: int, alive: Sequence[Arrival]) -> tuple[str, str]:
        hint = "use `join: all`, which runs when the paths that were taken have come"
        if kind == "all_strict" or wanted == len(alive):
            clash = self._clash(self.tree.bottoms([one.guard for one in alive]))
            if clash:
                (node, one), (_, other) = clash
                return f"{self.reached.name(node)} is left by {one!r} or by {other!r}, never by both", hint
            return "", ""
        groups: dict[int, dict[int, int]] = {}
        most = 0
        for arrival in alive:
            origin = self.tree.origin[arrival.guard]
            if origin is None or not self._is_choice(origin[0]):
                most += 1
            else:
                ports = groups.setdefault(origin[0], {})
                ports[arrival.guard] = ports.get(arrival.guard, 0) + 1
        most += sum(max(ports.values()) for ports in groups.values())
        if most < wanted:
            return f"at most {most} of its edges are live in one run, and it waits for {wanted}", hint
        return "", ""

    def _clash(self, guards: Sequence[int]) -> tuple[tuple[int, str], tuple[int, str]] | None:
        """Two ports of one node, one of which each of two guards needs, though only one of them is ever taken."""
        for one, other in combinations(guards[:_COMPARED], 2):
            first, second = self.tree.partings(one, other)
            if first is None or second is None or first[0] != second[0]:
                continue
            if self._runs_once(first[0]) and are_exclusive(self.reached.types[first[0]], first[1], second[1]):
                return first, second
        return None

    def _is_choice(self, node: int) -> bool:
        return self._runs_once(node) and are_exclusive(self.reached.types[node], "", " ")

    def _runs_once(self, node: int) -> bool:
        return self.reached.cycle[node] < 0 and not self.often[node]

    def exclude_each_other(self, one: int, other: int) -> bool:
        """Whether two nodes never both run."""
        guards = [self.guards[one], self.guards[other]]
        return NEVER in guards or self._clash(guards) is not None


def _all_say(alive: Sequence[Arrival]) -> int:
    return reduce(int.__and__, (one.facts for one in alive))


def _most_say(alive: Sequence[Arrival], least: int) -> int:
    """What at least so many of them say."""
    if len(alive) > _COMPARED:
        return _all_say(alive)
    said = [-1] + [0] * least
    for one in alive:
        for count in range(least, 0, -1):
            said[count] |= said[count - 1] & one.facts
    return said[least]
