"""Events: kept, filtered, in order, each once for whoever waits, wherever it was published and whatever crashes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from byhand import BASE, DAY, HOUR, HandClock
from patience import until

from stepwell import CloudEvent, Limits, Stepwell, ctx, task, workflow
from stepwell.errors import DefinitionError, RequestRefused, RunCancelled, Unserialisable
from stepwell.stores.memory import MemoryStore
from stepwell.testing import Bench

Play = Callable[..., Any]

ran: list[Any] = []
gate = asyncio.Event()


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    global gate
    ran.clear()
    gate = asyncio.Event()


class Order(msgspec.Struct):
    number: int
    lines: list[str] = []


@task
async def held(what: str) -> str:
    ran.append(what)
    await gate.wait()
    return what


@workflow
async def takes(count: int = 1, where: dict[str, Any] | None = None) -> list[Any]:
    return [(await ctx.event("order.paid", where=where)).data for _ in range(count)]


@workflow
async def takes_late(count: int = 1) -> list[Any]:
    await held("busy")
    return [(await ctx.event("order.paid")).data for _ in range(count)]


async def waits(run: Any, count: int = 1) -> bool:
    return len((await run.state()).waits) == count


async def is_dropped(app: Stepwell, run: Any) -> bool:
    return (await run.row()).status == "waiting" and run.id not in app.engine.runners


# -- which events count ---------------------------------------------------------------------------------------------


def test_an_event_is_given_with_its_data_as_the_type_that_was_named(play: Play) -> None:
    @workflow
    async def takes_one() -> list[Any]:
        event = await ctx.event("order.paid", Order)
        assert isinstance(event, CloudEvent)
        assert isinstance(event.data, Order)
        assert event.time is not None and event.time.tzinfo is not None
        return [
            event.id,
            event.source,
            event.type,
            event.subject,
            event.data.number,
            event.data.lines,
            event.extensions,
        ]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes_one)
            await app.publish("order.paid", Order(7, ["lamp"]), id="e-1", source="till", subject="o-7")
            assert await run.result() == ["e-1", "till", "order.paid", "o-7", 7, ["lamp"], {}]

    play(scenario)


def test_a_filter_lets_through_what_fits_and_nothing_else(play: Play) -> None:
    where = {"and": [{"==": [{"var": "data.shop"}, "x"]}, {">": [{"var": "data.total"}, 10]}]}

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes, 2, where)
            for total, shop in ((50, "y"), (5, "x"), (20, "x"), (9, "x"), (99, "y"), (30, "x")):
                await app.publish("order.paid", {"shop": shop, "total": total})
                await app.publish("order.lost", {"shop": "x", "total": 77})
            assert [data["total"] for data in await run.result()] == [20, 30]

    play(scenario)


def test_an_event_from_before_the_wait_counts(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes_late)
            await until(lambda: ran == ["busy"])
            await app.publish("order.paid", 1)
            gate.set()
            assert await run.result() == [1]

    play(scenario)


def test_an_event_from_before_the_body_began_counts_when_the_run_was_there(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(drive=False) as client:
            await client.publish("order.paid", "too early")
            await asyncio.sleep(0.001)
            await client.start(takes, id="t")
            await client.publish("order.paid", "in time")
        async with make(workflows=[takes]) as app:
            assert await app.handle("t").result() == ["in time"]

    play(scenario)


def test_an_event_from_before_the_creation_of_the_run_counts_only_since_then(play: Play) -> None:
    clock = HandClock()

    @workflow
    async def looks_back(hours: int) -> list[Any]:
        since = datetime.fromtimestamp(BASE / 1_000_000, UTC) + timedelta(hours=hours)
        plain = asyncio.ensure_future(ctx.event("order.paid"))
        back = asyncio.ensure_future(ctx.event("order.paid", since=since))
        again = asyncio.ensure_future(ctx.event("order.paid", since=since))
        return [(await one).data for one in (plain, back, again)]

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            for number in range(4):
                await app.publish("order.paid", number)
                await clock.advance(HOUR)
            run = await app.start(looks_back, 2)
            await until(lambda: _has_waits(run, 1))
            await app.publish("order.paid", "new")
            assert await run.result() == ["new", 2, 3]

    play(scenario)


async def _has_waits(run: Any, count: int) -> bool:
    return len((await run.state()).waits) <= count and (await run.state()).started_at is not None


def test_a_transient_event_is_for_those_who_wait_now(play: Play) -> None:
    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            late = await app.start(takes_late)
            run = await app.start(takes)
            await until(lambda: ran == ["busy"])
            await until(lambda: waits(run))
            await clock.advance(1)
            await app.publish("order.paid", "now or never", transient=True)
            assert await run.result() == ["now or never"]
            await clock.advance(1)
            gate.set()
            await until(lambda: waits(late))
            await clock.advance(1)
            await app.publish("order.paid", "kept")
            assert await late.result() == ["kept"]

    play(scenario)


def test_a_transient_event_reaches_a_waiting_run_that_is_not_in_memory(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(takes)
            await until(lambda: is_dropped(app, run))
            await app.publish("order.paid", "now", transient=True)
            assert await run.result() == ["now"]

    play(scenario)


def test_the_rule_and_the_moment_are_checked_at_the_call(play: Play) -> None:
    @workflow
    async def wrong() -> list[str]:
        said = []
        for topic, where, since in (
            ("a", {"nope": [1]}, None),
            ("a", {"a": 1, "b": 2}, None),
            ("a", "data.total > 10", None),
            ("a", {"==": [{"var": "data"}, object()]}, None),
            ("a", None, datetime(2026, 1, 1)),
            ("", None, None),
        ):
            try:
                await ctx.event(topic, where=where, since=since)
            except DefinitionError as error:
                said.append(str(error))
        return said

    async def scenario(make: Play) -> None:
        async with make() as app:
            said = await app.run(wrong)
            for text, expected in zip(
                said, ("`none`", "2 keys", "as a dict", "not JSON", "zone", "topic"), strict=True
            ):
                assert expected in text

    play(scenario)


def test_a_rule_that_fails_on_an_event_is_logged_and_the_event_passed_over(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes, 1, {">": [{"var": "data.total"}, 10]})
            await app.publish("order.paid", {"total": "many"}, id="odd")
            await app.publish("order.paid", {"total": 11})
            assert await run.result() == [{"total": 11}]

    with caplog.at_level(logging.WARNING, "stepwell.engine"):
        play(scenario)
    [line] = [one.getMessage() for one in caplog.records if "odd" in one.getMessage()]
    assert "order.paid" in line and "fails on this data" in line


# -- how often, and in which order ----------------------------------------------------------------------------------


def test_events_are_taken_in_the_order_in_which_they_were_published_each_once_across_restarts(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes, 9, id="t")
            for number in range(3):
                await app.publish("order.paid", number)
            await until(lambda: _has_taken(run, 3))
        async with make(drive=False) as client:
            for number in range(3, 6):
                await client.publish("order.paid", number)
        async with make(workflows=[takes], warm_wait=0) as app:
            run = app.handle("t")
            await until(lambda: _has_taken(run, 6))
            await until(lambda: is_dropped(app, run))
            for number in range(6, 9):
                await app.publish("order.paid", number)
            assert await run.result() == list(range(9))
            assert (await app.replay("t")).outcome == "ok"

    play(scenario)


async def _has_taken(run: Any, count: int) -> bool:
    return (await run.state()).cursors.get("order.paid", 0) >= count and await waits(run)


def test_two_waits_of_one_filter_take_different_events_in_the_order_of_their_calls(play: Play) -> None:
    @workflow
    async def two() -> list[Any]:
        first, second = await asyncio.gather(ctx.event("order.paid"), ctx.event("order.paid"))
        third = await ctx.event("order.paid")
        return [first.data, second.data, third.data]

    async def scenario(make: Play) -> None:
        async with make() as app:
            early, late = await app.start(two), await app.start(two)
            await until(lambda: waits(early, 2))
            for number in range(3):
                await app.publish("order.paid", number)
            assert await early.result() == [0, 1, 2]
            assert await late.result() == [0, 1, 2]

    play(scenario)


def test_waits_of_different_filters_each_see_each_event(play: Play) -> None:
    @workflow
    async def three() -> list[Any]:
        big = {">": [{"var": "data"}, 5]}
        found = await asyncio.gather(
            ctx.event("order.paid"), ctx.event("order.paid", where=big), ctx.event("order.paid", where=big)
        )
        return [one.data for one in found]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(three)
            for number in (7, 2, 9):
                await app.publish("order.paid", number)
            assert await run.result() == [7, 7, 9]

    play(scenario)


def test_an_event_of_the_same_source_and_id_is_published_once(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app, make(drive=False) as client:
            run = await app.start(takes, 3)
            told = [
                await app.publish("order.paid", 1, id="x"),
                await client.publish("order.paid", 2, id="x"),
                await client.publish("order.paid", 3, id="x", source="another"),
                await app.publish("order.paid", 4),
                await app.publish("order.paid", 5),
            ]
            assert told == [True, False, True, True, True]
            assert await run.result() == [1, 3, 4]

    play(scenario)


@workflow
async def announces(number: int) -> str:
    ctx.publish("order.paid", number, subject=f"o-{number}")
    first = await held("after")
    ctx.publish("order.paid", number + 1)
    await ctx.signal("end")
    return first


def test_a_workflow_publishes_once_whatever_crashes_after_the_commit_and_however_often_it_is_replayed(
    play: Play,
) -> None:
    async def scenario(make: Play) -> None:
        first = make()
        await first.open()
        listener = await first.start(takes, 2, id="t")
        await first.start(announces, 1, id="a")
        await until(lambda: ran == ["after"])
        await until(lambda: _has_taken(listener, 1))
        first.store.abandon()
        first.engine.lose()
        gate.set()
        async with make(workflows=[announces, takes]) as app:
            assert await app.handle("t").result() == [1, 2]
            await until(lambda: waits(app.handle("a")))
        async with make(workflows=[announces]) as app:
            await app.signal("a", "end")
            assert await app.handle("a").result() == "after"
            assert (await app.replay("a")).outcome == "ok"
            found = [(one.source, msgspec.json.decode(one.body)) for one in await app.events(topic="order.paid")]
            assert [(source, event["data"]) for source, event in found] == [
                ("stepwell/runs/a", 1),
                ("stepwell/runs/a", 2),
            ]
            assert found[0][1]["subject"] == "o-1"
        assert ran == ["after", "after"]

    play(scenario)


def test_a_workflow_publishes_once_when_the_process_dies_at_the_step_beside_it() -> None:
    @task
    async def plain(number: int) -> int:
        return number

    @workflow
    async def publishes() -> int:
        ctx.publish("order.paid", 1)
        found = await plain(2)
        ctx.publish("order.paid", found)
        return found

    for when in ("before", "after", "committed"):
        with Bench() as bench:
            bench.crash_at("plain", when)
            assert bench.run(publishes) == 2
            assert bench.crashes == 1
            events = bench.wait_for(bench.app.events())
            assert [msgspec.json.decode(one.body)["data"] for one in events] == [1, 2]


def test_an_event_from_a_run_that_fails_in_the_same_turn_is_published(play: Play) -> None:
    @workflow
    async def fails() -> None:
        ctx.publish("order.lost", None)
        raise ValueError("no")

    async def scenario(make: Play) -> None:
        async with make() as app:
            await (await app.start(fails)).wait()
            assert [one.topic for one in await app.events()] == ["order.lost"]

    play(scenario)


# -- many -----------------------------------------------------------------------------------------------------------


def test_thousands_of_events_are_read_page_by_page_and_none_is_missed(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            late = await app.start(takes_late, 450)
            await until(lambda: ran == ["busy"])
            await asyncio.gather(*(app.publish("order.paid", number) for number in range(1500)))
            seldom = await app.start(takes, 2, {"==": [{"var": "data"}, "needle"]})
            await asyncio.gather(*(app.publish("order.paid", number) for number in range(1500, 2500)))
            await app.publish("order.paid", "needle")
            gate.set()
            await app.publish("order.paid", "needle")
            assert sorted(await late.result()) == list(range(450))
            assert await seldom.result() == ["needle", "needle"]

    play(scenario)


def test_two_hundred_runs_that_wait_for_one_topic_all_get_its_event(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(limits=Limits(runs=50)) as app:
            runs = [await app.start(takes) for _ in range(200)]
            await until(lambda: _all_wait(app, 200))
            await app.publish("order.paid", 7)
            assert [await run.result() for run in runs] == [[7]] * 200

    play(scenario)


async def _all_wait(app: Stepwell, count: int) -> bool:
    return (await app.counts()).get("waiting") == count


# -- runs that are not there, stores that are slow ------------------------------------------------------------------


def test_a_wait_for_an_event_has_a_deadline(play: Play) -> None:
    clock = HandClock()

    @workflow
    async def hurried() -> str:
        try:
            await ctx.event("order.paid", timeout="1h")
        except TimeoutError as error:
            return str(error)
        return "paid"

    async def scenario(make: Play) -> None:
        async with make(clock=clock, warm_wait=0) as app:
            run = await app.start(hurried)
            await until(lambda: is_dropped(app, run))
            await clock.advance(HOUR)
            assert await run.result() == "event 'order.paid' did not come in time"
            await app.publish("order.paid", 1)

    play(scenario)


def test_an_event_published_by_another_process_wakes_a_run_wherever_it_is(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app, make(drive=False) as client:
            run = await app.start(takes, 2)
            await until(lambda: is_dropped(app, run))
            assert await client.publish("order.paid", 1)
            await until(lambda: _has_taken(run, 1))
            assert await client.publish("order.paid", 2)
            assert await run.result() == [1, 2]

    play(scenario)


def test_an_event_published_while_nothing_runs_is_found_by_the_next_engine(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes, id="t")
            await until(lambda: waits(run))
        async with make(drive=False) as client:
            await client.publish("order.paid", 1)
        async with make(workflows=[takes]) as app:
            assert await app.handle("t").result() == [1]

    play(scenario)


def test_an_event_published_while_a_run_is_being_dropped_is_not_lost(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app:
            append = app.store.append
            publishing: list[asyncio.Future[bool]] = []

            def between(change: Any) -> Any:
                if change.release and not publishing and change.status == "waiting":
                    publishing.append(asyncio.ensure_future(app.publish("order.paid", "just then")))
                    loop = asyncio.get_running_loop()
                    done = loop.create_future()
                    publishing[0].add_done_callback(lambda _: loop.call_soon(_follow, append(change), done))
                    return done
                return append(change)

            app.store.append = between
            run = await app.start(takes)
            assert await run.result() == ["just then"]
            assert publishing

    play(scenario)


def _follow(answer: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
    def told(one: asyncio.Future[Any]) -> None:
        if not done.done():
            done.set_result(one.result())

    answer.add_done_callback(told)


def test_an_event_told_to_an_engine_that_is_just_closing_is_found_by_the_next(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(takes, id="t")
            await until(lambda: waits(app.handle("t")))
            await until(lambda: app.engine.topics.offered == 0 and not app.engine.runners["t"].waits.is_scanning)
            runner = app.engine.runners["t"]
            wake = runner.wake
            runner.wake = lambda: None  # it has no more turns before it is given up
            await app.publish("order.paid", "at the last moment")
            await until(lambda: app.engine.topics.offered == 1)
            runner.wake = wake
        async with make(workflows=[takes]) as app:
            assert await app.handle("t").result() == ["at the last moment"]

    play(scenario)


def test_an_event_published_after_a_slow_read_of_the_store_is_not_lost(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            read, slow = app.store.events, asyncio.Event()
            held_up: list[int] = []

            async def events(**asked: Any) -> Any:
                page = await read(**asked)
                if asked.get("topic") and not held_up:
                    held_up.append(1)
                    await slow.wait()
                return page

            app.store.events = events
            run = await app.start(takes)
            await until(lambda: bool(held_up))
            other = await app.start(takes)
            await app.publish("order.paid", 1)
            assert await other.result() == [1]
            slow.set()
            assert await run.result() == [1]

    play(scenario)


def test_what_a_paused_run_waits_for_is_kept_for_it(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(takes, 300)
            await until(lambda: waits(run))
            await run.pause()
            await run.wait()
            await asyncio.gather(*(app.publish("order.paid", number) for number in range(300)))
            assert (await run.row()).status == "paused"
            await run.resume()
            assert sorted(await run.result()) == list(range(300))

    play(scenario)


def test_runs_in_memory_publish_for_all_and_hear_all(play: Play) -> None:
    @workflow
    async def answers() -> Any:
        event = await ctx.event("question")
        ctx.publish("answer", event.data + 1)
        return event.data

    @workflow
    async def asks(number: int) -> Any:
        ctx.publish("question", number)
        return (await ctx.event("answer")).data

    async def scenario(make: Play) -> None:
        async with make() as app:
            for durability in ("memory", "sync"):
                run = await app.start(answers, durability=durability)
                asking = await app.start(asks, 1, durability="sync" if durability == "memory" else "memory")
                assert await asking.result() == 2
                assert await run.result() == 1

    play(scenario)


def test_a_synchronous_workflow_waits_for_events_and_publishes(play: Play) -> None:
    @workflow
    def shop() -> list[Any]:
        ctx.publish("order.paid", {"number": 5})
        first = ctx.sync.event("order.paid", Order, where={"==": [{"var": "data.number"}, 5]})
        assert isinstance(first.data, Order)
        return [first.data.number, ctx.sync.wait(takes(1))]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(shop)
            await until(lambda: _is_started(app, "takes"))
            await app.publish("order.paid", "child's")
            assert (await run.result())[0] == 5

    play(scenario)


async def _is_started(app: Stepwell, name: str) -> bool:
    return any(row.workflow == name and row.status == "waiting" for row in await app.runs())


def test_a_run_that_is_cancelled_waits_no_longer(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes)
            await until(lambda: waits(run))
            assert len(await app.store.open_waits("event")) == 1
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            assert await app.store.open_waits("event") == []
            await app.publish("order.paid", 1)
            assert (await run.row()).wake_at is None

    play(scenario)


# -- the envelope ---------------------------------------------------------------------------------------------------

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def test_what_is_published_is_a_cloud_event(play: Play) -> None:
    @workflow
    async def publishes() -> None:
        ctx.publish("order.paid", Order(1), subject="o-1")

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(publishes, id="p")
            await run.result()
            await app.publish("order.lost", {"n": 1})
            for event in await app.events():
                body = json.loads(event.body)
                assert body["specversion"] == "1.0"
                assert all(isinstance(body[name], str) and body[name] for name in ("id", "source", "type"))
                assert RFC3339.fullmatch(body["time"])
                assert body["datacontenttype"] == "application/json"
                assert all(re.fullmatch(r"[a-z0-9]+", name) for name in body)
                assert (event.topic, event.source, event.id) == (body["type"], body["source"], body["id"])
            first, second = (json.loads(event.body) for event in await app.events())
            assert (first["source"], first["subject"], first["data"]["number"]) == ("stepwell/runs/p", "o-1", 1)
            assert (second["source"], second["data"]) == ("stepwell", {"n": 1})
            assert "subject" not in second

    play(scenario)


def test_a_cloud_event_from_elsewhere_is_published_as_it_is(play: Play) -> None:
    @workflow
    async def takes_one() -> Any:
        event = await ctx.event("com.example.made", where={"==": [{"var": "traceid"}, "t-1"]})
        return [event.id, event.subject, event.data, event.extensions, event.time is None]

    given = {
        "specversion": "1.0", "type": "com.example.made", "source": "/factory", "id": "A234-1234", "subject": "lamp",
        "traceid": "t-1", "sampled": True, "shard": 7, "nothing": None, "data": {"a": [1, 2]},
    }  # fmt: skip
    binary = {**given, "id": "b", "data_base64": "AAEC"}
    del binary["data"]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(takes_one)
            assert await app.publish_event(json.dumps(given).encode())
            assert not await app.publish_event(json.dumps({**given, "data": "other"}).encode())
            extensions = {"traceid": "t-1", "sampled": True, "shard": 7}
            assert await run.result() == ["A234-1234", "lamp", {"a": [1, 2]}, extensions, True]
            [stored] = await app.events()
            assert json.loads(stored.body) == given

            @workflow
            async def takes_bytes() -> list[int]:
                return list((await ctx.event("com.example.made", bytes)).data)

            run = await app.start(takes_bytes)
            await app.publish_event(json.dumps(binary).encode())
            assert await run.result() == [0, 1, 2]

    play(scenario)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"not json", "not a CloudEvent"),
        (b"[]", "object"),
        (b"\xff\xfe", "not a CloudEvent"),
        ({"specversion": None}, "specversion"),
        ({"specversion": "0.3"}, "0.3"),
        ({"id": ""}, "id ''"),
        ({"source": None}, "source"),
        ({"type": 7}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-01-01T00:00:00"}, "zone"),
        ({"subject": 1}, "subject"),
        ({"traceId": "x"}, "'traceId'"),
        ({"trace_id": "x"}, "'trace_id'"),
        ({"nested": {"a": 1}}, "nested"),
        ({"ratio": 0.5}, "ratio"),
        ({"data_base64": "AAEC"}, "both"),
        ({"data": None, "data_base64": "!"}, "Base64"),
    ],
    ids=str,
)
def test_a_malformed_cloud_event_is_refused_with_the_attribute_named(play: Play, wrong: Any, said: str) -> None:
    right = {"specversion": "1.0", "type": "t", "source": "s", "id": "1", "time": "2026-01-01T00:00:00Z", "data": 1}
    if isinstance(wrong, dict):
        made = {**right, **wrong}
        wrong = json.dumps({name: value for name, value in made.items() if value is not None}).encode()

    async def scenario(make: Play) -> None:
        async with make(drive=False) as client:
            with pytest.raises(RequestRefused, match=re.escape(said)):
                await client.publish_event(wrong)
            assert await client.events() == []

    play(scenario)


def test_an_event_that_cannot_be_published_is_refused(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(drive=False) as client:
            with pytest.raises(RequestRefused, match="topic"):
                await client.publish("")
            with pytest.raises(RequestRefused, match="source"):
                await client.publish("t", source="")
            with pytest.raises(Unserialisable, match="event 't'"):
                await client.publish("t", object())
            with pytest.raises(RequestRefused, match="limit"):
                await client.publish("t", "x" * (70 << 20))
            assert await client.events() == []

    play(scenario)


# -- what is old ----------------------------------------------------------------------------------------------------


def test_events_are_forgotten_by_age_on_request(play: Play) -> None:
    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock, drive=False) as app:
            for number in range(4):
                await app.publish("order.paid", number, id=f"e{number}")
                await clock.advance(DAY)
            assert await app.forget_events(older_than="2d") == 2
            assert [one.id for one in await app.events()] == ["e2", "e3"]
            assert await app.publish("order.paid", 0, id="e0")
            assert not await app.publish("order.paid", 3, id="e3")

    play(scenario)


def test_an_engine_forgets_events_once_a_day_when_they_are_older_than_it_keeps_them(play: Play) -> None:
    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock, keep_events="3d") as app:
            kept = []
            for number in range(10):
                await app.publish("order.paid", number)
                await clock.advance(DAY + HOUR)
                await until(lambda: _are_young(app, clock))
                kept.append(len(await app.events()))
            assert kept == [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]
        async with make(clock=clock, keep_events=None):
            await clock.advance(100 * DAY)
            await asyncio.sleep(0.01)
        async with make(clock=clock, drive=False) as client:
            assert len(await client.events()) == 2

    play(scenario)


async def _are_young(app: Stepwell, clock: HandClock) -> bool:
    return all(one.at >= clock.now() - 3 * DAY for one in await app.events())


def test_events_of_a_long_time_are_forgotten_a_piece_at_a_time() -> None:
    clock = HandClock()
    forgotten: list[int] = []

    class Spying(MemoryStore):
        async def forget_events(self, *, before: int) -> int:
            count = await super().forget_events(before=before)
            forgotten.append(count)
            return count

    async def scenario() -> None:
        store = Spying()
        async with Stepwell(store, clock=clock, keep_events="1d") as app:
            for _ in range(48):
                await app.publish("order.paid", 1)
                await clock.advance(HOUR // 2)
            await clock.advance(7 * DAY)
            await until(lambda: not store.data.events)

    asyncio.run(scenario())
    assert sum(forgotten) == 48
    assert max(forgotten) <= 3
