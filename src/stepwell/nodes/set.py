"""The node type `set`: variables of the run get new values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.nodes.protocol import NodeType, Routed, View


class SetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which variables.

    Attributes:
        values: the variables' names and their new values; variables that are not named keep theirs.
    """

    values: dict[str, Any]  # Any: JSON


class SetNode(NodeType):
    """Gives variables of the run new values; expressions see them as `var.name` from then on.

    All templates are rendered before any variable changes, so two variables can be exchanged. The variables are the
    run's state: `stepwell state` shows them, and a person can set them.

    Ports: `out`.
    Output: the values, by name.

    Example:
        ```yaml
        begin: {set: {stage: review, round: 1}}
        swap:  {set: {left: "{{ var.right }}", right: "{{ var.left }}"}, needs: begin}
        ```

    A mapping after `set:` is the values itself, unless its only key is `values`.
    """

    name = "set"
    summary = "Give variables of the run new values."
    kind = "pure"
    Settings = SetSettings
    main = "values"

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """Something is set."""
        values = settings.get("values")
        if values == {}:
            say("values", "nothing is set: give names and values, such as {stage: review}")

    def evaluate(self, settings: SetSettings, view: View) -> Routed:
        """The values are the output; the engine makes them the run's state."""
        return Routed(dict(settings.values))


TYPE = SetNode()
