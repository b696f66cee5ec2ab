"""The rules that `reference` goes by: when a join fires, what a body is shaped like, what a template gives."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from stepwell.graph.definition import BodyDef, EdgeDef, NodeDef

NEVER = math.inf
Moment = float
Token = tuple[Moment, bool]
"""When it comes, and whether it is live."""


class Failed(dict[str, Any]):
    """What a node leaves that has failed: looked up as a whole it is nothing."""


class Text:
    """Equal to any text that begins like this: how errors are worded is told no further."""

    def __init__(self, beginning: str = "") -> None:
        self.beginning = beginning

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(self.beginning)

    def __repr__(self) -> str:
        return f"<{self.beginning}…>"

    __hash__ = None  # type: ignore[assignment]  # it is equal to many


@dataclass
class Error:
    """A failure: what expressions see of it, and the names by which `catch` knows it."""

    names: tuple[str, ...]
    data: dict[str, Any]

    def inside(self, node: str | Text) -> Error:
        """The same, having come from this node, unless it came from one inside it."""
        return self if "node" in self.data else Error(self.names, {**self.data, "node": node})


Names = Callable[[str, Moment], Any]
"""The value of a root name in a moment; raises `LookupError`."""


# -- joins --------------------------------------------------------------------------------------------------------


def firings(node: NodeDef, ins: list[tuple[EdgeDef, list[Token]]]) -> tuple[list[Moment], list[Moment], bool]:
    """When a node fires, when it is skipped, and whether live tokens wait at it for what has not come."""
    kind = node.join.kind or "all"
    lives = sorted(when for _, tokens in ins for when, live in tokens if live)
    told = all(tokens for _, tokens in ins)
    last = max((tokens[0][0] for _, tokens in ins if tokens), default=NEVER) if told else NEVER
    if kind in ("all", "all_strict", "general"):
        rounds = min(len(tokens) for _, tokens in ins)
        needed = len(ins) if kind == "all_strict" else 1
        fires, skips = [], []
        for number in range(rounds):
            once = [tokens[number] for _, tokens in ins]
            when = max(at for at, _ in once)
            (fires if sum(live for _, live in once) >= needed else skips).append(when)
        left = any(live for _, tokens in ins for _, live in tokens[rounds:])
        return fires, skips, left
    if kind == "any":
        return (lives[:1], [], False) if lives else ([], [last] if told else [], False)
    if kind == "each":
        return (lives, [], False) if lives else ([], [last] if told else [], False)
    if kind == "first":
        count = max(1, node.join.count)
        if len(lives) >= count:
            return [lives[count - 1]], [], False
        return [], [last] if told else [], False
    if kind == "threads":
        fires = [lives[number] for number in range(node.join.count - 1, len(lives), node.join.count)]
        left = bool(len(lives) % node.join.count)
        return fires, [last] if told and not lives else [], left
    assert kind == "when"
    for when in sorted({at for _, tokens in ins for at, _ in tokens}):
        if _holds(node.join.when, ins, when):
            return [when], [], False
    return [], [last] if told else [], False


def _holds(rule: Any, ins: list[tuple[EdgeDef, list[Token]]], when: Moment) -> bool:
    """A condition over `edges`: {"==": [{"var": "edges.a"}, "live"]}, several of them by and, or."""
    ((operator, given),) = rule.items()
    if operator in ("and", "or"):
        return (all if operator == "and" else any)(_holds(one, ins, when) for one in given)
    assert operator == "=="
    source = given[0]["var"].removeprefix("edges.")
    states = [_state(tokens, when) for edge, tokens in ins if source in (edge.source, f"{edge.source}:{edge.port}")]
    found = "live" if "live" in states else "pending" if "pending" in states else "dead"
    return bool(found == given[1])


def _state(tokens: list[Token], when: Moment) -> str:
    told = [live for at, live in tokens if at <= when]
    return "pending" if not told else "live" if told[-1] else "dead"


# -- shapes -------------------------------------------------------------------------------------------------------


def in_order(body: BodyDef) -> list[NodeDef]:
    """The nodes, each after all from which an edge leads to it."""
    done: dict[str, NodeDef] = {}
    while len(done) < len(body.nodes):
        for node in body.nodes.values():
            sources = {edge.source for edge in body.edges if edge.target == node.id}
            if node.id not in done and sources <= done.keys():
                done[node.id] = node
    return list(done.values())


def victims(body: BodyDef, join: str) -> list[str]:
    """The nodes from which every path leads to the join, and some does."""

    def leads(id: str) -> bool:
        targets = [edge.target for edge in body.edges if edge.source == id]
        return bool(targets) and all(target == join or leads(target) for target in targets)

    return [id for id in body.nodes if leads(id)]


def leads(body: BodyDef, source: str, target: str) -> bool:
    """Whether there is a way from one node to another."""
    targets = [edge.target for edge in body.edges if edge.source == source]
    return any(one == target or leads(body, one, target) for one in targets)


def bodies(body: BodyDef) -> list[BodyDef]:
    return [body, *(one for node in body.nodes.values() for inner in node.bodies.values() for one in bodies(inner))]


def result_of(body: BodyDef, names: Names, when: Moment) -> Any:
    """What a body says itself; else the output of its last node, or of each of them that ran, by id."""
    if body.has_result:
        return rendered(body.result, names, when)
    handlers: set[str] = set()
    for node in in_order(body):
        ins = [edge for edge in body.edges if edge.target == node.id]
        if ins and all(edge.port in ("error", "timeout") or edge.source in handlers for edge in ins):
            handlers.add(node.id)
    last = [
        id for id in body.nodes if all(edge.port in ("error", "timeout") for edge in body.edges if edge.source == id)
    ]
    sinks = [id for id in last if id not in handlers] or last
    found = {}
    for id in sinks:
        try:
            output = names(id, when)
            found[id] = dict(output) if isinstance(output, Failed) else output
        except LookupError:
            continue
    return found.get(sinks[0]) if len(sinks) == 1 else found


# -- values -------------------------------------------------------------------------------------------------------

_TEMPLATE = re.compile(r"\{\{ (.*) \}\}", re.DOTALL)
_KEY = re.compile(r"\.([\w-]+)|\[(\d+)\]")


def with_locals(locals: Mapping[str, Any], around: Names) -> Names:
    return lambda root, when: locals[root] if root in locals else around(root, when)


def rendered(source: Any, names: Names, when: Moment) -> Any:
    """Data with templates that are whole texts: `{{ path ?? path ?? literal }}`."""
    if isinstance(source, dict):
        if len(source) == 1 and next(iter(source)) == "<":
            left, right = source["<"]
            return rendered(f"{{{{ {left['var']} }}}}", names, when) < right
        return {key: rendered(one, names, when) for key, one in source.items()}
    if isinstance(source, list):
        return [rendered(one, names, when) for one in source]
    whole = _TEMPLATE.fullmatch(source) if isinstance(source, str) else None
    if whole is None:
        return source
    for operand in whole[1].split(" ?? "):
        found = _looked_up(operand, names, when)
        if found is not None:
            return found
    return None


def _looked_up(operand: str, names: Names, when: Moment) -> Any:
    try:
        return msgspec.json.decode(operand)
    except msgspec.DecodeError:
        pass
    root = re.match(r"[\w-]+", operand)
    assert root is not None, operand
    try:
        value = names(root[0], when)
        for name, number in _KEY.findall(operand[root.end() :]):
            value = value[name] if name else value[int(number)]
    except (LookupError, TypeError):
        return None
    return None if isinstance(value, Failed) else value


def is_true(value: Any) -> bool:
    return bool(value)


def tolerated(tolerate: int | str, total: int) -> int:
    return tolerate if isinstance(tolerate, int) else int(float(tolerate.strip(" %")) * total / 100)


def error_named(name: str, beginning: str = "") -> Error:
    return Error((name,), {"type": name, "message": Text(beginning), "timed_out": False})
