"""The node type `loop`: a body again and again, one iteration after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from stepwell.nodes.parts import rules
from stepwell.nodes.parts.numbers import check_number
from stepwell.nodes.parts.times import check_duration
from stepwell.nodes.protocol import NodeType

WAYS = ("for", "foreach", "while", "do_while")


class LoopSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often, and what is kept: exactly one of `for`, `foreach`, `while` and `do_while`.

    Attributes:
        for: the number of iterations.
        foreach: a list; there is an iteration for each of its items, in order.
        while: a condition that is looked at before each iteration.
        do_while: a condition that is looked at after each iteration.
        max: the number of iterations at most; needed for `while` and `do_while`.
        on_max: whether a loop that has not ended by then fails, or stops and goes on by `out`.
        interval: a duration between the end of an iteration and the beginning of the next.
        collect: which results are kept: of all iterations, of the last, or none.
    """

    for_: int | None = msgspec.field(default=None, name="for")
    foreach: list[Any] | dict[str, Any] | None = None  # Any: JSON
    while_: Any = msgspec.field(default=None, name="while")  # Any: a condition
    do_while: Any = None  # Any: a condition
    max: int | None = None
    on_max: Literal["fail", "stop"] = "fail"
    interval: str | int | float | None = None
    collect: Literal["all", "last", "none"] = "all"

    @property
    def items(self) -> list[Any] | None:  # Any: JSON
        """What `foreach` goes over: a list's items, a mapping's `{key, value}`; None for the other kinds of loop."""
        if isinstance(self.foreach, dict):
            return [{"key": key, "value": value} for key, value in self.foreach.items()]
        return self.foreach


class LoopNode(NodeType):
    """Runs its body again and again, one iteration after the other.

    In the body and in its conditions `loop.index` counts from 0, `loop.iteration` from 1; `loop.item` (also `item`)
    is what `foreach` is at (`{key, value}` for a mapping), `loop.total` how many there are if that is known, and
    `loop.last` the result of the iteration before. `while` and `do_while` also see the outputs that the body's nodes
    had in the iteration before. `break` ends the loop, `end: body` the iteration.

    Ports: `out`.
    Output: `{results, iterations, last}`; `results` is empty unless all are kept.

    Example:
        ```yaml
        poll:
          loop: {do_while: {"!": [{var: status.done}]}, max: 100, interval: 30s}
          do:
            status: {task: get_status, inputs: {job: "{{ input.job }}"}}
        ```
    """

    name = "loop"
    summary = "Run a body again and again."
    kind = "container"
    Settings = LoopSettings
    main = "for"
    fields = ("results", "iterations", "last")
    raw = ("while", "do_while")
    bodies = ("do",)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """One way of looping is given, and it has an end."""
        ways = [name for name in WAYS if name in settings]
        if len(ways) != 1:
            found = f"found {' and '.join(ways)}" if ways else "found none"
            say(ways[1] if ways else "for", f"{found}; give one of for, foreach, while and do_while")
        for name in ("while", "do_while"):
            if name in settings:
                rules.check_condition(settings[name], name, say)
                if settings.get("max") is None:
                    say("max", f"a loop with `{name}` needs `max`: say after how many iterations it has gone wrong")
        check_number(settings.get("for"), "for", 0, say)
        check_number(settings.get("max"), "max", 1, say)
        check_duration(settings.get("interval"), "interval", say)

    def references(self, settings: Mapping[str, Any]) -> list[Any]:  # Any: JSON in, references out
        """What the conditions refer to, nodes of the body included."""
        sources = [settings[name] for name in ("while", "do_while") if name in settings]
        return list(rules.references(sources, own=("loop", "item")))


TYPE = LoopNode()
