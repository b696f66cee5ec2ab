"""What has to be done again when a node is? Itself and all that its output can have led to, in its body and outside.

A step is found by its path: the links of its scope say which container's which item, turn or branch it is in. From a
node inside an item of a map only what follows in that item is done again, and what follows the map; from a node inside
an iteration of a loop also all later iterations.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.errors import ArgumentError
from stepwell.graph.plan import PlanBody, PlanNode
from stepwell.model.ids import StepPath

_PREFIX = "start:"
_IN_TURN = frozenset({"loop"})


class Dirty:
    """What is to be done again from one place of a run.

    Args:
        body: the run's own body.
        start: the node that is to be done again: `export`, or inside containers `each:17/image`, with the numbers and
            branches that paths of steps have.

    Raises:
        ArgumentError: there is no such node.
    """

    def __init__(self, body: PlanBody, start: StepPath) -> None:
        self._body = body
        self._way = list(_way(body, start))
        self._start = start
        if not self._way or len(self._way) <= len(start.scope):
            raise ArgumentError(f"there is no node {start} in this graph to begin at")
        self._after = [_reachable(at, node.index) for at, node, _, _ in self._way]

    def __contains__(self, path: StepPath) -> bool:
        """Whether what stands at this path is to be done again."""
        steps = list(_way(self._body, path))
        for level, (_, node, number, branch) in enumerate(steps):
            if level >= len(self._way):
                return True
            _, own, own_number, own_branch = self._way[level]
            if node.index in self._after[level]:
                return True
            if node.index != own.index:
                return False
            if level == len(self._way) - 1:
                return True
            if (number, branch) != (own_number, own_branch):
                return own.type.name in _IN_TURN and branch == own_branch and number > own_number
        return len(steps) > 0 and len(steps) < len(self._way)


def _way(body: PlanBody, path: StepPath) -> Iterator[tuple[PlanBody, PlanNode, int, str]]:
    """The nodes that a path leads through, each with its body, and the number and branch by which it is entered."""
    for label, number in path.scope:
        found = _node_in(body, label)
        if found is None:
            return
        node, branch = found
        yield body, node, number, branch
        inner = _body_in(node, branch)
        if inner is None:
            return
        body = inner
    found = _node_in(body, path.name)
    if found is not None:
        yield body, found[0], 0, ""


def _node_in(body: PlanBody, label: str) -> tuple[PlanNode, str] | None:
    """The node that a link or a name is of, and the branch that it says."""
    for text in (label, label.removeprefix(_PREFIX)):
        if text in body.by_id:
            return body.nodes[body.by_id[text]], ""
        id = text
        while (place := max(id.rfind("."), id.rfind("#"))) > 0:
            id = id[:place]
            if id in body.by_id:
                branch = text[len(id) :]
                return body.nodes[body.by_id[id]], branch.lstrip("#0123456789").removeprefix(".")
    return None


def _body_in(node: PlanNode, branch: str) -> PlanBody | None:
    if branch in node.bodies:
        return node.bodies[branch]
    return node.bodies.get("do")


def _reachable(body: PlanBody, start: int) -> set[int]:
    """The nodes that can be reached from a node, by whichever port."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        for outs in body.nodes[waiting.pop()].outs.values():
            for index in outs:
                target = body.edges[index].target
                if target not in found:
                    found.add(target)
                    waiting.append(target)
    return found
