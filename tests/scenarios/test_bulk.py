"""Verbs for many runs at once: each takes it or says why not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from patience import until

from stepwell import ctx, task, workflow
from stepwell.stores.protocol import Filter
from stepwell.usecases import flow

Play = Callable[..., Any]


class World:
    broken = True


@workflow
async def waits(number: int) -> int:
    return await ctx.signal("go", int)


@task
async def may_break(number: int) -> int:
    if World.broken:
        raise ValueError(f"{number} is broken")
    return number


@workflow
async def breaks(number: int) -> int:
    return await may_break(number)


async def statuses(app: Any) -> dict[str, int]:
    return dict(Counter(row.status for row in await app.runs(Filter(limit=10_000))))


def test_all_runs_that_match_are_paused_resumed_and_cancelled(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PAGE", 4)
    monkeypatch.setattr(flow, "AT_ONCE", 3)

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            for n in range(11):
                await app.start(waits, n, id=f"r{n:02}", labels={"half": str(n % 2)})
            await until(lambda: _are(app, {"waiting": 11}))
            assert await app.pause_all(Filter(labels={"half": "1"}), reason="lunch") == flow.BulkResult(5, [])
            await until(lambda: _are(app, {"waiting": 6, "paused": 5}))
            assert (await app.state("r01")).pause.reason == "lunch"
            assert (await app.resume_all(Filter(workflow="waits", limit=2))).done == 5
            await until(lambda: _are(app, {"waiting": 11}))
            assert (await app.cancel_all(Filter(search="r0"))).done == 10
            await until(lambda: _are(app, {"waiting": 1, "cancelled": 10}))
            assert await app.cancel_all(Filter(workflow="another")) == flow.BulkResult(0, [])

    play(scenario)


def test_runs_that_cannot_take_it_say_why_when_they_are_asked_for(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            for n in range(3):
                await app.start(waits, n, id=f"r{n}")
            await app.cancel("r1")
            await app.handle("r1").wait()
            result = await app.pause_all(Filter(status=("cancelled", "waiting", "running", "pending")))
            assert result.done == 2
            ((run_id, why),) = result.refused
            assert (run_id, "only one that has not ended can" in why) == ("r1", True)

    play(scenario)


def test_failed_runs_are_retried_and_cancelled_ones_only_when_they_are_named(play: Play) -> None:
    World.broken = True

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            runs = [await app.start(breaks, n) for n in range(5)]
            stopped = await app.start(waits, 1)
            await stopped.cancel()
            await asyncio.gather(*(run.wait() for run in (*runs, stopped)))
            World.broken = False
            assert (await app.retry_all(Filter())).done == 5
            assert [await run.result() for run in runs] == list(range(5))
            assert await statuses(app) == {"completed": 5, "cancelled": 1}
            assert (await app.retry_all(Filter(status=("cancelled",)))).done == 1
            await until(lambda: _are(app, {"completed": 5, "waiting": 1}))
            await stopped.signal("go", 7)
            assert await stopped.result() == 7

    play(scenario)


def test_a_client_can_steer_many_runs_of_another_process(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        driver, client = make(workflows=[waits]), make(drive=False)
        async with driver, client:
            await asyncio.gather(*(driver.start(waits, n) for n in range(30)))
            await until(lambda: _are(client, {"waiting": 30}))
            assert (await client.cancel_all(Filter())).done == 30
            await until(lambda: _are(client, {"cancelled": 30}))

    play(scenario)


def test_all_rows_that_match_are_found_however_long_the_list(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PAGE", 7)

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            for n in range(20):
                await app.start(waits, n, id=f"r{n}")
            rows = await app.matching(Filter(limit=1, offset=3))
            assert {row.run_id for row in rows} == {f"r{n}" for n in range(20)}

    play(scenario)


async def _are(app: Any, expected: dict[str, int]) -> bool:
    return await statuses(app) == expected
