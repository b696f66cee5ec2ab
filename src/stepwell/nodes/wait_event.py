"""The node type `wait_event`: an event that somebody publishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.errors import DefinitionError
from stepwell.nodes.parts.times import check_duration, check_moment
from stepwell.nodes.protocol import TIMEOUT, NodeType


class WaitEventSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which event, and how long.

    Attributes:
        event: the topic (the `type` of a CloudEvent).
        where: a JSONLogic rule over the event's envelope, such as `{"==": [{var: data.order}, "{{ order.id }}"]}`;
            templates in it are rendered when the wait begins.
        timeout: a duration after which the node is left by `timeout`, or fails when that is not wired.
        since: count events published from this time on, instead of from the start of the run.
        transient: only an event that is published while the node waits counts.
    """

    event: str
    where: Any = None  # Any: JSONLogic
    timeout: str | int | float | None = None
    since: str | int | float | None = None
    transient: bool = False


class WaitEventNode(NodeType):
    """Waits for an event on a topic. Events are for everybody who waits for them; each is taken once by each run.

    An event that was published before the node began to wait counts too, from the start of the run on, unless it has
    been taken already or `transient` says otherwise.

    Ports: `out`, `timeout`.
    Output: the event: `id`, `type`, `source`, `time`, `subject` and `data`.

    Example:
        ```yaml
        paid:
          wait_event:
            event: payment.received
            where: {"==": [{var: data.order}, "{{ input.order }}"]}
            timeout: 3d
        ship:   {task: ship, inputs: {payment: "{{ paid.data }}"}, needs: paid}
        remind: {task: send_reminder, needs: "paid:timeout"}
        ```
    """

    name = "wait_event"
    summary = "Wait for an event."
    kind = "wait"
    Settings = WaitEventSettings
    main = "event"
    ports = (TIMEOUT,)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """Rule and times are some."""
        if settings.get("where") is not None:
            from stepwell.expressions import logic

            try:
                logic.written(settings["where"])
            except DefinitionError as error:
                say("where", str(error))
        check_duration(settings.get("timeout"), "timeout", say)
        check_moment(settings.get("since"), "since", say)
        if settings.get("transient") is True and settings.get("since") is not None:
            say("since", "a transient wait counts no event of the past; leave out `since` or `transient`")


TYPE = WaitEventNode()
