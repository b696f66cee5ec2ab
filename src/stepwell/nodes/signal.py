"""The node type `signal`: a payload is sent to another run."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.nodes.protocol import NodeType


class SignalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent, and to whom.

    Attributes:
        signal: the signal's name.
        to: the id of the run, or a list of ids.
        payload: what it carries.
    """

    signal: str
    to: str | list[str]
    payload: Any = None  # Any: JSON


class SignalNode(NodeType):
    """Sends a signal to a run, once, whatever crashes; the run takes it when it waits for it.

    A signal to a run that is not there, or has ended, reaches nobody; the engine's log says so.

    Ports: `out`.
    Output: null.

    Example:
        ```yaml
        tell: {signal: stock-changed, to: "{{ input.watcher }}", payload: {left: 3}}
        ```
    """

    name = "signal"
    summary = "Send a signal to another run."
    kind = "effect"
    Settings = SignalSettings
    main = "signal"


TYPE = SignalNode()
