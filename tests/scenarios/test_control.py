"""Pause, resume, cancel, retry, signal: any run, any moment, and across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from patience import until

from stepwell import Retry, StepFailed, ctx, task, workflow
from stepwell.errors import (
    RunCancelled,
    RunExists,
    RunFailed,
    RunNotFound,
    RunSetAside,
    WrongStatus,
)

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    ran.clear()
    World.gate = asyncio.Event()
    World.broken = True


class World:
    """What tasks touch outside the engine."""

    gate: asyncio.Event
    broken = True


@task
async def note(what: str) -> str:
    ran.append(what)
    return what


@task
async def held(what: str) -> str:
    ran.append(f"begin {what}")
    await World.gate.wait()
    ran.append(f"end {what}")
    return what


@task
async def fragile(what: str) -> str:
    ran.append(what)
    if World.broken:
        raise ValueError(f"{what} is broken")
    return what


@workflow
async def two_steps() -> list[str]:
    return [await held("a"), await note("b")]


@workflow
async def approval() -> str:
    await note("asked")
    answer = await ctx.signal("answer", str)
    return await note(answer)


@workflow
async def may_fail() -> list[str]:
    return [await note("before"), await fragile("middle"), await note("after")]


def test_a_paused_run_ends_what_is_in_flight_and_starts_nothing_more(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(two_steps)
            await until(lambda: ran == ["begin a"])
            await run.pause(by="ann", reason="lunch")
            await until(lambda: _is(run, "paused"))
            World.gate.set()
            await until(lambda: _has_completed(run, 1))
            assert ran == ["begin a", "end a"]
            row = await run.row()
            assert row.status == "paused"
            with pytest.raises(RunSetAside, match="lunch"):
                await run.result()
            await run.resume()
            assert await run.result() == ["a", "b"]
            assert ran == ["begin a", "end a", "b"]

    play(scenario)


def test_a_pause_survives_a_restart_and_signals_sent_meanwhile_are_kept(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(approval, id="r")
            await until(lambda: _is(run, "waiting"))
            await run.pause()
            await until(lambda: _is(run, "paused"))
        async with make(workflows=[approval]) as app:
            run = app.handle("r")
            assert await run.signal("answer", "yes")
            assert (await run.row()).status == "paused"
            await run.resume()
            assert await run.result() == "yes"
            assert ran == ["asked", "yes"]

    play(scenario)


def test_a_signal_sent_before_anybody_waits_is_taken_once_and_in_order(play: Callable[..., Any]) -> None:
    @workflow
    async def three() -> list[str]:
        await held("x")
        return [await ctx.signal("s", str) for _ in range(3)]

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(three)
            await until(lambda: ran == ["begin x"])
            assert await run.signal("s", "1", key="k1")
            assert not await run.signal("s", "again", key="k1")
            await run.signal("s", "2")
            World.gate.set()
            await run.signal("s", "3")
            assert await run.result() == ["1", "2", "3"]

    play(scenario)


def test_signals_for_a_run_dropped_from_memory_bring_it_back(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(approval)
            await until(lambda: _is(run, "waiting"))
            await until(lambda: not app.engine.runners)
            await run.signal("answer", "late")
            assert await run.result() == "late"
            assert ran == ["asked", "late"]

    play(scenario)


def test_cancel_reaches_the_body_and_its_attempts_and_cleanup_steps_run(play: Callable[..., Any]) -> None:
    @workflow
    async def with_cleanup() -> None:
        try:
            await held("work")
        finally:
            await note("cleanup")

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(with_cleanup)
            await until(lambda: ran == ["begin work"])
            await run.cancel(by="bob")
            with pytest.raises(RunCancelled):
                await run.result()
            assert ran == ["begin work", "cleanup"]
            assert (await run.row()).status == "cancelled"
            with pytest.raises(WrongStatus):
                await run.cancel()

    play(scenario)


def test_cancel_reaches_children(play: Callable[..., Any]) -> None:
    @workflow
    async def child() -> str:
        return await held("child")

    @workflow
    async def parent() -> str:
        return await child()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            await until(lambda: ran == ["begin child"])
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            kid = app.handle("p/child#1")
            with pytest.raises(RunCancelled):
                await kid.result()

    play(scenario)


def test_a_failed_run_is_retried_from_its_failed_step(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(may_fail, id="f")
            with pytest.raises(RunFailed, match="middle is broken"):
                await run.result()
            state = await run.state()
            assert [str(path) for path in state.failed_steps] == ["fragile#1"]
        World.broken = False
        async with make(workflows=[may_fail]) as app:
            run = app.handle("f")
            await run.retry(by="ann")
            assert await run.result() == ["before", "middle", "after"]
            assert ran == ["before", "middle", "middle", "after"]
            with pytest.raises(WrongStatus):
                await run.retry()

    play(scenario)


def test_a_cancelled_run_can_be_retried_and_runs_again_what_was_cut_off(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(two_steps)
            await until(lambda: ran == ["begin a"])
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            World.gate.set()
            await run.retry()
            assert await run.result() == ["a", "b"]
            assert ran == ["begin a", "begin a", "end a", "b"]

    play(scenario)


def test_retries_follow_the_policy_and_tell_their_attempt(play: Callable[..., Any]) -> None:
    @task(retry=Retry(attempts=4, first="1ms", never_on=(KeyError,)))
    async def third_time() -> int:
        ran.append((ctx.attempt, ctx.idempotency_key))
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    @task(retry=Retry(attempts=4, first="1ms", never_on=(KeyError,)))
    async def hopeless() -> None:
        raise KeyError("gone")

    @workflow
    async def body() -> tuple[int, str]:
        attempts = await third_time()
        try:
            await hopeless()
        except KeyError as error:
            assert isinstance(error, StepFailed)
            return attempts, error.failure.type
        return attempts, ""

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(body, id="r")
            assert await run.result() == (3, "KeyError")
            assert ran == [(n, "r:third_time#1") for n in (1, 2, 3)]

    play(scenario)


def test_the_same_id_and_input_give_the_same_run_and_another_input_is_refused(play: Callable[..., Any]) -> None:
    @workflow
    async def echo(what: str) -> str:
        return await note(what)

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            first = await app.start(echo, "x", id="one")
            second = await app.start(echo, what="x", id="one")
            assert await first.result() == await second.result() == "x"
            assert ran == ["x"]
            with pytest.raises(RunExists, match="another input"):
                await app.start(echo, "y", id="one")
            with pytest.raises(RunNotFound):
                await app.handle("two").result()

    play(scenario)


def test_steps_in_flight_when_the_engine_closes_run_again_with_the_next_attempt(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(grace=0) as app:
            await app.start(two_steps, id="r")
            await until(lambda: ran == ["begin a"])
        World.gate.set()
        async with make(workflows=[two_steps]) as app:
            assert await app.handle("r").result() == ["a", "b"]
        assert ran == ["begin a", "begin a", "end a", "b"]

    play(scenario)


@pytest.mark.parametrize("durability", ["sync", "async", "exit", "memory"])
def test_every_durability_gives_the_same_result(play: Callable[..., Any], durability: str) -> None:
    World.broken = False

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(may_fail, durability=durability)
            assert await run.result() == ["before", "middle", "after"]
            assert len(await app.runs()) == (0 if durability == "memory" else 1)

    play(scenario)


def test_limits_bound_what_is_in_flight(play: Callable[..., Any]) -> None:
    @task(concurrency=3)
    async def counted(number: int) -> int:
        World.now += 1
        World.most = max(World.most, World.now)
        await asyncio.sleep(0)
        World.now -= 1
        return number

    @task(concurrency=1, concurrency_key=lambda shop, number: shop)
    async def keyed(shop: str, number: int) -> int:
        assert shop not in World.shops
        World.shops.add(shop)
        await asyncio.sleep(0)
        World.shops.discard(shop)
        return number

    World.now = World.most = 0  # type: ignore[attr-defined]
    World.shops = set()  # type: ignore[attr-defined]

    @workflow
    async def many() -> int:
        await asyncio.gather(*[counted(n) for n in range(20)], *[keyed("ab"[n % 2], n) for n in range(20)])
        return sum(await counted.map(range(20), concurrency=10))

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            assert await app.run(many) == 190
        assert World.most == 3  # type: ignore[attr-defined]

    play(scenario)


def test_waiting_runs_make_room_for_others(play: Callable[..., Any]) -> None:
    from stepwell import Limits

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(limits=Limits(runs=2)) as app:
            runs = [await app.start(approval, id=f"r{n}") for n in range(8)]
            for run in runs:
                await until(lambda run=run: _is(run, "waiting"))
                assert len(app.engine.runners) <= 2
            for run in runs:
                await run.signal("answer", run.id)
            assert [await run.result() for run in runs] == [run.id for run in runs]

    play(scenario)


async def _is(run: Any, status: str) -> bool:
    return bool((await run.row()).status == status)


async def _has_completed(run: Any, steps: int) -> bool:
    return bool((await run.state()).completed == steps)
