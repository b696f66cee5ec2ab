"""What do triggers start now? Schedules whose time has come, and triggers for events that were published.

A trigger's progress is one number in its row, the cursor, and `Store.advance` moves it together with the firings and
the runs that they start, if it still stands where it stood: of several processes that see an occasion, one fires it. A
run's id is made of the trigger's name and the occasion, so that even one fired twice would start one run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.firing import BACKFILL, EVENT, SCHEDULE, fired, fired_by_event, rule_of, schedule_of
from stepwell.engine.verbs import VerbBody
from stepwell.errors import RequestRefused, StoreError
from stepwell.model.ids import SECOND
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import NewMessage, NewRun, RunRow
from stepwell.stores.tables import Firing, TriggerRow
from stepwell.triggers import firing as calendar
from stepwell.triggers.schedule import Schedule, utc_text

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine

PAGE = 100
"""Firings of a schedule, or events, dealt with in one transaction."""

REMEMBERED = 20
"""Among so many of the last firings is looked for one whose run has not ended."""

SICK = 60 * SECOND
"""How long a trigger that something is wrong with is left alone (microseconds)."""

_log = logging.getLogger("stepwell.engine")


class Occasions:
    """Fires the triggers of one engine's store, each time that it is told to look."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._read: dict[str, tuple[int, int]] = {}
        self._sick: dict[str, int] = {}
        self._said: set[str] = set()

    async def deal_with(self, triggers: list[TriggerRow]) -> int | None:
        """Deal with every one of these once; when the next one is due (microseconds)."""
        last_event = await self._engine.store.last_event() if any(one.kind == EVENT for one in triggers) else 0
        times = [await self._consider(trigger, last_event) for trigger in triggers]
        return min((time for time in times if time is not None), default=None)

    async def _consider(self, trigger: TriggerRow, last_event: int) -> int | None:
        sick_until = self._sick.get(trigger.name, 0)
        if sick_until > self._engine.clock.now():
            return sick_until
        try:
            match trigger.kind:
                case str(kind) if kind == SCHEDULE:
                    return await self._keep_time(trigger)
                case str(kind) if kind == EVENT:
                    return await self._hear(trigger, last_event)
                case _:
                    return None  # of a kind that something else serves
        except StoreError:
            raise
        except Exception:  # one trigger's trouble must not keep the others from firing
            _log.exception("trigger %s is left alone for a minute", trigger.name)
            self._sick[trigger.name] = until = self._engine.clock.now() + SICK
            return until

    # -- schedules ----------------------------------------------------------------------------------------------

    async def _keep_time(self, trigger: TriggerRow) -> int | None:
        """Fire a schedule's occasions that are due; when it is to be looked at again."""
        now = self._engine.clock.now()
        if trigger.next_at is None or trigger.next_at > now:
            return trigger.next_at
        schedule = schedule_of(trigger)
        due = calendar.due(schedule, trigger.cursor, now, PAGE)
        firings: list[Firing] = []
        runs: list[NewRun] = []
        if due.skipped:
            firings.append(_missed(trigger, schedule, due, now))
            _log.warning("trigger %s: %s", trigger.name, firings[0].note)
        under_way = await self._under_way(trigger) if due.fire and schedule.overlap != "allow" else []
        is_running, is_queued = bool(under_way), any(row.held_until is not None for row in under_way)
        for number, one in enumerate(due.fire):
            admission = calendar.admit(schedule, running=is_running, queued=is_queued)
            is_overtaken = admission == "cancel" and number < len(due.fire) - 1
            if admission == "skip" or is_overtaken:
                why = "the next one was due too" if is_overtaken else "the run of the one before had not ended"
                firings.append(Firing(trigger=trigger.name, key=one.key, occasion=one.occasion, at=now, note=why))
                continue
            if admission == "cancel":
                await self._cancel(under_way, trigger, one.key)
            firing, run = await self._fired(trigger, one)
            firings.append(firing)
            runs.append(run)
            is_running, is_queued = True, is_queued or admission == "queue"
        coming = calendar.next_firing(schedule, due.cursor)
        next_at = None if coming is None else coming.at
        return next_at if await self._advance(trigger, due.cursor, next_at, firings, runs) else now

    async def _fired(self, trigger: TriggerRow, one: calendar.Firing) -> tuple[Firing, NewRun]:
        engine = self._engine
        workflow = await engine.newest(trigger.workflow)
        note = self._note_unknown(trigger)
        return fired(
            trigger, one.key, one.occasion, now=engine.clock.now(), chance=engine.chance, workflow=workflow, note=note
        )

    def _note_unknown(self, trigger: TriggerRow) -> str:
        """Say that nobody here can drive what the trigger starts; the run waits for somebody who can."""
        if trigger.workflow in self._engine.driven():
            return ""
        note = f"workflow {trigger.workflow!r} is not registered in the engine that fired: its run waits, pending"
        if trigger.name not in self._said:
            self._said.add(trigger.name)
            _log.error("trigger %s: %s", trigger.name, note)
        return note

    async def _under_way(self, trigger: TriggerRow) -> list[RunRow]:
        """The runs of the last firings that have not ended."""
        rows = []
        for firing in await self._engine.store.firings(trigger.name, limit=REMEMBERED):
            if firing.run_id and not firing.note.startswith(BACKFILL):
                row = await self._engine.store.get(firing.run_id)
                if row is not None and row.status not in TERMINAL:
                    rows.append(row)
        return rows

    async def _cancel(self, rows: list[RunRow], trigger: TriggerRow, key: str) -> None:
        engine = self._engine
        body = msgspec.json.encode(VerbBody(f"run {key} of the same schedule takes its place"))
        by = f"trigger {trigger.name}"
        for row in rows:
            try:
                posted = await engine.store.post(
                    NewMessage(row.run_id, "cancel", "", body, engine.clock.now(), key=key, by=by)
                )
            except RequestRefused:  # it has ended meanwhile
                continue
            if posted is not None:
                engine.mailboxes.heard(posted)

    # -- events -------------------------------------------------------------------------------------------------

    async def _hear(self, trigger: TriggerRow, last_event: int) -> int | None:
        """Start runs for events that fit; when to look again without being told."""
        if trigger.cursor >= last_event or self._read.get(trigger.name) == (trigger.cursor, last_event):
            return None
        engine = self._engine
        page = await engine.store.events(after=trigger.cursor, topic=rule_of(trigger).topic, limit=PAGE)
        if not page:
            self._read[trigger.name] = (trigger.cursor, last_event)
            return None
        now, workflow = engine.clock.now(), await engine.newest(trigger.workflow)
        firings: list[Firing] = []
        runs: list[NewRun] = []
        for event in page:
            found = fired_by_event(
                trigger, event, now=now, chance=engine.chance, workflow=workflow, note=self._note_unknown(trigger)
            )
            if isinstance(found, Firing):
                _log.warning("trigger %s: %s", trigger.name, found.note)
                firings.append(found)
            elif found is not None:
                firings.append(found[0])
                runs.append(found[1])
        is_done = await self._advance(trigger, page[-1].position, None, firings, runs)
        return None if is_done and len(page) < PAGE else now

    async def _advance(
        self, trigger: TriggerRow, cursor: int, next_at: int | None, firings: list[Firing], runs: list[NewRun]
    ) -> bool:
        """Move on, with what that starts; False when another process was first."""
        engine = self._engine
        moved = await engine.store.advance(
            trigger.name, seen=trigger.cursor, cursor=cursor, next_at=next_at, firings=firings, runs=runs
        )
        if moved and runs:
            engine.queueing.joined(engine.store, runs)
            engine.claims.look()
        return moved


def _missed(trigger: TriggerRow, schedule: Schedule, due: calendar.Due, now: int) -> Firing:
    count = f"{due.skipped} occasion{'' if due.skipped == 1 else 's'}"
    note = f"{count} missed while nothing ran: skipped, as catch_up={schedule.catch_up!r} says"
    key = f"{trigger.name}@missed-until-{utc_text(due.cursor)}"
    return Firing(trigger=trigger.name, key=key, occasion=due.cursor, at=now, note=note)
