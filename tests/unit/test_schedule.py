"""A schedule names one rule, is checked when it is made, says what is wrong, and survives JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from stepwell.errors import ArgumentError
from stepwell.triggers.schedule import (
    Schedule,
    backfill,
    describe,
    next_occasion,
    occasions,
    schedule,
    utc_text,
)

SECOND = 1_000_000


def instant(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def first(made: Schedule, after: str, count: int = 3) -> list[str]:
    return [utc_text(one) for one in islice(occasions(made, instant(after), instant("2200-01-01T00:00Z")), count)]


def refusal(**options: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        schedule("nightly", **options)
    return str(caught.value)


def test_a_cron_line_names_times_on_the_zone_s_wall() -> None:
    made = schedule("nightly", cron="0 6 * * *", timezone="Europe/Berlin")
    assert first(made, "2026-11-19T05:00:00Z") == [
        "2026-11-20T05:00:00Z",
        "2026-11-21T05:00:00Z",
        "2026-11-22T05:00:00Z",
    ]


def test_a_sixth_field_in_front_gives_the_seconds() -> None:
    made = schedule("often", cron="*/20 30 5 * * *")
    assert first(made, "2026-11-20T05:30:20Z") == [
        "2026-11-20T05:30:40Z",
        "2026-11-21T05:30:00Z",
        "2026-11-21T05:30:20Z",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("@hourly", ["2026-11-20T06:00:00Z", "2026-11-20T07:00:00Z"]),
        ("@daily", ["2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"]),
        ("@midnight", ["2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"]),
        ("@Weekly", ["2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"]),
        ("@monthly", ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        ("@yearly", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        ("@annually", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
    ],
)
def test_names_stand_for_cron_lines(name: str, expected: list[str]) -> None:
    assert first(schedule("named", cron=name), "2026-11-20T05:30:00Z", 2) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 0 L * *", ["2027-02-28T00:00:00Z", "2027-03-31T00:00:00Z"]),
        ("0 0 LW * *", ["2027-02-26T00:00:00Z", "2027-03-31T00:00:00Z"]),
        ("0 0 * * 5L", ["2027-02-26T00:00:00Z", "2027-03-26T00:00:00Z"]),
        ("0 0 * * MON#1", ["2027-03-01T00:00:00Z", "2027-04-05T00:00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("0 0 29 2 MON", ["2028-02-07T00:00:00Z", "2028-02-14T00:00:00Z"]),
        ("0 0 * 2 MON#5", ["2044-02-29T00:00:00Z", "2072-02-29T00:00:00Z", "2112-02-29T00:00:00Z"]),
    ],
)
def test_days_that_move_are_found_however_far_away(cron: str, expected: list[str]) -> None:
    after = "2027-02-22T12:00:00Z"
    assert first(schedule("days", cron=cron), after, len(expected)) == expected


def test_an_interval_is_counted_from_the_epoch_or_from_its_start() -> None:
    assert first(schedule("tick", every="15m"), "2026-11-20T06:01:00Z", 2) == [
        "2026-11-20T06:15:00Z",
        "2026-11-20T06:30:00Z",
    ]
    from_start = schedule("tick", every=timedelta(minutes=15), start="2026-11-20T06:07:00Z")
    assert first(from_start, "2020-01-01T00:00:00Z", 2) == ["2026-11-20T06:07:00Z", "2026-11-20T06:22:00Z"]
    assert first(from_start, "2026-11-20T06:22:00Z", 1) == ["2026-11-20T06:37:00Z"]


def test_an_interval_is_real_time_whatever_the_clocks_do() -> None:
    daily = schedule("tick", every="1d", timezone="Europe/Berlin", start="2026-10-24T06:00:00+02:00")
    assert first(daily, "2026-10-24T12:00:00Z", 2) == ["2026-10-25T04:00:00Z", "2026-10-26T04:00:00Z"]


def test_one_moment_is_one_occasion() -> None:
    made = schedule("launch", at=datetime(2026, 11, 20, 6, tzinfo=ZoneInfo("Europe/Berlin")))
    assert made == schedule("launch", at="2026-11-20T05:00:00Z")
    assert first(made, "2026-01-01T00:00:00Z") == ["2026-11-20T05:00:00Z"]
    assert first(made, "2026-11-20T05:00:00Z") == []
    assert next_occasion(made, instant("2026-11-20T05:00:00Z")) is None


def test_the_start_may_be_an_occasion_and_the_end_may_not() -> None:
    made = schedule("days", cron="@daily", start="2026-11-20T00:00:00Z", end="2026-11-22T00:00:00Z")
    assert first(made, "2000-01-01T00:00:00Z") == ["2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"]
    assert next_occasion(made, instant("2026-11-21T00:00:00Z")) is None


def test_an_interval_of_time_leaves_out_its_beginning_and_includes_its_end() -> None:
    made = schedule("hours", cron="@hourly")
    six, eight = instant("2026-11-20T06:00:00Z"), instant("2026-11-20T08:00:00Z")
    assert list(occasions(made, six, eight)) == [six + 3600 * SECOND, eight]
    assert list(occasions(made, six - 1, six)) == [six]
    assert list(occasions(made, eight, six)) == list(occasions(made, six, six)) == []


def test_a_backfill_begins_with_its_start_and_ends_before_its_end() -> None:
    made = schedule("hours", cron="@hourly", start="2026-11-20T07:00:00Z")
    six, nine = instant("2026-11-20T06:00:00Z"), instant("2026-11-20T09:00:00Z")
    assert [utc_text(one) for one in backfill(made, six, nine)] == ["2026-11-20T07:00:00Z", "2026-11-20T08:00:00Z"]


def test_nothing_is_named_before_1970_or_in_the_year_9999() -> None:
    for made in (schedule("days", cron="@daily"), schedule("days", every="1d")):
        assert next_occasion(made, -(10**18)) == 0
        assert next_occasion(made, instant("9999-06-01T00:00:00Z")) is None
        assert list(occasions(made, instant("9998-12-29T12:00:00Z"), 10**30)) == [
            instant("9998-12-30T00:00:00Z"),
            instant("9998-12-31T00:00:00Z"),
        ]


@pytest.mark.parametrize(
    "options",
    [
        {"cron": "*/15 9-17 * * MON-FRI", "timezone": "America/New_York", "jitter": "5m", "catch_up": "all"},
        {"every": "15m", "start": "2026-01-01T00:00Z", "end": "2027-01-01T00:00Z", "overlap": "queue"},
        {"at": "2026-11-20T06:00:00Z", "grace": "1h", "catch_up": "skip"},
        {"cron": "@daily"},
    ],
)
def test_a_schedule_survives_json(options: dict[str, Any]) -> None:
    made = schedule("nightly", **options)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Schedule) == made


def test_missed_occasions_that_all_run_may_overlap_unless_told_otherwise() -> None:
    assert schedule("a", cron="@daily").overlap == "skip"
    assert schedule("a", cron="@daily", catch_up="all").overlap == "allow"
    assert schedule("a", cron="@daily", catch_up="all", overlap="queue").overlap == "queue"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cron": "0 6 * * *", "timezone": "Europe/Berlin"}, "at 06:00 every day, Europe/Berlin (0 6 * * *)"),
        ({"every": "90m", "jitter": "30s"}, "every 1h30m, up to 30s later"),
        ({"every": "1d", "start": "2026-11-20T06:00Z"}, "every 1d, from 2026-11-20T06:00:00Z"),
        ({"every": "1.5s"}, "every 1.5s"),
        ({"at": "2026-11-20T06:00+01:00"}, "once at 2026-11-20T05:00:00Z"),
        ({"cron": "@yearly", "end": "2030-01-01T00:00Z"}, "…, UTC (0 0 1 1 *), before 2030-01-01T00:00:00Z"),
    ],
)
def test_a_schedule_can_be_said_in_words(options: dict[str, Any], words: str) -> None:
    said = describe(schedule("a", **options))
    assert said.endswith(words.removeprefix("…")) if words.startswith("…") else said == words


# -- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("61 * * * *", "minute is '61'"),
        ("60 * * * * *", "second is '60'"),
        ("* 24 * * *", "hour is '24'"),
        ("0 0 0 * *", "day-of-month is '0'"),
        ("0 0 ? * MON", "day-of-month is '?'"),
        ("0 0 * JANUARY *", "month is 'JANUARY'"),
        ("0 0 * * 8", "day-of-week is '8'"),
        ("0 0 * * L", "day-of-week is 'L'"),
        ("0 0 1L/2 * *", "day-of-month is '1L/2'"),
        ("*/0 * * * *", "minute is '*/0'"),
        ("0 22-2 * * *", "hour is '22-2'"),
        ("* * * *", "found 4 fields"),
        ("", "found 0 fields"),
        ("@fortnightly", "no such name"),
        ("0 0 30 2 *", "no month that it names has day 30"),
        ("0 0 31 4,6,9,11 *", "no month that it names has day 31"),
        ("0 0 */20 * 1L", "never fires in UTC"),
        ("0 0 " + "9" * 5000 + " * *", "at most 500"),
        (6, "give text such as"),
    ],
)
def test_a_wrong_cron_line_is_refused_and_the_field_named(cron: Any, words: str) -> None:
    text = refusal(cron=cron)
    assert text.startswith("schedule 'nightly': cron") and words in text
    assert len(text) < 400


def test_times_that_clock_changes_always_skip_are_refused() -> None:
    in_the_gap = "*/5 2 * 3 0L"  # the last Sunday of March, from 02:00
    assert "skipped by clock changes" in refusal(cron=in_the_gap, timezone="Europe/Berlin", start="2026-01-01T00:00Z")
    assert schedule("a", cron=in_the_gap, timezone="America/New_York")


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("berlin", "did you mean 'Europe/Berlin'?"),
        ("europe/BERLIN", "did you mean 'Europe/Berlin'?"),
        ("new york", "did you mean 'America/New_York'?"),
        ("Europe/Berln", "'Europe/Berlin'"),
        ("Europe", "did you mean"),
        ("+02:00", "'UTC'"),
        ("", "'UTC'"),
        ("localtime", "not an IANA time zone"),
        ("posix/Europe/Berlin", "not an IANA time zone"),
        ("right/UTC", "not an IANA time zone"),
        ("../../etc/passwd", "not an IANA time zone"),
        ("Europe/Berlin\0", "not an IANA time zone"),
        ("x" * 5000, "not an IANA time zone"),
        (timezone(timedelta(hours=2)), "not an IANA time zone"),
        (2, "give the name"),
    ],
)
def test_an_unknown_time_zone_is_refused_with_a_hint(zone: Any, hint: str) -> None:
    text = refusal(cron="@daily", timezone=zone)
    assert text.startswith("schedule 'nightly': timezone: ") and hint in text


def test_a_zone_may_be_given_as_an_object() -> None:
    assert schedule("a", cron="@daily", timezone=ZoneInfo("Asia/Kolkata")).timezone == "Asia/Kolkata"
    assert schedule("a", cron="@daily", timezone=UTC).timezone == "UTC"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "found 0 of cron=, every= and at="),
        ({"cron": "@daily", "every": "1d"}, "found 2 of cron=, every= and at="),
        ({"every": "0.5s"}, "every: '0.5s' is too short"),
        ({"every": "often"}, "every: 'often' is not a duration"),
        ({"at": "2026-11-20T06:00:00"}, "at: 2026-11-20T06:00:00 has no time zone; write 2026-11-20T06:00:00Z"),
        ({"at": datetime(2026, 11, 20)}, "at: 2026-11-20T00:00:00 has no time zone"),
        ({"at": "tomorrow"}, "at: found 'tomorrow'"),
        ({"at": 5}, "at: found 5"),
        ({"at": "1969-12-31T00:00:00Z"}, "not in the years 1970 to 9998"),
        ({"at": "2026-11-20T06:00:00Z", "end": "2027-01-01T00:00Z"}, "start, end: a schedule of one moment"),
        ({"every": "1d", "start": "2027-01-01T00:00Z", "end": "2027-01-01T00:00Z"}, "end: 2027-01-01T00:00:00Z is not"),
        ({"cron": "@yearly", "start": "2026-02-01T00:00Z", "end": "2026-03-01T00:00Z"}, "within its start and end"),
        ({"cron": "@daily", "jitter": "-5s"}, "jitter: '-5s' is not a duration"),
        ({"cron": "@daily", "jitter": "32d"}, "jitter: 32d is too long"),
        ({"cron": "@daily", "grace": 0}, "grace: 0 is too short"),
        ({"cron": "@daily", "catch_up": "some"}, "catch_up: found 'some'; give one of 'skip', 'one', 'all'"),
        ({"cron": "@daily", "overlap": "wait"}, "overlap: found 'wait'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    text = refusal(**options)
    assert text.startswith("schedule 'nightly': ") and words in text


@pytest.mark.parametrize("name", ["", "two words", "-dash", "ä", "x" * 161, 5, None])
def test_a_name_that_cannot_begin_a_run_id_is_refused(name: Any) -> None:
    with pytest.raises(ArgumentError, match="name: found"):
        schedule(name, cron="@daily")
