"""Cron lines around changes of the clocks, compared with a slow reading of what each minute's wall shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.triggers.schedule import next_occasion, occasions, schedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def walls(cron: str, zone: str, day: str, days: int = 1) -> list[str]:
    """What the wall shows when the line fires on these days: time and offset."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    end = (datetime.fromisoformat(day) + timedelta(days=days)).replace(tzinfo=ZoneInfo(zone), fold=1)
    found = occasions(schedule("a", cron=cron, timezone=zone), micros(start) - 1, micros(end) - 1)
    return [(EPOCH + timedelta(microseconds=one)).astimezone(ZoneInfo(zone)).strftime("%H:%M%z") for one in found]


SPRING = [
    ("Europe/Berlin", "2026-03-29", "30 2 * * *", ["03:00+0200"]),
    ("Europe/Berlin", "2026-03-29", "0,30 2,3 * * *", ["03:00+0200", "03:30+0200"]),
    ("Europe/Berlin", "2026-03-29", "0 30 2 * * *", ["03:00+0200"]),
    ("Europe/Berlin", "2026-03-29", "*/30 2 * * *", []),
    ("Europe/Berlin", "2026-03-29", "*/30 1-3 * * *", ["01:00+0100", "01:30+0100", "03:00+0200", "03:30+0200"]),
    ("Europe/Berlin", "2026-03-29", "30 1 * * *", ["01:30+0100"]),
    ("Europe/Berlin", "2026-03-29", "30 3 * * *", ["03:30+0200"]),
    ("America/New_York", "2026-03-08", "30 2 * * *", ["03:00-0400"]),
    ("America/New_York", "2026-03-08", "*/20 2 * * *", []),
    ("America/New_York", "2026-03-08", "0 2 * * 0", ["03:00-0400"]),
    ("Asia/Kolkata", "2026-03-29", "30 2 * * *", ["02:30+0530"]),
    ("Australia/Lord_Howe", "2026-10-04", "15 2 * * *", ["02:30+1100"]),
    ("Australia/Lord_Howe", "2026-10-04", "45 2 * * *", ["02:45+1100"]),
    ("Australia/Lord_Howe", "2026-10-04", "*/10 2 * * *", ["02:30+1100", "02:40+1100", "02:50+1100"]),
    ("Africa/Cairo", "2026-04-24", "0 0 * * *", ["01:00+0300"]),
    ("Africa/Cairo", "2026-04-24", "*/30 0-1 * * *", ["01:00+0300", "01:30+0300"]),
    ("Pacific/Apia", "2011-12-31", "0 6 30 12 *", ["00:00+1400"]),
]

AUTUMN = [
    ("Europe/Berlin", "2026-10-25", "30 2 * * *", ["02:30+0200"]),
    ("Europe/Berlin", "2026-10-25", "0 30 2 * * *", ["02:30+0200"]),
    ("Europe/Berlin", "2026-10-25", "0 2,3 * * *", ["02:00+0200", "03:00+0100"]),
    ("Europe/Berlin", "2026-10-25", "*/30 2 * * *", ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
    ("America/New_York", "2026-11-01", "30 1 * * *", ["01:30-0400"]),
    ("America/New_York", "2026-11-01", "*/30 1 * * *", ["01:00-0400", "01:30-0400", "01:00-0500", "01:30-0500"]),
    ("Asia/Kolkata", "2026-10-25", "*/30 2 * * *", ["02:00+0530", "02:30+0530"]),
    ("Australia/Lord_Howe", "2026-04-05", "45 1 * * *", ["01:45+1100"]),
    ("Australia/Lord_Howe", "2026-04-05", "15 1 * * *", ["01:15+1100"]),
    ("Australia/Lord_Howe", "2026-04-05", "*/20 1 * * *", ["01:00+1100", "01:20+1100", "01:40+1100", "01:40+1030"]),
    ("Australia/Lord_Howe", "2026-04-05", "*/20 2 * * *", ["02:00+1030", "02:20+1030", "02:40+1030"]),
    ("America/St_Johns", "2009-10-31", "*/30 23 * * *", ["23:00-0230", "23:30-0230", "23:30-0330"]),
    ("Africa/Cairo", "2026-10-29", "30 23 * * *", ["23:30+0300"]),
    ("Africa/Cairo", "2026-10-29", "*/30 23 * * *", ["23:00+0300", "23:30+0300", "23:00+0200", "23:30+0200"]),
]


@pytest.mark.parametrize(("zone", "day", "cron", "expected"), SPRING)
def test_times_that_are_skipped_fire_once_when_the_gap_is_over(
    zone: str, day: str, cron: str, expected: list[str]
) -> None:
    assert walls(cron, zone, day) == expected


@pytest.mark.parametrize(("zone", "day", "cron", "expected"), AUTUMN)
def test_times_that_are_shown_twice_fire_the_first_time(zone: str, day: str, cron: str, expected: list[str]) -> None:
    assert walls(cron, zone, day) == expected


def test_a_search_that_begins_between_the_two_showings_of_a_time_finds_the_second() -> None:
    half_past = micros(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))  # 02:30 in Berlin, for the first time
    coming = occasions(
        schedule("a", cron="*/15 2 * * *", timezone="Europe/Berlin"), half_past, half_past + 3600 * 10**6
    )
    assert [(one - half_past) // (60 * 10**6) for one in coming] == [15, 30, 45, 60]
    daily = schedule("a", cron="45 2 * * *", timezone="Europe/Berlin")
    assert next_occasion(daily, half_past + 1800 * 10**6) == half_past + (24 * 60 + 75) * 60 * 10**6


def test_an_hourly_line_fires_every_real_hour_through_a_change() -> None:
    assert len(walls("0 * * * *", "Europe/Berlin", "2026-03-29")) == 23
    assert len(walls("0 * * * *", "Europe/Berlin", "2026-10-25")) == 25
    assert len(walls("*/5 * * * *", "Australia/Lord_Howe", "2026-04-05")) == 12 * 24 + 6


# -- Every minute's wall, read one by one ----------------------------------------------------------------------------

CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Asia/Kolkata", "2026-10-25"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Africa/Cairo", "2026-04-24"),
    ("Africa/Cairo", "2026-10-30"),
    ("Antarctica/Troll", "2026-03-29"),  # two hours
    ("Antarctica/Troll", "2026-10-25"),
    ("America/St_Johns", "2009-03-08"),  # at one minute past midnight
    ("America/St_Johns", "2009-11-01"),
    ("Pacific/Apia", "2011-12-30"),  # a day that never was
]


class Line(NamedTuple):
    """A cron line and, found without its text, what it matches."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    is_fixed: bool

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours


def field(size: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    numbers = st.integers(0, size - 1)
    return st.one_of(
        st.just(("*", frozenset(range(size)))),
        st.integers(1, size // 2).map(lambda step: (f"*/{step}", frozenset(range(0, size, step)))),
        st.lists(numbers, min_size=1, max_size=4).map(lambda some: (",".join(map(str, some)), frozenset(some))),
        st.tuples(numbers, numbers)
        .map(sorted)
        .map(lambda ends: (f"{ends[0]}-{ends[1]}", frozenset(range(ends[0], ends[1] + 1)))),
    )


def line(minute: tuple[str, frozenset[int]], hour: tuple[str, frozenset[int]]) -> Line:
    return Line(f"{minute[0]} {hour[0]} * * *", minute[1], hour[1], "*" not in minute[0] + hour[0])


LINES = st.builds(line, field(60), field(24))


@cache
def window(zone: str, day: str) -> list[tuple[datetime, datetime]]:
    """Each minute of the five days around the change, in UTC, and what the wall shows then."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=2)
    moments = [start + MINUTE * number for number in range(5 * 24 * 60)]
    return [(moment, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for moment in moments]


@cache
def first_shown(zone: str, day: str) -> dict[datetime, datetime]:
    """For each wall minute between the window's ends: when it is first shown, or when the gap it lies in is over."""
    shown: dict[datetime, datetime] = {}
    minutes = window(zone, day)
    latest = minutes[0][1] - MINUTE
    for moment, wall in minutes:
        while latest < wall:
            latest += MINUTE
            shown[latest] = moment
    return shown


def expected(one: Line, zone: str, day: str) -> list[int]:
    if one.is_fixed:
        found = {moment for wall, moment in first_shown(zone, day).items() if one.matches(wall)}
        return sorted(micros(moment) for moment in found)
    return [micros(moment) for moment, wall in window(zone, day) if one.matches(wall)]


@cache
def changed(zone: str, day: str) -> int:
    """The number of the minute at which the wall jumps, or of one in the middle."""
    steps = enumerate(pairwise(wall for _, wall in window(zone, day)))
    return next((number for number, (before, after) in steps if after - before != MINUTE), 3600)


@given(LINES, st.sampled_from(CHANGES), st.one_of(st.integers(-150, 150), st.integers(-2000, 2000)))
@settings(max_examples=200, deadline=None)
def test_every_line_fires_when_the_wall_says_so_wherever_the_search_begins(
    one: Line, change: tuple[str, str], begin: int
) -> None:
    zone, day = change
    minutes = window(zone, day)
    after, until = micros(minutes[changed(zone, day) + begin][0]), micros(minutes[-1][0])
    found = list(occasions(schedule("a", cron=one.text, timezone=zone), after, until))
    assert found == [instant for instant in expected(one, zone, day) if instant > after]


@given(LINES, st.sampled_from(CHANGES[:5]))
@settings(max_examples=75, deadline=None)
def test_where_clocks_change_by_a_whole_hour_by_day_cronsim_s_own_walk_agrees(
    one: Line, change: tuple[str, str]
) -> None:
    from cronsim import CronSim

    zone, day = change
    start, end = (window(zone, day)[number][0] for number in (0, -1))
    walk = CronSim(one.text, start.astimezone(ZoneInfo(zone)))
    theirs = []
    for moment in walk:
        if moment > end.astimezone(ZoneInfo(zone)):
            break
        theirs.append(micros(moment))
    assert list(occasions(schedule("a", cron=one.text, timezone=zone), micros(start), micros(end))) == theirs
