"""Times and durations that stand in settings, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stepwell.errors import ArgumentError, DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.model.durations import micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(found: object, place: str) -> int:
    """A time in microseconds since 1970: of an ISO 8601 text with a zone, or a number of seconds.

    Raises:
        ArgumentError: it is none, or has no zone.
    """
    if isinstance(found, int | float) and not isinstance(found, bool):
        if abs(found) < 1e11:  # the year 5138: what is more was meant as milliseconds
            return round(found * 1_000_000)
    elif isinstance(found, str):
        try:
            at = datetime.fromisoformat(found.strip())
        except ValueError:
            raise _no_time(place, found) from None
        if at.tzinfo is None:
            raise ArgumentError(
                f"{place}: {found!r} has no zone; write Z (for UTC) or an offset such as +01:00 behind it"
            )
        gone = at - _EPOCH
        return (gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds
    raise _no_time(place, found)


def _no_time(place: str, found: object) -> ArgumentError:
    return ArgumentError(f"{place}: {found!r} is no time; write 2026-11-20T08:00:00Z, or seconds since 1970")


def check_duration(found: Any, setting: str, say: Callable[[str, str], None]) -> None:  # Any: JSON
    """Say so when a setting as written is no duration, unless it is a template or null."""
    if found is None or is_template(found):
        return
    try:
        micros(found, setting)
    except DefinitionError as error:
        say(setting, str(error))


def check_moment(found: Any, setting: str, say: Callable[[str, str], None]) -> None:  # Any: JSON
    """Say so when a setting as written is no time, unless it is a template or null."""
    if found is None or is_template(found):
        return
    try:
        moment(found, setting)
    except DefinitionError as error:
        say(setting, str(error))
