"""Which edges does a body have? Those that `needs`, `next` and `edges` say, in one form and one order.

However an edge is written it is the same: edges stand in the order of their targets, then of their sources, and one
that is written twice is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from stepwell.graph.definition import EdgeDef
from stepwell.graph.form import Form, Json
from stepwell.graph.places import Places
from stepwell.nodes.protocol import OUT

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST: Final = 200


def needed(form: Form, value: Json, places: Places, target: str, ids: Collection[str]) -> Iterator[EdgeDef]:
    """The in-edges that a node's `needs` says."""
    for item, at in _items(value, places):
        match item:
            case str() if item.strip():
                source, port = split(item, ids)
                if _is_port(form, port, at):
                    yield EdgeDef(source=source, target=target, port=port, place=at.place)
            case dict():
                form.known(item, at, "needs", ("from", "port", "back", "max_visits"))
                yield from _edge(form, {**item, "to": target}, at, ids, "an edge")
            case _:
                form.wrong(item, at, "needs must name nodes: id, id:port, or {from, port, back, max_visits}")


def followed(form: Form, value: Json, places: Places, source: str, ids: Collection[str]) -> Iterator[EdgeDef]:
    """The out-edges that a node's `next` says."""
    if not isinstance(value, dict):
        yield from _targets(form, value, places, source, OUT, ids)
        return
    for port, targets in value.items():
        if _is_port(form, port, places.of(port)):
            yield from _targets(form, targets, places.of(port), source, port, ids)


def written(form: Form, value: Json, places: Places, ids: Collection[str]) -> Iterator[EdgeDef]:
    """The edges that a body's `edges` says."""
    for index, item in enumerate(form.listed(value, places, "edges") or ()):
        at = places.of(index)
        given = form.mapping(item, at, "an edge")
        if given is not None:
            form.known(given, at, "an edge", ("from", "port", "to", "back", "max_visits"))
            yield from _edge(form, given, at, ids, "an edge")


def ordered(form: Form, edges: Iterable[EdgeDef], ids: Collection[str]) -> tuple[EdgeDef, ...]:
    """The edges in their one order, each once."""
    rank = {id: index for index, id in enumerate(ids)}
    last = len(rank)
    merged: dict[tuple[str, str, str], EdgeDef] = {}
    for edge in edges:
        key = edge.source, edge.port, edge.target
        other = merged.setdefault(key, edge)
        if other is not edge and (other.back, other.max_visits) != (edge.back, edge.max_visits):
            message = f"the edge from {edge.source}:{edge.port} to {edge.target} is also written in another way"
            form.findings.add("given-twice", edge.place, message, "say back and max_visits in one place")
    return tuple(
        sorted(
            merged.values(),
            key=lambda one: (rank.get(one.target, last), rank.get(one.source, last), one.source, one.target, one.port),
        )
    )


def split(text: str, ids: Collection[str]) -> tuple[str, str]:
    """Source and port of `id` or `id:port`; a node whose id has a colon in it goes before."""
    if text in ids or ":" not in text:
        return text, OUT
    source, _, port = text.rpartition(":")
    return source.strip(), port.strip()


def is_id(form: Form, value: Json, places: Places, what: str, taken: Collection[str] = ()) -> bool:
    """Whether a name can be that of a node or a branch."""
    if not isinstance(value, str) or not value.strip():
        form.wrong(value, places, f"{what} must be text", "put it in quotes" if value else "", code="wrong-id")
    elif len(value) > _LONGEST or _CONTROL.search(value) or value != value.strip():
        message = f"{what} must have up to {_LONGEST} characters, no control characters and no space around it"
        form.wrong(value, places, message, code="wrong-id")
    elif value in taken:
        form.say("reserved-id", places, f"{what} cannot be {value!r}, which has a meaning of its own", "rename it")
    else:
        return True
    return False


def _items(value: Json, places: Places) -> Iterator[tuple[Json, Places]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield item, places.of(index)
    else:
        yield value, places


def _targets(
    form: Form, value: Json, places: Places, source: str, port: str, ids: Collection[str]
) -> Iterator[EdgeDef]:
    for item, at in _items(value, places):
        match item:
            case str() if item.strip():
                yield EdgeDef(source=source, target=item, port=port, place=at.place)
            case dict():
                form.known(item, at, "next", ("to", "port", "back", "max_visits"))
                yield from _edge(form, {"port": port, **item, "from": source}, at, ids, "an edge")
            case _:
                form.wrong(item, at, "next must name nodes: an id, a list of ids, or {port: id}")


def _edge(form: Form, given: dict[str, Json], places: Places, ids: Collection[str], what: str) -> Iterator[EdgeDef]:
    ends = []
    for key in ("from", "to"):
        if key not in given:
            form.say("missing-key", places, f"{what} needs {key!r}", "write {from: a, to: b}")
        elif (end := form.text(given[key], places.of(key), key)) is not None:
            ends.append(end)
    port = given.get("port", OUT)
    if len(ends) < 2 or not _is_port(form, port, places.of("port")):
        return
    source = ends[0]
    if "port" not in given:
        source, port = split(source, ids)
    back = form.flag(given.get("back", False), places.of("back"), "back") or False
    visits = given.get("max_visits")
    if visits is not None:
        visits = form.whole(visits, places.of("max_visits"), "max_visits")
        if not back and visits is not None:
            message = "max_visits limits how often an edge goes back, and this one does not"
            form.say("wrong-value", places.of("max_visits"), message, "write back: true, or take max_visits away")
    yield EdgeDef(source=source, target=ends[1], port=port, back=back, max_visits=visits, place=places.place)


def _is_port(form: Form, value: Json, places: Places) -> bool:
    if isinstance(value, str) and value.strip() and not _CONTROL.search(value) and len(value) <= _LONGEST:
        return True
    form.wrong(value, places, "a port must be text", code="wrong-port")
    return False


def canonical_edge(edge: EdgeDef) -> dict[str, Json]:
    """An edge as plain JSON; what says no more than the default is left out."""
    found: dict[str, Json] = {"from": edge.source}
    if edge.port != OUT:
        found["port"] = edge.port
    elif ":" in edge.source:
        found["port"] = OUT  # or the part behind the colon would be read as the port
    found["to"] = edge.target
    if edge.back:
        found["back"] = True
    if edge.max_visits is not None:
        found["max_visits"] = edge.max_visits
    return found
