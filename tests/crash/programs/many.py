"""Starts many short runs at once, or goes on with those that are there; `python many.py STORE SIDE COUNT`.

Says `accepted RUN` for each, and `done` when no run is under way any more.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mix import SIDE, plus, say

from stepwell import Stepwell, workflow


@workflow
async def short(number: int) -> int:
    return await plus(await plus(number, 1), 1)


async def drive(store: Path, count: int) -> None:
    async with Stepwell(f"sqlite:///{store}", workflows=[short]) as app:

        async def start(number: int) -> None:
            run = await app.start(short, number, id=f"short-{number}")
            say("accepted", run.id)

        await asyncio.gather(*(start(number) for number in range(count)))
        while set(await app.counts()) - {"completed"}:
            await asyncio.sleep(0.005)
        say("done")


if __name__ == "__main__":
    path, side, count = sys.argv[1:]
    os.environ[SIDE] = side
    asyncio.run(drive(Path(path), int(count)))
