"""The node type `wait`: some time passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.errors import DefinitionError
from stepwell.model.durations import micros
from stepwell.nodes.parts.times import check_duration, check_moment, moment
from stepwell.nodes.protocol import NodeType


class WaitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long, or until when: one of the two.

    Attributes:
        for: a duration: `90s`, `1h30m`, `2d`, or a number of seconds.
        until: a date and time with a zone, as in `2026-11-20T08:00:00+01:00`, or seconds since 1970; one that has
            passed does not wait.
    """

    for_: str | int | float | None = msgspec.field(default=None, name="for")
    until: str | int | float | None = None

    def due(self, now: int) -> int:
        """When the wait is over, in microseconds, if it begins at `now`.

        Raises:
            DefinitionError: neither or both are given, or it is no duration or no time.
        """
        if (self.for_ is None) == (self.until is None):
            raise DefinitionError("wait: give either `for`, a duration, or `until`, a time")
        if self.until is not None:
            return moment(self.until, "wait.until")
        return now + micros(self.for_, "wait.for")  # type: ignore[arg-type]  # one of the two is given


class WaitNode(NodeType):
    """Waits for some time, or until a time. A run that waits costs no memory, and survives restarts.

    Ports: `out`.
    Output: null.

    Example:
        ```yaml
        rest:  {wait: 5m}
        start: {wait: {until: "{{ input.opens_at }}"}, needs: rest}
        ```
    """

    name = "wait"
    summary = "Wait for some time, or until a time."
    kind = "wait"
    Settings = WaitSettings
    main = "for"

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """One of the two is given, and what is known is a duration or a time."""
        if ("for" in settings) == ("until" in settings):
            say("for", "give either `for`, a duration, or `until`, a time")
        check_duration(settings.get("for"), "for", say)
        check_moment(settings.get("until"), "until", say)


TYPE = WaitNode()
