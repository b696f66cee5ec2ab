"""A bit of everything that runs can do, to be killed at any moment; `python mix.py STORE SIDE RUNS ITEMS`.

Says `driving` when the engine is open, `accepted …` when something was acknowledged, `done` when all has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from stepwell import Limits, Retry, Stepwell, ctx, task, workflow
from stepwell.errors import WrongStatus
from stepwell.stores.protocol import Filter

SIDE = "STEPWELL_TEST_SIDE"
SIGNALS = 4


def note() -> None:
    """Write down, as the outside world sees it, that this attempt runs."""
    descriptor = os.open(os.environ[SIDE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{ctx.idempotency_key} {ctx.attempt}\n".encode())
    os.close(descriptor)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def heard_lines() -> AsyncIterator[str]:
    """The lines of standard input, until it ends; no thread that would keep a failing program alive."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


@task
async def plus(left: int, right: int) -> int:
    note()
    await asyncio.sleep(0.004)
    return left + right


@task
def slow_plus(left: int, right: int) -> int:
    note()
    time.sleep(0.004)
    return left + right


@task(executor="process")
def far_plus(left: int, right: int) -> int:
    note()
    return left + right


@task(retry=Retry(attempts=50, first="5ms", backoff=1.5, max="20ms"))
async def third_time(number: int) -> int:
    note()
    if ctx.attempt < 3:
        raise ValueError("not yet")
    return number


@task
async def clock() -> int:
    note()
    return time.time_ns()


@workflow
async def chain(length: int) -> int:
    total = 0
    for number in range(length):
        total = await plus(total, number)
        ctx.state["so far"] = total
    return total


@workflow
async def fan(width: int) -> list[int]:
    async def branch(number: int) -> int:
        first = await plus(number, 1)
        second = await slow_plus.aio(first, 1)
        return await third_time(second)

    return await asyncio.gather(*(branch(number) for number in range(width)))


@workflow
async def items(count: int) -> int:
    async def one(number: int) -> int:
        first = await plus(number, 1)
        second = await plus(first, 1)
        return await plus(second, 1)

    return sum(await ctx.map(one, range(count), concurrency=4))


@workflow
async def naps(count: int) -> bool:
    early = 0
    for _ in range(count):
        before = await clock()
        await ctx.sleep("30ms")
        after = await clock()
        early += after - before < 30_000_000
    return early == 0


@workflow
async def heard() -> list[int]:
    taken = []
    for _ in range(SIGNALS):
        number = await ctx.signal("number", int)
        taken.append(await plus(number, 0))
    return taken


@workflow
async def family(size: int) -> list[int]:
    detached = await ctx.start(chain, 3)
    sums = await asyncio.gather(*(chain(number) for number in range(size)))
    ctx.state["detached"] = detached
    return [*sums, await far_plus.aio(1, 1)]


@workflow
def blocking(length: int) -> int:
    total = 0
    for number in range(length):
        total = slow_plus(total, number)
        ctx.sync.sleep("1ms")
    return total


ALL = [chain, fan, items, naps, heard, family, blocking]


def expected(runs: int, size: int) -> dict[str, object]:
    """What each run returns."""
    results: dict[str, object] = {}
    for n in range(runs):
        results |= {
            f"chain-{n}": sum(range(3 * size)),
            f"fan-{n}": [number + 2 for number in range(size)],
            f"items-{n}": sum(number + 3 for number in range(size)),
            f"naps-{n}": True,
            f"heard-{n}": list(range(SIGNALS)),
            f"family-{n}": [sum(range(number)) for number in range(4)] + [2],
            f"blocking-{n}": sum(range(size)),
        }
    return results


async def start(app: Stepwell, n: int, size: int) -> None:
    plan = [(chain, 3 * size), (fan, size), (items, size), (naps, 10 * size), (family, 4), (blocking, size)]
    for target, argument in plan:
        run = await app.start(target, argument, id=f"{target.name}-{n}")
        say("accepted", run.id)
    run = await app.start(heard, id=f"heard-{n}")
    say("accepted", run.id)
    for number in range(SIGNALS):
        try:
            await app.signal(run.id, "number", number, key=str(number))
        except WrongStatus:  # sent by an earlier life of this program, and the run has ended since
            return
        say("accepted", run.id, number)


async def await_ends(app: Stepwell, names: list[str]) -> None:
    for name in names:
        while (await app.handle(name).wait()).status == "stuck":
            await asyncio.sleep(0.01)


async def drive(store: Path, runs: int, size: int) -> None:
    # Bodies are dropped at once, so that rebuilding is part of everything.
    async with Stepwell(f"sqlite:///{store}", workflows=ALL, warm_wait=0, limits=Limits(threads=4, processes=1)) as app:
        say("driving")
        for n in range(runs):
            await start(app, n, size)
        names = [*expected(runs, size), *(f"family-{n}/start:chain#1" for n in range(runs))]
        waiting = asyncio.create_task(await_ends(app, names))
        while not (await asyncio.wait((waiting,), timeout=0.05))[0]:
            for row in await app.runs(Filter(status=("stuck",))):
                # Lives too short for any progress look like a crash loop: somebody has to say that it was not one.
                say("stuck", row.run_id)
                with contextlib.suppress(WrongStatus):  # resumed already, by the message that was sent last time
                    await app.resume(row.run_id)
        say("done")


if __name__ == "__main__":
    store, side, runs, size = sys.argv[1:]
    os.environ[SIDE] = side
    asyncio.run(drive(Path(store), int(runs), int(size)))
