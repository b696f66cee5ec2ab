"""The node type `router`: every way on whose rule holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.nodes.parts import rules
from stepwell.nodes.protocol import NodeType, Routed, View

DEFAULT = "default"
TAKEN = ("error", DEFAULT)


class RouterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it may lead.

    Attributes:
        routes: a mapping from ports to conditions.
    """

    routes: dict[str, Any]  # Any: conditions


class RouterNode(NodeType):
    """Goes on by all ports whose conditions hold, and by `default` when none does.

    All conditions are looked at before anything goes on; a rule that fails is a failure of the node.

    Ports: the routes' names, and `default`.
    Output: the list of the ports taken, in the order in which the routes are written.

    Example:
        ```yaml
        tell:
          router:
            mail: "{{ input.mail }}"
            call: {">=": [{var: input.severity}, 8]}
        send: {task: send_mail, needs: "tell:mail"}
        ring: {task: call_on_duty, needs: "tell:call"}
        note: {log: "nobody was told", needs: "tell:default"}
        ```
    """

    name = "router"
    summary = "Go all ways whose rules hold."
    kind = "pure"
    Settings = RouterSettings
    main = "routes"
    ports = (DEFAULT,)
    raw = ("routes",)

    def ports_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        """The routes, and `default`."""
        return (*(port for port in _routes(settings) if port != DEFAULT), DEFAULT)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """There are routes, and their conditions are some."""
        routes = _routes(settings)
        if not routes:
            say("routes", 'give a mapping from ports to conditions, such as {dear: {">": [{var: input.price}, 100]}}')
        for port, source in routes.items():
            if port in TAKEN:
                say(f"routes.{port}", f"no route can be called {port!r}: that port has a meaning of its own")
            rules.check_condition(source, f"routes.{port}", say)

    def references(self, settings: Mapping[str, Any]) -> list[Any]:  # Any: JSON in, references out
        """What the conditions refer to."""
        return list(rules.references(_routes(settings).values()))

    def evaluate(self, settings: RouterSettings, view: View) -> Routed:
        """Find all routes that hold."""
        taken = [port for port, source in settings.routes.items() if rules.condition(source).holds(view)]
        return Routed(taken, tuple(taken) or (DEFAULT,))


def _routes(settings: Mapping[str, Any]) -> dict[str, Any]:  # Any: conditions
    routes = settings.get("routes")
    return routes if isinstance(routes, dict) else {}


TYPE = RouterNode()
