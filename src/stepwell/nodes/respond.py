"""The node type `respond`: what the caller is answered while the run goes on."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.nodes.protocol import NodeType, Routed, View


class RespondSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is answered.

    Attributes:
        value: the answer.
    """

    value: Any = None  # Any: JSON


class RespondNode(NodeType):
    """Answers whoever started the run and waits for it, before the run has ended; the first answer of a run counts.

    Ports: `out`.
    Output: the answer.

    Example:
        ```yaml
        accept: {respond: {value: {order: "{{ input.order }}", accepted: true}}}
        pack:   {task: pack, needs: accept}
        ```
    """

    name = "respond"
    summary = "Answer the caller while the run goes on."
    kind = "pure"
    Settings = RespondSettings
    main = "value"

    def evaluate(self, settings: RespondSettings, view: View) -> Routed:
        """The answer is the output; whoever follows the run sees it in the journal."""
        return Routed(settings.value)


TYPE = RespondNode()
