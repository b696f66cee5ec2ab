"""Bodies that are dropped while they wait and rebuilt later; `python dropped.py STORE SIDE clean|memory`.

`clean` says for each body `dropped NAME`, what is left of it in memory (`left …`), what has run by then (`ran …`), and
`result NAME JSON` at the end. `memory` drops and rebuilds bodies 2,000 times and says `grew N`, in bytes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mix import SIDE, note, say

from stepwell import Stepwell, ctx, task, workflow
from stepwell.authoring.context import current
from stepwell.programs.turnloop import TurnTask


@task
async def noted(what: str) -> str:
    """Writes down that it runs, also when it is called without the engine."""
    if current.get() is None:
        with Path(os.environ[SIDE]).open("a") as side:
            side.write(f"outside the engine: {what} 0\n")
    else:
        note()
    return what


@workflow
async def with_finally() -> list[str]:
    seen = []
    try:
        seen.append(await ctx.signal("go", str))
    finally:
        seen.append(await noted("tidied"))
    return seen


@asynccontextmanager
async def reserved(what: str) -> AsyncIterator[str]:
    place = await noted(f"reserve {what}")
    try:
        yield place
    finally:
        await noted(f"free {what}")


@workflow
async def with_context() -> list[str]:
    async with reserved("a") as first, reserved("b"):
        return [first, await ctx.signal("go", str)]


@workflow
async def with_group() -> list[str]:
    async def branch(name: str) -> str:
        try:
            return await ctx.signal(name, str)
        finally:
            await noted(name)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(name)) for name in ("go", "left", "right")]
    return [one.result() for one in tasks]


@workflow
async def with_timeout() -> list[str]:
    try:
        async with asyncio.timeout(3600):
            return [await asyncio.shield(ctx.signal("go", str))]
    except BaseException:
        await noted("ended otherwise")
        raise


async def numbers() -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        await noted("generator ended")


@workflow
async def with_generator() -> list[str]:
    seen = []
    async for number in numbers():
        word = await ctx.signal("go" if number == 1 else "left", str)
        seen += [f"{number}{word}"]
    return seen


@workflow
async def with_generator_left_early() -> list[str]:
    async for _ in numbers():
        break
    return [await ctx.signal("go", str)]


@workflow
async def stubborn() -> list[str]:
    """Swallows what it should not, and waits again on its way out."""
    try:
        return [await ctx.signal("go", str)]
    except BaseException:
        try:
            await ctx.sleep(1)
        finally:
            await noted("stubborn")
        raise


@workflow
def in_a_thread() -> list[str]:
    try:
        return [ctx.sync.signal("go", str)]
    finally:
        noted.sync("tidied")


@workflow
async def listening(count: int) -> int:
    total = 0
    for _ in range(count):
        async with asyncio.timeout(3600):
            total += await ctx.signal("number", int)
    return total


CLEAN = [
    with_finally,
    with_context,
    with_group,
    with_timeout,
    with_generator,
    with_generator_left_early,
    stubborn,
    in_a_thread,
]
FILE = str(Path(__file__))


def leftovers() -> list[str]:
    """Coroutines, generators and tasks of this file's bodies that are still there."""
    gc.collect()
    found = []
    for thing in gc.get_objects():
        if isinstance(thing, TurnTask):
            found.append(f"task {thing.get_name()}")
        elif isinstance(thing, types.CoroutineType | types.AsyncGeneratorType):
            code = thing.cr_code if isinstance(thing, types.CoroutineType) else thing.ag_code
            if code.co_filename == FILE and code.co_name not in ("clean", "main"):
                found.append(code.co_qualname)
    return found


def executed() -> set[str]:
    side = Path(os.environ[SIDE])
    return set(side.read_text().split("\n")) if side.exists() else set()


async def dropped(app: Stepwell) -> None:
    while app.engine.runners:
        await asyncio.sleep(0.001)
    for _ in range(20):  # whatever dropping has set going has its turn
        await asyncio.sleep(0.001)


async def clean(store: Path) -> None:
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is nothing to be told of here
    async with Stepwell(f"sqlite:///{store}", workflows=CLEAN, warm_wait=0) as app:
        for one in CLEAN:
            before = executed()
            run = await app.start(one, id=one.name)
            while not (await run.state()).waits:
                await asyncio.sleep(0.001)
            await dropped(app)
            say("dropped", one.name)
            say("left", *leftovers())
            say("ran", *sorted(executed() - before))
            sent: set[str] = set()
            while (state := await run.state()).ended is None:
                for name in {wait.name for wait in state.waits.values() if wait.wait == "signal"} - sent:
                    sent.add(name)
                    await run.signal(name, name)
                await dropped(app)
            say("result", one.name, json.dumps(await run.result()))
            del run
        bodies = [one.name for one in threading.enumerate() if one.name.startswith("stepwell-body")]
        say("threads", len(bodies))
    say("left", *leftovers())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def memory(store: Path, runs: int = 20, rounds: int = 100) -> None:
    async with Stepwell(f"sqlite:///{store}", workflows=[listening], warm_wait=0) as app:
        handles = [await app.start(listening, rounds) for _ in range(runs)]
        early = 0
        for number in range(rounds):
            if number == rounds // 4:
                gc.collect()
                early = resident()
            await asyncio.gather(*(run.signal("number", number) for run in handles))
            while app.engine.runners:
                await asyncio.sleep(0.001)
        gc.collect()
        say("grew", resident() - early)
        assert [await run.result() for run in handles] == [sum(range(rounds))] * runs
    say("done")


if __name__ == "__main__":
    path, side, what = sys.argv[1:]
    os.environ[SIDE] = side
    asyncio.run({"clean": clean, "memory": memory}[what](Path(path)))
