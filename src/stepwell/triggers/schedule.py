"""What a schedule is, and the instants it names: a cron line, a fixed interval, or one moment.

A schedule is a value: it can be written as JSON, and every process that reads it computes the same instants. Instants
are microseconds since 1970-01-01T00:00:00Z. An *occasion* is an instant that the schedule names; when it fires, with
jitter and after downtime, is the question of `stepwell.triggers.firing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from stepwell.errors import ArgumentError
from stepwell.model.durations import Duration, micros
from stepwell.model.ids import SECOND

CatchUp = Literal["skip", "one", "all"]
Overlap = Literal["skip", "queue", "cancel", "allow"]
Moment: TypeAlias = "datetime | str"
"""An aware datetime, or ISO 8601 text with an offset, such as `2026-11-20T06:00:00+01:00`."""

_CATCH_UPS: Final[tuple[CatchUp, ...]] = get_args(CatchUp)
_OVERLAPS: Final[tuple[Overlap, ...]] = get_args(Overlap)
_DAY: Final = 86_400 * SECOND
_FIFTY_YEARS: Final = 50 * 366 * _DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = (datetime(9998, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_CHECKED_FROM: Final = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:#/~+=@-]{0,159}")
_LONGEST_JITTER: Final = 31 * _DAY

_Choice = TypeVar("_Choice", bound=str)


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When runs are started; made and checked by `schedule()`, trusted afterwards.

    Exactly one of `cron` (text), `every` (microseconds) and `at` (an instant) is set. `start` is the first instant
    that may be an occasion, `end` the first that may not. `jitter` and `grace` are in microseconds.
    """

    name: str
    cron: str = ""
    every: int = 0
    at: int | None = None
    timezone: str = "UTC"
    start: int | None = None
    end: int | None = None
    jitter: int = 0
    catch_up: CatchUp = "one"
    grace: int = 60 * SECOND
    overlap: Overlap = "skip"


def schedule(
    name: str,
    *,
    cron: str | None = None,
    every: Duration | None = None,
    at: Moment | None = None,
    timezone: str | tzinfo = "UTC",
    start: Moment | None = None,
    end: Moment | None = None,
    jitter: Duration = 0,
    catch_up: CatchUp = "one",
    grace: Duration = "1m",
    overlap: Overlap | None = None,
) -> Schedule:
    """Return the schedule, checked. Give exactly one of `cron`, `every` and `at`.

    Args:
        name: stands in the id of every run that it starts, and seeds the jitter; up to 160 characters as in run ids.
        cron: five fields (minute, hour, day-of-month, month, day-of-week), or six with seconds first, as cronsim
            reads them; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
        every: a fixed interval of real time, at least a second, counted from `start`, else from 1970-01-01T00:00Z.
        at: one moment.
        timezone: the IANA name of the zone whose wall clock a cron line means.
        start: the first moment that may be an occasion.
        end: the first moment that may not.
        jitter: each occasion fires up to this much later (at most 31 days), by a delay drawn from name and occasion.
        catch_up: what becomes of occasions missed while nothing ran: `skip` them, start `one` run for all of them,
            or `all`.
        grace: an occasion is missed when it is noticed later than this; at least a second.
        overlap: what becomes of an occasion when the run of the one before has not ended: `skip` it, `queue` it (at
            most one waits), `cancel` the run, or `allow` both. Without it: `skip`, but `allow` with `catch_up="all"`.

    Raises:
        ArgumentError: a value is wrong, or the schedule would never fire; the text names schedule and field.
    """
    try:
        made = Schedule(
            name=_name(name),
            cron="" if cron is None else _cron(cron),
            every=0 if every is None else _at_least_a_second(every, "every"),
            at=None if at is None else instant(at, "at"),
            timezone=_timezone(timezone),
            start=None if start is None else instant(start, "start"),
            end=None if end is None else instant(end, "end"),
            jitter=micros(jitter, "jitter"),
            catch_up=_one_of(catch_up, _CATCH_UPS, "catch_up"),
            grace=_at_least_a_second(grace, "grace"),
            overlap=_one_of(overlap or ("allow" if catch_up == "all" else "skip"), _OVERLAPS, "overlap"),
        )
        _check(made, [cron, every, at])
    except ArgumentError as error:
        raise ArgumentError(f"schedule {str(name)[:80]!r}: {error}") from None
    return made


def occasions(schedule: Schedule, after: int, until: int) -> Iterator[int]:
    """The occasions after `after` and not after `until`, strictly increasing; none before 1970 or in the year 9999.

    The iterator holds a few numbers however many it gives, and where it begins changes nothing about what it gives:
    the occasions of an interval are those of its parts.
    """
    after = max(after, -1 if schedule.start is None else schedule.start - 1, -1)
    until = min(until, _LATEST if schedule.end is None else schedule.end - 1, _LATEST)
    if after >= until:
        return
    if schedule.cron:
        from stepwell.triggers.cron import cron_of
        from stepwell.triggers.zones import zone_named

        zone = zone_named(schedule.timezone)
        for instant in cron_of(schedule.cron).instants(zone, after // SECOND, until // SECOND):
            yield instant * SECOND
    elif schedule.every:
        anchor = schedule.start or 0
        first = anchor + ((after - anchor) // schedule.every + 1) * schedule.every
        yield from range(first, until + 1, schedule.every)
    elif schedule.at is not None and after < schedule.at <= until:
        yield schedule.at


def next_occasion(schedule: Schedule, after: int) -> int | None:
    """The first occasion after `after`; None when there is none, for a cron line none within fifty years."""
    return next(occasions(schedule, after, horizon(schedule, after)), None)


def backfill(schedule: Schedule, start: int, end: int) -> Iterator[int]:
    """The occasions from `start` on and before `end`, whether they have fired or not; the schedule's bounds hold."""
    return occasions(schedule, start - 1, end - 1)


def horizon(schedule: Schedule, after: int) -> int:
    """How far to look for the next occasion after `after`.

    Days of the calendar that come back at all come back within forty years (Monday, 29 February 2072 and 2112), but
    a time of day may lie in the gap of a clock change for good.
    """
    return min(_LATEST, max(after, schedule.start or 0, 0) + _FIFTY_YEARS) if schedule.cron else _LATEST


def describe(schedule: Schedule) -> str:
    """The schedule in words for people: what it names and, where they are not the usual ones, its options."""
    said = [_rule(schedule)]
    if schedule.start is not None:
        said.append(f"from {utc_text(schedule.start)}")
    if schedule.end is not None:
        said.append(f"before {utc_text(schedule.end)}")
    if schedule.jitter:
        said.append(f"up to {_exact(schedule.jitter)} later")
    return ", ".join(said)


def utc_text(instant: int) -> str:
    """RFC 3339 in UTC, such as `2026-11-20T06:00:00Z`; parts of a second only where there are some."""
    return (_EPOCH + timedelta(microseconds=instant)).isoformat().replace("+00:00", "Z")


def _rule(schedule: Schedule) -> str:
    if schedule.cron:
        from stepwell.triggers.cron import cron_of

        return f"{cron_of(schedule.cron).explain()}, {schedule.timezone} ({schedule.cron})"
    if schedule.every:
        return f"every {_exact(schedule.every)}"
    return f"once at {utc_text(schedule.at or 0)}"


def _exact(duration: int) -> str:
    """`1d`, `1h30m`, `1.5s`: text that `micros` reads as the same duration."""
    parts = []
    for unit, size in (("d", _DAY), ("h", 3600 * SECOND), ("m", 60 * SECOND)):
        if duration >= size:
            parts.append(f"{duration // size}{unit}")
            duration %= size
    if duration or not parts:
        parts.append(f"{duration / SECOND:.6f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


# -- Checking what an author gave ------------------------------------------------------------------------------------


def _check(made: Schedule, rules: list[object]) -> None:
    given = sum(rule is not None for rule in rules)
    if given != 1:
        raise ArgumentError(f"found {given} of cron=, every= and at=; give exactly one")
    if made.jitter > _LONGEST_JITTER:
        raise ArgumentError(f"jitter: {_exact(made.jitter)} is too long; give at most 31d")
    if made.at is not None and (made.start is not None or made.end is not None):
        raise ArgumentError("start, end: a schedule of one moment has no bounds; leave them out")
    if made.start is not None and made.end is not None and made.start >= made.end:
        raise ArgumentError(f"end: {utc_text(made.end)} is not after start, {utc_text(made.start)}")
    first_checked = _CHECKED_FROM if made.cron and made.start is None else 0
    if next_occasion(made, first_checked - 1) is None:
        bounds = "" if made.start is None and made.end is None else " within its start and end"
        raise ArgumentError(
            f"cron {made.cron!r} never fires in {made.timezone}{bounds}: no day matches its day-of-month, month and "
            "day-of-week, or its times are skipped by clock changes; mend the fields or the bounds"
        )


def _name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArgumentError(
            f"name: found {name if not isinstance(name, str) else name[:80]!r}; use 1 to 160 letters, digits or any of "
            "_ . : # / ~ + = @ - beginning with a letter, digit or _, because run ids begin with it"
        )
    return name


def _cron(text: object) -> str:
    from stepwell.triggers.cron import cron_of

    if not isinstance(text, str):
        raise ArgumentError(f"cron: found {text!r}; give text such as '0 6 * * *'")
    return cron_of(text).text


def _timezone(zone: object) -> str:
    from stepwell.triggers.zones import zone_named

    if not isinstance(zone, str | tzinfo):
        raise ArgumentError(f"timezone: found {zone!r}; give the name of an IANA time zone, such as 'Europe/Berlin'")
    zone_named(str(zone))
    return str(zone)


def _at_least_a_second(duration: Duration, field: str) -> int:
    found = micros(duration, field)
    if found < SECOND:
        raise ArgumentError(f"{field}: {duration!r} is too short; give at least 1s")
    return found


def instant(moment: object, field: str) -> int:
    """The microseconds since 1970 of a `Moment`; raises ArgumentError, which names the field, when it is none."""
    found: object = moment
    if isinstance(moment, str):
        try:
            found = datetime.fromisoformat(moment.strip())
        except ValueError:
            pass
    if not isinstance(found, datetime):
        raise ArgumentError(f"{field}: found {moment!r}; give an aware datetime or text like '2026-11-20T06:00:00Z'")
    if found.utcoffset() is None:
        raise ArgumentError(
            f"{field}: {found.isoformat()} has no time zone; write {found.isoformat()}Z for UTC, an offset such as "
            "+01:00, or a datetime with tzinfo=ZoneInfo(…)"
        )
    instant = (found - _EPOCH) // timedelta(microseconds=1)
    if not 0 <= instant <= _LATEST:
        raise ArgumentError(f"{field}: {found.isoformat()} is not in the years 1970 to 9998")
    return instant


def _one_of(found: _Choice, choices: tuple[_Choice, ...], field: str) -> _Choice:
    if found not in choices:
        raise ArgumentError(f"{field}: found {found!r}; give one of {', '.join(repr(one) for one in choices)}")
    return found
