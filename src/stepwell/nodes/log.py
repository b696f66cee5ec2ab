"""The node type `log`: a line in the run's log."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from stepwell.nodes.protocol import NodeType, Routed, View


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written.

    Attributes:
        message: the line; what is no text is written as JSON.
        level: how grave it is.
        fields: further values of the line, by name.
    """

    message: Any  # Any: JSON
    level: Literal["debug", "info", "warning", "error"] = "info"
    fields: dict[str, Any] = {}  # Any: JSON


class LogNode(NodeType):
    """Writes a line to the run's log, once: a replay does not write it again.

    Ports: `out`.
    Output: `{message, level, fields}`.

    Example:
        ```yaml
        note: {log: {message: "{{ list.total }} products", level: info, fields: {shop: "{{ input.shop }}"}}}
        ```
    """

    name = "log"
    summary = "Write a line to the run's log."
    kind = "pure"
    Settings = LogSettings
    main = "message"

    def evaluate(self, settings: LogSettings, view: View) -> Routed:
        """The line is the output; the log is a reader of the journal."""
        message = settings.message
        text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        return Routed({"message": text, "level": settings.level, "fields": dict(settings.fields)})


TYPE = LogNode()
