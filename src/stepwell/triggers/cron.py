"""When a cron line fires: its wall times, by cronsim's reading of the fields, turned into instants of a zone.

cronsim parses the text and says which days match; the walk over time is ours, because what fires must not depend on
where the walk began. cronsim's own walk steps by real hours and so passes over 02:00 to 02:29 on the day on which
Lord Howe Island sets its clocks back by half an hour, and it begins days at midnights that do not exist in Cairo.

Clock changes follow Debian's cron (`man 8 cron`): a line with a fixed minute and hour fires once for each of its wall
times: where clocks go back at the first, and where they go forward as soon as the gap is over. A line in which the
minute or the hour begins with `*` fires whenever the wall shows a time that matches: twice where it is shown twice,
never where it is not. Unlike cronsim, lines with a field for seconds keep to the same rule.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from stepwell.errors import ArgumentError
from stepwell.triggers.zones import DAY, HOUR, earliest_wall, shown_at

if TYPE_CHECKING:
    from cronsim import CronSim

NAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_FIELDS: Final = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
_RANGES: Final = (
    "0 to 59",
    "0 to 59",
    "0 to 23",
    "1 to 31, L (last day) or LW (last weekday)",
    "1 to 12 or JAN to DEC",
    "0 to 7 or SUN to SAT, 5L (last Friday) or MON#1 (first Monday)",
)
_LONGEST = 500
_UNIX_DAY = date(1970, 1, 1).toordinal()
_LAST_DAY = date(9998, 12, 31).toordinal()


class Cron:
    """A cron line, read: `text` with single spaces and `@daily` and its like written out.

    Raises:
        ArgumentError: the text is no cron line, or names a day that no calendar has; the field is named.
    """

    __slots__ = ("_hours", "_minutes", "_months", "_seconds", "_sim", "is_fixed", "text")

    def __init__(self, text: str) -> None:
        self.text = _plain(text)
        self._sim = sim = _read(self.text)
        self._seconds = sorted(sim.seconds)
        self._minutes = sorted(sim.minutes)
        self._hours = sorted(sim.hours)
        self._months = frozenset(sim.months)
        minute, hour = self.text.split(" ")[-5:-3]
        self.is_fixed = not minute.startswith("*") and not hour.startswith("*")

    def explain(self) -> str:
        """The line in English words, such as `at 06:00 every day`; local times, 24-hour clock."""
        said = self._sim.explain()
        return said[:1].lower() + said[1:]

    def instants(self, zone: ZoneInfo, after: int, until: int) -> Iterator[int]:
        """The instants (seconds) after `after` and not after `until` at which the line fires, strictly increasing."""
        start, stop = earliest_wall(zone, after), until + DAY
        shown = shown_at(zone, self._walls(start, stop), again=False, after_gaps=self.is_fixed)
        if not self.is_fixed:
            shown = heapq.merge(shown, shown_at(zone, self._walls(start, stop), again=True))
        last = after
        for instant in shown:
            if instant > until:
                return
            if instant > last:
                last = instant
                yield instant

    def _walls(self, start: int, stop: int) -> Iterator[int]:
        """The wall times that match, from `start` to the day of `stop` (wall seconds); none after the year 9998."""
        ordinal, last = start // DAY + _UNIX_DAY, min(stop // DAY + _UNIX_DAY, _LAST_DAY)
        while ordinal <= last:
            day = date.fromordinal(ordinal)
            if day.month not in self._months:
                ordinal = date(day.year + day.month // 12, day.month % 12 + 1, 1).toordinal()
                continue
            if self._sim.match_day(day):
                yield from self._times((ordinal - _UNIX_DAY) * DAY, start)
            ordinal += 1

    def _times(self, midnight: int, start: int) -> Iterator[int]:
        for hour in self._hours:
            in_hour = midnight + hour * HOUR
            if in_hour + HOUR <= start:
                continue
            for minute in self._minutes:
                in_minute = in_hour + minute * 60
                if in_minute + 60 <= start:
                    continue
                for second in self._seconds:
                    if in_minute + second >= start:
                        yield in_minute + second


@lru_cache(maxsize=256)
def cron_of(text: str) -> Cron:
    """The line, read once for each text; raises as `Cron` does."""
    return Cron(text)


def _plain(text: str) -> str:
    shown = f"cron {text[:80]!r}"
    if len(text) > _LONGEST:
        raise ArgumentError(f"{shown}…: {len(text)} characters; a cron line has at most {_LONGEST}")
    fields = text.split()
    if len(fields) == 1 and fields[0].startswith("@"):
        if fields[0].lower() not in NAMES:
            raise ArgumentError(f"{shown}: no such name; there are {', '.join(NAMES)}")
        return NAMES[fields[0].lower()]
    if len(fields) not in (5, 6):
        raise ArgumentError(
            f"{shown}: found {len(fields)} fields; write 5 (minute hour day-of-month month day-of-week), or 6 with "
            "seconds first"
        )
    return " ".join(fields)


def _read(text: str) -> CronSim:
    from cronsim import CronSim

    fields = text.split(" ")
    fields = fields if len(fields) == 6 else ["0", *fields]
    for number, field in enumerate(fields):
        alone = ["*"] * 6
        alone[number] = field
        if not _is_read(" ".join(alone)):
            raise ArgumentError(
                f"cron {text!r}: {_FIELDS[number]} is {field!r}; write *, {_RANGES[number]}, ranges (2-5), "
                "steps (*/15) or lists (1,15)"
            )
    if not _is_read(text):
        raise ArgumentError(
            f"cron {text!r}: no month that it names has day {fields[3]}, so it would never fire; mend day-of-month "
            "or month"
        )
    return CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))


def _is_read(text: str) -> bool:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError, AssertionError, TypeError):  # some wrong steps trip it instead of being refused
        return False
    return True
