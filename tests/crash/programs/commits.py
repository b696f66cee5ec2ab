"""Kills itself at every commit of a scripted run in turn; `python commits.py STORE SIDE before|after start|recover`.

Each life is a forked process that first ends the run which the life before it left behind, then starts the next one
and kills itself at its n-th commit: `before` it reaches the disk, or `after`, when nobody has been told of it yet.
With `start` commits are counted from the start of a run, with `recover` from the opening of the store, so that
recovering is killed too. Says `accepted RUN` and `killed N` as it goes, and `survived N` when a life has no N-th.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from mix import SIDE, chain, plus, say, slow_plus, third_time

from stepwell import Stepwell, ctx, workflow
from stepwell.stores.sqlite import SqliteStore

RESULT = [1, [3, 5], "word", 3, 6, 7]


@workflow
async def scripted() -> list[object]:
    first = await plus(0, 1)
    ctx.state["first"] = first
    pair = await asyncio.gather(plus(first, 2), third_time(5))
    await ctx.sleep("1ms")
    word = await ctx.signal("word", str)
    below = await chain(3)
    mapped = await plus.map([0, 1, 2], common={"right": 1}, concurrency=2)
    last = await slow_plus.aio(below, 4)
    return [first, pair, word, below, sum(mapped), last]


class Fuse:
    """Kills the process at the n-th commit from when it is lit."""

    def __init__(self, store: SqliteStore, point: str) -> None:
        self.count = 0
        self._at = 0
        self._point = point
        store.fault(self._passed)

    def light(self, n: int) -> None:
        self.count, self._at = 0, n

    def _passed(self, point: str) -> None:
        if point == self._point and self._at:
            self.count += 1
            if self.count == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


async def play(app: Stepwell, run_id: str) -> None:
    run = await app.start(scripted, id=run_id)
    say("accepted", run_id)
    row = await run.row()
    if row.finished_at is None:
        await run.signal("word", "word", key="only")
    assert await run.result() == RESULT


async def life(path: Path, point: str, way: str, n: int) -> None:
    store = SqliteStore(path)
    fuse = Fuse(store, point)
    if way == "recover":
        fuse.light(n)
    async with Stepwell(store, workflows=[scripted, chain], warm_wait=0) as app:
        if way == "recover":
            await play(app, f"{way}-{point}")
        else:
            if n > 1:
                await play(app, f"{way}-{point}-{n - 1}")
            fuse.light(n)
            await play(app, f"{way}-{point}-{n}")
        fuse.light(0)


def in_a_process(work: Callable[[], None]) -> int:
    """Run it in a forked process; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(path: Path, when: str, way: str) -> None:
    point = {"before": "commit", "after": "committed"}[when]
    n = 0
    while True:
        n += 1
        code = in_a_process(lambda n=n: asyncio.run(life(path, point, way, n)))
        if code != -signal.SIGKILL:
            break
        say("killed", n)
    assert code == 0, code
    say("survived", n)


if __name__ == "__main__":
    store, side, when, way = sys.argv[1:]
    os.environ[SIDE] = side
    main(Path(store), when, way)
