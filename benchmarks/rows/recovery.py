"""After a crash: how soon is everything back at work? And what of that is reading, folding, rebuilding?"""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks import workloads
from benchmarks.fresh import killed_process, other_process
from benchmarks.machine import MEGABYTE, peak_bytes
from stepwell import Limits, Stepwell
from stepwell.authoring.context import Identity
from stepwell.engine.clock import SystemClock
from stepwell.model.entries import AnyEntry, StepCompleted
from stepwell.model.state import replay
from stepwell.programs.function import FunctionProgram
from stepwell.programs.matching import Records
from stepwell.stores.protocol import Filter


def _wide(size: int) -> Limits:
    """Limits that hold all runs in memory and all attempts in flight at once."""
    return Limits(attempts=size + 100, runs=size + 100)


async def recovery(folder: Path, size: int) -> dict[str, float]:
    """`size` runs with a step in flight each; kill -9; a new process, until all of them are at work again."""
    return await _recovered(folder, size, "recover")


async def recovery_default(folder: Path, size: int) -> dict[str, float]:
    """The same, with the engine's default limits after the crash: runs have to end to make room for others."""
    return await _recovered(folder, size, "recover_narrow")


async def _recovered(folder: Path, size: int, how: str) -> dict[str, float]:
    store = folder / "store.db"
    killed_process("be_killed", store, size)
    return other_process(how, store, size)


async def be_killed(store: Path, size: int) -> None:
    """Get `size` runs to their second step and say so; then wait for the end."""
    workloads.wanted = size
    workloads.all_held = asyncio.Event()
    async with Stepwell(f"sqlite:///{store}", limits=_wide(size)) as app:
        for first in range(0, size, 1000):
            await asyncio.gather(
                *(app.start(workloads.interrupted, number) for number in range(first, min(size, first + 1000)))
            )
        await workloads.all_held.wait()
        print("ready", flush=True)
        await asyncio.Event().wait()


async def recover(store: Path, size: int) -> dict[str, float]:
    """Open the store of a killed process."""
    return await _open_again(store, size, _wide(size))


async def recover_narrow(store: Path, size: int) -> dict[str, float]:
    """Open the store of a killed process with default limits."""
    return await _open_again(store, size, Limits())


async def _open_again(store: Path, size: int, limits: Limits) -> dict[str, float]:
    workloads.holding = False
    workloads.wanted = size
    workloads.all_held = asyncio.Event()
    started = time.perf_counter()
    async with Stepwell(f"sqlite:///{store}", workflows=[workloads.interrupted], limits=limits) as app:
        await workloads.all_held.wait()
        at_work = time.perf_counter() - started
        while (await app.counts()).get("completed", 0) < size:
            await asyncio.sleep(0.02)
        ended = time.perf_counter() - started
        if len(await app.runs(Filter(status=("completed",), limit=size + 1))) != size:
            raise AssertionError("a run was lost")
    return {"at_work_seconds": at_work, "ended_seconds": ended, "peak_megabytes": peak_bytes() / MEGABYTE}


async def folding(folder: Path, size: int) -> dict[str, float]:
    """A journal of `size` entries: read and checked, folded, and the body rebuilt from it."""
    steps = (size - 3) // 2
    async with Stepwell(f"sqlite:///{folder / 'store.db'}") as app:
        run = await app.start(workloads.chain, 1)
        await run.result()
        run = await app.start(workloads.one_map, steps)
        await run.result()
        started = time.perf_counter()
        stored = await app.entries(run.id)
        read = time.perf_counter() - started
        entries = [one.entry for one in stored]
    folds = [_timed_fold(entries) for _ in range(5)]
    rebuilds = [_timed_rebuild(entries) for _ in range(3)]
    return {
        "entries": len(entries),
        "fold_seconds": median(folds),
        "read_seconds": read,
        "rebuild_seconds": median(rebuilds),
    }


def _timed_fold(entries: list[AnyEntry]) -> float:
    started = time.perf_counter()
    replay(entries)
    return time.perf_counter() - started


def _timed_rebuild(entries: list[AnyEntry]) -> float:
    """What a runner does with the journal of a run that it picks up, but for the last entry, which ended it."""
    *open_entries, _ = entries
    state = replay(open_entries)
    assert state.started_at is not None, "its body has begun"
    identity = Identity(state.run_id, state.workflow, None, state.root)
    with ThreadPoolExecutor(1) as threads:
        started = time.perf_counter()
        program = FunctionProgram(
            workloads.one_map,
            identity,
            state.input,
            clock=SystemClock().now,
            chance=random.Random(0),
            threads=threads,
            records=Records(open_entries),
        )
        program.begin(state.started_at)
        for delivery in program.recorded.deliveries:
            assert isinstance(delivery, StepCompleted), "nothing else happens in it"
            program.deliver(delivery, delivery.output)
        seconds = time.perf_counter() - started
    if not program.ended:
        raise AssertionError("the body was not rebuilt to its end")
    program.close()
    return seconds
