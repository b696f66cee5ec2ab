"""The node type `wait_signal`: a payload that somebody sends to this run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.nodes.parts.times import check_duration
from stepwell.nodes.protocol import TIMEOUT, NodeType


class WaitSignalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which signal, and how long.

    Attributes:
        signal: the signal's name.
        timeout: a duration after which the node is left by `timeout`, or fails when that is not wired.
    """

    signal: str
    timeout: str | int | float | None = None


class WaitSignalNode(NodeType):
    """Waits for a signal sent to this run. Signals are taken in the order of their arrival, each once.

    A signal that came before anybody waited is kept until it is taken.

    Ports: `out`, `timeout`.
    Output: the signal's payload.

    Example:
        ```yaml
        price: {wait_signal: {signal: price-changed, timeout: 1h}}
        apply: {task: set_price, inputs: {price: "{{ price.amount }}"}, needs: price}
        ```
    """

    name = "wait_signal"
    summary = "Wait for a signal to this run."
    kind = "wait"
    Settings = WaitSignalSettings
    main = "signal"
    ports = (TIMEOUT,)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """The time is a duration."""
        check_duration(settings.get("timeout"), "timeout", say)


TYPE = WaitSignalNode()
