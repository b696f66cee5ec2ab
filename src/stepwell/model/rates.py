"""How often: `"50/1m"` is at most fifty within any minute."""

from __future__ import annotations

import re
from typing import NamedTuple

from stepwell.errors import ArgumentError
from stepwell.model.durations import micros

_UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1))
_FORM = re.compile(r"\s*(\d{1,9})\s*/\s*(\d.*|us|ms|s|m|h|d|w)\s*")


class Rate(NamedTuple):
    """At most `limit` within any window of `period` microseconds."""

    limit: int
    period: int


def rate(text: str, place: str = "rate") -> Rate:
    """Read a rate: a whole number, `/`, and a duration, of which `1` may be left out (`"10/s"`).

    Raises:
        ArgumentError: it is not a rate, or one of nothing; `place` is named.
    """
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found[1]) == 0:
        raise _refusal(place, text)
    try:
        period = micros(found[2] if found[2][0].isdigit() else f"1{found[2]}", place)
    except ArgumentError:
        raise _refusal(place, text) from None
    if not period:
        raise _refusal(place, text)
    return Rate(int(found[1]), period)


def written(limit: int, period: int) -> str:
    """The rate as text, such as `50/1m`; `rate` reads it as the same one."""
    for unit, size in _UNITS:
        if period % size == 0:
            return f"{limit}/{period // size}{unit}"
    raise AssertionError(period)


def _refusal(place: str, found: object) -> ArgumentError:
    return ArgumentError(f"{place}: {found!r} is not a rate; write how many per how long, such as '10/1s' or '50/1m'")
