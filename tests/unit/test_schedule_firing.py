"""What is due, what was missed, and under which key: by example, and for any way in which time may pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.model.ids import run_id
from stepwell.triggers.firing import Due, Firing, admit, due, fires_at, firings, key_of, next_firing
from stepwell.triggers.schedule import Schedule, next_occasion, occasions, schedule

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def instant(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


NOON = instant("2026-11-20T12:00:00Z")


def hourly(**options: Any) -> Schedule:
    return schedule("tick", cron="@hourly", **options)


def hours(found: Due) -> list[int]:
    """Which occasions fire, as hours from noon."""
    return [(one.occasion - NOON) // HOUR for one in found.fire]


# -- Firings and their keys ------------------------------------------------------------------------------------------


def test_a_firing_s_key_names_schedule_and_occasion_in_utc() -> None:
    berlin = schedule("nightly", cron="0 6 * * *", timezone="Europe/Berlin")
    assert key_of(berlin, instant("2026-11-20T06:00:00+01:00")) == "nightly@2026-11-20T05:00:00Z"


def test_a_firing_s_key_is_a_run_id_however_long_the_name() -> None:
    longest = schedule("x" * 160, every="1.5s")
    firing = next_firing(longest, NOON + SECOND)
    assert firing is not None and firing.key.endswith("@2026-11-20T12:00:01.500000Z")
    assert run_id(firing.key) == firing.key


def test_jitter_delays_the_firing_and_leaves_occasion_and_key_alone() -> None:
    made = hourly(jitter="10m")
    firing = next_firing(made, NOON)
    assert firing is not None
    assert firing == Firing(fires_at(made, firing.occasion), firing.occasion, key_of(made, firing.occasion))
    assert firing.occasion < firing.at < firing.occasion + 10 * MINUTE
    assert firing.key == key_of(hourly(), firing.occasion)


def test_jitter_is_the_same_for_ever() -> None:
    assert fires_at(hourly(jitter="10m"), NOON) - NOON == 488_282_617
    assert fires_at(schedule("tock", cron="@hourly", jitter="10m"), NOON) - NOON == 543_787_924


def test_the_next_firing_of_a_moment_that_has_passed_is_none() -> None:
    launch = schedule("launch", at="2026-11-20T12:00:00Z")
    assert next_firing(launch, NOON) is None
    assert due(launch, NOON, NOON + DAY) == Due((), 0, NOON + DAY)


# -- Catching up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
def test_what_is_noticed_within_the_grace_fires_under_every_policy(catch_up: Any) -> None:
    made = hourly(catch_up=catch_up, grace="5m")
    assert hours(due(made, NOON - 1, NOON + 5 * MINUTE)) == [0]


@pytest.mark.parametrize(("catch_up", "fired", "skipped"), [("skip", [], 4), ("one", [3], 3), ("all", [0, 1, 2, 3], 0)])
def test_what_was_missed_is_skipped_or_fires_once_or_fires(catch_up: Any, fired: list[int], skipped: int) -> None:
    made = hourly(catch_up=catch_up, grace="5m")
    now = NOON + 3 * HOUR + 30 * MINUTE
    found = due(made, NOON - 1, now)
    assert (hours(found), found.skipped, found.cursor) == (fired, skipped, now)


@pytest.mark.parametrize(
    ("catch_up", "fired", "skipped"), [("skip", [3], 3), ("one", [3], 3), ("all", [0, 1, 2, 3], 0)]
)
def test_one_that_is_on_time_stands_for_those_missed_before_it(catch_up: Any, fired: list[int], skipped: int) -> None:
    made = hourly(catch_up=catch_up, grace="5m")
    found = due(made, NOON - 1, NOON + 3 * HOUR + MINUTE)
    assert (hours(found), found.skipped) == (fired, skipped)


def test_one_moment_that_was_missed_still_comes_unless_told_to_skip() -> None:
    late = NOON + DAY
    assert len(due(schedule("launch", at="2026-11-20T12:00:00Z"), NOON - 1, late).fire) == 1
    skipped = due(schedule("launch", at="2026-11-20T12:00:00Z", catch_up="skip"), NOON - 1, late)
    assert skipped == Due((), 1, late)


def test_with_jitter_late_is_counted_from_the_firing() -> None:
    made = hourly(jitter="50m", grace="1m", catch_up="skip")
    at = fires_at(made, NOON)
    assert at > NOON + 20 * MINUTE
    assert hours(due(made, NOON - HOUR + 50 * MINUTE, at + MINUTE)) == [0]
    assert hours(due(made, NOON - HOUR + 50 * MINUTE, at + MINUTE + 1)) == []


def test_a_clock_set_back_fires_nothing_and_moves_nothing() -> None:
    made = hourly(catch_up="all")
    cursor = due(made, NOON - 1, NOON + HOUR).cursor
    assert due(made, cursor, NOON - DAY) == Due((), 0, cursor)
    assert due(made, cursor, cursor) == Due((), 0, cursor)
    assert hours(due(made, cursor, NOON + 2 * HOUR)) == [2]


def test_much_that_was_missed_comes_in_parts() -> None:
    made = hourly(catch_up="all")
    found = due(made, NOON - 1, NOON + 100 * HOUR, limit=30)
    assert (hours(found), found.cursor) == (list(range(30)), NOON + 29 * HOUR)


def test_in_parts_too_only_the_last_one_missed_fires() -> None:
    made = hourly(catch_up="one", grace="5m")
    cursor, now, fired, skipped, parts = NOON - 1, NOON + 99 * HOUR + 30 * MINUTE, [], 0, 0
    while cursor < now:
        found = due(made, cursor, now, limit=30)
        cursor, fired, skipped, parts = found.cursor, fired + hours(found), skipped + found.skipped, parts + 1
    assert (fired, skipped, parts) == ([99], 99, 4)


def test_firings_of_one_instant_are_never_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = hourly(jitter="3h", catch_up="all")

    def together(_: Schedule, occasion: int) -> int:
        return NOON + 3 * HOUR if NOON <= occasion <= NOON + 3 * HOUR else occasion

    monkeypatch.setattr("stepwell.triggers.firing.fires_at", together)
    found = due(made, NOON - 1, NOON + 6 * HOUR, limit=2)
    assert (hours(found), found.cursor) == ([0, 1, 2, 3], NOON + 3 * HOUR)
    assert hours(due(made, found.cursor, NOON + 6 * HOUR, limit=5)) == [4, 5, 6]


@pytest.mark.parametrize(
    ("overlap", "free", "busy", "busy_and_queued"),
    [
        ("skip", "start", "skip", "skip"),
        ("queue", "start", "queue", "skip"),
        ("cancel", "start", "cancel", "cancel"),
        ("allow", "start", "start", "start"),
    ],
)
def test_a_run_still_going_on_meets_the_next_as_the_policy_says(
    overlap: Any, free: str, busy: str, busy_and_queued: str
) -> None:
    made = hourly(overlap=overlap)
    assert admit(made, running=False, queued=False) == free
    assert admit(made, running=True, queued=False) == busy
    assert admit(made, running=True, queued=True) == busy_and_queued


# -- Any schedule, any passing of time -------------------------------------------------------------------------------

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Cairo"]
CRONS = [
    "*/7 * * * *",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "15 */2 * * *",
    "*/20 30 1 * * *",
    "0 6 * * MON-FRI",
    "0 0 L * *",
    "0 12 1,15 * FRI",
]
DURATIONS = st.sampled_from([1, 45, 60, 3600, 5400, 86_400, 100_000])


@st.composite
def schedules(draw: st.DrawFn, catch_up: str | None = None) -> Schedule:
    rule: dict[str, Any] = draw(
        st.one_of(
            st.fixed_dictionaries({"cron": st.sampled_from(CRONS), "timezone": st.sampled_from(ZONES)}),
            st.fixed_dictionaries({"every": DURATIONS.map(lambda seconds: seconds * 60)}),
            st.fixed_dictionaries(
                {"at": st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))}
            ),
        )
    )
    if "at" not in rule and draw(st.booleans()):
        rule["start"] = "2026-03-01T00:00:07Z"
    if "at" not in rule and draw(st.booleans()):
        rule["end"] = "2026-12-01T00:00:00Z"
    return schedule(
        draw(st.sampled_from(["nightly", "tick"])),
        jitter=draw(st.sampled_from([0, 0, 30, 3600, 90_000])),
        catch_up=catch_up or draw(st.sampled_from(["skip", "one", "all"])),
        grace=draw(st.sampled_from([1, 60, 7200])),
        **rule,
    )


@st.composite
def spans(draw: st.DrawFn, parts: int = 6) -> list[int]:
    """Increasing instants over some days of 2026, often on both sides of a change of clocks."""
    day = draw(
        st.sampled_from(
            ["2026-03-08", "2026-03-29", "2026-04-05", "2026-04-24", "2026-10-04", "2026-10-25", "2026-11-01"]
        )
    )
    start = instant(f"{day}T00:00:00Z") - draw(st.integers(0, 2 * DAY))
    steps = draw(st.lists(st.integers(0, DAY), min_size=1, max_size=parts))
    return [start + sum(steps[:number]) for number in range(len(steps) + 1)]


@given(schedules(), spans())
@settings(max_examples=150, deadline=None)
def test_occasions_increase_and_lie_within_what_was_asked(made: Schedule, span: list[int]) -> None:
    found = list(occasions(made, span[0], span[-1]))
    assert all(before < after for before, after in pairwise(found))
    assert all(span[0] < one <= span[-1] for one in found)
    assert all((made.start or 0) <= one for one in found)
    assert made.end is None or all(one < made.end for one in found)


@given(schedules(), spans())
@settings(max_examples=150, deadline=None)
def test_the_occasions_of_a_span_are_those_of_its_parts(made: Schedule, span: list[int]) -> None:
    parts = [one for after, until in pairwise(span) for one in occasions(made, after, until)]
    assert parts == list(occasions(made, span[0], span[-1]))


@given(schedules(), spans())
@settings(max_examples=100, deadline=None)
def test_stepping_from_occasion_to_occasion_finds_them_all(made: Schedule, span: list[int]) -> None:
    expected = list(islice(occasions(made, span[0], span[-1]), 50))
    stepped, last = [], span[0]
    for _ in expected:
        following = next_occasion(made, last)
        assert following is not None
        stepped.append(following)
        last = following
    assert stepped == expected
    if len(expected) < 50:
        beyond = next_occasion(made, last)
        assert beyond is None or beyond > span[-1]


@given(schedules(), spans())
@settings(max_examples=150, deadline=None)
def test_each_occasion_fires_once_within_its_jitter_and_in_order(made: Schedule, span: list[int]) -> None:
    found = list(firings(made, span[0], span[-1]))
    assert found == sorted(found)
    assert all(one.occasion <= one.at < one.occasion + max(made.jitter, 1) for one in found)
    candidates = occasions(made, span[0] - made.jitter, span[-1])
    assert {one.occasion for one in found} == {
        occasion for occasion in candidates if span[0] < fires_at(made, occasion) <= span[-1]
    }
    for earlier, later in pairwise(found):
        assert later.occasion > earlier.occasion - max(made.jitter, 1), "out of order by more than the jitter"
    assert [one.key for one in found] == [key_of(made, one.occasion) for one in found]
    assert (found[0] if found else None) == next(firings(made, span[0], span[-1]), None)


@given(schedules(), spans())
@settings(max_examples=75, deadline=None)
def test_the_next_firing_is_the_first_that_comes(made: Schedule, span: list[int]) -> None:
    following = next_firing(made, span[0])
    within = list(firings(made, span[0], span[-1]))
    if within:
        assert following == within[0]
    else:
        assert following is None or following.at > span[-1]


def pass_through(made: Schedule, cursor: int, moments: list[int], limit: int) -> tuple[list[Firing], int, int]:
    """Ask at each moment until nothing is left; what fired, how many were skipped, and the cursor at the end."""
    fired: list[Firing] = []
    skipped = 0
    for now in moments:
        while True:
            found = due(made, cursor, now, limit)
            assert found.cursor >= cursor, "a cursor never goes back"
            assert all(cursor < one.at <= found.cursor for one in found.fire)
            fired += found.fire
            skipped += found.skipped
            cursor = found.cursor
            if cursor >= now:
                break
    return fired, skipped, cursor


@given(schedules(catch_up="all"), spans(), st.randoms(use_true_random=False), st.sampled_from([1, 2, 7, 1000]))
@settings(max_examples=150, deadline=None)
def test_with_catch_up_all_each_firing_comes_once_however_time_passes(
    made: Schedule, span: list[int], chance: Any, limit: int
) -> None:
    moments = span[1:]
    for _ in range(3):  # and the clock jumps back now and then
        moments.insert(chance.randrange(len(moments) + 1), span[0] + chance.randrange(-DAY, DAY))
    moments.append(max(span))
    fired, skipped, cursor = pass_through(made, span[0], moments, limit)
    assert fired == list(firings(made, span[0], cursor))
    assert skipped == 0 and cursor == max(moments)


@given(schedules(), spans(), st.sampled_from([0, 3, 1000]))
@settings(max_examples=150, deadline=None)
def test_under_every_policy_each_firing_comes_or_is_skipped_and_none_comes_twice(
    made: Schedule, span: list[int], limit: int
) -> None:
    fired, skipped, cursor = pass_through(made, span[0], span[1:], limit)
    everything = list(firings(made, span[0], cursor))
    assert len(fired) + skipped == len(everything)
    assert fired == sorted(set(fired)) and set(fired) <= set(everything)


@given(schedules(), spans(parts=1), st.sampled_from([1, 3]))
@settings(max_examples=100, deadline=None)
def test_looking_in_small_parts_changes_nothing_about_what_fires(made: Schedule, span: list[int], limit: int) -> None:
    assert pass_through(made, span[0], span[1:], limit) == pass_through(made, span[0], span[1:], 1_000_000)
