"""The node type `scope`: a body that is undone, limited, locked or cancelled as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from stepwell.nodes.parts.times import check_duration
from stepwell.nodes.protocol import TIMEOUT, NodeType

CANCELLED = "cancelled"


class CancelOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What cancels the scope: one of the two.

    Attributes:
        event: an event on this topic.
        signal: a signal of this name to the run.
    """

    event: str = ""
    signal: str = ""


class ScopeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for the body as a whole.

    Attributes:
        compensate: `auto`: when the scope fails or is cancelled, what its completed nodes say under `compensate` is
            run, the last completed first; `none`: it is not.
        timeout: a duration for the whole body; it is cancelled then, and left by `timeout` if that is wired.
        critical: the name of a lock: of all scopes and nodes of the run that name it, one at a time is under way.
        interleave: the nodes of the body run one at a time, in any order that their edges allow.
        cancel_on: `{event: topic}` or `{signal: name}`: cancels the body, which is then left by `cancelled`.
    """

    compensate: Literal["auto", "none"] = "auto"
    timeout: str | int | float | None = None
    critical: str = ""
    interleave: bool = False
    cancel_on: CancelOn | None = None


class ScopeNode(NodeType):
    """Runs its body as one thing: undone together, limited together, locked or cancelled together.

    Ports: `out`, `cancelled`, `timeout`; `error` when the body failed, after what it did was undone.
    Output: the result of the body.

    Example:
        ```yaml
        trip:
          scope:
            cancel_on: {signal: call-it-off}
            do:
              flight: {task: book_flight, compensate: {undo: {task: cancel_flight, inputs: {id: "{{ flight.id }}"}}}}
              hotel:  {task: book_hotel, needs: flight}
        sorry: {task: tell_customer, needs: ["trip:error", "trip:cancelled"], join: any}
        ```
    """

    name = "scope"
    summary = "Run a body that is undone, limited, locked or cancelled as one."
    kind = "container"
    Settings = ScopeSettings
    main = "do"
    ports = (CANCELLED, TIMEOUT)
    bodies = ("do",)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """The time is a duration, and one thing cancels it."""
        check_duration(settings.get("timeout"), "timeout", say)
        cancel_on = settings.get("cancel_on")
        if isinstance(cancel_on, dict) and bool(cancel_on.get("event")) == bool(cancel_on.get("signal")):
            say("cancel_on", "give either {event: topic} or {signal: name}")


TYPE = ScopeNode()
