"""Under which conditions does a path come alive? A tree of guards: whoever has a guard has all those above it.

Two nodes with the same guard run in exactly the same cases. The root is what holds whenever the body runs; a guard
below another holds in some of its cases: an `if` that was true, a port that was taken, a join of some paths.

Ancestors are found in logarithmic time by jump pointers, after E. Myers, *An Applicative Random-Access Stack*,
Information Processing Letters 17 (1983).
"""

from __future__ import annotations

from typing import Final

ALWAYS: Final = 0
"""The root: whenever the body runs and does not fail."""

_PARTS: Final = 64
"""Of a guard with more parts than so many they are not kept."""

NEVER: Final = -1
"""The guard of what cannot run; it is in no tree."""


class Guards:
    """The guards of one body. `origin[guard]` is the (node, port) that it stands for, or None.

    `parts[guard]` are the guards of which one at least holds when `guard` does, and which imply it.
    """

    __slots__ = ("_depth", "_jump", "_named", "_parent", "origin", "parts")

    def __init__(self) -> None:
        self._parent = [ALWAYS]
        self._depth = [0]
        self._jump = [ALWAYS]
        self._named: dict[tuple[str, frozenset[int]], int] = {}
        self.origin: list[tuple[int, str] | None] = [None]
        self.parts: dict[int, frozenset[int]] = {}

    def below(self, parent: int, origin: tuple[int, str] | None = None) -> int:
        """A new guard, which holds in some cases of `parent`."""
        jump = self._jump[parent]
        depth = self._depth
        is_even = depth[parent] - depth[jump] == depth[jump] - depth[self._jump[jump]]
        self._parent.append(parent)
        self._depth.append(depth[parent] + 1)
        self._jump.append(self._jump[jump] if is_even else parent)
        self.origin.append(origin)
        return len(self._parent) - 1

    def either(self, parts: frozenset[int], parent: int) -> int:
        """The guard of what holds when one of some does; the same one whenever it is asked for again."""
        found = self._named_as("or", parts, parent)
        if len(parts) <= _PARTS:
            self.parts[found] = parts
        return found

    def both(self, parts: frozenset[int], parent: int) -> int:
        """The guard of what holds when all of some do; the same one whenever it is asked for again."""
        return self._named_as("and", parts, parent)

    def _named_as(self, kind: str, parts: frozenset[int], parent: int) -> int:
        known = self._named.get((kind, parts))
        if known is None:
            known = self._named[kind, parts] = self.below(parent)
        return known

    def is_above(self, upper: int, lower: int) -> bool:
        """Whether `lower` implies `upper`; a guard implies itself."""
        return self._up(lower, self._depth[upper]) == upper

    def meet(self, one: int, other: int) -> int:
        """The lowest guard that both imply."""
        depth = self._depth
        one, other = self._up(one, depth[other]), self._up(other, depth[one])
        while one != other:
            if self._jump[one] != self._jump[other]:
                one, other = self._jump[one], self._jump[other]
            else:
                one, other = self._parent[one], self._parent[other]
        return one

    def partings(self, one: int, other: int) -> tuple[tuple[int, str] | None, tuple[int, str] | None]:
        """What the ways to two guards stand for right below where they part; None where one implies the other."""
        depth = self._depth[self.meet(one, other)] + 1
        if self._depth[one] < depth or self._depth[other] < depth:
            return None, None
        return self.origin[self._up(one, depth)], self.origin[self._up(other, depth)]

    def tops(self, guards: frozenset[int], meet: int) -> frozenset[int]:
        """Those of some guards that imply no other of them, all below `meet`."""
        if meet in guards:
            return frozenset((meet,))
        if len(guards) == 2:
            return guards
        known: dict[int, bool] = {}
        return frozenset(guard for guard in guards if not self._is_below(self._parent[guard], guards, meet, known))

    def bottoms(self, guards: list[int]) -> list[int]:
        """Those of some guards that no other of them implies, the deepest first."""
        kept: list[int] = []
        for guard in sorted(set(guards), key=lambda one: (-self._depth[one], one)):
            if not any(self.is_above(guard, lower) for lower in kept[:64]):
                kept.append(guard)
        return kept

    def _is_below(self, way: int, among: frozenset[int], stop: int, known: dict[int, bool]) -> bool:
        """Whether `way`, or what is above it as far as `stop`, is one of `among`."""
        walked = []
        while way != stop and way not in known and way not in among:
            walked.append(way)
            way = self._parent[way]
        answer = known.get(way, way in among)
        known.update(dict.fromkeys(walked, answer))
        return answer

    def _up(self, guard: int, depth: int) -> int:
        while self._depth[guard] > depth:
            jump = self._jump[guard]
            guard = jump if self._depth[jump] >= depth else self._parent[guard]
        return guard
