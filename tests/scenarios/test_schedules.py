"""Triggers: runs by the clock and by what is published, each occasion once, across restarts and processes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from patience import until
from virtually import DAY, HOUR, MINUTE, Virtual

from stepwell import Queue, ctx, task, workflow
from stepwell.errors import ArgumentError, DefinitionError, RequestRefused, StoreBusy, TriggerNotFound
from stepwell.model.cloudevents import CloudEvent
from stepwell.stores.memory import MemoryStore
from stepwell.stores.protocol import Filter
from stepwell.stores.tables import TriggerRow
from stepwell.testing.virtual import BASE
from stepwell.triggers.schedule import utc_text
from stepwell.usecases.triggers import describe_trigger

Play = Callable[..., Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@task
async def note(what: str) -> str:
    return what


@workflow
async def report(what: str = "all") -> str:
    return await note(what)


@workflow
async def long_report(hours: int) -> str:
    await ctx.sleep(f"{hours}h")
    return "done"


async def started(app: Any, name: str) -> list[str]:
    """When the trigger's runs began, as `day hour:minute` after virtual time began, oldest first."""
    found = []
    for firing in reversed(await app.firings(name, limit=10_000)):
        if firing.run_id:
            at = (await app.get(firing.run_id)).created_at - BASE
            found.append(f"{at // DAY} {at % DAY // HOUR:02}:{at % HOUR // MINUTE:02}")
    return found


# -- by the clock ------------------------------------------------------------------------------------------------------


def test_a_month_of_nights_fires_each_night_once() -> None:
    virtual = Virtual(micros(datetime(2027, 3, 1, 12, tzinfo=UTC)))

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.schedule("nightly", report, "shop", cron="0 2 * * *", labels={"kind": "night"}, priority=2)
            await asyncio.sleep(31 * 86_400)
            runs = [firing.run_id for firing in reversed(await app.firings("nightly"))]
            assert runs == [f"nightly@2027-{3 + n // 32:02}-{n - 31 * (n > 31):02}T02:00:00Z" for n in range(2, 33)]
            rows = await app.runs(Filter(labels={"kind": "night"}))
            assert Counter((row.status, row.priority) for row in rows) == {("completed", 2): 31}
            assert await app.handle(runs[0]).result() == "shop"
            (entry, *_) = await app.entries(runs[0])
            assert (entry.entry.trigger, entry.entry.by) == ("nightly", "trigger nightly")

    virtual.play(scenario())


def test_a_schedule_keeps_to_the_wall_clock_when_the_clocks_change() -> None:
    virtual = Virtual(micros(datetime(2027, 3, 26, 12, tzinfo=UTC)))  # Berlin: forward on the 28th

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.schedule("morning", report, cron="30 6 * * *", timezone="Europe/Berlin")
            await app.schedule("in the gap".replace(" ", "-"), report, cron="30 2 * * *", timezone="Europe/Berlin")
            await asyncio.sleep(4 * 86_400)
            mornings = [f.run_id.partition("@")[2] for f in reversed(await app.firings("morning"))]
            assert mornings == [
                "2027-03-27T05:30:00Z",
                "2027-03-28T04:30:00Z",
                "2027-03-29T04:30:00Z",
                "2027-03-30T04:30:00Z",
            ]
            gaps = [f.run_id.partition("@")[2] for f in reversed(await app.firings("in-the-gap"))]
            assert gaps == [
                "2027-03-27T01:30:00Z",
                "2027-03-28T01:00:00Z",
                "2027-03-29T00:30:00Z",
                "2027-03-30T00:30:00Z",
            ]

    virtual.play(scenario())


def test_intervals_and_single_moments_fire_too() -> None:
    virtual = Virtual()
    once = EPOCH + timedelta(microseconds=BASE + 90 * MINUTE)

    async def scenario() -> None:
        async with virtual.make() as app:
            row = await app.schedule("often", report, every="15m", start=once, end=once + timedelta(hours=1))
            assert row.next_at == BASE + 90 * MINUTE
            await app.schedule("once", report, at=once)
            await app.schedule("too-late", report, at=once - timedelta(days=1))
            await asyncio.sleep(86_400)
            assert len(await app.firings("often")) == 4
            assert len(await app.firings("once")) == 1
            assert await app.firings("too-late") == []
            assert [row.next_at for row in await app.triggers()] == [None, None, None]

    virtual.play(scenario())


def test_saying_a_schedule_again_changes_nothing_and_another_one_goes_on_from_there() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            first = await app.schedule("hourly", report, "a", every="1h")
            await asyncio.sleep(3 * 3600 + 1)
            before = await app.trigger("hourly")
            assert await app.schedule("hourly", report, "a", every="1h") == before
            assert before.created_at == first.created_at
            changed = await app.schedule("hourly", report, "b", every="1h")
            assert (changed.cursor, changed.created_at) == (before.cursor, first.created_at)
            await asyncio.sleep(2 * 3600)
            firings = await app.firings("hourly")
            assert len(firings) == 5
            assert [await app.handle(one.run_id).result() for one in reversed(firings)] == ["a", "a", "a", "b", "b"]

    virtual.play(scenario())


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", 0), ("one", 1), ("all", 10)])
def test_what_was_missed_while_nobody_drove_is_caught_up_as_the_policy_says(catch_up: Any, expected: int) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.schedule("hourly", report, every="1h", catch_up=catch_up)
        await asyncio.sleep(10 * 3600 + 600)
        async with virtual.make(workflows=[report]) as app:
            await asyncio.sleep(1)
            firings = await app.firings("hourly")
            assert sum(bool(one.run_id) for one in firings) == expected
            notes = [one.note for one in firings if one.note]
            if expected < 10:
                assert notes == [
                    f"{10 - expected} occasions missed while nothing ran: skipped, as catch_up={catch_up!r} says"
                ]
            await asyncio.sleep(3600)
            assert sum(bool(one.run_id) for one in await app.firings("hourly")) == expected + 1

    virtual.play(scenario())


@pytest.mark.parametrize(
    ("overlap", "expected", "statuses"),
    [
        ("allow", ["0 01:00", "0 02:00", "0 03:00", "0 04:00"], {"waiting": 3, "completed": 1}),
        ("skip", ["0 01:00", "0 04:00"], {"completed": 1, "waiting": 1}),
        ("cancel", ["0 01:00", "0 02:00", "0 03:00", "0 04:00"], {"cancelled": 3, "waiting": 1}),
        ("queue", ["0 01:00", "0 02:00", "0 04:00"], {"completed": 1, "waiting": 1, "pending": 1}),
    ],
)
def test_a_run_that_has_not_ended_meets_the_next_one(overlap: Any, expected: list[str], statuses: Any) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            # each takes two hours and a half, one is due each hour
            start = EPOCH + timedelta(microseconds=BASE + HOUR)
            await app.schedule("slow", slow, every="1h", start=start, overlap=overlap)
            await asyncio.sleep(4.2 * 3600)
            assert await started(app, "slow") == expected
            assert Counter(row.status for row in await app.runs()) == statuses
            skipped = [one for one in await app.firings("slow") if not one.run_id]
            assert len(skipped) == 4 - len(expected)
            assert all("the one before had not ended" in one.note for one in skipped)

    @workflow
    async def slow() -> None:
        await ctx.sleep("150m")

    virtual.play(scenario())


def test_runs_of_a_schedule_that_queues_follow_each_other() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            start = EPOCH + timedelta(microseconds=BASE)
            await app.schedule("slow", long_report, 2, every="1h", start=start, overlap="queue")
            await asyncio.sleep(12.5 * 3600)
            began = [
                ((await app.state(one.run_id)).started_at or 0) - BASE
                for one in reversed(await app.firings("slow"))
                if one.run_id and (await app.get(one.run_id)).status in ("completed", "waiting")
            ]
            assert [at // HOUR for at in began] == [1, 3, 5, 7, 9, 11]
            (queue,) = await app.queues()
            assert (queue.queue.name, queue.queue.concurrency) == ("trigger:slow", 1)
            with pytest.raises(ArgumentError, match="overlap='queue' makes a queue of its own"):
                await app.schedule("other", report, every="1h", overlap="queue", queue="q")

    virtual.play(scenario())


def test_jitter_spreads_occasions_and_is_the_same_every_time() -> None:
    times = []
    for _ in range(2):
        virtual = Virtual()

        async def scenario(virtual: Virtual = virtual) -> list[str]:
            async with virtual.make() as app:
                for name in ("a", "b", "c"):
                    await app.schedule(name, report, every="1d", jitter="30m")
                await asyncio.sleep(10 * 86_400)
                return [at for name in ("a", "b", "c") for at in await started(app, name)]

        times.append(virtual.play(scenario()))
    assert times[0] == times[1]
    assert len(set(times[0])) > 25


def test_a_paused_trigger_fires_nothing_and_misses_nothing() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.schedule("hourly", report, every="1h", catch_up="all")
            await asyncio.sleep(2.5 * 3600)
            await app.pause_trigger("hourly")
            await asyncio.sleep(5 * 3600)
            assert len(await app.firings("hourly")) == 2
            assert (await app.schedule("hourly", report, every="1h", catch_up="all")).paused
            await app.resume_trigger("hourly")
            await app.resume_trigger("hourly")
            await asyncio.sleep(600)
            assert len(await app.firings("hourly")) == 2
            await asyncio.sleep(3600)
            assert len(await app.firings("hourly")) == 3
            await app.schedule("hourly", report, every="1h", catch_up="all", paused=True)
            await asyncio.sleep(3 * 3600)
            assert len(await app.firings("hourly")) == 3

    virtual.play(scenario())


def test_a_schedule_can_be_fired_by_hand_filled_in_and_removed() -> None:
    virtual = Virtual(micros(datetime(2027, 1, 10, 12, tzinfo=UTC)))

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.schedule("nightly", report, "x", cron="0 2 * * *", paused=True)
            run = await app.fire_trigger("nightly", by="ann")
            assert await run.result() == "x"
            assert run.id == "nightly@by-hand-2027-01-10T12:00:00Z"
            assert (await app.state(run.id)).origin == ""
            ids = await app.backfill("nightly", "2027-01-01T00:00:00Z", "2027-01-04T00:00:00Z")
            assert ids == [f"nightly@2027-01-0{n}T02:00:00Z" for n in (1, 2, 3)]
            assert [await app.handle(id).result() for id in ids] == ["x"] * 3
            again = await app.backfill("nightly", "2027-01-03T00:00:00Z", "2027-01-05T00:00:00Z")
            assert again == ["nightly@2027-01-04T02:00:00Z"]
            assert Counter(one.note for one in await app.firings("nightly")) == {"by hand": 1, "backfill": 4}
            await app.remove_trigger("nightly")
            for act in (app.trigger, app.firings, app.fire_trigger, app.remove_trigger, app.pause_trigger):
                with pytest.raises(TriggerNotFound, match="there is no trigger 'nightly'; there are none"):
                    await act("nightly")
            assert len(await app.runs()) == 5

    virtual.play(scenario())


def test_a_trigger_whose_workflow_is_not_known_starts_a_run_that_waits_for_who_knows_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make(drive=False) as client:
            await client.schedule("hourly", report, "x", every="1h")
        with caplog.at_level(logging.ERROR, "stepwell.engine"):
            async with virtual.make() as stranger:
                await asyncio.sleep(2.5 * 3600)
                assert len(await stranger.runs(Filter(status=("pending",)))) == 1  # the second met the first
                note = (await stranger.firings("hourly"))[-1].note
                assert note == "workflow 'report' is not registered in the engine that fired: its run waits, pending"
        assert caplog.text.count("is not registered") == 1
        async with virtual.make(workflows=[report]) as app:
            firing = (await app.firings("hourly"))[-1]
            assert await app.handle(firing.run_id).result() == "x"

    virtual.play(scenario())


def test_a_trigger_that_cannot_be_read_does_not_keep_the_others_from_firing(caplog: pytest.LogCaptureFixture) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            row = await app.schedule("broken", report, every="1h")
            await app.schedule("whole", report, every="1h")
            broken = type(row)(name="broken", kind="schedule", workflow="report", spec=b"{", next_at=row.next_at)
            await app.store.put_trigger(broken)
            await app.store.put_trigger(type(row)(name="odd", kind="webhook", workflow="report", spec=b"{}"))
            await asyncio.sleep(2.5 * 3600)
            assert len(await app.firings("whole")) == 2

    virtual.play(scenario())
    assert "trigger broken is left alone for a minute" in caplog.text


def test_schedules_go_on_in_the_next_process(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            await app.schedule("often", report, "x", every="1s", catch_up="all")
        async with make(workflows=[report]) as app:
            await until(lambda: _has_fired(app, "often", 2))
            firings = await app.firings("often")
            assert [await app.handle(one.run_id).result() for one in firings] == ["x"] * len(firings)
            assert all(one.key == one.run_id == f"often@{utc_text(one.occasion)}" for one in firings)

    play(scenario)


def test_a_client_makes_a_schedule_that_another_process_fires(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        driver, client = make(workflows=[report]), make(drive=False)
        async with driver, client:
            await client.schedule("often", report, "x", every="1s")
            await until(lambda: _has_fired(client, "often", 1))
            run = await client.fire_trigger("often")
            assert await run.result() == "x"

    play(scenario)


def test_a_process_that_was_frozen_past_its_lease_fires_nothing_a_second_time() -> None:
    virtual = Virtual()
    loop, make_there = virtual.process("frozen")

    async def there() -> None:
        app = make_there(workflows=[report])
        await app.open()
        await app.schedule("minutely", report, every="1m", catch_up="all")
        await asyncio.sleep(200)

    async def here() -> None:
        await asyncio.sleep(30)  # longer than the lease
        async with virtual.make(workflows=[report], is_shared=True) as app:
            await asyncio.sleep(300)
            loop.frozen = False  # it wakes up with all that it had in mind
            await asyncio.sleep(300)
            firings = await app.firings("minutely")
            assert len({one.occasion for one in firings}) == len(firings) == 13
            assert Counter(row.status for row in await app.runs()) == {"completed": 13}

    loop.run_until_complete(there())
    loop.frozen = True
    virtual.play(here())
    loop.kill()


def test_of_two_processes_that_see_an_occasion_at_once_one_fires_it() -> None:
    virtual = Virtual()

    class SlowToRead(MemoryStore):
        async def triggers(self) -> list[TriggerRow]:
            found = await super().triggers()
            await asyncio.sleep(1)
            return found

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.schedule("hourly", report, every="1h", catch_up="all")
        engines = []
        for _ in range(2):  # engines that are not open any more: nothing but this test moves them
            async with virtual.make(workflows=[report]) as app:
                engines.append(app.engine)
        await asyncio.sleep(5 * 3600 + 1)
        async with virtual.make(drive=False) as client:
            for engine in engines:
                engine.store = SlowToRead(virtual.data)
                await engine.store.open()
            await asyncio.gather(*(engine.scheduling._round() for engine in engines))
            assert len(await client.runs()) == len(await client.firings("hourly")) == 5

    virtual.play(scenario())


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("queue", ["", "q"])
def test_a_firing_whose_commit_goes_wrong_or_unanswered_happens_once(is_done: bool, queue: str) -> None:
    virtual = Virtual()

    class Troubled(MemoryStore):
        answers = 0

        async def advance(self, *args: Any, **kwargs: Any) -> bool:
            self.answers += 1
            moved = not is_done or await super().advance(*args, **kwargs)
            if self.answers % 2:
                raise StoreBusy("the disk is slow today")
            return moved if is_done else await super().advance(*args, **kwargs)

    async def scenario() -> None:
        app = virtual.make()
        app.store = store = Troubled(virtual.data, is_shared=False)
        async with app:
            await app.schedule("hourly", report, every="1h", queue=queue, catch_up="all")
            await asyncio.sleep(3.5 * 3600)
            assert len(await app.firings("hourly")) == 3
            assert Counter(row.status for row in await app.runs()) == {"completed": 3}
            assert store.answers >= 3

    virtual.play(scenario())


# -- by events ---------------------------------------------------------------------------------------------------------


@workflow
async def ships(order: dict[str, Any]) -> str:
    return await note(f"{order}")


@workflow
async def takes_event(event: CloudEvent[dict[str, int]]) -> int:
    return event.data["id"]


@workflow
async def takes_two(id: int, topic: str = "?") -> str:
    return f"{id} {topic}"


def test_each_event_that_fits_starts_one_run(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            await app.publish("order.paid", {"id": 0})
            row = await app.on("order.paid", takes_event, where={">": [{"var": "data.id"}, 1]})
            assert row.name == "order.paid:takes_event"
            for n in range(4):
                await app.publish("order.paid", {"id": n})
                await app.publish("order.lost", {"id": n})
            await until(lambda: _has_fired(app, row.name, 2))
            firings = await app.firings(row.name)
            assert [await app.handle(one.run_id).result() for one in reversed(firings)] == [2, 3]
            assert [one.run_id for one in firings] == [one.key for one in firings]
            assert firings[0].run_id.startswith("order.paid:takes_event@")

    play(scenario)


def test_an_event_can_be_given_as_its_data_or_mapped_to_parameters() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.on("paid", ships, data=True)
            await app.on("paid", takes_two, map={"id": {"var": "data.id"}, "topic": {"var": "type"}}, name="two")
            await app.on("paid", report_nothing)
            await app.publish("paid", {"id": 7})
            await asyncio.sleep(1)
            results = [await app.handle(row.run_id).result() for row in await app.runs()]
            assert sorted(map(str, results)) == ["7 paid", "nothing", "{'id': 7}"]

    @workflow
    async def report_nothing() -> str:
        return "nothing"

    virtual.play(scenario())


def test_an_event_that_does_not_fit_the_workflow_is_noted_and_starts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.on("paid", takes_two, map={"id": {"var": "data.id"}}, name="two")
            await app.publish("paid", {"id": "seven"})
            await app.publish("paid", {"id": 8})
            await asyncio.sleep(1)
            good, bad = await app.firings("two")
            assert await app.handle(good.run_id).result() == "8 ?"
            assert (bad.run_id, "argument 'id' of takes_two" in bad.note) == ("", True)

    virtual.play(scenario())


def test_events_published_by_runs_start_runs_and_many_do_so_in_order() -> None:
    virtual = Virtual()

    @workflow
    async def publishes(count: int) -> None:
        for n in range(count):
            ctx.publish("made", {"id": n})

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.on("made", takes_event, name="made", queue="made")
            await app.run(publishes, 250)
            await asyncio.sleep(5)
            firings = await app.firings("made", limit=1000)
            assert [await app.handle(one.run_id).result() for one in reversed(firings)] == list(range(250))

    virtual.play(scenario())


def test_events_that_were_published_while_nobody_drove_are_not_lost_and_those_of_a_pause_do_not_count(
    play: Play,
) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        client = make(drive=False)
        async with client:
            await client.on("paid", takes_event, name="paid")
            await client.publish("paid", {"id": 1})
            async with make(workflows=[takes_event]) as app:
                await until(lambda: _has_fired(app, "paid", 1))
                await client.pause_trigger("paid")
                await client.publish("paid", {"id": 2})
                await client.resume_trigger("paid")
                await client.publish("paid", {"id": 3})
                await until(lambda: _has_fired(app, "paid", 2))
                firings = await app.firings("paid")
                assert [await app.handle(one.run_id).result() for one in firings] == [3, 1]

    play(scenario)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda app: app.schedule("x", report), "give exactly one"),
        (lambda app: app.schedule("x", report, cron="61 * * * *"), "minute is '61'"),
        (lambda app: app.schedule("a b", report, every="1h"), "name"),
        (lambda app: app.schedule("x", report, every="1h", timezone="Mars"), "Mars"),
        (lambda app: app.schedule("x", report, 1, every="1h"), "argument 'what'"),
        (lambda app: app.schedule("x", takes_two, every="1h"), "missing 1 required"),
        (lambda app: app.schedule("x", report, every="1h", queue_key="k"), "the runs have no queue"),
        (lambda app: app.on("", report), "needs the topic"),
        (lambda app: app.on("t", two_required), "must be a JSON object of its parameters"),
        (lambda app: app.on("t", takes_two, map={"no": 1}), r"map= names \['no'\], which takes_two does not take"),
        (lambda app: app.on("t", report, map={"what": 1}, data=True), "give one"),
        (lambda app: app.on("t", report, where={"no such": 1}), "is not JSONLogic"),
        (lambda app: app.on("t", report, name="a b"), "run id 'a b@0' is not usable"),
        (lambda app: app.on("t", report, name="n" * 161), "161 characters; use at most 160"),
        (lambda app: app.schedule("taken", report, every="1h"), "trigger 'taken' is of kind event; remove it first"),
        (lambda app: app.fire_trigger("taken"), "cannot be fired by hand: publish an event instead"),
        (lambda app: app.backfill("taken", "2027-01-01", "2027-01-02"), "cannot be filled in"),
        (lambda app: app.schedule("x", wants_start, every="1h", start="2027-01-01T00:00:00Z"), "start= is an option"),
    ],
)
def test_a_trigger_that_makes_no_sense_is_refused(make: Callable[..., Any], said: str) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.on("t", report, name="taken")
            with pytest.raises((DefinitionError, RequestRefused), match=said):
                await make(app)
            assert [row.name for row in await app.triggers()] == ["taken"]

    virtual.play(scenario())


@workflow
async def two_required(one: int, two: int) -> None: ...


@workflow
async def wants_start(start: str = "") -> None: ...


def test_triggers_are_described_for_people() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make(queues=[Queue("q")]) as app:
            nightly = await app.schedule("n", report, cron="0 2 * * *", timezone="Europe/Berlin", queue="q")
            paid = await app.on("paid", report, where={"var": "data.ok"})
            assert describe_trigger(nightly) == "at 02:00 every day, Europe/Berlin (0 2 * * *)"
            assert describe_trigger(paid) == 'on events of topic paid where {"var":"data.ok"}'

    virtual.play(scenario())


async def _has_fired(app: Any, name: str, count: int) -> bool:
    return sum(bool(one.run_id) for one in await app.firings(name)) >= count
