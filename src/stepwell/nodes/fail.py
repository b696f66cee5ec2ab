"""The node type `fail`: a failure that the author means."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.nodes.parts.errors import NodeFailed
from stepwell.nodes.protocol import NodeType, Routed, View


class FailSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the failure says.

    Attributes:
        message: what went wrong, for people.
        type: its name, by which `catch` finds it.
        details: further facts, for programs.
    """

    message: str = "the definition says so"
    type: str = "Failed"
    details: Any = None  # Any: JSON


class FailNode(NodeType):
    """Fails with an error of its own: the enclosing `try` may catch it by its type, otherwise the run fails.

    Ports: none but `error`.
    Output: none.

    Example:
        ```yaml
        enough: {condition: {">=": [{var: stock.left}, {var: input.wanted}]}, needs: stock}
        sorry:  {fail: {message: "only {{ stock.left }} left", type: OutOfStock}, needs: "enough:false"}
        ```
    """

    name = "fail"
    summary = "Fail with an error of one's own."
    kind = "pure"
    Settings = FailSettings
    main = "message"

    def ports_of(self, settings: object) -> tuple[str, ...]:
        """None: nothing follows a failure, except by `error`."""
        return ()

    def evaluate(self, settings: FailSettings, view: View) -> Routed:
        """Fail; no further attempt would help."""
        raise NodeFailed(settings.message, type=settings.type, details=settings.details, retryable=False)


TYPE = FailNode()
