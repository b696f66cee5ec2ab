"""Drives runs while there is room and while there is none; `python full.py STORE SIDE`.

Says `driving`, `accepted …` for what was acknowledged, `full` when the engine has said that the store takes nothing,
and `done` when all runs have ended. Obeys lines: `limit` lets no large file be written, `free` takes that back, `try`
starts a run and sends a signal and says `accepted …` or `refused …` for each. An empty line or `close` ends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
from collections.abc import Awaitable
from pathlib import Path

from mix import SIDE, heard, heard_lines, note, say

from stepwell import Stepwell, task, workflow
from stepwell.errors import StoreFull

CHAINS = 4
LENGTH = 60
LIMIT = 16_384
"""Bytes: the store's files are larger by then, and what the tasks write down is not."""


@task
async def page(number: int) -> str:
    """Something that takes room."""
    note()
    await asyncio.sleep(0.002)
    return f"{number:06}" + "x" * 4000


@workflow
async def pages(length: int) -> int:
    total = 0
    for number in range(length):
        total += len(await page(number))
    return total


class Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "takes no writes for now" in record.getMessage():
            say("full")
        else:
            say("log", record.getMessage().replace("\n", " "))


async def attempt(what: str, request: Awaitable[object]) -> None:
    try:
        await request
    except StoreFull:
        say("refused", what)
    else:
        say("accepted", what)


async def obey(app: Stepwell) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    tries = 0
    async for word in heard_lines():
        if word in ("", "close"):
            return
        if word == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
        elif word == "free":
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        elif word == "try":
            tries += 1
            await attempt(f"pages-{tries} of try", app.start(pages, 3, id=f"try-{tries}"))
            await attempt(f"heard {tries - 1}", app.signal("heard", "number", tries - 1, key=str(tries)))
            say("tried", len(await app.runs()))


async def drive(store: Path) -> None:
    logging.getLogger("stepwell").addHandler(Listener())
    async with Stepwell(f"sqlite:///{store}", workflows=[pages, heard], grace=0) as app:
        app.engine.store_retry = 50_000
        say("driving")
        obeying = asyncio.create_task(obey(app))
        for number in range(CHAINS):
            run = await app.start(pages, LENGTH, id=f"pages-{number}")
            say("accepted", run.id)
        await app.start(heard, id="heard")
        say("accepted heard")
        ending = asyncio.gather(*(app.handle(f"pages-{number}").result() for number in range(CHAINS)))
        await asyncio.wait((ending, obeying), return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            say("done")
            await obeying
        ending.cancel()
    say("closed")


if __name__ == "__main__":
    path, side = sys.argv[1:]
    os.environ[SIDE] = side
    asyncio.run(drive(Path(path)))
