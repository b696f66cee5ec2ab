"""Policies on start: later, only one at a time, once for many requests, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from patience import until
from virtually import DAY, HOUR, MINUTE, SECOND, Virtual

from stepwell import Queue, ctx, task, workflow
from stepwell.errors import ArgumentError, DefinitionError, RunExists
from stepwell.model.entries import RunInputSet
from stepwell.testing.virtual import BASE

Play = Callable[..., Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@workflow
async def tells(text: str) -> str:
    return f"{text}!"


@workflow
async def lasts(text: str = "") -> str:
    await ctx.signal("go")
    return text


@task
async def shout(text: str) -> str:
    return text.upper()


async def is_status(run: Any, status: str) -> bool:
    return bool((await run.row()).status == status)


def begun_at(virtual: Virtual, state: Any) -> int:
    return int(state.started_at) - BASE


# -- later -------------------------------------------------------------------------------------------------------------


def test_a_delayed_run_is_pending_until_its_time_and_then_begins() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            run = await app.start(tells, "late", delay="2h")
            await asyncio.sleep(7199)
            assert (await run.row()).status == "pending"
            assert await run.result() == "late!"
            assert begun_at(virtual, await run.state()) == 2 * HOUR

    virtual.play(scenario())


def test_a_run_can_be_started_for_a_moment_or_for_one_that_has_passed() -> None:
    virtual = Virtual()
    moment = _EPOCH + timedelta(microseconds=BASE + 30 * MINUTE)

    async def scenario() -> None:
        async with virtual.make() as app:
            run = await app.start(tells, "then", at=moment)
            said = await app.start(tells, "said", at=moment.isoformat())
            past = await app.start(tells, "past", at=moment - timedelta(days=1))
            assert await past.result() == "past!"
            assert virtual.now < MINUTE
            assert [await run.result(), await said.result()] == ["then!", "said!"]
            assert begun_at(virtual, await run.state()) == 30 * MINUTE

    virtual.play(scenario())


def test_a_delayed_run_can_be_cancelled_and_ends_at_once() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            run = await app.start(tells, "never", delay="30d")
            await run.cancel()
            assert (await run.wait()).status == "cancelled"
            assert virtual.now < MINUTE

    virtual.play(scenario())


@pytest.mark.parametrize("durability", ["sync", "memory"])
def test_what_comes_before_its_time_does_not_make_a_delayed_run_begin(durability: str) -> None:
    virtual = Virtual()

    @workflow
    async def hears() -> str:
        return f"{await ctx.signal('word', str)} {await ctx.signal('word', str)}"

    async def scenario() -> None:
        async with virtual.make() as app:
            run = await app.start(hears, delay="1h", durability=durability)
            await run.signal("word", "early")
            await asyncio.sleep(60)
            await run.pause()
            await asyncio.sleep(60)
            await run.resume()
            await run.signal("word", "bird")
            await asyncio.sleep(60)
            assert (await run.row()).status == "pending"
            assert await run.result() == "early bird"
            assert begun_at(virtual, await run.state()) == HOUR

    virtual.play(scenario())


def test_a_delayed_run_outlives_the_engine_that_took_it(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            soon = await app.start(tells, "soon", delay="50ms", id="soon")
            late = await app.start(tells, "late", delay="1d", id="late")
            await late.signal("wake up")  # an engine takes it up, sees that it is early, and lets it go again
            assert await soon.result() == "soon!"
        async with make(workflows=[tells]) as app:
            row = await app.get("late")
            assert (row.status, row.owner) == ("pending", None)
            assert row.wake_at is not None and row.wake_at > row.created_at + DAY - MINUTE

    play(scenario)


def test_a_task_can_be_started_later_too() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            assert await (await app.start(shout, "hey", delay="1m")).result() == "HEY"

    virtual.play(scenario())


# -- one at a time -----------------------------------------------------------------------------------------------------


def test_a_singleton_is_attached_to_while_it_is_under_way_and_starts_anew_afterwards(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            first = await app.start(lasts, "a", singleton="report")
            again = await app.start(lasts, "b", singleton="report")
            other = await app.start(lasts, "c", singleton="other")
            assert again.id == first.id != other.id
            assert len(await app.runs()) == 2
            await first.signal("go")
            assert await again.result() == "a"
            fresh = await app.start(lasts, "d", singleton="report")
            assert fresh.id != first.id
            await fresh.signal("go")
            assert await fresh.result() == "d"

    play(scenario)


def test_singletons_of_two_workflows_do_not_know_each_other(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            await app.start(lasts, "a", singleton="x")
            assert await (await app.start(tells, "b", singleton="x")).result() == "b!"

    play(scenario)


def test_a_singleton_can_refuse(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            first = await app.start(lasts, "a", singleton="x", on_conflict="refuse")
            with pytest.raises(RunExists, match=f"run {first.id} of lasts is .* and has the same singleton key"):
                await app.start(lasts, "b", singleton="x", on_conflict="refuse")
            assert len(await app.runs()) == 1

    play(scenario)


def test_a_singleton_can_replace_the_one_under_way(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            runs = [await app.start(lasts, str(n), singleton="x", on_conflict="replace") for n in range(4)]
            assert len({run.id for run in runs}) == 4
            for run in runs[:-1]:
                assert (await run.wait()).status == "cancelled"
            assert (await runs[0].state()).cancel.reason == f"replaced by run {runs[1].id}"
            attached = await app.start(lasts, "x", singleton="x")
            assert attached.id == runs[-1].id
            await runs[-1].signal("go")
            assert await runs[-1].result() == "3"

    play(scenario)


def test_the_id_is_looked_at_before_the_singleton(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            first = await app.start(tells, "a", id="one", singleton="x")
            assert await first.result() == "a!"
            again = await app.start(tells, "a", id="one", singleton="x", on_conflict="refuse")
            assert again.id == "one"
            assert (await app.start(lasts, "a", id="two", singleton="x")).id == "two"
            assert (await app.start(lasts, "b", id="three", singleton="x")).id == "two"
            with pytest.raises(RunExists, match="another input"):
                await app.start(lasts, "b", id="two", singleton="x")

    play(scenario)


def test_many_starts_of_one_singleton_at_once_make_one_run(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        driver, client = make(workflows=[lasts]), make(drive=False)
        async with driver, client:
            runs = await asyncio.gather(
                *(app.start(lasts, "x", singleton="x") for app in (driver, client) for _ in range(10))
            )
            assert len({run.id for run in runs}) == 1
            await runs[0].signal("go")
            assert {await run.result() for run in runs} == {"x"}

    play(scenario)


def test_a_client_s_singleton_replaces_what_another_process_drives(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        driver, client = make(workflows=[lasts]), make(drive=False)
        async with driver, client:
            old = await driver.start(lasts, "old", singleton="x")
            await until(lambda: is_status(old, "waiting"))
            new = await client.start(lasts, "new", singleton="x", on_conflict="replace")
            assert (await old.wait()).status == "cancelled"
            await new.signal("go")
            assert await new.result() == "new"

    play(scenario)


def test_a_singleton_that_waits_in_a_queue_or_for_its_time_counts_as_under_way() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make(queues=[Queue("q", concurrency=1)]) as app:
            late = await app.start(tells, "a", singleton="x", delay="1h")
            assert (await app.start(tells, "b", singleton="x")).id == late.id
            blocks = await app.start(lasts, queue="q")
            held = await app.start(tells, "a", singleton="y", queue="q")
            new = await app.start(tells, "b", singleton="y", queue="q", on_conflict="replace")
            assert (await held.wait()).status == "cancelled"
            await blocks.signal("go")
            assert await new.result() == "b!"

    virtual.play(scenario())


# -- once for many -----------------------------------------------------------------------------------------------------


def test_a_debounced_run_begins_when_no_more_starts_come_and_has_the_last_input() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            runs = []
            for n in range(5):
                runs.append(await app.start(tells, f"v{n}", debounce="10s", by=f"p{n}"))
                await asyncio.sleep(6)
            assert len({run.id for run in runs}) == 1
            assert await runs[0].result() == "v4!"
            assert begun_at(virtual, await runs[0].state()) // SECOND == 34
            set_ = [one.entry for one in await app.entries(runs[0].id) if isinstance(one.entry, RunInputSet)]
            assert [entry.by for entry in set_] == ["p1", "p2", "p3", "p4"]
            another = await app.start(tells, "next", debounce="10s")
            assert another.id != runs[0].id

    virtual.play(scenario())


def test_a_debounce_has_an_end_where_one_is_given() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            runs = []
            for n in range(9):
                runs.append(await app.start(tells, f"v{n}", debounce="10s", debounce_max="25s"))
                await asyncio.sleep(6)
            firsts = list(dict.fromkeys(run.id for run in runs))
            assert len(firsts) == 2
            assert await app.handle(firsts[0]).result() == "v4!"
            assert begun_at(virtual, await app.state(firsts[0])) // SECOND == 25
            assert await app.handle(firsts[1]).result() == "v8!"

    virtual.play(scenario())


def test_debounce_keys_are_apart_and_large_inputs_are_kept_whole() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            one = await app.start(tells, "a", debounce="10s", debounce_key="one")
            two = await app.start(tells, "b", debounce="10s", debounce_key="two")
            large = "x" * 200_000
            assert (await app.start(tells, large, debounce="10s", debounce_key="two")).id == two.id
            assert (await one.result(), await two.result()) == ("a!", f"{large}!")

    virtual.play(scenario())


def test_a_debounced_run_in_a_queue_is_put_off_there() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make(queues=[Queue("q", concurrency=1)]) as app:
            run = await app.start(tells, "a", debounce="10s", queue="q")
            await asyncio.sleep(8)
            await app.start(tells, "b", debounce="10s", queue="q")
            await asyncio.sleep(8)
            assert (await run.row()).status == "pending"
            assert await run.result() == "b!"
            assert begun_at(virtual, await run.state()) // SECOND == 18

    virtual.play(scenario())


@pytest.mark.parametrize("durability", ["sync", "memory"])
def test_debounced_runs_can_be_cancelled_and_live_in_memory(durability: str) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            run = await app.start(tells, "a", debounce="10s", durability=durability)
            await run.cancel()
            assert (await run.wait()).status == "cancelled"
            new = await app.start(tells, "b", debounce="10s", durability=durability)
            assert (await app.start(tells, "c", debounce="10s", durability=durability)).id == new.id
            assert await new.result() == "c!"

    virtual.play(scenario())


def test_starts_from_several_processes_are_debounced_together(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        driver, client = make(workflows=[tells]), make(drive=False)
        async with driver, client:
            runs = [await (client, driver)[n % 2].start(tells, f"v{n}", debounce="300ms") for n in range(6)]
            assert len({run.id for run in runs}) == 1
            assert await runs[0].result() == "v5!"

    play(scenario)


# -- what the workflow says, and what is refused -----------------------------------------------------------------------


def test_options_of_the_workflow_hold_unless_the_start_says_otherwise() -> None:
    virtual = Virtual()
    mine = tells.with_options(queue="q", priority=3, labels={"a": "1", "b": "1"}, deadline="1h")

    async def scenario() -> None:
        async with virtual.make() as app:
            row = await (await app.start(mine, "x")).row()
            assert (row.queue, row.priority, row.labels) == ("q", 3, {"a": "1", "b": "1"})
            changed = await app.start(mine, "x", queue="", priority=0, labels={"b": "2"}, deadline="2h")
            row = await changed.row()
            assert (row.queue, row.priority, row.labels) == ("", 0, {"a": "1", "b": "2"})
            assert (await changed.state()).deadline == row.created_at + 2 * HOUR

    virtual.play(scenario())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delay": "1s", "at": "2027-01-01T00:00:00Z"}, "delay= and at= do not go together"),
        ({"debounce": "1s", "delay": "1s"}, "debounce= and delay= do not go together"),
        ({"debounce": "1s", "id": "x"}, "the run keeps the id of the first start"),
        ({"debounce": "1s", "singleton": "x"}, "give one of the two policies"),
        ({"debounce_key": "x"}, "debounce_key= says how to debounce: give debounce= too"),
        ({"debounce_max": "1s"}, "debounce_max= says how to debounce"),
        ({"on_conflict": "attach"}, "give singleton= too"),
        ({"singleton": "x", "on_conflict": "fight"}, "on_conflict='fight': use 'attach', 'refuse', 'replace'"),
        ({"delay": "soon"}, "delay=: 'soon' is not a duration"),
        ({"at": "tomorrow"}, "at: found 'tomorrow'; give an aware datetime"),
        ({"at": datetime(2027, 1, 1)}, "has no time zone"),
        ({"deadline": -1}, "deadline=: -1 is not a duration"),
        ({"durability": "maybe"}, "durability='maybe': use 'sync'"),
    ],
)
def test_options_that_contradict_each_other_or_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            with pytest.raises(DefinitionError, match=said):
                await app.start(tells, "x", **options)
            assert await app.runs() == []

    virtual.play(scenario())


def test_an_option_that_may_be_meant_for_the_workflow_is_refused() -> None:
    virtual = Virtual()

    @workflow
    async def remind(text: str, delay: str = "1d", queue: str = "") -> str:
        return f"{text} in {delay} {queue}"

    async def scenario() -> None:
        async with virtual.make() as app:
            with pytest.raises(ArgumentError, match="delay= is an option of the start and a parameter of remind"):
                await app.start(remind, "x", delay="1m")
            run = await app.start(remind, "x", "2d", delay="1m")
            assert await run.result() == "x in 2d "
            assert begun_at(virtual, await run.state()) == MINUTE
            assert await app.run(remind, "x", delay="3d", queue="z") == "x in 3d z"

    virtual.play(scenario())
