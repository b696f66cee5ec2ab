"""What nodes and edges does a body have? A map or a list of nodes, or `{nodes, edges, result}`, in one form.

A container's bodies are bodies again: `do`, `finally`, those under the names of `branches`, those of `catch`, and what
`compensate` says. Their names in `NodeDef.bodies` are those that `NodeDef` documents; `settings["catch"]` keeps
`{errors, as}` of each clause, in the same order. `NodeDef.places` has a node's keys by name, and its settings however
deep, as `settings.inputs.urls.0`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from stepwell.graph.definition import BodyDef, EdgeDef, JoinDef, NodeDef
from stepwell.graph.edges import followed, is_id, needed, ordered, written
from stepwell.graph.form import Form, Json, Types
from stepwell.graph.implied import implied
from stepwell.graph.options import join, node_options
from stepwell.graph.places import Places
from stepwell.graph.problems import Findings, Place
from stepwell.graph.reading import document_of
from stepwell.graph.typed import Typed, Typing

RESERVED: Final = frozenset(
    ("loop", "parallel", "map", "item", "var", "env", "secret", "event", "input", "error", "run", "nodes", "edges")
)
"""Names that have a meaning of their own in expressions: no node can have them."""

_LONG_FORM: Final = ("nodes", "edges", "result")
NO_BRANCHES: Final = frozenset({"do", "compensate"})
"""Names that no branch can have: bodies of other kinds have them."""

MOST_NESTED: Final = 32
"""Containers within containers."""

_DEEPEST: Final = 8
"""Levels of a setting whose places are kept."""


def parse_body(data: Json, places: Places, types: Types, findings: Findings, tasks: Collection[str] = ()) -> BodyDef:
    """Read a body that stands by itself: of a patch, or of a sub-graph that a task decided.

    `data` is a map or a list of nodes, or `{nodes, edges, result}`. Whatever is wrong goes to `findings`.
    """
    if document_of(data, findings) is None:
        return BodyDef(place=places.place)
    return Bodies(Form(findings, types, tasks)).body(data, places, "the body")


class Bodies:
    """Reads bodies, and the nodes in them."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.typing = Typing(form)
        self._level = 0

    def body(self, data: Json, places: Places, what: str) -> BodyDef:
        """One body."""
        if self._level > MOST_NESTED:
            self.form.say("too-deep", places, f"containers are nested deeper than {MOST_NESTED} levels", "flatten it")
            return BodyDef(place=places.place)
        self._level += 1
        try:
            return self._body(data, places, what)
        finally:
            self._level -= 1

    def _body(self, data: Json, places: Places, what: str) -> BodyDef:
        if isinstance(data, dict) and "nodes" in data:
            self.form.known(data, places, what, _LONG_FORM)
            nodes, at, extra = data["nodes"], places.of("nodes"), data
        else:
            nodes, at, extra = data, places, {}
        found = self.nodes(nodes, at, what)
        edges: list[EdgeDef] = []
        for id, (given, where) in found.items():
            if given.get("needs") is not None:
                edges += needed(self.form, given["needs"], where.of("needs"), id, found)
            if given.get("next") is not None:
                edges += followed(self.form, given["next"], where.of("next"), id, found)
        if extra.get("edges") is not None:
            edges += written(self.form, extra["edges"], places.of("edges"), found)
        read = {id: self.node(id, given, where) for id, (given, where) in found.items()}
        stated = {id for id, (given, _) in found.items() if "needs" in given}
        edges += implied(read, edges, stated, self.form.types)
        return BodyDef(
            nodes=read,
            edges=ordered(self.form, edges, found),
            result=extra.get("result"),
            has_result="result" in extra,
            place=places.place,
        )

    def nodes(self, data: Json, places: Places, what: str) -> dict[str, tuple[Mapping[str, Json], Places]]:
        """The nodes of a map or list by id, unread, each with its places."""
        found: dict[str, tuple[Mapping[str, Json], Places]] = {}
        if not isinstance(data, dict | list):
            self.form.wrong(data, places, f"{what} must be a mapping of nodes, or a list of them", code="no-nodes")
        elif not data:
            self.form.say("no-nodes", places, f"{what} has no nodes", "write at least one, such as a: {noop: {}}")
        for id, given, at in self._written(data, places):
            if not isinstance(given, dict):
                hint = f"write {{{given}: {{}}}}" if isinstance(given, str) and given in self.typing.names else ""
                self.form.wrong(given, at, "a node must be a mapping", hint)
            elif not isinstance(data, dict) and "id" not in given:
                self.form.say("missing-key", at, "a node in a list needs an id", "write id: name")
            elif is_id(self.form, id, at, "a node's id", RESERVED):
                if id in found:
                    first = found[id][1].place
                    where = f"line {first.line}, column {first.column}" if first.line else first.path
                    message = f"the id {id!r} was already given to the node at {where}"
                    self.form.say("duplicate-id", at, message, "give each node an id of its own")
                else:
                    found[id] = given, at
        return found

    def _written(self, data: Json, places: Places) -> Iterator[tuple[Json, Json, Places]]:
        if isinstance(data, dict):
            for id, given in data.items():
                if isinstance(given, dict) and given.get("id", id) != id:
                    message = f"the node {id!r} calls itself {given['id']!r}"
                    self.form.say("wrong-id", places.of(id).of("id"), message, "take the id away")
                yield id, given, places.of(id)
        elif isinstance(data, list):
            for index, given in enumerate(data):
                yield given.get("id") if isinstance(given, dict) else None, given, places.of(index)

    def node(self, id: str, given: Mapping[str, Json], places: Places) -> NodeDef:
        """One node."""
        form = self.form
        typed = self.typing.typed(given, places)
        facts = typed.facts
        common = {key: value for key, value in given.items() if facts is None or not facts.owns(key, value)}
        has_condition = "if" in common and form.condition(common["if"], places.of("if"), "if")
        settings, bodies = self._settings(typed)
        if common.get("compensate") is not None:
            bodies["compensate"] = self.body(common["compensate"], places.of("compensate"), "compensate")
        return NodeDef(
            id=id,
            type=typed.name,
            settings=settings,
            condition=common["if"] if has_condition else None,
            has_condition=has_condition,
            join=join(form, common["join"], places.of("join")) if "join" in common else JoinDef(),
            options=node_options(form, common, places),
            bodies=bodies,
            disabled=self._flag(common, places, "disabled"),
            title=self._said(common, places, "title"),
            description=self._said(common, places, "description"),
            tags=tuple(form.texts(common["tags"], places.of("tags"), "tags") or ()) if "tags" in common else (),
            ui=common.get("ui"),
            place=places.place,
            places=dict(_spread(given, typed, places)),
        )

    def _settings(self, typed: Typed) -> tuple[dict[str, Json], dict[str, BodyDef]]:
        settings: dict[str, Json] = {}
        bodies: dict[str, BodyDef] = {}
        of_type = typed.facts.bodies if typed.facts is not None else ()
        for name, (value, at) in typed.settings.items():
            if name not in of_type:
                settings[name] = value
            elif name == "branches":
                for branch, body in (self.form.mapping(value, at, name) or {}).items():
                    if is_id(self.form, branch, at.of(branch), "a branch's name", NO_BRANCHES):
                        bodies[branch] = self.body(body, at.of(branch), f"the branch {branch!r}")
                if value == {}:
                    self.form.say("no-nodes", at, f"{typed.name} has no branches", "write at least one")
            elif name == "catch":
                settings[name], clauses = self._clauses(value, at)
                bodies |= clauses
            else:
                bodies[name] = self.body(value, at, name)
        if typed.facts is not None and of_type:
            self._complete(typed, bodies)
        return settings, bodies

    def _complete(self, typed: Typed, bodies: Mapping[str, BodyDef]) -> None:
        """Note it when a container has no body, or two kinds of them."""
        facts = typed.facts
        assert facts is not None
        given = [name for name in ("do", "branches") if name in typed.settings]
        wanted = [name for name in ("do", "branches") if name in facts.bodies]
        if not given and wanted:
            at = typed.places
            self.form.say("missing-setting", at, f"{typed.name} needs {' or '.join(wanted)}", "write the nodes there")
        elif len(given) > 1:
            at = typed.settings["do"][1]
            self.form.say("wrong-setting", at, f"{typed.name} takes either do or branches", "take one away")
        elif given == ["do"] and "branches" in wanted and not typed.settings.keys() & {"count", "items"}:
            at = typed.settings["do"][1]
            hint = "write count or items, or branches: {name: nodes}"
            self.form.say("missing-setting", at, f"{typed.name} with do needs count or items", hint)

    def _clauses(self, value: Json, places: Places) -> tuple[list[Json], dict[str, BodyDef]]:
        """The clauses of `catch` without their bodies, and the bodies."""
        kept: list[Json] = []
        bodies: dict[str, BodyDef] = {}
        for index, clause in enumerate(self.form.listed(value, places, "catch") or ()):
            at = places.of(index)
            given = self.form.mapping(clause, at, "a catch")
            if given is None:
                continue
            self.form.known(given, at, "a catch", ("errors", "as", "do"))
            found: dict[str, Json] = {}
            if "errors" in given:
                found["errors"] = self.form.texts(given["errors"], at.of("errors"), "errors") or []
            if "as" in given and is_id(self.form, given["as"], at.of("as"), "as", RESERVED - {"error"}):
                found["as"] = given["as"]
            if "do" in given:
                bodies[f"catch.{len(kept)}"] = self.body(given["do"], at.of("do"), "do")
            else:
                self.form.say("missing-key", at, "a catch needs do", "write the nodes that handle the error there")
            kept.append(found)
        return kept, bodies

    def _flag(self, given: Mapping[str, Json], places: Places, key: str) -> bool:
        return bool(self.form.flag(given[key], places.of(key), key)) if key in given else False

    def _said(self, given: Mapping[str, Json], places: Places, key: str) -> str:
        if given.get(key) is None:
            return ""
        return self.form.text(given[key], places.of(key), key, empty=True) or ""


def _spread(given: Mapping[str, Json], typed: Typed, places: Places) -> Iterator[tuple[str, Place]]:
    """The places of a node's keys, and of all that its settings hold, bodies excepted."""
    for key in given:
        yield key, places.of(key).place
    bodies = typed.facts.bodies if typed.facts is not None else ()
    for name, (value, at) in typed.settings.items():
        yield f"settings.{name}", at.place
        if name not in bodies:
            yield from _inside(f"settings.{name}", value, at, _DEEPEST)


def _inside(name: str, value: Json, places: Places, room: int) -> Iterator[tuple[str, Place]]:
    steps = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        at = places.of(step)
        yield f"{name}.{step}", at.place
        if room and isinstance(value[step], dict | list):
            yield from _inside(f"{name}.{step}", value[step], at, room - 1)
