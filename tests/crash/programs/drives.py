"""Drives a store until told to stop; `python drives.py STORE SIDE PLAN`, PLAN a list of `[workflow, id, arguments]`.

Says `driving` (or `busy …` and ends), `accepted RUN` for each run of the plan, `ended RUN STATUS` when one has ended,
`lost` when another took over, and `stopped` after the line `stop` came in; a line `clock N` sets the clock N seconds
forward. From the environment: STEPWELL_TEST_LEASE (seconds), STEPWELL_TEST_CLOCK (seconds that the clock is ahead),
STEPWELL_TEST_PATIENCE (seconds for which a busy store is asked again).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from mix import SIDE, chain, heard_lines, note, plus, say

from stepwell import Stepwell, ctx, task, workflow
from stepwell.engine import clock, worker
from stepwell.engine.clock import SystemClock
from stepwell.errors import StoreBusy
from stepwell.model.lifecycle import TERMINAL


class ShiftedClock(SystemClock):
    """The machine's clock, so many seconds ahead."""

    ahead = float(os.environ.get("STEPWELL_TEST_CLOCK", "0"))

    def now(self) -> int:
        return super().now() + round(self.ahead * 1_000_000)


@task
async def held(seconds: float) -> int:
    """Takes long the first time."""
    note()
    if ctx.attempt == 1:
        await asyncio.sleep(seconds)
    return ctx.attempt


@workflow
async def hold(seconds: float) -> list[int]:
    first = await plus(0, 1)
    attempt = await held(seconds)
    return [first, attempt, await plus(attempt, 1)]


@workflow
async def late(seconds: float, count: int) -> list[int]:
    """Listens only after a while."""
    await held(seconds)
    return [await ctx.signal("number", int) for _ in range(count)]


@workflow
async def tidy(seconds: float) -> None:
    try:
        await held(seconds)
        await ctx.signal("never")
    finally:
        await plus(40, 2)


@workflow
async def nap(seconds: float) -> int:
    await plus(0, 0)
    await ctx.sleep(seconds)
    return await plus(1, 1)


@workflow
async def patient(seconds: float) -> str:
    """Waits for a signal, but not for ever."""
    try:
        return await ctx.signal("word", str, timeout=seconds)
    except TimeoutError:
        return "nothing came"


ALL = {one.name: one for one in (hold, late, tidy, nap, patient, chain)}


async def opened(app: Stepwell) -> None:
    ends = time.monotonic() + float(os.environ.get("STEPWELL_TEST_PATIENCE", "0"))
    while True:
        try:
            await app.open()
            return
        except StoreBusy as busy:
            if time.monotonic() >= ends:
                say("busy", busy)
                sys.exit(0)
            await asyncio.sleep(0.02)


async def tell_ends(app: Stepwell) -> None:
    told: set[str] = set()
    while True:
        for row in await app.runs():
            if row.status in TERMINAL and row.run_id not in told:
                told.add(row.run_id)
                say("ended", row.run_id, row.status)
        await asyncio.sleep(0.005)


async def tell_loss(app: Stepwell) -> None:
    while not app.engine.lost:
        await asyncio.sleep(0.005)
    say("lost")


async def obey() -> None:
    async for line in heard_lines():
        if line == "stop":
            return
        ShiftedClock.ahead = float(line.removeprefix("clock "))


async def drive(store: Path, plan: list[list[Any]]) -> None:
    app = Stepwell(f"sqlite:///{store}", workflows=ALL.values(), grace=0, clock=ShiftedClock())
    await opened(app)
    say("driving")
    tellers = [asyncio.create_task(tell_ends(app)), asyncio.create_task(tell_loss(app))]
    for name, run_id, arguments in plan:
        await app.start(ALL[name], *arguments, id=run_id)
        say("accepted", run_id)
    await obey()
    for teller in tellers:
        teller.cancel()
    await asyncio.gather(*tellers, return_exceptions=True)
    await app.close()
    say("stopped")


if __name__ == "__main__":
    path, side, given = sys.argv[1:]
    os.environ[SIDE] = side
    worker.LEASE = round(float(os.environ.get("STEPWELL_TEST_LEASE", "15")) * 1_000_000)
    clock.LONGEST_ALARM = 20_000  # so that a clock that is set forward is noticed within this test
    asyncio.run(drive(Path(path), json.loads(given)))
