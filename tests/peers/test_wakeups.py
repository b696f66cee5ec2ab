"""Is no wake-up lost? What a run waits for comes at every moment of its life, and it always goes on, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import ctx, task, workflow
from stepwell.errors import RunCancelled, RunSetAside, WrongStatus
from stepwell.testing import Bench

MOMENTS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 45)
"""After how many turns of the loop something comes: before the body begins, while it sets out to wait, and after."""


@task
async def note(what: str) -> str:
    return what


@workflow
async def takes_two() -> list[str]:
    await note("before")
    return [await ctx.signal("go", str), await ctx.signal("go", str)]


@workflow
async def takes_an_event() -> str:
    await note("before")
    return (await ctx.event("paid", str)).data


@workflow
async def asks() -> bool:
    await note("before")
    return await ctx.ask("Publish?", bool)


@workflow
async def child(name: str) -> str:
    return await note(name)


@workflow
async def waits_for_a_child() -> str:
    return await child("from below")


@workflow
async def waits_for_one_signal(timeout: str) -> list[str]:
    found = []
    try:
        found.append(await ctx.signal("go", str, timeout=timeout))
    except TimeoutError:
        found.append("late")
    found.append(await ctx.signal("go", str))
    return found


@workflow
async def listens(number: int) -> str:
    return f"{number}: {(await ctx.event('opened', str)).data}"


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("warm_wait", [0, "30s"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_signals_at_any_moment_are_taken_once_each_and_in_order(
    play: Callable[..., Any], moment: int, warm_wait: Any
) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(warm_wait=warm_wait) as app:
            run = await app.start(takes_two)
            await turns(moment)
            await run.signal("go", "first")
            await turns(moment)
            await run.signal("go", "second")
            assert await run.result() == ["first", "second"]

    play(scenario)


@pytest.mark.parametrize("warm_wait", [0, "30s"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_event_at_any_moment_reaches_a_run_that_waits_or_is_about_to(
    play: Callable[..., Any], moment: int, warm_wait: Any
) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(warm_wait=warm_wait) as app:
            run = await app.start(takes_an_event)
            await turns(moment)
            await app.publish("paid", "cash")
            assert await run.result() == "cash"

    play(scenario)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_child_that_ends_at_any_moment_wakes_a_parent_that_was_paused_or_dropped(
    play: Callable[..., Any], moment: int
) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(waits_for_a_child)
            await turns(moment)
            try:
                await run.pause()
            except WrongStatus:
                assert await run.result() == "from below"
                return
            try:
                assert await run.result() == "from below"
            except RunSetAside:
                await run.resume()
                assert await run.result() == "from below"

    play(scenario)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_answer_as_soon_as_the_question_is_seen_is_taken(play: Callable[..., Any], moment: int) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(asks)
            while not (open_questions := await app.inbox(run=run.id)):
                await asyncio.sleep(0)
            await turns(moment)
            await app.answer(open_questions[0].id, True)
            assert await run.result() is True

    play(scenario)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cancel_at_any_moment_ends_a_run_that_waits(play: Callable[..., Any], moment: int) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(takes_two)
            await turns(moment)
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()

    play(scenario)


def test_an_event_wakes_all_that_wait_for_it_wherever_their_bodies_are() -> None:
    with Bench(warm_wait="1h") as bench:
        early = [bench.start(listens, number) for number in range(20)]
        bench.advance("2h")  # their bodies are dropped meanwhile
        late = [bench.start(listens, number) for number in range(20, 30)]
        bench.wait_for(bench.app.publish("opened", "now"))
        bench.settle()
        assert [run.result() for run in [*early, *late]] == [f"{number}: now" for number in range(30)]


@pytest.mark.parametrize("early", [1, 0])
def test_of_a_signal_and_a_time_limit_one_wins_and_the_signal_is_never_lost(early: int) -> None:
    with Bench() as bench:
        run = bench.start(waits_for_one_signal, "1h")
        bench.advance(3600 - early / 1_000_000)
        run.signal("go", "first")
        bench.advance("1s")
        bench.crash()
        if early:
            run.signal("go", "second")
        assert run.result() == (["first", "second"] if early else ["late", "first"])
        assert run.kinds.count("wait.satisfied") == 2 if early else 1


def test_hundreds_who_wait_for_one_result_all_get_it_and_verbs_are_answered_meanwhile(
    play: Callable[..., Any],
) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app, make(drive=False) as client:
            run = await app.start(takes_two)
            waiting = [asyncio.create_task(app.result(run.id)) for _ in range(300)]
            waiting += [asyncio.create_task(client.result(run.id)) for _ in range(20)]
            await turns(20)
            assert (await client.get(run.id)).status in ("pending", "running", "waiting")
            assert await client.inbox() == []
            await client.signal(run.id, "go", "a")
            await client.signal(run.id, "go", "b")
            assert await asyncio.gather(*waiting, return_exceptions=True) == [["a", "b"]] * 320

    play(scenario)
