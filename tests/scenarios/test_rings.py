"""Is a run gone as soon as it has left memory, or is it left to the garbage collector?"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from stepwell import Stepwell, ctx, task, workflow

World: dict[str, Any] = {}

pytestmark = pytest.mark.usefixtures("young_heap")


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    World.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def watch() -> None:
    """Remember the parts of the run that is in memory, without holding them."""
    (runner,) = World["app"].engine.runners.values()
    program = runner.body._program
    parts = [runner, runner.steps, runner.waits, runner.inbox, runner.ledger, runner.body]
    parts += [program, program._loop, program._asks, program._body, program._main]
    World["parts"] = [(type(part).__name__, weakref.ref(part)) for part in parts]


def left() -> list[str]:
    return [name for name, part in World["parts"] if part() is not None]


@task
async def look(number: int) -> int:
    watch()
    return number


@task
def look_from_a_thread(number: int) -> int:
    watch()
    return number


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        yield await look(number)


@workflow
async def plain(number: int) -> int:
    await asyncio.sleep(0.001)
    await look_from_a_thread.aio(number)
    return await look(number)


@workflow
async def branching(number: int) -> int:
    found = await asyncio.gather(look(number), look(number), look.map(range(3)))
    async for one in numbers():
        found.append(one)
    return len(found)


@workflow
async def waiting(number: int) -> int:
    await look(number)
    return await ctx.signal("never", int)


async def until_gone(seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while left():
            await asyncio.sleep(0)


@pytest.mark.parametrize("body", [plain, branching], ids=["plain", "branching"])
def test_a_run_that_has_ended_is_gone_without_the_garbage_collector(play: Callable[..., Any], body: Any) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as World["app"]:
            await (await World["app"].start(body, 1)).result()
            await until_gone()

    play(scenario)


def test_a_run_that_is_dropped_while_it_waits_is_gone_without_the_garbage_collector(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(warm_wait="0s") as World["app"]:
            run = await World["app"].start(waiting, 1)
            while "parts" not in World:
                await asyncio.sleep(0)
            await until_gone()
            assert (await World["app"].get(run.id)).status == "waiting"

    play(scenario)
