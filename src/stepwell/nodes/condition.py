"""The node type `condition`: one of two ways on, by a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.nodes.parts import rules
from stepwell.nodes.protocol import NodeType, Routed, View


class ConditionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold.

    Attributes:
        when: true, false, a template such as `"{{ input.express }}"`, or a JSONLogic rule over the names in sight.
    """

    when: Any  # Any: JSON


class ConditionNode(NodeType):
    """Goes on by `true` or by `false`.

    A template counts as JSONLogic counts it: null, false, 0, "", [] and {} are false. A rule that fails is a failure of
    the node, never silently false.

    Ports: `true` and `false`; there is no `out`, so that nobody follows both by mistake.
    Output: true or false.

    Example:
        ```yaml
        dear:   {condition: {">": [{var: input.price}, 100]}}
        ask:    {human: "Buy for {{ input.price }}?", needs: "dear:true"}
        simply: {noop: {}, needs: "dear:false"}
        ```
    """

    name = "condition"
    summary = "Go one of two ways, by a rule."
    kind = "pure"
    Settings = ConditionSettings
    main = "when"
    ports = ("true", "false")
    raw = ("when",)

    def ports_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        """The two."""
        return self.ports

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """The condition is one."""
        if "when" in settings:
            rules.check_condition(settings["when"], "when", say)

    def references(self, settings: Mapping[str, Any]) -> list[Any]:  # Any: JSON in, references out
        """What the condition refers to."""
        return list(rules.references([settings.get("when")]))

    def evaluate(self, settings: ConditionSettings, view: View) -> Routed:
        """Decide."""
        holds = rules.condition(settings.when).holds(view)
        return Routed(holds, ("true" if holds else "false",))


TYPE = ConditionNode()
