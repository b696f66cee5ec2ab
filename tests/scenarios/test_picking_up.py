"""Which runs go on when a process picks up those of another one?"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dying import Fuse, die
from patience import until

from stepwell import Stepwell, ctx, task, workflow
from stepwell.engine.reading import HEAD
from stepwell.engine.trials import CLAIMS_WITHOUT_PROGRESS
from stepwell.errors import WrongStatus

LONG = 2 * HEAD


@task
async def double(number: int) -> int:
    return 2 * number


@workflow
async def collect(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += await double(number)
    return total + await ctx.signal("last", int)


async def finished(app: Stepwell, name: str) -> int:
    await app.signal(name, "last", 1)
    run = app.handle(name)
    return int(await run.result())


def test_runs_with_short_and_long_journals_are_picked_up_together(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        sizes = {"empty": 0, "short": 3, "full": (HEAD - 4) // 2, "more": HEAD // 2, "long": LONG}
        async with make() as app:
            await asyncio.gather(*(app.start(collect, steps, id=name) for name, steps in sizes.items()))
            while (await app.counts()).get("waiting", 0) < len(sizes):
                await asyncio.sleep(0)
        async with make(workflows=[collect]) as app:
            for name, steps in sizes.items():
                assert await finished(app, name) == steps * (steps - 1) + 1
                again = [one for one in await app.entries(name) if getattr(one.entry, "attempt", 1) > 1]
                assert not again, "no step runs twice"

    play(scenario)


@pytest.mark.parametrize("seq", [1, 4])
def test_a_damaged_journal_keeps_no_other_run_from_going_on(tmp_path: Path, seq: int) -> None:
    path = tmp_path / "runs.db"

    async def scenario() -> None:
        async with Stepwell(f"sqlite:///{path}") as app:
            await asyncio.gather(*(app.start(collect, 3, id=f"r{n}") for n in range(20)))
            while (await app.counts()).get("waiting", 0) < 20:
                await asyncio.sleep(0)
        file = sqlite3.connect(path)
        assert file.execute(
            "UPDATE journal SET crc = crc + 1 WHERE seq = ? AND run = (SELECT id FROM runs WHERE run_id = 'r7')", (seq,)
        ).rowcount
        file.commit()
        file.close()
        async with Stepwell(f"sqlite:///{path}", workflows=[collect], grace="0s") as app:
            await app.signal("r7", "last", 1)
            assert [await finished(app, f"r{n}") for n in range(20) if n != 7] == [7] * 19
            assert (await app.counts()).get("completed") == 19

    asyncio.run(scenario())


@task
async def note(runs: str) -> str:
    executed.append(runs)
    await asyncio.sleep(0.001)
    return runs


@workflow
async def noted(name: str) -> int:
    await note(name)
    return await ctx.signal("last", int)


executed: list[str] = []
gates: dict[str, asyncio.Event] = {}


def test_a_run_under_suspicion_that_is_started_once_more_is_driven_once(play: Callable[..., Any]) -> None:
    """Whoever has died in every life is set aside, the others are pardoned and look as if they were new."""
    executed.clear()
    names = ["first", "second", "third"]

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(drive=False) as app:
            for name in names:
                await app.start(noted, name, id=name)
        for _ in range(CLAIMS_WITHOUT_PROGRESS + 1):
            app = make(workflows=[noted])
            fuse = Fuse(app, 1, "before")
            await app.open()
            await fuse.burnt.wait()
            await die(app)
        async with make(workflows=[noted]) as app:
            while (await app.counts()).get("completed", 0) < 2:
                for name in names:
                    await app.start(noted, name, id=name)
                    with contextlib.suppress(WrongStatus):
                        await app.signal(name, "last", 1, key="once")
                await asyncio.sleep(0)
            assert (await app.get("first")).status == "stuck"
            await app.resume("first")
            assert [await app.handle(name).result() for name in names] == [1, 1, 1]
        assert sorted(executed) == sorted(names)

    play(scenario)


@task
async def held() -> None:
    await gates["step"].wait()


@workflow
async def two_numbers() -> list[int]:
    await held()
    return [await ctx.signal("number", int), await ctx.signal("number", int)]


def test_what_comes_for_a_run_while_it_is_picked_up_is_kept_when_it_is_started_once_more(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"

    async def scenario() -> None:
        async with Stepwell(url, drive=False) as client:
            await client.start(two_numbers, id="r")
            app = Stepwell(url, workflows=[two_numbers], warm_wait=0)
            gates.update(read=asyncio.Event(), step=asyncio.Event())
            read = app.store.read_many

            async def read_later(*args: Any, **kwargs: Any) -> Any:
                await gates["read"].wait()
                return await read(*args, **kwargs)

            app.store.read_many = read_later  # type: ignore[method-assign]  # the run is claimed, and not yet in memory
            async with app:
                await until(lambda: app.engine.claims.is_adopting("r"))
                await client.signal("r", "number", 1)
                await until(lambda: "r" in app.engine.claims._early)
                await app.start(two_numbers, id="r")
                gates["read"].set()
                await until(lambda: "r" in app.engine.runners)
                await client.signal("r", "number", 2)
                await until(lambda: 2 in app.engine.runners["r"].inbox._known)
                gates["step"].set()
                assert await app.handle("r").result() == [1, 2]

    asyncio.run(asyncio.wait_for(scenario(), 20))
