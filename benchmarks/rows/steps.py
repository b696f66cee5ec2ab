"""Steps: one after another, in many runs at once, fanned out in one run, and for each of many items."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

from benchmarks import workloads
from benchmarks.machine import MEGABYTE, peak_bytes
from stepwell import Stepwell
from stepwell.app import Durability

PASSES = 5
"""How often a short row is repeated in one process; its sample is their median."""

WARM_UP = 20


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'store.db'}"


async def _chains(url: str, steps: int, durability: Durability) -> dict[str, float]:
    seconds: list[float] = []
    async with Stepwell(url) as app:
        for _ in range(PASSES + 1):
            started = time.perf_counter()
            run = await app.start(workloads.chain, steps, durability=durability)
            await run.result()
            seconds.append(time.perf_counter() - started)
    first, *others = seconds
    return {"step_seconds": median(others) / steps, "first_step_seconds": first / steps}


async def chain(folder: Path, size: int) -> dict[str, float]:
    """One run of `size` steps, each needing the one before."""
    return await _chains(_url(folder), size, "sync")


async def chain_async(folder: Path, size: int) -> dict[str, float]:
    """The same with `durability="async"`."""
    return await _chains(_url(folder), size, "async")


async def chain_exit(folder: Path, size: int) -> dict[str, float]:
    """The same with `durability="exit"`."""
    return await _chains(_url(folder), size, "exit")


async def chain_volatile(folder: Path, size: int) -> dict[str, float]:
    """The same with `durability="memory"`."""
    return await _chains(_url(folder), size, "memory")


async def chain_in_memory(folder: Path, size: int) -> dict[str, float]:
    """The same in the memory store."""
    return await _chains("memory://", size, "sync")


async def many(folder: Path, size: int) -> dict[str, float]:
    """`size` runs of five steps, all started at once."""
    steps = 5
    rates: list[float] = []
    async with Stepwell(_url(folder)) as app:
        for _ in range(4):
            started = time.perf_counter()
            runs = await asyncio.gather(*(app.start(workloads.chain, steps) for _ in range(size)))
            await asyncio.gather(*(run.result() for run in runs))
            rates.append(size * steps / (time.perf_counter() - started))
    first, *others = rates
    return {"steps_per_second": median(others), "first_steps_per_second": first, "peak_megabytes": _peak()}


async def fan(folder: Path, size: int) -> dict[str, float]:
    """One run that starts `size` steps at once."""
    seconds: list[float] = []
    async with Stepwell(_url(folder)) as app:
        for _ in range(PASSES + 1):
            started = time.perf_counter()
            await (await app.start(workloads.fan, size)).result()
            seconds.append(time.perf_counter() - started)
    first, *others = seconds
    return {"seconds": median(others), "first_seconds": first}


async def items_pipeline(folder: Path, size: int) -> dict[str, float]:
    """One run with four steps for each of `size` items, a coroutine per item."""
    async with Stepwell(_url(folder)) as app:
        await (await app.start(workloads.pipeline, WARM_UP)).result()
        started = time.perf_counter()
        await (await app.start(workloads.pipeline, size)).result()
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_megabytes": _peak()}


async def items_maps(folder: Path, size: int) -> dict[str, float]:
    """One run with four maps over `size` items."""
    async with Stepwell(_url(folder)) as app:
        await (await app.start(workloads.four_maps, WARM_UP)).result()
        started = time.perf_counter()
        await (await app.start(workloads.four_maps, size)).result()
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_megabytes": _peak()}


def _peak() -> float:
    return peak_bytes() / MEGABYTE
