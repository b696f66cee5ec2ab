"""What do nodes refer to? Their templates and conditions are compiled, each once, and their lookups gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from stepwell.errors import ExpressionError
from stepwell.expressions.conditions import Condition, compile_condition
from stepwell.expressions.parsing import escaped
from stepwell.expressions.templates import Reference, Value, compile_value
from stepwell.graph.definition import BodyDef, Json, NodeDef
from stepwell.graph.homes import Where
from stepwell.graph.problems import Place
from stepwell.graph.saying import Say
from stepwell.nodes.parts.rules import READS_CLOCK
from stepwell.nodes.protocol import NodeType

Moment: TypeAlias = Literal["fire", "join", "end", "before", "undo"]
"""When something is looked up: when the node runs, when its join decides, when the body around it has ended, before the
body runs for the first time, or when the node is undone."""


class Use(msgspec.Struct, frozen=True, gc=False):
    """One lookup: what, by which part of which node (or of a definition, at a place), and when.

    `forgives`: what is not there is null to it. `where` is the body in which it is written.
    """

    reference: Reference
    holder: NodeDef | Place
    key: str
    where: Where = ()
    moment: Moment = "fire"
    forgives: bool = False

    @property
    def place(self) -> Place:
        """Where it is written."""
        if isinstance(self.holder, Place):
            return self.holder
        return self.holder.at(".".join(map(str, (self.key, *self.reference.at))))

    @property
    def text(self) -> str:
        """How it is written."""
        return f"`{self.reference.text}`"

    @property
    def node(self) -> str:
        """The id of the node that it is written in."""
        return self.holder.id if isinstance(self.holder, NodeDef) else ""


class Compiled(msgspec.Struct, frozen=True, gc=False):
    """The expressions of one node. `values` are those of its options, such as `cache.key`, by their names there.

    `uses` are all lookups at the node, `inside` those of a loop's conditions, which see the body.
    """

    settings: Value
    condition: Condition | None = None
    when: Condition | None = None
    values: dict[str, Value] = {}
    uses: tuple[Use, ...] = ()
    inside: tuple[Use, ...] = ()


_OPTIONS = ("cache.key", "concurrency.key", "idempotency_key", "mock.output", "delay")


def compile_node(node: NodeDef, type: NodeType | None, where: Where, say: Say) -> Compiled:
    """Compile what a node says; expressions that cannot be read are said, and stand for nothing."""
    return _Compiler(node, where, say).compiled(type)


def compile_result(body: BodyDef, where: Where, place: Place, say: Say) -> tuple[Value | None, list[Use]]:
    """What a body gives, if it says so, and what that looks up."""
    if not body.has_result:
        return None, []
    try:
        value = compile_value(body.result)
    except ExpressionError as error:
        say.error("bad-expression", place, f"result: {error}")
        return None, []
    return value, [Use(reference, place, "result", where, "end") for reference in value.references]


class _Compiler:
    def __init__(self, node: NodeDef, where: Where, say: Say) -> None:
        self.node = node
        self.where = where
        self.say = say
        self.uses: list[Use] = []
        self.inside: list[Use] = []

    def compiled(self, type: NodeType | None) -> Compiled:
        node = self.node
        raw = () if type is None else type.raw
        settings = self._value("settings", {k: _plain(v) if k in raw else v for k, v in node.settings.items()})
        if type is not None and raw:
            self._raw(type)
        condition = when = None
        if node.disabled:
            condition = compile_condition(False)
        elif node.has_condition:
            condition = self._condition("if", node.condition, "fire")
        if node.join.kind == "when":
            when = self._condition("join", node.join.when, "join")
        values = {}
        for name in _OPTIONS if node.options else ():
            option, _, key = name.partition(".")
            found = node.options.get(option)
            if key:
                found = found.get(key) if isinstance(found, dict) else None
            if found is not None and (value := self._value(name, found)) is not None:
                values[name] = value
        return Compiled(settings or compile_value({}), condition, when, values, tuple(self.uses), tuple(self.inside))

    def _value(self, key: str, source: Json) -> Value | None:
        found: Value | None = self._try("bad-expression", key, lambda: compile_value(source))
        if found is not None and found.references:
            self.uses += [Use(reference, self.node, key, self.where) for reference in found.references]
        return found

    def _condition(self, key: str, source: Json, moment: Moment) -> Condition | None:
        found: Condition | None = self._try("bad-condition", key, lambda: compile_condition(source))
        if found is not None and found.uses_clock:
            self.say.error("reads-clock", self.node.at(key), f"{self.node.id}: {READS_CLOCK}")
        if found is not None:
            forgives = moment == "join" and isinstance(source, dict)
            self.uses += [Use(one, self.node, key, self.where, moment, forgives) for one in found.references]
        return found

    def _raw(self, type: NodeType) -> None:
        """What a type compiles by itself. A loop's conditions are looked at between two turns of its body."""
        settings = self.node.settings
        try:
            found = type.references(settings)
        except Exception:  # the settings are not as the type expects them, which its checks say better
            return
        if type.name != "loop":
            self.uses += [Use(one, self.node, "settings", self.where) for one in found]
            return
        moment: Moment = "before" if "while" in settings else "end"
        key = "settings.while" if "while" in settings else "settings.do_while"
        forgives = moment == "before" and isinstance(settings.get("while"), dict)
        self.inside += [Use(one, self.node, key, self.where, moment, forgives) for one in found]

    def _try(self, code: str, key: str, make: Callable[[], Any]) -> Any:  # Any: a Value or a Condition
        try:
            return make()
        except ExpressionError as error:
            for one in error.each or (error,):
                place = self.node.at(".".join(map(str, (key, *one.path))))
                part = "" if key == "settings" else f", {key}"
                self.say.error(code, place, f"{self.node.id}{part}: {one}")
            return None


def _plain(source: Json) -> Json:
    """A setting that is no template, so written that it renders to itself."""
    match source:
        case str():
            return escaped(source)
        case dict():
            return {key: _plain(one) for key, one in source.items()}
        case list():
            return [_plain(one) for one in source]
        case _:
            return source
