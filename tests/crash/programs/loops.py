"""Ends its own process from inside a task or a body; `python loops.py STORE SIDE task|body|drive`.

`task` and `body` put a run called `bad` and others into the store, `drive` drives them. It says `at rest STATUS` when
`bad` has ended or is set aside; then `resume` on its standard input gives that one another try and awaits all results.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from mix import SIDE, note, plus, say

from stepwell import Stepwell, ctx, task, workflow

HARMLESS = "STEPWELL_TEST_HARMLESS"


@task(concurrency=1)
def narrow(number: int) -> int:
    """One at a time; the one who brings a 5 ends the process before the next one has its turn."""
    note()
    if number == 5 and not os.environ.get(HARMLESS):
        time.sleep(0.05)
        os._exit(7)
    return number


@task
async def long(number: int) -> int:
    """Longer than any life of this process while the bad one is there."""
    note()
    if not os.environ.get(HARMLESS):
        await asyncio.sleep(60)
    return number


@workflow
async def bad_task() -> int:
    await plus(1, 1)
    return await narrow.aio(5)


@workflow
async def bad_body() -> int:
    if not os.environ.get(HARMLESS):
        os._exit(7)
    return await plus(2, 3)


@workflow
async def queued(number: int) -> int:
    return await narrow.aio(number)


@workflow
async def working(number: int) -> int:
    return await long(number)


@workflow
async def listening() -> str:
    return await ctx.signal("word", str)


ALL = [bad_task, bad_body, queued, working, listening]


async def prepare(store: Path, how: str) -> None:
    """Put all runs into the store as a client, the bad one first, so that it takes the slot that the others want."""
    async with Stepwell(f"sqlite:///{store}", drive=False) as app:
        await app.start(bad_task if how == "task" else bad_body, id="bad")
        await app.start(listening, id="listening")
        for number in range(3):
            await app.start(queued, number, id=f"queued-{number}")
            await app.start(working, number, id=f"working-{number}")


async def drive(store: Path) -> None:
    async with Stepwell(f"sqlite:///{store}", workflows=ALL, grace=0) as app:
        bad = app.handle("bad")
        say("at rest", (await bad.wait()).status)
        if sys.stdin.readline().strip() == "resume":
            await bad.resume(by="ann")
            say("result", await bad.result())
            await app.signal("listening", "word", "hello")
            say("others", await app.handle("listening").result())
            for number in range(3):
                assert await app.handle(f"queued-{number}").result() == number
                assert await app.handle(f"working-{number}").result() == number
            say("all ended")


if __name__ == "__main__":
    path, side, how = sys.argv[1:]
    os.environ[SIDE] = side
    if how == "drive":
        asyncio.run(drive(Path(path)))
    else:
        asyncio.run(prepare(Path(path), how))
