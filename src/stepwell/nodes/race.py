"""The node type `race`: several bodies of which one counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from stepwell.nodes.protocol import OUT, NodeType


class RaceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides it.

    Attributes:
        decide: `first`: the branch of which a node completes first has won, and runs on to its end; `finish`: the
            branch that ends first.
    """

    decide: Literal["first", "finish"] = "first"


class RaceNode(NodeType):
    """Begins several branches, of which one wins; the others are withdrawn: what waits there no longer waits.

    With `decide: first` it is a choice that the world makes: whichever signal, event, answer or timer comes first
    decides, and its branch goes on alone.

    Ports: `out`, and the name of each branch.
    Output: `{winner, result}`.

    Example:
        ```yaml
        reply:
          race:
            branches:
              paid:   {money: {wait_event: payment.received}}
              called: {word: {wait_signal: cancel-order}}
              late:   {time: {wait: 3d}}
        ship:  {task: ship, needs: "reply:paid"}
        store: {task: put_back, needs: ["reply:called", "reply:late"], join: any}
        ```
    """

    name = "race"
    summary = "Run several bodies of which one counts."
    kind = "container"
    Settings = RaceSettings
    main = "branches"
    fields = ("winner", "result")
    bodies = ("branches",)

    def ports_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        """`out` and the branches, which are settings here, by name, with bodies that do not matter."""
        branches = settings.get("branches")
        return (OUT, *(name for name in branches if name != OUT)) if isinstance(branches, dict) else (OUT,)


TYPE = RaceNode()
