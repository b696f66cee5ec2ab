"""The node type `emit`: an event is published."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.nodes.protocol import NodeType


class EmitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is published.

    Attributes:
        event: the topic (the `type` of a CloudEvent).
        data: what the event carries.
        subject: what it is about, such as the id of an order.
        transient: the event is only for those who wait for it at that moment; it is not kept.
    """

    event: str
    data: Any = None  # Any: JSON
    subject: str = ""
    transient: bool = False


class EmitNode(NodeType):
    """Publishes an event for whoever listens: runs that wait for it, triggers that start runs.

    It is published together with the node's completion: once, whatever crashes.

    Ports: `out`.
    Output: null.

    Example:
        ```yaml
        done: {emit: {event: order.shipped, subject: "{{ input.order }}", data: "{{ ship }}"}, needs: ship}
        ```
    """

    name = "emit"
    summary = "Publish an event."
    kind = "effect"
    Settings = EmitSettings
    main = "event"


TYPE = EmitNode()
