"""The node type `transform`: data in another form, by a template, a rule or a query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.errors import DefinitionError
from stepwell.nodes.parts import queries, rules
from stepwell.nodes.protocol import NodeType, Routed, View

WAYS = ("value", "logic", "jsonata", "jmespath")


class TransformSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is made of what: one of `value`, `logic`, `jsonata` and `jmespath`.

    Attributes:
        value: any JSON with templates; what they come to is the output.
        logic: a JSONLogic template: objects and lists are put out as they are, rules in them are replaced by what they
            give; a field that is called as an operator is has a backslash before it, as in `\\type`.
        jsonata: a JSONata expression over `data` (needs the extra `stepwell[transforms]`).
        jmespath: a JMESPath expression over `data` (needs the extra `stepwell[transforms]`).
        data: what the rule or query is about; `logic` without it sees the names in sight, as conditions do.
    """

    value: Any = msgspec.UNSET  # Any: JSON
    logic: Any = msgspec.UNSET  # Any: JSONLogic
    jsonata: str | None = None
    jmespath: str | None = None
    data: Any = msgspec.UNSET  # Any: JSON


class TransformNode(NodeType):
    """Puts data into another form, at once and without a step of its own.

    `value` is a template and needs nothing else. `logic` is JSONLogic; `jsonata` and `jmespath` are query languages
    of their own, limited in what they may do and give (half a million steps, 32 million characters),
    and without `$now`, `$random` and the like: the same data always give the same.

    Ports: `out`.
    Output: what the template, rule or query gives.

    Example:
        ```yaml
        brief:  {transform: {value: {name: "{{ input.name }}", first: "{{ list.urls[0] ?? null }}"}}}
        total:  {transform: {logic: {sum: {"+": [{var: input.net}, {var: input.tax}]}}}}
        dear:   {transform: {jmespath: "products[?price > `100`].name", data: "{{ list }}"}, needs: list}
        orders: {transform: {jsonata: "$sum(orders.(price * quantity))", data: "{{ input }}"}}
        ```
    """

    name = "transform"
    summary = "Put data into another form."
    kind = "pure"
    Settings = TransformSettings
    main = "value"
    raw = ("logic", "jsonata", "jmespath")

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """One way is given, and its expression is one."""
        ways = [name for name in WAYS if name in settings]
        if len(ways) != 1:
            found = f"found {' and '.join(ways)}" if ways else "found none"
            say(ways[1] if ways else "value", f"{found}; give one of value, logic, jsonata and jmespath")
        if "data" in settings and "value" in ways:
            say("data", "a template needs no data: it refers to what it wants by name")
        for name in ("jsonata", "jmespath"):
            if name in settings:
                if "data" not in settings:
                    say("data", f'say what the expression is about, such as data: "{{{{ input }}}}" for {name}')
                _note(name, say, queries.check, name, settings[name])
        if "logic" in settings:
            _note("logic", say, queries.check_logic, settings["logic"], "data" not in settings)

    def references(self, settings: Mapping[str, Any]) -> list[Any]:  # Any: JSON in, references out
        """What a rule without data of its own refers to."""
        if "logic" not in settings or "data" in settings:
            return []
        try:
            return list(queries.logic_references(settings["logic"]))
        except DefinitionError:
            return []

    def evaluate(self, settings: TransformSettings, view: View) -> Routed:
        """Transform the data."""
        if settings.logic is not msgspec.UNSET:
            return Routed(queries.logic(settings.logic, settings.data, view))
        for name, expression in (("jsonata", settings.jsonata), ("jmespath", settings.jmespath)):
            if expression is not None:
                found = None if settings.data is msgspec.UNSET else settings.data
                return Routed(queries.query(name, expression, found))
        if settings.value is msgspec.UNSET:
            raise DefinitionError("transform: give one of value, logic, jsonata and jmespath")
        return Routed(settings.value)


def _note(setting: str, say: rules.Say, check: Callable[..., None], *found: Any) -> None:  # Any: what `check` takes
    try:
        check(*found)
    except DefinitionError as error:
        say(setting, str(error))


TYPE = TransformNode()
