"""Kills itself at every passing of a point inside the store's transactions; `python transacts.py STORE SIDE POINT`.

The points are those of `SqliteStore.fault`. Each life is a forked process that first ends the run which the life before
it left behind, then starts the next one and kills itself when it passes the point for the n-th time. Says `accepted
RUN` and `killed N` as it goes, and `survived N` when a life has no N-th.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from commits import Fuse, in_a_process
from mix import SIDE, note, plus, say

from stepwell import Retry, Stepwell, ctx, task, workflow
from stepwell.stores.sqlite import SqliteStore

LARGE = 100_000
"""Characters of a result that is kept outside the journal."""


@task(transactional=True)
def open_accounts() -> None:
    note()
    ctx.connection.execute("CREATE TABLE IF NOT EXISTS ledger (run TEXT, what TEXT, cents INTEGER)")


@task(transactional=True, retry=Retry(attempts=3, first="1ms"))
def book(what: str, cents: int) -> str:
    """Write a line; the third of each run fails at first, after it has written."""
    note()
    ctx.connection.execute("INSERT INTO ledger VALUES (?, ?, ?)", (ctx.run_id, what, cents))
    if what == "fee" and ctx.attempt == 1:
        raise OSError("not yet")
    return what * (LARGE // len(what)) if what == "to" else what


@workflow
async def moves() -> list[int]:
    await open_accounts.aio()
    first = await book.aio("from", -5)
    second, third = await asyncio.gather(book.aio("to", 3), book.aio("fee", 2))
    return [len(first), len(second), len(third), await plus(1, 1)]


RESULT = [4, LARGE, 3, 2]


async def play(app: Stepwell, run_id: str) -> None:
    run = await app.start(moves, id=run_id)
    say("accepted", run_id)
    assert await run.result() == RESULT


async def life(path: Path, point: str, n: int) -> None:
    store = SqliteStore(path)
    fuse = Fuse(store, point)
    async with Stepwell(store, workflows=[moves], warm_wait=0) as app:
        if n > 1:
            await play(app, f"{point}-{n - 1}")
        fuse.light(n)
        await play(app, f"{point}-{n}")
        fuse.light(0)


def main(path: Path, point: str) -> None:
    n = 0
    while True:
        n += 1
        code = in_a_process(lambda n=n: asyncio.run(life(path, point, n)))
        if code != -signal.SIGKILL:
            break
        say("killed", n)
    assert code == 0, code
    say("survived", n)


if __name__ == "__main__":
    store, side, point = sys.argv[1:]
    os.environ[SIDE] = side
    main(Path(store), point)
