"""How do two versions of a definition differ? Nodes and edges added, removed and changed, each with its JSON path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from stepwell.graph.definition import BodyDef, Definition, EdgeDef, JoinDef, NodeDef
from stepwell.graph.places import segment

Json: TypeAlias = Any
"""Plain JSON data."""

ChangeKind: TypeAlias = Literal["added", "removed", "changed"]
ChangeOf: TypeAlias = Literal["definition", "node", "setting", "edge"]

_SIGNS: Final[dict[ChangeKind, str]] = {"added": "+", "removed": "-", "changed": "~"}
_LONGEST: Final = 60

_FIELDS: Final = (
    "label",
    "title",
    "description",
    "input",
    "output",
    "vars",
    "env",
    "secrets",
    "triggers",
    "labels",
    "on_failure",
    "dialect",
    "ui",
)
"""What a definition says beside its nodes and edges."""


class Change(msgspec.Struct, frozen=True):
    """One difference.

    `of` says what it is: a whole node or edge, a setting of a node, or something else in the definition. `name` is the
    node's id behind those of its containers (`each.do.page`), or an edge as `a:error → b`. `path` is where in the
    definition it stands. `before` and `after` are the values; None for what is not there.
    """

    kind: ChangeKind
    of: ChangeOf
    name: str
    path: str
    before: Json = None
    after: Json = None

    def __str__(self) -> str:
        sign = _SIGNS[self.kind]
        if self.of == "edge":
            return f"{sign} edge {self.name}" + ("" if self.kind != "changed" else f": {self._values()}")
        if self.of == "node":
            type = (self.after or self.before or {}).get("type", "")
            return f"{sign} node {self.name} ({type})"
        place = f"node {self.name}: {self.path}" if self.of == "setting" else self.path
        return f"{sign} {place}: {self._values()}"

    def _values(self) -> str:
        if self.kind == "added":
            return _shown(self.after)
        return _shown(self.before) + (f" → {_shown(self.after)}" if self.kind == "changed" else "")


class Diff(msgspec.Struct, frozen=True):
    """All differences, in the order of the newer definition; what is gone stands last among its like."""

    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        """One line for each."""
        return "\n".join(map(str, self.changes))


def diff(old: Definition, new: Definition) -> Diff:
    """What became of `old` in `new`. Nodes are the same when their ids and containers are."""
    changes: list[Change] = []
    for name in _FIELDS:
        changes += _values("definition", "", f"$.{name}", _plain(getattr(old, name)), _plain(getattr(new, name)))
    changes += _values("definition", "", "$", old.options, new.options)
    changes += _bodies(old.body, new.body, "$", "")
    return Diff(tuple(changes))


def _bodies(old: BodyDef, new: BodyDef, path: str, above: str) -> Iterator[Change]:
    for id, node in new.nodes.items():
        name, place = f"{above}{id}", f"{path}.nodes{segment(id)}"
        if id in old.nodes:
            yield from _nodes(old.nodes[id], node, place, name)
        else:
            yield Change("added", "node", name, place, after=_written(node))
    for id, node in old.nodes.items():
        if id not in new.nodes:
            yield Change("removed", "node", f"{above}{id}", f"{path}.nodes{segment(id)}", before=_written(node))
    yield from _values(
        "setting" if above else "definition", above.rstrip("."), f"{path}.result", old.result, new.result
    )
    before, after = _edges(old), _edges(new)
    for key, edge in after.items():
        if key not in before:
            yield Change("added", "edge", above + _arrow(edge), f"{path}.edges", after=_written_edge(edge))
        elif _written_edge(before[key]) != _written_edge(edge):
            values = _back(before[key]), _back(edge)
            yield Change("changed", "edge", above + _arrow(edge), f"{path}.edges", *values)
    for key, edge in before.items():
        if key not in after:
            yield Change("removed", "edge", above + _arrow(edge), f"{path}.edges", before=_written_edge(edge))


def _nodes(old: NodeDef, new: NodeDef, path: str, name: str) -> Iterator[Change]:
    before, after = _written(old), _written(new)
    for key in dict.fromkeys((*after, *before)):
        yield from _values("setting", name, f"{path}{segment(key)}", before.get(key), after.get(key))
    for body in dict.fromkeys((*new.bodies, *old.bodies)):
        inner = f"{path}{segment(body)}"
        yield from _bodies(old.bodies.get(body, BodyDef()), new.bodies.get(body, BodyDef()), inner, f"{name}.{body}.")


def _values(of: ChangeOf, name: str, path: str, before: Json, after: Json) -> Iterator[Change]:
    """Differences between two values, member by member where both are mappings; None is what is not there."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*after, *before)):
            yield from _values(of, name, path + segment(str(key)), before.get(key), after.get(key))
    elif not _same(before, after):
        kind: ChangeKind = "added" if before is None else "removed" if after is None else "changed"
        yield Change(kind, of, name, path, before, after)


def _same(one: Json, other: Json) -> bool:
    """Whether two values are the same JSON: 1 is not true."""
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


def _written(node: NodeDef) -> dict[str, Json]:
    """A node without its id, bodies and edges, as it would be written."""
    written: dict[str, Json] = {"type": node.type}
    if node.settings:
        written["with"] = node.settings
    if node.has_condition:
        written["if"] = node.condition
    if node.join != JoinDef():
        written["join"] = msgspec.to_builtins(node.join)
    written |= {key: value for key, value in node.options.items() if key not in node.bodies}
    shown = {"disabled": node.disabled, "title": node.title, "description": node.description}
    shown |= {"tags": list(node.tags), "ui": node.ui}
    return written | {key: value for key, value in shown.items() if value}


def _edges(body: BodyDef) -> dict[tuple[str, str, str], EdgeDef]:
    return {(edge.source, edge.port, edge.target): edge for edge in body.edges}


def _written_edge(edge: EdgeDef) -> dict[str, Json]:
    written: dict[str, Json] = {"from": edge.source, "to": edge.target}
    if edge.port != "out":
        written["port"] = edge.port
    return written | (_back(edge) if edge.back else {})


def _back(edge: EdgeDef) -> dict[str, Json]:
    """How an edge leads back."""
    return {"back": edge.back} | ({} if edge.max_visits is None else {"max_visits": edge.max_visits})


def _arrow(edge: EdgeDef) -> str:
    port = "" if edge.port == "out" else f":{edge.port}"
    return f"{edge.source}{port} → {edge.target}"


def _plain(value: object) -> Json:
    """None for what is empty, so that nothing and an empty mapping are alike."""
    return msgspec.to_builtins(value) if value not in ("", (), {}, []) else None


def _shown(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
