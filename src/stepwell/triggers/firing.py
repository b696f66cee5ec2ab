"""What is due: which occasions fire now, under which key, and what becomes of those that were missed.

A firing's instant is its occasion plus its jitter. A schedule's progress is one number, its *cursor*: every firing
whose instant is not after the cursor is dealt with. Instants are microseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import msgspec

from stepwell.model import chance
from stepwell.triggers.schedule import Schedule, horizon, occasions, utc_text

Admission = Literal["start", "queue", "skip", "cancel"]


class Firing(msgspec.Struct, frozen=True, order=True):
    """One occasion of one schedule, and the instant at which it fires."""

    at: int
    occasion: int
    key: str


class Due(msgspec.Struct, frozen=True):
    """What is to be done: `fire` in order of their instants, `skipped` occasions for good, and keep the new `cursor`.

    While `cursor` is before the `now` that was asked about, there may be more: ask again.
    """

    fire: tuple[Firing, ...]
    skipped: int
    cursor: int


def due(schedule: Schedule, cursor: int, now: int, limit: int = 1000) -> Due:
    """What has become due after `cursor` and until `now`, looking at `limit` firings (or a few more at one instant).

    A firing is *on time* when `now` is at most `schedule.grace` past its instant, and then fires under every policy.
    Older ones were *missed*: `skip` drops them, `all` fires them, `one` fires the last of them, and that only when
    nothing else is there to fire after it, so that coming back after a week starts one run and not two.

    Nothing at or before the cursor ever fires, whatever the clock does: when `now` is not after the cursor, nothing
    is due. The same firing always has the same key, so two processes that ask at once find out by it.
    """
    if now <= cursor:
        return Due((), 0, cursor)
    found, more = _look(schedule, cursor, now, limit)
    reached = found[-1].at if more else now
    missed = [one for one in found if now - one.at > schedule.grace]
    on_time = found[len(missed) :]
    match schedule.catch_up:
        case "all":
            fired = missed
        case "one":
            fired = [] if more or on_time else missed[-1:]
        case "skip":
            fired = []
    return Due((*fired, *on_time), len(missed) - len(fired), reached)


def _look(schedule: Schedule, cursor: int, now: int, limit: int) -> tuple[list[Firing], bool]:
    """The first firings, never parting those of one instant (the cursor could not tell them), and if there are more."""
    coming = firings(schedule, cursor, now)
    found = list(islice(coming, max(limit, 1)))
    for one in coming:
        if one.at != found[-1].at:
            return found, True
        found.append(one)
    return found, False


def firings(schedule: Schedule, after: int, until: int) -> Iterator[Firing]:
    """The firings whose instants are after `after` and not after `until`, in order of their instants.

    With jitter longer than the distance between occasions, a later occasion may fire before an earlier one; as many
    firings are held in memory as there are occasions within the jitter.
    """
    held: list[Firing] = []
    for occasion in occasions(schedule, after - schedule.jitter, until):
        while held and held[0].at <= occasion:  # no later occasion fires before this
            yield heapq.heappop(held)
        at = fires_at(schedule, occasion)
        if after < at <= until:
            heapq.heappush(held, Firing(at, occasion, key_of(schedule, occasion)))
    while held:
        yield heapq.heappop(held)


def next_firing(schedule: Schedule, after: int) -> Firing | None:
    """The first firing whose instant is after `after`; None when there is none (see `next_occasion`)."""
    return next(firings(schedule, after, horizon(schedule, after)), None)


def fires_at(schedule: Schedule, occasion: int) -> int:
    """The instant at which an occasion fires: from `occasion` to before `occasion + jitter`, the same everywhere."""
    if not schedule.jitter:
        return occasion
    return occasion + int(chance.draw(0, f"schedule {schedule.name}", occasion) * schedule.jitter)


def key_of(schedule: Schedule, occasion: int) -> str:
    """The firing's dedupe key, which is also the id of its run: `nightly@2026-11-20T06:00:00Z`."""
    return f"{schedule.name}@{utc_text(occasion)}"


def admit(schedule: Schedule, *, running: bool, queued: bool) -> Admission:
    """What to do with a firing, given whether a run of its schedule is going on and whether a firing waits for its end.

    `start` it; `queue` it, to be started when that run ends; `skip` it for good; `cancel` that run and start it.
    """
    if not running or schedule.overlap == "allow":
        return "start"
    match schedule.overlap:
        case "queue":
            return "skip" if queued else "queue"
        case "cancel":
            return "cancel"
        case "skip":
            return "skip"
