"""The node type `break`: the innermost loop is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stepwell.nodes.protocol import NodeType, Routed, View


class BreakSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It has none."""


class BreakNode(NodeType):
    """Ends the innermost loop; what else is under way in this iteration is cancelled.

    The iteration in which it happens counts, with the result that its body has by then.

    Ports: none.
    Output: null.

    Example:
        ```yaml
        search:
          loop: {foreach: "{{ input.shops }}"}
          do:
            ask:   {task: ask_shop, inputs: {shop: "{{ loop.item }}"}}
            found: {condition: "{{ ask.found }}", needs: ask}
            stop:  {break: {}, needs: "found:true"}
        ```
    """

    name = "break"
    summary = "End the innermost loop."
    kind = "end"
    Settings = BreakSettings

    def ports_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        """None: nothing follows."""
        return ()

    def evaluate(self, settings: BreakSettings, view: View) -> Routed:
        """Nothing, and no port; the engine ends the loop."""
        return Routed(None, ())


TYPE = BreakNode()
