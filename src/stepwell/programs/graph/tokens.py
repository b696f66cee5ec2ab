"""Which nodes of a body run next? In-edges bring live and dead tokens, joins turn them into firings and skips.

Every source that has ended tells each of its out-edges once: live where it was left, dead elsewhere. So a join waits
for exactly what can still come, and a path that is not taken is seen to be dead at once (dead-path elimination). A node
that fires several times gets its tokens in rounds; those that come early queue at their edge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from stepwell.expressions.names import ChainNames, MappingNames, Names
from stepwell.graph.plan import PlanBody, PlanEdge, PlanNode

Act = Callable[[PlanNode], None]


class _Joining:
    """What a join other than `all` knows: per in-edge the tokens of later rounds, and what this round has brought."""

    __slots__ = ("dead", "fired", "lives", "queues", "told")

    def __init__(self) -> None:
        self.fired = False
        self.lives = 0
        self.dead = 0
        self.told: dict[int, bool] = {}
        self.queues: dict[int, deque[bool]] = {}


class Tokens:
    """The tokens of one instance of a body.

    Args:
        body: whose edges they are on.
        enable: called when a node is to run.
        skip: called when it is not to, because no path that was taken leads to it.
        overtake: called when a join has fired that cancels what would bring it further tokens.
        names: for joins that are conditions.
    """

    __slots__ = ("_body", "_enable", "_joins", "_missing", "_names", "_overtake", "_queues", "_skip")

    def __init__(self, body: PlanBody, enable: Act, skip: Act, overtake: Act, names: Names) -> None:
        self._body = body
        self._enable = enable
        self._skip = skip
        self._overtake = overtake
        self._names = names
        self._missing: dict[int, int] = {}
        self._queues: dict[int, deque[bool]] = {}
        self._joins: dict[int, _Joining] = {}

    def arrive(self, edge: PlanEdge, live: bool) -> None:
        """A token comes to the end of its edge.

        Raises:
            ExpressionError: the condition of a join cannot be evaluated.
        """
        node = self._body.nodes[edge.target]
        kind = node.join.kind
        if kind == "all" or kind == "all_strict":
            if len(node.ins) == 1:
                (self._enable if live else self._skip)(node)
            else:
                self._gather(node, edge.index, live)
            return
        known = self._joins.get(node.index)
        if known is None:
            known = self._joins[node.index] = _Joining()
        _RULES[kind](self, node, known, edge, live)

    def grow(self, body: PlanBody, now_at: Mapping[int, int]) -> None:
        """The body has further nodes and edges; `now_at` are the new numbers of the old edges."""
        old, self._body = self._body, body
        self._queues = {now_at[index]: queue for index, queue in self._queues.items()}
        for join in self._joins.values():
            join.told = {now_at[index]: live for index, live in join.told.items()}
            join.queues = {now_at[index]: queue for index, queue in join.queues.items()}
        for index, missing in self._missing.items():
            self._missing[index] = missing + len(body.nodes[index].ins) - len(old.nodes[index].ins)

    # -- joins --------------------------------------------------------------------------------------------------

    def _gather(self, node: PlanNode, edge: int, live: bool) -> None:
        queue = self._queues.get(edge)
        if queue is None:
            queue = self._queues[edge] = deque()
        queue.append(live)
        missing = self._missing.get(node.index, len(node.ins))
        if len(queue) == 1:
            missing -= 1
        while missing == 0:
            lives = 0
            for one in node.ins:
                waiting = self._queues[one]
                lives += waiting.popleft()
                missing += not waiting
            needed = 1 if node.join.kind == "all" else len(node.ins)
            (self._enable if lives >= needed else self._skip)(node)
        self._missing[node.index] = missing

    def _any(self, node: PlanNode, join: _Joining, edge: PlanEdge, live: bool) -> None:
        join.told[edge.index] = live
        if live and not join.fired:
            join.fired = True
            self._enable(node)
        elif not join.fired and self._all_told(node, join):
            join.fired = True
            self._skip(node)

    def _each(self, node: PlanNode, join: _Joining, edge: PlanEdge, live: bool) -> None:
        join.told[edge.index] = live
        if live:
            join.fired = True
            self._enable(node)
        elif not join.fired and self._all_told(node, join):
            self._skip(node)

    def _all_told(self, node: PlanNode, join: _Joining) -> bool:
        """Whether every in-edge has brought a token; one that goes back brings live ones only."""
        edges = self._body.edges
        return all(one in join.told or edges[one].back for one in node.ins)

    def _first(self, node: PlanNode, join: _Joining, edge: PlanEdge, live: bool) -> None:
        if edge.index in join.told:
            if join.fired and node.join.rest == "ignore":
                return
            join.queues.setdefault(edge.index, deque()).append(live)
            return
        join.told[edge.index] = live
        join.lives += live
        if not join.fired and join.lives >= node.join.count:
            join.fired = True
            self._enable(node)
            if node.join.rest == "cancel":
                self._overtake(node)
        if len(join.told) < len(node.ins):
            return
        if not join.fired:
            self._skip(node)
        later, join.queues = join.queues, {}
        join.told, join.lives, join.fired = {}, 0, False
        for index, queue in later.items():
            for token in queue:
                self._first(node, join, self._body.edges[index], token)

    def _when(self, node: PlanNode, join: _Joining, edge: PlanEdge, live: bool) -> None:
        join.told[edge.index] = live
        if join.fired:
            return
        assert node.join.when is not None, "the plan has the condition"
        names = ChainNames(MappingNames({"edges": self._edge_states(node, join)}), self._names)
        if node.join.when.holds(names):
            join.fired = True
            self._enable(node)
        elif self._all_told(node, join):
            join.fired = True
            self._skip(node)

    def _edge_states(self, node: PlanNode, join: _Joining) -> Mapping[str, str]:
        states: dict[str, str] = {}
        for index in node.ins:
            edge = self._body.edges[index]
            told = join.told.get(index)
            state = "pending" if told is None else "live" if told else "dead"
            source = self._body.nodes[edge.source].id
            states[f"{source}:{edge.port}"] = state
            if states.get(source) != "live":
                states[source] = state if states.get(source) != "pending" or state == "live" else "pending"
        return states

    def _general(self, node: PlanNode, join: _Joining, edge: PlanEdge, live: bool) -> None:
        join.told[edge.index] = live
        join.lives += live  # whether it runs is decided when the body has moved: see `ripe`

    def _threads(self, node: PlanNode, join: _Joining, edge: PlanEdge, live: bool) -> None:
        join.told[edge.index] = live
        if live:
            join.lives += 1
            if join.lives >= node.join.count:
                join.lives -= node.join.count
                join.fired = True
                self._enable(node)
        elif not join.fired and not join.lives and self._all_told(node, join):
            self._skip(node)

    # -- what only the body as a whole can tell -----------------------------------------------------------------

    def ripe(self, busy: int, coming: int) -> bool:
        """Decide the general joins that nothing under way can still reach: they run, or are skipped.

        `busy` is the bit set of the nodes that run, `coming` that of those to which tokens are on their way. Returns
        whether there was one.
        """
        moved = False
        for index, join in self._joins.items():
            node = self._body.nodes[index]
            if node.join.kind != "general" or (join.fired and not join.lives):
                continue
            others = busy | coming | self._waiting_generals(except_for=index)
            if others & node.ancestors or coming & (1 << index):
                continue
            act = self._enable if join.lives else self._skip
            join.lives, join.fired, moved = 0, True, True
            busy |= 1 << index  # it runs now, or its tokens are on their way
            act(node)
        return moved

    def force(self) -> bool:
        """Nothing moves any more: fire the first general join that only others like it keep from firing."""
        for index, join in sorted(self._joins.items()):
            if self._body.nodes[index].join.kind == "general" and join.lives:
                join.lives, join.fired = 0, True
                self._enable(self._body.nodes[index])
                return True
        return False

    def _waiting_generals(self, *, except_for: int) -> int:
        mask = 0
        for index, join in self._joins.items():
            if index != except_for and self._body.nodes[index].join.kind == "general" and join.lives:
                mask |= 1 << index
        return mask

    def stranded(self) -> list[tuple[PlanNode, str]]:
        """Joins that wait for what will never come, each with the sources of the live tokens that it has."""
        nodes, edges = self._body.nodes, self._body.edges
        found = []
        for index in self._missing:
            node = nodes[index]
            sources = [nodes[edges[one].source].id for one in node.ins if any(self._queues.get(one, ()))]
            if sources:
                found.append((node, ", ".join(sources)))
        for index, join in self._joins.items():
            node = nodes[index]
            if node.join.kind == "threads" and join.lives:
                found.append((node, f"{join.lives} of {node.join.count} threads"))
            elif node.join.kind == "first" and not join.fired and join.lives:
                found.append((node, f"{join.lives} of {node.join.count} live paths"))
        return found


_RULES = {
    "any": Tokens._any,
    "each": Tokens._each,
    "first": Tokens._first,
    "when": Tokens._when,
    "general": Tokens._general,
    "threads": Tokens._threads,
}
