"""Which nodes lie on a cycle together? Tarjan's algorithm, without recursion, so that long chains are no matter.

Source: R. Tarjan, *Depth-First Search and Linear Graph Algorithms*, SIAM J. Comput. 1 (1972).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_SHOWN = 8


def components(targets: Sequence[Sequence[int]]) -> list[list[int]]:
    """The strongly connected components of a graph given as the targets of each node.

    A component comes after all that can be reached from it; its nodes are in ascending order.
    """
    count = len(targets)
    number = [0] * count
    low = [0] * count
    on_stack = [False] * count
    stack: list[int] = []
    found: list[list[int]] = []
    clock = 0
    for root in range(count):
        if number[root]:
            continue
        path = [(root, 0)]
        while path:
            node, step = path.pop()
            if step == 0:
                clock += 1
                number[node] = low[node] = clock
                stack.append(node)
                on_stack[node] = True
            else:
                low[node] = min(low[node], low[targets[node][step - 1]])
            ahead = targets[node]
            while step < len(ahead):
                target = ahead[step]
                step += 1
                if not number[target]:
                    path.append((node, step))
                    path.append((target, 0))
                    break
                if on_stack[target]:
                    low[node] = min(low[node], number[target])
            else:
                if low[node] == number[node]:
                    found.append(_popped(stack, on_stack, node))
    return found


def _popped(stack: list[int], on_stack: list[bool], root: int) -> list[int]:
    members = []
    while True:
        node = stack.pop()
        on_stack[node] = False
        members.append(node)
        if node == root:
            return sorted(members)


def in_order(targets: Sequence[Sequence[int]]) -> list[int]:
    """The nodes, each after all that lead to it; those on a cycle, and what lies behind one, are left out."""
    waiting = [0] * len(targets)
    for ahead in targets:
        for target in ahead:
            waiting[target] += 1
    ready = deque(node for node, count in enumerate(waiting) if not count)
    order: list[int] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for target in targets[node]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return order


def shortest_cycle(targets: Sequence[Sequence[int]], members: Sequence[int]) -> list[int]:
    """A shortest way from the first member back to itself, through members only; it is named at both ends."""
    among = set(members)
    first = members[0]
    came_from: dict[int, int] = {}
    queue = deque([first])
    while queue:
        node = queue.popleft()
        for target in targets[node]:
            if target == first:
                way = [first, node]
                while way[-1] != first:
                    way.append(came_from[way[-1]])
                return way[::-1] if node != first else [first, first]
            if target in among and target not in came_from:
                came_from[target] = node
                queue.append(target)
    raise AssertionError("members of one component reach each other")


def shown(ids: Sequence[str]) -> str:
    """A way as text: `a → b → a`; the middle of a long one is left out."""
    if len(ids) > _SHOWN:
        ids = [*ids[: _SHOWN // 2], f"… {len(ids) - _SHOWN + 1} more …", *ids[1 - _SHOWN // 2 :]]
    return " → ".join(ids)
