"""Replay against today's code: what is told of runs in every status, without any effect, also beside an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from patience import until

from stepwell import ctx, task, workflow
from stepwell.app import Stepwell
from stepwell.errors import RunFailed
from stepwell.usecases.replaying import Replayed

Maker = Callable[..., Stepwell]
Play = Callable[[Any], Any]

ran: list[str] = []
gate = [asyncio.Event()]


@task
async def fetch(item: str) -> str:
    ran.append(item)
    if item == "broken":
        raise ValueError("it is broken")
    return f"got {item}"


@task
async def hold(item: str) -> str:
    ran.append(item)
    await gate[0].wait()
    return item


@task
async def note(item: str) -> None:
    ran.append(item)


@workflow(name="flow")
async def flow(item: str) -> list[str]:
    first = await fetch(item)
    await ctx.signal("go")
    return [first, await fetch("B")]


async def waiting(app: Stepwell, id: str) -> None:
    async def holds() -> bool:
        return (await app.get(id)).status == "waiting"

    await until(holds)


async def completed(app: Stepwell, item: str = "A", id: str = "run") -> None:
    run = await app.start(flow, item, id=id)
    await run.signal("go")
    await run.result()
    ran.clear()


def told(found: Replayed) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return found.outcome, found.new_calls, found.orphans


def test_runs_in_every_status_replay_with_their_own_code(play: Play) -> None:
    @workflow
    async def busy() -> list[str]:
        return list(await asyncio.gather(*[hold(f"{number}") for number in range(300)]))

    @workflow
    async def fails() -> str:
        try:
            return await fetch("broken")
        finally:
            await note("cleared up")

    async def scenario(make: Maker) -> None:
        gate[0] = asyncio.Event()
        async with make() as app:
            await completed(app, id="completed")
            await app.start(flow, "A", id="waiting")
            await waiting(app, "waiting")
            await app.start(flow, "A", id="cancelled")
            await app.cancel("cancelled")
            await app.start(flow, "A", id="paused")
            await waiting(app, "paused")
            await app.pause("paused")
            run = await app.start(fails, id="failed")
            try:
                await run.result()
            except RunFailed:
                pass
            await app.start(busy, id="running")
            await until(lambda: "0" in ran)
            before = {row.run_id: await app.entries(row.run_id) for row in await app.runs()}
            for id in before:
                found = await app.replay(id)
                assert told(found) == ("ok", (), ()), found
                assert found.note == ""
            gate[0].set()
            assert len(await app.handle("running").result()) == 300
            assert (await app.entries("completed")) == before["completed"]

    play(scenario)


def test_a_run_that_was_retried_replays_from_its_whole_journal(play: Play) -> None:
    tries: list[int] = []

    @task
    async def second_time() -> str:
        tries.append(1)
        if len(tries) % 2:
            raise ValueError("the first time")
        return "done"

    @workflow
    async def retried() -> list[str]:
        try:
            return [await fetch("A"), await second_time()]
        finally:
            await note("cleared up")

    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(retried, id="run")
            await run.wait()
            await run.retry()
            assert await run.result() == ["got A", "done"]
            assert told(await app.replay("run")) == ("ok", (), ())

    play(scenario)


def test_what_would_fail_now_has_diverged_and_what_ends_otherwise_is_told(play: Play) -> None:
    @workflow(name="flow")
    async def raises(item: str) -> list[str]:
        first = await fetch(item)
        raise KeyError(first)

    @workflow(name="flow")
    async def shorter(item: str) -> list[str]:
        first = await fetch(item)
        await ctx.signal("go")
        return [first]

    @workflow(name="flow")
    async def other_input(thing: str) -> list[str]:
        return [thing]

    async def scenario(make: Maker) -> None:
        async with make() as app:
            await completed(app)
            found = await app.replay("run", raises)
            assert found.outcome == "diverged" and "KeyError" in found.detail
            found = await app.replay("run", shorter)
            assert told(found) == ("ok", (), ("fetch#2",))
            assert found.note == "today's code gives another result"
            found = await app.replay("run", other_input)
            assert found.outcome == "diverged" and "no parameter 'item'" in found.detail
        async with make(drive=False) as client:
            await client.start(flow, "A", id="pending")
            assert (await client.replay("pending", flow)).outcome == "ok"
            assert (await client.replay("pending", other_input)).outcome == "diverged"
            found = await client.replay("run")
            assert found.outcome == "cannot_load" and "'flow'" in found.detail
        async with make(drive=False, workflows=[flow]) as client:
            assert (await client.replay("run")).outcome == "ok"

    play(scenario)


def test_new_calls_are_told_and_what_is_behind_them_is_looked_at_as_far_as_possible(play: Play) -> None:
    @workflow(name="flow")
    async def notes(item: str) -> list[str]:
        await note("new")
        await ctx.sleep(3600)
        first = await fetch(item)
        await ctx.signal("go")
        return [first, await fetch("C")]

    @workflow(name="flow")
    async def fetches(item: str) -> list[str]:
        new = await fetch.with_options(key="new")("X")
        first = await fetch(item)
        await ctx.signal("go")
        return [new, first]

    async def scenario(make: Maker) -> None:
        async with make() as app:
            await completed(app)
            found = await app.replay("run", notes)
            assert (found.outcome, found.step, found.new_calls) == ("diverged", "fetch#2", ("note#1", "timer#1"))
            found = await app.replay("run", fetches)
            assert (found.outcome, found.new_calls) == ("ok", ("fetch[new]",))
            assert found.note == "what comes after the new calls was not looked at"
            assert ran == []

    play(scenario)


def test_large_payloads_and_synchronous_bodies_replay_too(play: Play) -> None:
    @task
    def long(item: str) -> str:
        return 100_000 * item

    @workflow
    def counts(item: str) -> int:
        return sum(len(long(item)) for _ in range(5))

    async def scenario(make: Maker) -> None:
        async with make() as app:
            assert await (await app.start(counts, "x", id="run")).result() == 500_000
            found = await app.replay("run")
            assert (told(found), found.note) == (("ok", (), ()), "")

    play(scenario)
