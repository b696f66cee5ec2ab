"""Kills itself at every commit of a run that is undone; `python undoes.py STORE SIDE before|after fails|cancelled`.

Lives as in `commits.py`. With `fails` the last step of the run fails, with `cancelled` it is cancelled there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from commits import Fuse, in_a_process
from mix import SIDE, note, plus, say

from stepwell import Retry, Stepwell, ctx, task, workflow
from stepwell.errors import RunCancelled, RunFailed, WrongStatus
from stepwell.stores.sqlite import SqliteStore

UNDONE = ["c", "b", "a", "run"]
"""What is undone, in order."""


@task(retry=Retry(attempts=5, first="1ms", jitter=False))
async def undo(what: str) -> None:
    note()
    if what == "b" and ctx.attempt == 1:
        raise OSError("not yet")


@task
async def last(waits: bool) -> None:
    note()
    if not waits:
        raise ValueError("doomed")
    await asyncio.sleep(3600)


@workflow
async def doomed(waits: bool) -> None:
    await plus(0, 1)
    ctx.compensate(undo, "run")
    async with ctx.saga():
        await plus(1, 1)
        ctx.compensate(undo, "a")
        async with ctx.saga():
            await plus(2, 1)
            ctx.compensate(undo, "b")
        await plus(3, 1)
        ctx.compensate(undo, "c")
        await last(waits)


async def play(app: Stepwell, run_id: str, how: str) -> None:
    run = await app.start(doomed, how == "cancelled", id=run_id)
    say("accepted", run_id)
    if how == "cancelled":
        while True:
            state = await run.state()
            if state.cancel or state.ended or any(path.name == "last" for path in state.steps):
                break
            await asyncio.sleep(0.001)
        with contextlib.suppress(WrongStatus):
            await run.cancel()
    with contextlib.suppress(RunFailed, RunCancelled):
        await run.result()


async def life(path: Path, point: str, how: str, n: int) -> None:
    store = SqliteStore(path)
    fuse = Fuse(store, point)
    async with Stepwell(store, workflows=[doomed], warm_wait=0) as app:
        if n > 1:
            await play(app, f"{point}-{n - 1}", how)
        fuse.light(n)
        await play(app, f"{point}-{n}", how)
        fuse.light(0)


def main(path: Path, when: str, how: str) -> None:
    point = {"before": "commit", "after": "committed"}[when]
    n = 0
    while True:
        n += 1
        code = in_a_process(lambda n=n: asyncio.run(life(path, point, how, n)))
        if code != -signal.SIGKILL:
            break
        say("killed", n)
    assert code == 0, code
    say("survived", n)


if __name__ == "__main__":
    store, side, when, how = sys.argv[1:]
    os.environ[SIDE] = side
    main(Path(store), when, how)
