"""Triggers: standing rules that start runs, by the clock or by what is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from stepwell.authoring.graph import GraphWorkflow
from stepwell.authoring.queue import IMPLIED, Queue
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.engine.firing import (
    BACKFILL,
    EVENT,
    SCHEDULE,
    WEBHOOK,
    EventRule,
    RunTerms,
    WebhookRule,
    fired,
    rule_of,
    schedule_of,
)
from stepwell.errors import ArgumentError, RequestRefused, TriggerNotFound
from stepwell.expressions import logic
from stepwell.handle import Run
from stepwell.model.durations import Duration, micros
from stepwell.model.ids import run_id
from stepwell.starting import refuse_ambiguous
from stepwell.stores.protocol import NewRun
from stepwell.stores.tables import Firing, TriggerRow
from stepwell.triggers import firing as calendar
from stepwell.triggers.schedule import CatchUp, Moment, Overlap, Schedule, backfill, describe, instant, utc_text
from stepwell.triggers.schedule import schedule as made_schedule
from stepwell.usecases.flow import FlowControl

P = ParamSpec("P")
T = TypeVar("T")

PAGE = 200
"""Firings recorded, with their runs, in one transaction."""

_LONGEST_NAME: Final = 160


class Triggers(FlowControl):
    """What starts runs when nobody does."""

    async def schedule(
        self,
        name: str,
        target: Workflow[P, T] | Task[P, T],
        *args: Any,  # Any: the target's own signature, checked when the arguments are bound
        cron: str | None = None,
        every: Duration | None = None,
        at: Moment | None = None,
        timezone: str | tzinfo = "UTC",
        jitter: Duration = 0,
        catch_up: CatchUp = "one",
        grace: Duration = "1m",
        overlap: Overlap | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        paused: bool | None = None,
        queue: str | None = None,
        queue_key: str = "",
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
        by: str = "",
        **kwargs: Any,
    ) -> TriggerRow:
        """Start runs of a workflow by the clock: `await app.schedule("nightly", report, cron="0 6 * * *")`.

        Idempotent: saying the same again changes nothing, saying something else changes the trigger of that name and
        keeps what it has fired. Occasions from now on count. They fire while an engine drives the store, whichever
        process that is; one that does not know the workflow starts the run too, which then waits for one that does.

        Args:
            name: the trigger's name; its runs' ids are made of it, such as `nightly@2026-11-20T06:00:00Z`.
            target, *args, **kwargs: what is run, and its arguments, the same each time.
            cron, every, at: when; give one. See `stepwell.triggers.schedule.schedule`, also for `timezone`, `jitter`,
                `catch_up`, `grace`, `overlap`, `start` and `end`.
            paused: whether it fires nothing for now. None: as it is; a new one is not paused.
            queue, queue_key, priority, labels: as in `start`.
            deadline: how long each run may take from its firing.
            by: who asks.

        Raises:
            ArgumentError: a value is not usable; the text names it.
            RequestRefused: the name is taken by a trigger of another kind.
        """
        given: dict[str, object] = {"cron": cron, "every": every, "at": at, "start": start, "end": end, "queue": queue}
        given |= {"overlap": overlap, "paused": paused, "priority": priority, "labels": labels, "deadline": deadline}
        given |= {"queue_key": queue_key or None, "by": by or None, "jitter": jitter or None}
        workflow = workflow_of(target)
        refuse_ambiguous(workflow, len(args), [key for key, value in given.items() if value is not None])
        plan = made_schedule(
            name,
            cron=cron,
            every=every,
            at=at,
            timezone=timezone,
            start=start,
            end=end,
            jitter=jitter,
            catch_up=catch_up,
            grace=grace,
            overlap=overlap,
        )
        return await self.schedule_encoded(
            plan,
            workflow,
            workflow.codec.encode(args, kwargs),
            paused=paused,
            queue=queue,
            queue_key=queue_key,
            priority=priority,
            labels=labels,
            deadline=deadline,
            by=by,
        )

    async def schedule_encoded(
        self,
        plan: Schedule,
        workflow: Workflow[..., Any],  # Any: whatever it returns
        data: msgspec.Raw,
        *,
        paused: bool | None = None,
        queue: str | None = None,
        queue_key: str = "",
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
        by: str = "",
    ) -> TriggerRow:
        """`schedule`, with what `stepwell.triggers.schedule.schedule` makes and the input as the codec encodes it."""
        terms = _terms(workflow, queue, queue_key, priority, labels, deadline)
        if plan.overlap == "queue":
            terms = await self._queued(plan, terms)
        made = TriggerRow(
            name=plan.name,
            kind=SCHEDULE,
            workflow=workflow.name,
            spec=msgspec.json.encode(plan),
            input=bytes(data),
            options=msgspec.json.encode(terms),
            by=by,
        )
        return await self._put_trigger(made, workflow, paused, lambda: self._clock.now())

    async def on(
        self,
        topic: str,
        target: Workflow[P, T] | Task[P, T],
        *,
        where: Any = None,  # Any: JSON, a JSONLogic rule
        name: str = "",
        map: Mapping[str, Any] | None = None,  # Any: JSONLogic rules
        data: bool = False,
        paused: bool | None = None,
        queue: str | None = None,
        queue_key: str = "",
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
        by: str = "",
    ) -> TriggerRow:
        """Start a run of a workflow for each event of a topic: `await app.on("order.paid", ship, data=True)`.

        Idempotent as `schedule`. Events published from now on count, each once, whichever process sees it.

        Args:
            topic: the events' topic.
            target: what is run; its one argument is the event, as a `CloudEvent` or a dict. The input of a graph is the
                event's data, and `event` in its expressions is what the event says besides.
            where: a JSONLogic rule over the event's envelope; only events for which it holds start runs.
            name: the trigger's name, by default made of topic and workflow; a run's id is `<name>@<position>`.
            map: instead of the whole event: a JSONLogic rule over the envelope for each parameter, such as
                `{"order": {"var": "data.id"}}`.
            data: the argument is the event's data without the envelope.
            paused, queue, queue_key, priority, labels, deadline, by: as in `schedule`.

        Raises:
            ArgumentError: the workflow does not take one argument and there is no map, or the name is not usable.
            DefinitionError: a rule is not JSONLogic.
            RequestRefused: the name is taken by a trigger of another kind.
        """
        workflow = workflow_of(target)
        if not topic:
            raise ArgumentError("on() needs the topic of the events")
        name = name or f"{topic}:{workflow.name}"
        run_id(f"{name[:_LONGEST_NAME]}@0")
        if len(name) > _LONGEST_NAME:
            raise ArgumentError(f"trigger name {name[:40]!r}…: {len(name)} characters; use at most {_LONGEST_NAME}")
        if map and data:
            raise ArgumentError("map= and data= both say what the input is; give one")
        is_graph = isinstance(workflow, GraphWorkflow)
        unknown = set(map or {}) - set(workflow.codec.parameters)
        if unknown and not is_graph:
            raise ArgumentError(f"map= names {sorted(unknown)}, which {workflow.name} does not take")
        needs_no_input = not workflow.codec.parameters
        rule = EventRule(
            topic=topic,
            where=logic.written(where),
            parameter="" if map or needs_no_input or is_graph else workflow.codec.only_parameter(),
            whole=is_graph and not map,
            data=data,
            map={key: logic.written(value) for key, value in (map or {}).items()},
        )
        made = TriggerRow(
            name=name,
            kind=EVENT,
            workflow=workflow.name,
            spec=msgspec.json.encode(rule),
            options=msgspec.json.encode(_terms(workflow, queue, queue_key, priority, labels, deadline)),
            by=by,
        )
        last_event = await self.store.last_event()
        return await self._put_trigger(made, workflow, paused, lambda: last_event)

    async def triggers(self) -> list[TriggerRow]:
        """All triggers, by name."""
        return await self.store.triggers()

    async def trigger(self, name: str) -> TriggerRow:
        """One trigger.

        Raises:
            TriggerNotFound: there is none of this name.
        """
        known = await self.store.triggers()
        found = next((one for one in known if one.name == name), None)
        if found is None:
            names = ", ".join(repr(one.name) for one in known[:10]) or "none"
            raise TriggerNotFound(f"there is no trigger {name!r}; there are {names}")
        return found

    async def pause_trigger(self, name: str) -> None:
        """Let a trigger fire nothing until it is resumed. Runs that it has started go on.

        Raises:
            TriggerNotFound: there is none of this name.
        """
        found = await self.trigger(name)
        if not found.paused:
            await self._change_trigger(msgspec.structs.replace(found, paused=True))

    async def resume_trigger(self, name: str) -> None:
        """Let a trigger fire again. What came while it was paused does not count as missed: it starts nothing.

        Raises:
            TriggerNotFound: there is none of this name.
        """
        found = await self.trigger(name)
        while found.paused:
            cursor = await self.store.last_event() if found.kind == EVENT else self._clock.now()
            cursor = max(cursor, found.cursor)
            next_at = _next_at(found, cursor)
            # While it is still paused, so that nothing from before is fired in between.
            if await self.store.advance(name, seen=found.cursor, cursor=cursor, next_at=next_at):
                await self._change_trigger(msgspec.structs.replace(found, paused=False, next_at=next_at))
                return
            found = await self.trigger(name)

    async def remove_trigger(self, name: str) -> None:
        """Delete a trigger and the list of its firings; runs that it has started stay.

        Raises:
            TriggerNotFound: there is none of this name.
        """
        if not await self.store.remove_trigger(name):
            await self.trigger(name)

    async def fire_trigger(self, name: str, *, by: str = "") -> Run[Any]:  # Any: whatever the workflow returns
        """Start a run of a schedule now, whether it is due, paused, or its last run has not ended.

        Raises:
            TriggerNotFound: there is none of this name.
            RequestRefused: it is for events: publish one instead.
        """
        found = await self._schedule_of(name, "fired by hand: publish an event instead")
        now = self._clock.now()
        key = f"{name}@by-hand-{utc_text(now)}"
        await self._fire(found, [(key, now)], "by hand", by)
        workflow = None if self._engine is None else await self._engine.newest(found.workflow)
        return Run(self, key, None if workflow is None else workflow.codec.returns)  # type: ignore[arg-type]  # the whole of it is a Stepwell

    async def backfill(self, name: str, start: Moment, end: Moment, *, by: str = "") -> list[str]:
        """Start runs for a schedule's occasions from `start` on and before `end`; returns the ids of those started.

        Occasions that have a run already are left out. What it says about overlap and jitter does not count here:
        put its runs into a queue if not all of them may go on at once.

        Raises:
            TriggerNotFound: there is none of this name.
            RequestRefused: it is for events.
            ArgumentError: `start` or `end` is no moment.
        """
        found = await self._schedule_of(name, "filled in")
        plan = schedule_of(found)
        started: list[str] = []
        page: list[tuple[str, int]] = []
        for occasion in backfill(plan, instant(start, "start"), instant(end, "end")):
            key = calendar.key_of(plan, occasion)
            if await self.store.get(key) is None:
                page.append((key, occasion))
                started.append(key)
            if len(page) == PAGE:
                await self._fire(found, page, BACKFILL, by)
                page = []
        if page:
            await self._fire(found, page, BACKFILL, by)
        return started

    async def firings(self, name: str, *, limit: int = 100) -> list[Firing]:
        """What a trigger has fired, newest first.

        Raises:
            TriggerNotFound: there is none of this name.
        """
        await self.trigger(name)
        return await self.store.firings(name, limit=limit)

    # -- parts --------------------------------------------------------------------------------------------------

    async def _put_trigger(
        self,
        made: TriggerRow,
        workflow: Workflow[..., Any] | None,  # Any: whatever it returns
        paused: bool | None,
        begin: Callable[[], int],
    ) -> TriggerRow:
        """Make a trigger, or bring the one of its name up to date; `begin` gives a new one's cursor."""
        if self._engine is not None and workflow is not None:
            self._engine.register(workflow)
        if isinstance(workflow, GraphWorkflow):
            await self._keep_definition(workflow)
        known = next((one for one in await self.store.triggers() if one.name == made.name), None)
        now = self._clock.now()
        if known is None:
            cursor = begin()
            row = msgspec.structs.replace(
                made, paused=bool(paused), cursor=cursor, next_at=_next_at(made, cursor), created_at=now, updated_at=now
            )
            await self._change_trigger(row)
            return row
        if known.kind != made.kind:
            raise RequestRefused(
                f"trigger {made.name!r} is of kind {known.kind}; remove it first, or give another name"
            )
        same = all(getattr(known, field) == getattr(made, field) for field in ("workflow", "spec", "input", "options"))
        if not same:
            if made.kind == SCHEDULE and known.spec != made.spec:
                known = await self._from_now_on(known, now)
            known = msgspec.structs.replace(
                known,
                workflow=made.workflow,
                spec=made.spec,
                input=made.input,
                options=made.options,
                next_at=_next_at(made, known.cursor),
                updated_at=now,
                by=made.by,
            )
            await self._change_trigger(known)
        if paused is not None and paused != known.paused:
            await (self.pause_trigger(made.name) if paused else self.resume_trigger(made.name))
        return await self.trigger(made.name)

    async def _from_now_on(self, known: TriggerRow, now: int) -> TriggerRow:
        """Let what a schedule has said so far count as dealt with: what it says next must not fire for the past."""
        while known.cursor < now:
            if await self.store.advance(known.name, seen=known.cursor, cursor=now, next_at=known.next_at):
                return msgspec.structs.replace(known, cursor=now)
            known = await self.trigger(known.name)
        return known

    async def _put_standing(self, row: TriggerRow, plan: Schedule | None, workflow: Workflow[..., Any]) -> None:
        """Put a trigger that a definition stands for; one of its name and kind goes on from where it is."""
        terms = _terms(workflow, None, "", None, None, None)
        if plan is not None and plan.overlap == "queue":
            terms = await self._queued(plan, terms)
        options = msgspec.json.encode(msgspec.structs.replace(terms, deployed=True))
        last_event = await self.store.last_event()
        row = msgspec.structs.replace(row, options=options)
        await self._put_trigger(row, None, None, lambda: last_event if row.kind == EVENT else self._clock.now())

    async def _change_trigger(self, row: TriggerRow) -> None:
        await self.store.put_trigger(row)
        if self._engine is not None:
            self._engine.scheduling.look()

    async def _queued(self, plan: Schedule, terms: RunTerms) -> RunTerms:
        """Terms under which the schedule's runs wait for each other."""
        if terms.queue:
            raise ArgumentError(
                f"schedule {plan.name!r}: overlap='queue' makes a queue of its own, and its runs go into queue "
                f"{terms.queue!r}; use overlap='allow' and give that queue concurrency 1"
            )
        queue = Queue(f"{IMPLIED[1]}{plan.name}", concurrency=1)
        await self._put_queue(queue.row())
        return msgspec.structs.replace(terms, queue=queue.name)

    async def _schedule_of(self, name: str, what: str) -> TriggerRow:
        found = await self.trigger(name)
        if found.kind != SCHEDULE:
            raise RequestRefused(f"trigger {name!r} is of kind {found.kind} and cannot be {what}")
        return found

    async def _fire(self, found: TriggerRow, occasions: list[tuple[str, int]], note: str, by: str) -> None:
        """Record firings and start their runs beside what the trigger does by itself."""
        workflow = None if self._engine is None else await self._engine.newest(found.workflow)
        now = self._clock.now()
        both: list[tuple[Firing, NewRun]] = [
            fired(found, key, at, now=now, chance=self._chance, workflow=workflow, note=note, by=by)
            for key, at in occasions
        ]
        firings, runs = [one for one, _ in both], [run for _, run in both]
        while not await self.store.advance(
            found.name, seen=found.cursor, cursor=found.cursor, next_at=found.next_at, firings=firings, runs=runs
        ):
            found = await self.trigger(found.name)  # it has fired by itself meanwhile
        if self._engine is not None:
            self._engine.queueing.joined(self.store, runs)
            self._engine.claims.look()


def describe_trigger(trigger: TriggerRow) -> str:
    """When a trigger fires, in words for people."""
    if trigger.kind == SCHEDULE:
        return describe(schedule_of(trigger))
    if trigger.kind == EVENT:
        rule = rule_of(trigger)
        where = "" if bytes(rule.where) == logic.NO_RULE else f" where {bytes(rule.where).decode()}"
        return f"on events of topic {rule.topic}{where}"
    if trigger.kind == WEBHOOK:
        return f"on requests to {msgspec.json.decode(trigger.spec, type=WebhookRule).path}"
    return trigger.kind


def _next_at(trigger: TriggerRow, cursor: int) -> int | None:
    if trigger.kind != SCHEDULE:
        return None
    coming = calendar.next_firing(schedule_of(trigger), cursor)
    return None if coming is None else coming.at


def _terms(
    workflow: Workflow[..., Any],  # Any: whatever it returns
    queue: str | None,
    queue_key: str,
    priority: int | None,
    labels: Mapping[str, str] | None,
    deadline: Duration | None,
) -> RunTerms:
    own = workflow.options
    name = workflow.queue if queue is None else queue
    key = queue_key or own.queue_key
    if key and not name:
        raise ArgumentError(f"queue_key={key!r}: the runs have no queue; give queue= too")
    return RunTerms(
        version=workflow.version,
        priority=(own.priority or 0) if priority is None else priority,
        labels={**own.labels, **(labels or {})},
        queue=name,
        queue_key=key,
        deadline=own.deadline if deadline is None else micros(deadline, "deadline="),
    )
