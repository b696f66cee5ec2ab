"""How long: `"90s"`, `"1h30m"`, a number of seconds or a timedelta, as integer microseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from stepwell.errors import ArgumentError

Duration: TypeAlias = "str | int | float | timedelta"

_UNIT = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)")
_LONGEST = 200 * 366 * _UNIT["d"]


def micros(duration: Duration, place: str = "duration") -> int:
    """Return `duration` in microseconds.

    Raises:
        ArgumentError: it is not a duration, is negative, not finite, or longer than 200 years; `place` is named.
    """
    match duration:
        case timedelta():
            result = duration // timedelta(microseconds=1)
        case bool():
            raise _refusal(place, duration)
        case int() | float():
            if duration != duration or duration in (float("inf"), float("-inf")):
                raise _refusal(place, duration)
            result = round(duration * 1_000_000)
        case str():
            result = _parse(duration, place)
        case _:
            raise _refusal(place, duration)
    if not 0 <= result <= _LONGEST:
        raise _refusal(place, duration)
    return result


def _parse(text: str, place: str) -> int:
    stripped = text.strip()
    if _PART.sub("", stripped).strip() or not stripped:
        raise _refusal(place, text)
    return round(sum(float(number) * _UNIT[unit] for number, unit in _PART.findall(stripped)))


def _refusal(place: str, found: object) -> ArgumentError:
    return ArgumentError(
        f"{place}: {found!r} is not a duration; write '250ms', '30s', '1h30m', '2d', a number of seconds, or a "
        "timedelta, from 0 to 200 years"
    )


def spoken(duration_micros: int) -> str:
    """A short readable form: `320 ms`, `4.2 s`, `3 m 20 s`, `2 d 5 h`."""
    if duration_micros < 1_000_000:
        return f"{duration_micros / 1000:.0f} ms"
    seconds = duration_micros / 1_000_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, big, small in ((3600, "m", "s"), (86400, "h", "m"), (1 << 62, "d", "h")):
        if whole < size:
            unit = {"m": 60, "h": 3600, "d": 86400}[big]
            rest = (whole % unit) // {"s": 1, "m": 60, "h": 3600}[small]
            return f"{whole // unit} {big} {rest} {small}"
    raise AssertionError(whole)
