"""Which instants a clock on a wall shows a given time at: none in a gap, two where clocks went back, else one.

Wall times and instants are whole seconds here: wall seconds count from 1970-01-01T00:00 on the wall, instants from
1970-01-01T00:00Z. Zones come from the IANA data of the machine, or of the `tzdata` package where it has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stepwell.errors import ArgumentError

DAY = 86_400
HOUR = 3_600

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WALL_EPOCH = datetime(1970, 1, 1)

_NOT_PLACES = ("localtime", "posixrules", "Factory")
_OTHER_TREES = ("posix/", "right/")


@lru_cache(maxsize=256)
def zone_named(name: str) -> ZoneInfo:
    """Return the IANA time zone of this name.

    Raises:
        ArgumentError: there is none; names that mean something else on each machine (`localtime`) and zones that
            count leap seconds (`right/…`) are refused too. The text suggests names that are near.
    """
    if name not in _NOT_PLACES and not name.startswith(_OTHER_TREES):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, or one too long
            pass
    raise ArgumentError(f"timezone: {name[:80]!r} is not an IANA time zone; {_hint(name[:80])}")


def _hint(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    known = sorted(available_timezones().difference(_NOT_PLACES))
    if not known:
        return "this machine has no time zone data: install the package tzdata"
    wanted = name.strip().replace(" ", "_").lower()
    by_lower = {zone.lower(): zone for zone in known}
    by_city = {zone.rpartition("/")[2].lower(): zone for zone in reversed(known)}
    near = [table[wanted] for table in (by_lower, by_city) if wanted in table][:1]
    near = near or [by_lower[one] for one in get_close_matches(wanted, by_lower, n=3)]
    near = near or [by_city[one] for one in get_close_matches(wanted, by_city, n=3)]
    if not near:
        return "write one such as 'UTC', 'Europe/Berlin' or 'America/New_York'"
    return f"did you mean {' or '.join(repr(one) for one in near)}?"


def offset_at(zone: ZoneInfo, instant: int) -> int:
    """How far the wall is ahead of UTC at this instant, in seconds."""
    return _seconds((_EPOCH + timedelta(seconds=instant)).astimezone(zone).utcoffset())


def earliest_wall(zone: ZoneInfo, instant: int) -> int:
    """A wall time before which nothing is shown after `instant`: lower than what is shown now if clocks go back soon.

    No zone's clocks go back by more than a day, and every offset lasts longer than an hour.
    """
    return instant + min(offset_at(zone, instant + hours * HOUR) for hours in range(26))


def shown_at(zone: ZoneInfo, walls: Iterable[int], *, again: bool, after_gaps: bool = False) -> Iterator[int]:
    """The instants at which increasing wall times are shown: the first time, or, with `again`, the last.

    A wall time in a gap, which is never shown, is left out; with `after_gaps` the end of the gap stands for it. The
    instants never decrease, because the times at which ever later walls are first (or last) shown never do.
    """
    day, steady = None, None
    for wall in walls:
        if wall // DAY != day:
            day = wall // DAY
            steady = _steady_offset(zone, day)
        if steady is not None:
            yield wall - steady
            continue
        before, after = _offset_on(zone, wall, 0), _offset_on(zone, wall, 1)
        if after > before:  # a gap: PEP 495 gives the offset before it for fold=0, after it for fold=1
            if after_gaps:
                yield _end_of_gap(zone, wall - after, wall - before)
        else:
            yield wall - (after if again else before)


def _steady_offset(zone: ZoneInfo, day: int) -> int | None:
    """The offset all day long, or None when clocks are changed on this day."""
    offsets = {_offset_on(zone, midnight * DAY, fold) for midnight in (day, day + 1) for fold in (0, 1)}
    return offsets.pop() if len(offsets) == 1 else None


def _offset_on(zone: ZoneInfo, wall: int, fold: int) -> int:
    return _seconds((_WALL_EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone, fold=fold).utcoffset())


def _end_of_gap(zone: ZoneInfo, inside: int, beyond: int) -> int:
    """The first instant with the new offset, between one with the old and one with the new."""
    old = offset_at(zone, inside)
    while beyond - inside > 1:
        middle = (inside + beyond) // 2
        if offset_at(zone, middle) == old:
            inside = middle
        else:
            beyond = middle
    return beyond


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else offset // timedelta(seconds=1)
