"""Runs that wait: how soon does a signal reach one, and what do sleeping ones cost?"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median, quantiles

from benchmarks import workloads
from benchmarks.fresh import other_process
from benchmarks.machine import resident_bytes
from stepwell import Stepwell
from stepwell.engine.clock import SystemClock
from stepwell.model.ids import SECOND

WARM_UP = 20
LONG = 3600
"""How long the sleepers sleep (seconds): longer than any measurement."""


async def signal(folder: Path, size: int) -> dict[str, float]:
    """From the call of `signal` to the step after the wait being underway, `size` times in one run."""
    seconds: list[float] = []
    workloads.arrived = asyncio.Event()
    async with Stepwell(f"sqlite:///{folder / 'store.db'}") as app:
        run = await app.start(workloads.listener, size + WARM_UP)
        for number in range(size + WARM_UP):
            while not (app.engine.runners[run.id].state.waits and app.engine.runners[run.id].is_idle):
                await asyncio.sleep(0.0005)
            workloads.arrived.clear()
            started = time.perf_counter()
            await run.signal("go", number)
            await workloads.arrived.wait()
            seconds.append(time.perf_counter() - started)
        await run.result()
    measured = seconds[WARM_UP:]
    return {"p50_seconds": median(measured), "p99_seconds": quantiles(measured, n=100)[98]}


class LaterClock(SystemClock):
    """The machine's clock, set forward."""

    def now(self) -> int:
        """Two sleeps later than it is."""
        return super().now() + 2 * LONG * SECOND


async def sleeping(folder: Path, size: int) -> dict[str, float]:
    """`size` runs asleep in a store: what a process that drives it takes, and how fast they go on when due."""
    empty, full = folder / "few.db", folder / "store.db"
    other_process("put_to_sleep", empty, 1)
    made = other_process("put_to_sleep", full, size)
    few = other_process("stay_asleep", empty, 1)
    many = other_process("stay_asleep", full, size)
    due = other_process("wake_up", full, size)
    grown = many["resident_bytes"] - few["resident_bytes"]
    return {
        "bytes_per_run": grown / size,
        "starts_per_second": due["starts_per_second"],
        "wake_seconds": due["seconds"],
        "made_per_second": made["runs_per_second"],
    }


async def put_to_sleep(store: Path, size: int) -> dict[str, float]:
    """Start `size` sleepers and let go of them."""
    started = time.perf_counter()
    async with Stepwell(f"sqlite:///{store}", warm_wait="0s") as app:
        for first in range(0, size, 1000):
            await asyncio.gather(*(app.start(workloads.sleeper, LONG) for _ in range(first, min(size, first + 1000))))
        while (await app.counts()).get("waiting", 0) < size or app.engine.runners:
            await asyncio.sleep(0.02)
    return {"runs_per_second": size / (time.perf_counter() - started)}


async def stay_asleep(store: Path, size: int) -> dict[str, float]:
    """Drive a store of sleepers for a moment."""
    async with Stepwell(f"sqlite:///{store}", workflows=[workloads.sleeper]):
        await asyncio.sleep(1)
        return {"resident_bytes": resident_bytes()}


async def wake_up(store: Path, size: int) -> dict[str, float]:
    """Open a store of sleepers that are all due, until the step after the sleep has begun in all of them."""
    workloads.holding = False
    workloads.wanted = size
    workloads.all_held = asyncio.Event()
    async with Stepwell(f"sqlite:///{store}", workflows=[workloads.sleeper], clock=LaterClock()):
        started = time.perf_counter()
        await workloads.all_held.wait()
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "starts_per_second": size / seconds}
