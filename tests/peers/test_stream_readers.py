"""Is reading a stream cheap, and is it whole for whoever reads, whenever they begin?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import Retry, ctx, task, workflow
from stepwell.errors import RunFailed
from stepwell.usecases.streams import Chunk

go_on: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def _gate() -> None:
    go_on.clear()


@task(retry=Retry(attempts=2, first=0, jitter=False))
async def tells(count: int, fails: bool) -> int:
    for number in range(count):
        await ctx.emit(f"{ctx.attempt}.{number}")
    if fails and ctx.attempt == 1:
        raise ValueError("once more")
    if go_on:
        await go_on[0].wait()
    return count


@task
async def gives_up(count: int) -> None:
    for number in range(count):
        await ctx.emit(number)
    raise ValueError("no more")


@workflow
async def story(count: int, fails: bool = False) -> int:
    return await tells(count, fails)


@workflow
async def short_story(count: int) -> None:
    await gives_up(count)


async def all_of(app: Any, id: str, **options: Any) -> list[Chunk]:
    return [chunk async for chunk in app.stream(id, **options)]


def test_a_long_stream_is_read_with_a_few_reads_of_the_store(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(story, 5000)
            await run.result()
            reads = []
            read = type(app.store).read

            async def counted(store: Any, *args: Any, **kwargs: Any) -> Any:
                reads.append(args)
                return await read(store, *args, **kwargs)

            monkeypatch.setattr(type(app.store), "read", counted)
            chunks = await all_of(app, run.id)
            assert [chunk.number for chunk in chunks] == list(range(1, 5001))
            assert len(reads) <= 3

    play(scenario)


def test_readers_that_come_early_late_and_from_elsewhere_all_get_the_same(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        go_on.append(asyncio.Event())
        async with make() as app, make(drive=False) as client:
            run = await app.start(story, 300, True)
            early = [asyncio.create_task(all_of(one, run.id)) for one in (app, app, client)]
            await asyncio.sleep(0)
            middle = asyncio.create_task(all_of(app, run.id))
            await asyncio.sleep(0.02)
            go_on[0].set()
            await run.result()
            late = await all_of(client, run.id)
            readers = [*[await one for one in early], await middle, late]
            whole = [f"{attempt}.{number}" for attempt in (1, 2) for number in range(300)]
            assert [[chunk.value for chunk in chunks] for chunks in readers] == [whole] * 5

    play(scenario)


def test_a_reader_hears_the_end_of_a_run_that_fails_and_of_one_that_emits_nothing(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(short_story, 3)
            assert [chunk.value for chunk in await all_of(app, run.id)] == [0, 1, 2]
            with pytest.raises(RunFailed):
                await run.result()
            quiet = await app.start(story, 0)
            assert await all_of(app, quiet.id) == []

    play(scenario)
