"""A history as a graph that can be drawn: nodes, edges and groups, with what is alike and many made one node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from stepwell.model.durations import spoken
from stepwell.observe.causation import ScopePath, is_map
from stepwell.observe.history import CANCELLED, OPEN, History, Part, Scope

FAN: Final = 8
"""How many things that are alike (items of a map, branches, repetitions) are drawn one by one."""

BEGIN: Final = "first"
END: Final = "last"
"""The ids of the run's beginning and end (`end` is a word of Mermaid's)."""

LOOP: Final = 4
"""Steps that the body of a loop has at most, for its repetitions to be drawn as one."""

MANY: Final = 0
"""Stands for a number in the scope of a node that is made of many."""

Link: TypeAlias = tuple[str, int]
Key: TypeAlias = tuple[ScopePath, str, str, str]


class Node(msgspec.Struct):
    """One thing to draw.

    `kind` is a part's kind, or `begin`, `end`, or `join` where several ends meet several starts. `label` is short,
    `scope` the readable path of the scope in which it stands, `details` are further lines. `parts` are the parts that
    it stands for, several where they were made one; `statuses` counts them. `group` is the id of the innermost group
    that it is in, or empty.
    """

    id: str
    kind: str
    label: str
    status: str
    scope: str = ""
    details: list[str] = []
    parts: list[Part] = []
    statuses: dict[str, int] = {}
    group: str = ""
    started_at: int = 0
    ended_at: int | None = None

    @property
    def count(self) -> int:
        """How many parts it stands for."""
        return len(self.parts)

    @property
    def retries(self) -> int:
        """How many attempts of these were not the first."""
        return sum(part.retries for part in self.parts)


class Group(msgspec.Struct):
    """A scope that is drawn as a box around its nodes; `parent` is the id of the box around it, or empty."""

    id: str
    label: str
    parent: str


class Picture(msgspec.Struct):
    """Nodes in an order in which every edge `(from, to)` points forwards; groups, outer ones first.

    `backs` are edges that lead back. `labels` are the words on edges of either kind, `taken` those that were taken,
    where that is known (None: it is not asked).
    """

    title: str
    nodes: list[Node]
    edges: list[tuple[str, str]]
    groups: list[Group]
    backs: list[tuple[str, str]] = []
    labels: dict[tuple[str, str], str] = {}
    taken: frozenset[tuple[str, str]] | None = None


def picture(history: History, *, status: str = "", fan: int = FAN, everything: bool = False) -> Picture:
    """Draw a history up.

    Items of a map, branches that begin alike at the same place, and repetitions of one step in a row become one node
    each when there are more than `fan` of them, unless `everything` is wanted. Steps inside the items of such a map
    become a node each.

    Args:
        history: read from a whole journal.
        status: the run's status, where it is known better (a journal does not say `waiting`).
        fan: see above.
        everything: draw each step and wait.
    """
    keys = _plain_keys(history) if everything else _Families(history, fan).keys
    nodes = _nodes_of(history, keys)
    return _Drawing(history, status or history.status, nodes, keys).made


# -- what becomes one node --------------------------------------------------------------------------------------------


def _plain_keys(history: History) -> list[Key]:
    return [_key(part, part.path.scope) for part in history.parts]


def _key(part: Part, scope: ScopePath, which: str | None = None) -> Key:
    path = part.path
    number = f"{path.occurrence}" + (f"~{path.revision}" if path.revision else "")
    return scope, path.name, number if which is None else which, part.kind


def _times(names: list[str], place: int, size: int) -> int:
    """How often the `size` names from `place` on come, one time after the other."""
    times = 1
    while names[place + times * size : place + (times + 1) * size] == names[place : place + size]:
        times += 1
    return times


class _Families:
    """Finds which parts are alike and many; `keys[n]` is the key of the node of part `n`."""

    def __init__(self, history: History, fan: int) -> None:
        self._history = history
        self._fan = fan
        self.keys: list[Key] = _plain_keys(history)
        self._walk(history.root, (), False)

    def _walk(self, scope: Scope, drawn: ScopePath, is_many: bool) -> None:
        """Give the parts of a scope, which is drawn at `drawn`, their keys; `is_many`: it stands for others as well."""
        size = len(scope.parts) + len(scope.scopes)
        is_large_map = bool(scope.path) and is_map(scope.path[-1][0]) and size > self._fan
        self._key_parts(scope, drawn, is_many, is_large_map)
        merged = self._alike(scope, is_large_map)
        for link, inner in scope.scopes.items():
            first = merged.get(link)
            self._walk(inner, (*drawn, first or link), is_many or first is not None)

    def _key_parts(self, scope: Scope, drawn: ScopePath, is_many: bool, is_large_map: bool) -> None:
        parts = [self._history.parts[index] for index in scope.parts]
        for part in parts:
            # A text is a key that its caller made of the item: it tells many apart that are alike.
            is_item = is_large_map or (is_many and isinstance(part.path.occurrence, str))
            self.keys[part.index] = _key(part, drawn, "" if is_item else None)
        if not (is_large_map or is_many):
            for row in self._rows(parts):
                for part in row:
                    self.keys[part.index] = _key(part, drawn, f"{row[0].path.occurrence}…")

    def _rows(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """Steps that a loop repeats more than `fan` times, each step of its body as a list of its repetitions."""
        for chain in self._chains(parts):
            names = [part.path.name for part in chain]
            place = 0
            while place < len(chain):
                size, times = next(
                    ((size, times) for size in range(1, LOOP + 1) if (times := _times(names, place, size)) > self._fan),
                    (1, 1),
                )
                if times > 1:
                    for offset in range(size):
                        yield chain[place + offset : place + size * times : size]
                place += size * times

    def _chains(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """Parts of which each follows nothing but the one before."""
        chain: list[Part] = []
        for part in parts:
            if chain and self._history.points[part.after] != (chain[-1].index,):
                yield chain
                chain = []
            chain.append(part)
        yield chain

    def _alike(self, scope: Scope, is_large_map: bool) -> dict[Link, Link]:
        """Scopes in this one that are drawn as one: link → the link that stands for all."""
        if is_large_map:
            return {link: (link[0], MANY) for link in scope.scopes}
        families: dict[tuple[str, int, str], list[Link]] = {}
        for link, inner in scope.scopes.items():
            first = self._first_part(inner)
            if first is not None and not is_map(link[0]):
                families.setdefault((link[0], first.after, first.path.name), []).append(link)
        large = [links for links in families.values() if len(links) > self._fan]
        return {link: (f"{links[0][0]}:{links[0][1]}…{links[-1][1]}", MANY) for links in large for link in links}

    def _first_part(self, scope: Scope) -> Part | None:
        indices = [min(inner.parts) for inner in scope.walk() if inner.parts]
        return self._history.parts[min(indices)] if indices else None


def _nodes_of(history: History, keys: list[Key]) -> dict[Key, Node]:
    nodes: dict[Key, Node] = {}
    for part, key in zip(history.parts, keys, strict=True):
        node = nodes.get(key)
        if node is None:
            node = nodes[key] = Node(f"n{len(nodes) + 1}", part.kind, "", "", started_at=part.started_at)
        node.parts.append(part)
    for (scope, name, which, _), node in nodes.items():
        _tell_of(node, scope, name, which)
    return nodes


def _tell_of(node: Node, scope: ScopePath, name: str, which: str) -> None:
    for part in node.parts:
        node.statuses[part.status] = node.statuses.get(part.status, 0) + 1
    ends = [part.ended_at for part in node.parts]
    node.ended_at = None if None in ends else max(at for at in ends if at is not None)
    node.status = _status_of(node.statuses)
    node.scope = "".join(f"{label}/" if number == MANY else f"{label}:{number}/" for label, number in scope)
    if node.count == 1:
        path = node.parts[0].path
        node.label = str(msgspec.structs.replace(path, scope=()))
        node.details = details(node.parts[0])
        return
    label = name if scope and scope[-1][1] == MANY else f"{name}#{which}" if which else name
    if not which and scope and is_map(scope[-1][0]):
        label = f"{scope[-1][0]}:{scope[-1][1]}"
        node.scope = node.scope.removesuffix(f"{label}/")
    node.label = f"{label} ×{node.count:,}"
    node.details = [", ".join(f"{number:,} {status}" for status, number in sorted(node.statuses.items()))]
    if node.retries:
        node.details.append(count(node.retries, "retry", "retries"))
    if node.ended_at is not None:
        node.details.append(spoken(node.ended_at - node.started_at))


def details(part: Part) -> list[str]:
    """What is worth saying of one part beside its name: how it ended, how long it took, its attempts, its child."""
    lines = []
    took = "" if part.ended_at is None else spoken(part.ended_at - part.started_at)
    if part.kind == "start":
        took = ""
    if part.status not in ("completed", "satisfied"):
        lines.append(part.status.replace("_", " ") + (f" after {took}" if took else ""))
    elif took:
        lines.append(took + (f", by {part.by}" if part.by else ""))
    if part.retries:
        lines.append(f"{len(part.attempts)} attempts")
    if part.child:
        lines.append(f"{'started run' if part.kind == 'start' else 'child run'} {part.child}")
    if part.error and part.status in ("failed", "retrying"):
        lines.append(part.error)
    return lines


def _status_of(statuses: dict[str, int]) -> str:
    """The one that tells most of many: what is open, then what went wrong."""
    order = (*sorted(OPEN), "failed", "timed_out", "completed", "satisfied", *sorted(CANCELLED))
    return next(status for status in order if statuses.get(status))


# -- the graph --------------------------------------------------------------------------------------------------------


class _Drawing:
    """Joins the nodes by edges and puts them into groups."""

    def __init__(self, history: History, status: str, nodes: dict[Key, Node], keys: list[Key]) -> None:
        self._history = history
        self._status = status
        self._by_part = [nodes[key] for key in keys]
        self._at_point: dict[int, frozenset[str]] = {}
        self._latest: dict[int, int] = {}
        self._place = {node.id: place for place, node in enumerate(nodes.values())}
        self._edges: dict[tuple[str, str], None] = {}
        self._ordered: list[Node] = []
        groups = _Groups(nodes)
        self._join_up(list(nodes.values()))
        self.made = Picture(
            f"{history.workflow} {history.run_id}".strip(), self._ordered, list(self._edges), groups.groups
        )

    def _join_up(self, nodes: list[Node]) -> None:
        history = self._history
        begin = Node(BEGIN, "begin", history.workflow, "completed", started_at=history.created_at)
        begin.details = [f"run {history.run_id}"]
        sources = {node.id: self._sources(node) for node in nodes}
        last = self._ids_at(history.end_point())
        uses: dict[frozenset[str], int] = {}
        for found in sources.values():
            for ids in found:
                uses[ids] = uses.get(ids, 0) + 1
        joins: dict[frozenset[str], Node] = {}
        self._ordered.append(begin)
        for node in nodes:
            for ids in sources[node.id]:
                if len(ids) > 1 and uses[ids] > 1:
                    self._join(ids, joins)
                    self._edges[joins[ids].id, node.id] = None
                else:
                    for source in self._in_order(ids) or [BEGIN]:
                        self._edges[source, node.id] = None
            self._ordered.append(node)
        if history.ended_at is not None:
            end = Node(END, "end", self._status, self._status, started_at=history.ended_at)
            end.details = [spoken(history.ended_at - history.created_at)]
            if history.error:
                end.details.append(history.error)
            for source in self._in_order(last) or [BEGIN]:
                self._edges[source, end.id] = None
            self._ordered.append(end)

    def _join(self, ids: frozenset[str], joins: dict[frozenset[str], Node]) -> None:
        """Several nodes that follow the same several do so through a node between, or the edges would be countless."""
        if ids in joins:
            return
        join = joins[ids] = Node(f"j{len(joins) + 1}", "join", "", "completed")
        for source in self._in_order(ids):
            self._edges[source, join.id] = None
        self._ordered.append(join)

    def _sources(self, node: Node) -> list[frozenset[str]]:
        """The sets of nodes that the parts of this one follow, without itself and what comes later."""
        place = self._place[node.id]
        found: dict[frozenset[str], None] = {}
        for after in sorted({part.after for part in node.parts}):
            ids = self._ids_at(after)
            if self._latest[after] >= place:
                ids = frozenset(one for one in ids if self._place[one] < place)
            found[ids] = None
        return [ids for ids in found if ids] or [frozenset()]

    def _ids_at(self, point: int) -> frozenset[str]:
        known = self._at_point.get(point)
        if known is None:
            nodes = [self._by_part[index].id for index in self._history.points[point]]
            known = self._at_point[point] = frozenset(nodes)
            self._latest[point] = max((self._place[one] for one in nodes), default=-1)
        return known

    def _in_order(self, ids: frozenset[str]) -> list[str]:
        return sorted(ids, key=self._place.__getitem__)


class _Groups:
    """Boxes around the nodes of one scope where there are at least two of them."""

    def __init__(self, nodes: dict[Key, Node]) -> None:
        self.groups: list[Group] = []
        self._ids: dict[ScopePath, str] = {}
        self._sizes: dict[ScopePath, int] = {}
        for scope, *_ in nodes:
            for depth in range(1, len(scope) + 1):
                self._sizes[scope[:depth]] = self._sizes.get(scope[:depth], 0) + 1
        for (scope, *_), node in nodes.items():
            node.group = self._group_of(scope)

    def _group_of(self, scope: ScopePath) -> str:
        if not scope:
            return ""
        outer = self._group_of(scope[:-1])
        if self._sizes[scope] < 2 or scope[-1] == ("item", MANY):
            return outer
        known = self._ids.get(scope)
        if known is None:
            known = self._ids[scope] = f"g{len(self._ids) + 1}"
            label, number = scope[-1]
            self.groups.append(Group(known, label if number == MANY else f"{label}:{number}", outer))
        return known


def count(number: int, one: str, more: str) -> str:
    """`1 retry`, `12,345 retries`."""
    return f"{number:,} {one if number == 1 else more}"


def successors(drawn: Picture) -> Callable[[str], list[str]]:
    """A function that gives the ids of the nodes that follow a node, in the order of the nodes."""
    place = {node.id: number for number, node in enumerate(drawn.nodes)}
    table: dict[str, list[str]] = {}
    for source, target in drawn.edges:
        table.setdefault(source, []).append(target)
    for targets in table.values():
        targets.sort(key=place.__getitem__)
    return lambda node_id: table.get(node_id, [])
