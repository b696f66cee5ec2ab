"""The node type `noop`: nothing, where a place in the graph is wanted."""

from __future__ import annotations

import msgspec

from stepwell.nodes.protocol import NodeType, Routed, View


class NoopSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It has none."""


class NoopNode(NodeType):
    """Does nothing: a place where ways meet, or to try a graph out.

    Ports: `out`.
    Output: null.

    Example:
        ```yaml
        both: {noop: {}, needs: [left, right], join: all}
        ```
    """

    name = "noop"
    summary = "Do nothing: a place where ways meet."
    kind = "pure"
    Settings = NoopSettings

    def evaluate(self, settings: NoopSettings, view: View) -> Routed:
        """Nothing."""
        return Routed()


TYPE = NoopNode()
