"""A definition as a picture: its nodes and edges, containers as boxes, and the way that a run took through it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from stepwell.graph.definition import BodyDef, Definition, EdgeDef, JoinDef, NodeDef
from stepwell.observe.picture import BEGIN, END, Group, Node, Picture
from stepwell.observe.trail import Passage, Site, Trail, sites

KINDS: Final[Mapping[str, str]] = {
    "condition": "choice",
    "switch": "choice",
    "router": "choice",
    "wait": "timer",
    "wait_event": "event",
    "wait_signal": "signal",
    "human": "input",
    "workflow": "child",
    "set": "pure",
    "transform": "pure",
    "log": "pure",
    "noop": "pure",
    "emit": "pure",
    "signal": "pure",
    "respond": "stop",
    "end": "stop",
    "fail": "stop",
    "break": "stop",
}
"""How node types are drawn; those with bodies as containers, all others as tasks."""

_MAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "task": ("task",),
    "http": ("method", "url"),
    "wait": ("for", "until"),
    "wait_event": ("event",),
    "wait_signal": ("signal",),
    "signal": ("signal",),
    "emit": ("event",),
    "human": ("prompt",),
    "workflow": ("workflow",),
    "log": ("message",),
    "fail": ("message",),
    "llm": ("model",),
    "switch": ("value",),
    "map": ("items", "count"),
    "loop": ("for", "foreach"),
}
"""The settings that are worth saying beside a node's type."""

_LONGEST: Final = 48


def blueprint(definition: Definition, trail: Trail | None = None, *, status: str = "") -> Picture:
    """Draw a definition up; with a trail, as the run went through it.

    A container is a box with its own node on top, from which its bodies begin, and a join below, from which its edges
    leave. `status` is that of the run, where it is known better than the trail tells.
    """
    return _Blueprint(definition, trail, status).made


class _Blueprint:
    """Gathers nodes, edges and groups body by body."""

    def __init__(self, definition: Definition, trail: Trail | None, status: str) -> None:
        self._passages: Mapping[Site, Passage] | None = None if trail is None else trail.passages()
        self._nodes: list[Node] = []
        self._groups: list[Group] = []
        self._edges: dict[tuple[str, str], list[str]] = {}
        self._backs: dict[tuple[str, str], list[str]] = {}
        self._taken: set[tuple[str, str]] = set()
        self._count = 0
        begin = Node(BEGIN, "begin", definition.id, "completed" if trail is not None else "")
        begin.details = [text for text in (definition.title, *map(_trigger, definition.triggers)) if text]
        self._nodes.append(begin)
        ends = self._body(definition.body, BEGIN, "", (), "", began=trail is not None)
        status = status or ("" if trail is None else trail.ended)
        end = Node(END, "end", status or "end", status)
        for source, is_taken in ends:
            self._edge(source, END, "", is_taken=is_taken)
        self._nodes.append(end)
        self.made = Picture(
            f"{definition.id} {definition.label}".strip(),
            self._nodes,
            list(self._edges),
            self._groups,
            backs=list(self._backs),
            labels={
                edge: ", ".join(dict.fromkeys(filter(None, words)))
                for edge, words in (*self._edges.items(), *self._backs.items())
                if any(words)
            },
            taken=frozenset(self._taken) if trail is not None else None,
        )

    # -- bodies -------------------------------------------------------------------------------------------------
    def _body(
        self, body: BodyDef, entry: str, label: str, above: Site, group: str, *, began: bool
    ) -> list[tuple[str, bool]]:
        """Draw a body whose first nodes follow `entry`; gives what its end follows, and whether that was taken."""
        if not body.nodes:
            return [(entry, began)]
        tops: dict[str, str] = {}
        tails: dict[str, str] = {}
        passages: dict[str, Passage | None] = {}
        backs = _backs(body)
        into: dict[str, list[EdgeDef]] = {}
        for edge in body.edges:
            if edge.source in body.nodes and edge.target in body.nodes:
                into.setdefault(edge.target, []).append(edge)
        for id in _ordered(body, backs):
            node = body.nodes[id]
            passage = passages[id] = self._passage((*above, id))
            tops[id], draw_inside = self._node(node, above, group, passage)
            forward = [edge for edge in into.get(id, ()) if edge not in backs]
            if not forward:
                self._edge(entry, tops[id], label, is_taken=began and _was_run(passage))
            for edge in forward:
                self._edge(tails[edge.source], tops[id], _port(edge), is_taken=_took(passages[edge.source], edge))
            tails[id] = draw_inside()
        for edge in backs:
            self._back(tails[edge.source], tops[edge.target], edge, is_taken=_took(passages[edge.source], edge))
        leaving = {edge.source for edge in body.edges if edge not in backs}
        return [(tails[id], _was_run(passages[id])) for id in body.nodes if id not in leaving]

    def _node(self, node: NodeDef, above: Site, group: str, passage: Passage | None) -> tuple[str, Any]:
        """Draw a node; gives its id and a function that draws what is inside, and gives where its edges leave."""
        inner = {name: body for name, body in node.bodies.items() if name != "compensate"}
        undoing = node.bodies.get("compensate")
        if inner:
            group = self._group(f"{node.id}: {node.type}", group)
        drawn = Node(self._id(), "container" if inner else KINDS.get(node.type, "task"), node.title or node.id, "")
        drawn.group = group
        drawn.scope = "".join(f"{label}/" for label in above)
        drawn.details = [*_details(node), *_walked(passage)]
        drawn.status = "" if passage is None else passage.status
        drawn.statuses = {} if passage is None else dict(passage.statuses)
        self._nodes.append(drawn)

        def inside() -> str:
            if undoing is not None:
                box = self._group(f"compensate {node.id}", group)
                self._body(undoing, drawn.id, "compensate", (*above, f"{node.id}.compensate"), box, began=True)
            if not inner:
                return drawn.id
            return self._inside(node, inner, drawn.id, above, group, passage)

        return drawn.id, inside

    def _inside(
        self, node: NodeDef, inner: Mapping[str, BodyDef], head: str, above: Site, group: str, passage: Passage | None
    ) -> str:
        """Draw a container's bodies; gives the join from which its edges leave."""
        ends: list[tuple[str, bool]] = []
        for name, body in sorted(inner.items(), key=lambda one: one[0] != "do"):
            if node.type == "try" and name == "finally":
                continue
            box = group if len(inner) == 1 else self._group(name, group)
            label = "" if len(inner) == 1 or name == "do" else _body_label(node, name)
            ends += self._body(body, head, label, self._site(above, node.id, name), box, began=_was_run(passage))
        if "finally" in inner and node.type == "try":
            join = self._join(group, ends)
            box = self._group("finally", group)
            site = self._site(above, node.id, "finally")
            ends = self._body(inner["finally"], join, "finally", site, box, began=_was_run(passage))
        return self._join(group, ends)

    # -- parts --------------------------------------------------------------------------------------------------
    def _site(self, above: Site, container: str, body: str) -> Site:
        """The label of a body's scope: as the run has it, if it has been there."""
        named, *others = sites(above, container, body)
        for site in others:
            if self._passages is None or any(
                one[: len(site)] == site and len(one) > len(site) for one in self._passages
            ):
                return site
        return named

    def _passage(self, site: Site) -> Passage | None:
        return None if self._passages is None else self._passages.get(site)

    def _id(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def _group(self, label: str, parent: str) -> str:
        made = Group(f"g{len(self._groups) + 1}", label, parent)
        self._groups.append(made)
        return made.id

    def _join(self, group: str, ends: Iterable[tuple[str, bool]]) -> str:
        join = Node(self._id(), "join", "", "", group=group)
        self._nodes.append(join)
        for source, is_taken in ends:
            self._edge(source, join.id, "", is_taken=is_taken)
        return join.id

    def _edge(self, source: str, target: str, label: str, *, is_taken: bool) -> None:
        self._edges.setdefault((source, target), []).append(label)
        if is_taken:
            self._taken.add((source, target))

    def _back(self, source: str, target: str, edge: EdgeDef, *, is_taken: bool) -> None:
        times = "" if edge.max_visits is None else f" ≤{edge.max_visits:,}"
        self._backs.setdefault((source, target), []).append(f"{_port(edge)} again{times}".strip())
        if is_taken:
            self._taken.add((source, target))


def _ordered(body: BodyDef, backs: Iterable[EdgeDef]) -> Iterator[str]:
    """The ids in an order in which all other edges lead forwards, and else as they were written."""
    back = set(map(id, backs))
    place = {name: number for number, name in enumerate(body.nodes)}
    names = list(body.nodes)
    missing = dict.fromkeys(place, 0)
    followers: dict[str, list[str]] = {}
    for edge in body.edges:
        if id(edge) not in back and edge.source in place and edge.target in place:
            missing[edge.target] += 1
            followers.setdefault(edge.source, []).append(edge.target)
    ready = [place[name] for name, count in missing.items() if not count]
    heapq.heapify(ready)
    while ready:
        name = names[heapq.heappop(ready)]
        yield name
        for target in followers.get(name, ()):
            missing[target] -= 1
            if not missing[target]:
                heapq.heappush(ready, place[target])


def _backs(body: BodyDef) -> list[EdgeDef]:
    """The edges that lead back: those that say so, and in a definition with mistakes, one of each other cycle."""
    found = [edge for edge in body.edges if edge.back and edge.source in body.nodes and edge.target in body.nodes]
    leaving: dict[str, list[EdgeDef]] = {}
    for edge in body.edges:
        if not edge.back and edge.target in body.nodes:
            leaving.setdefault(edge.source, []).append(edge)
    seen: dict[str, bool] = {}  # True while what can be reached from it is being looked at
    for first in body.nodes:
        if first in seen:
            continue
        seen[first] = True
        stack = [(first, iter(leaving.get(first, ())))]
        while stack:
            name, edges = stack[-1]
            following = next(edges, None)
            if following is None:
                seen[name] = False
                stack.pop()
            elif following.target not in seen:
                seen[following.target] = True
                stack.append((following.target, iter(leaving.get(following.target, ()))))
            elif seen[following.target]:
                found.append(following)
    return found


def _details(node: NodeDef) -> list[str]:
    """What is worth saying of a node beside its id."""
    settings = [node.settings[name] for name in _MAIN.get(node.type, ()) if node.settings.get(name) is not None]
    said = " ".join(_short(value) for value in settings)
    details = [f"{node.type} {said}".strip()] if node.type != "task" or said != node.id else ["task"]
    if node.title and node.title != node.id:
        details.insert(0, node.id)
    if node.join != JoinDef():
        details.append(_join_text(node.join))
    if node.has_condition:
        details.append(f"if {_short(node.condition)}")
    retry = node.options.get("retry")
    attempts = retry.get("attempts") if isinstance(retry, Mapping) else retry
    if attempts:
        details.append(f"{attempts} attempts")
    details += [name for name in ("mock", "cache") if name in node.options]
    if node.disabled:
        details.append("disabled")
    return details


def _join_text(join: JoinDef) -> str:
    match join.kind:
        case "first":
            return f"join first {join.count}" + ("" if join.rest == "ignore" else f", {join.rest} the rest")
        case "threads":
            return f"join {join.count} threads"
        case "when":
            return f"join when {_short(join.when)}"
        case _:
            return f"join {join.kind}"


def _walked(passage: Passage | None) -> list[str]:
    """What became of a node."""
    if passage is None:
        return []
    count = sum(passage.statuses.values())
    lines = []
    if count > 1:
        lines.append(", ".join(f"{number:,} {_spoken(status)}" for status, number in sorted(passage.statuses.items())))
    elif passage.status not in ("", "completed"):
        lines.append(_spoken(passage.status))
    if passage.retries:
        lines.append(f"{passage.retries:,} {'retry' if passage.retries == 1 else 'retries'}")
    if passage.error:
        lines.append(passage.error)
    return lines


def _was_run(passage: Passage | None) -> bool:
    return passage is not None and any(status != "skipped" for status in passage.statuses)


def _took(passage: Passage | None, edge: EdgeDef) -> bool:
    return passage is not None and bool(passage.ports.get(edge.port))


def _port(edge: EdgeDef) -> str:
    return "" if edge.port == "out" else edge.port


def _body_label(node: NodeDef, name: str) -> str:
    """The words on the edge to a body."""
    if node.type == "try" and name.startswith("catch."):
        catches = node.settings.get("catch")
        number = name.removeprefix("catch.")
        if isinstance(catches, list) and number.isdecimal() and int(number) < len(catches):
            errors = catches[int(number)].get("errors") if isinstance(catches[int(number)], Mapping) else None
            if errors:
                return f"catch {', '.join(map(str, errors)) if isinstance(errors, list) else errors}"
        return "catch"
    return name


def _trigger(trigger: Any) -> str:  # Any: JSON
    if not isinstance(trigger, Mapping):
        return ""
    for name in ("schedule", "event", "webhook"):
        if trigger.get(name):
            return f"{name} {_short(trigger[name])}"
    return ""


def _short(value: Any) -> str:  # Any: JSON
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _spoken(status: str) -> str:
    return status.replace("_", " ")
