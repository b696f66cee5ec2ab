"""The node type `switch`: one of several ways on, by a value or by the first rule that holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.nodes.parts import rules
from stepwell.nodes.parts.same import same
from stepwell.nodes.protocol import NodeType, Routed, View

DEFAULT = "default"
TAKEN = ("error", DEFAULT)
"""Ports that no case can have: the way of failures, and the way when no case fits."""


class SwitchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is looked at, and where each value leads.

    Attributes:
        value: what is compared with the cases; not needed when the cases have rules of their own.
        cases: a mapping from ports to the value, or the list of values, that lead there; or a list of
            `{port: name, when: condition}`, of which the first that holds is taken.
    """

    value: Any = None  # Any: JSON
    cases: Any = None  # Any: JSON, see `_cases`


class SwitchNode(NodeType):
    """Goes on by one of several ports: that of the first case that fits, or `default`.

    Values are compared as JSON: 1 and 1.0 are the same, 1 and true and "1" are not, lists and mappings are the same
    when all in them is. The values of cases may be templates.

    Ports: the cases' names, and `default`. A port that is not wired leads nowhere: what hangs on it is skipped.
    Output: the port.

    Example:
        ```yaml
        size:
          switch: "{{ input.size }}"
          cases: {small: [S, XS], large: [L, XL, XXL]}
        pack_small: {task: pack, inputs: {box: 1}, needs: "size:small"}
        pack_other: {task: pack, inputs: {box: 3}, needs: ["size:large", "size:default"]}
        ```
    """

    name = "switch"
    summary = "Go one of several ways, by a value."
    kind = "pure"
    Settings = SwitchSettings
    main = "value"
    ports = (DEFAULT,)
    raw = ("cases",)

    def ports_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        """The cases, and `default`."""
        ports = [port for port, _ in _cases(settings.get("cases"))[0]]
        return (*dict.fromkeys(ports), DEFAULT)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """There are cases, each has a port of its own or a rule that is one."""
        cases, has_rules = _cases(settings.get("cases"), say)
        if not cases:
            say("cases", 'give a mapping such as {small: [S, XS]}, or a list of {port: small, when: {"<": […]}}')
        if has_rules and "value" in settings:
            say("value", "cases with rules look at no value: say in each `when` what it is about")
        if not has_rules and cases and "value" not in settings:
            say("value", "nothing is compared with the cases: give the value that decides")
        for port, source in cases:
            if port in TAKEN:
                say(f"cases.{port}", f"no case can be called {port!r}: that port has a meaning of its own")
            if has_rules:
                rules.check_condition(source, f"cases.{port}", say)
            else:
                rules.check_value(source, f"cases.{port}", say)

    def references(self, settings: Mapping[str, Any]) -> list[Any]:  # Any: JSON in, references out
        """What the cases refer to."""
        cases, has_rules = _cases(settings.get("cases"))
        sources = [source for _, source in cases]
        return list(rules.references(sources) if has_rules else rules.references((), sources))

    def evaluate(self, settings: SwitchSettings, view: View) -> Routed:
        """Find the first case that fits."""
        cases, has_rules = _cases(settings.cases)
        for port, source in cases:
            if rules.condition(source).holds(view) if has_rules else _fits(settings.value, source, view):
                return Routed(port, (port,))
        return Routed(DEFAULT, (DEFAULT,))


def _fits(value: object, source: object, view: View) -> bool:
    wanted = rules.value(source).render(view)
    return any(same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))


def _ignore(setting: str, message: str) -> None:
    pass


def _cases(source: Any, say: Callable[[str, str], None] = _ignore) -> tuple[list[tuple[str, Any]], bool]:  # Any: JSON
    """(port, value or condition) in order, and whether they are conditions; what has no such form is left out."""
    if isinstance(source, dict):
        return list(source.items()), False
    cases = []
    for index, one in enumerate(source if isinstance(source, list) else []):
        if isinstance(one, dict) and set(one) == {"port", "when"} and isinstance(one["port"], str):
            cases.append((one["port"], one["when"]))
        else:
            say(f"cases[{index}]", "a case in a list is {port: name, when: condition}")
    return cases, True


TYPE = SwitchNode()
