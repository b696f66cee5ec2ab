"""Very many runs that wait: does a million of them cost memory, do their timers come on time, does a signal find one?

The stores are filled with journals such as runs leave behind that went to sleep, by the way that imported runs take.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random
from statistics import median, quantiles

from benchmarks import workloads
from benchmarks.fresh import other_process
from benchmarks.machine import resident_bytes
from benchmarks.rows.waiting import LONG, LaterClock
from stepwell import Stepwell
from stepwell.authoring.workflow import Workflow
from stepwell.engine.clock import SystemClock
from stepwell.model.codec import content_hash
from stepwell.model.entries import AnyEntry, RunCreated, RunStarted, WaitStarted
from stepwell.model.ids import SECOND, StepPath
from stepwell.stores import open_store
from stepwell.stores.protocol import NewRun

AT_ONCE = 5_000
"""Runs created before waiting for the store."""

WATCHED = 50_000
"""Due runs whose starts are timed."""

SENT = 2_000
"""Signals whose way is timed."""


async def million(folder: Path, size: int) -> dict[str, float]:
    """`size` sleeping runs: memory of an engine that drives them, and how fast they start when all are due."""
    few, many = folder / "few.db", folder / "many.db"
    other_process("fill_with_sleepers", few, 10)
    filled = other_process("fill_with_sleepers", many, size)
    base = other_process("drive_sleepers", few, 10)
    driven = other_process("drive_sleepers", many, size)
    due = other_process("start_due", many, min(size, WATCHED))
    return {
        "bytes_per_run": max(0.0, driven["resident_bytes"] - base["resident_bytes"]) / size,
        "megabytes": driven["resident_bytes"] / 1e6,
        "open_seconds": driven["open_seconds"],
        "created_per_second": filled["created_per_second"],
        "store_bytes_per_run": filled["store_bytes"] / size,
        **{name: due[name] for name in ("starts_per_second", "due_megabytes", "first_seconds")},
    }


async def fill_with_sleepers(store: Path, size: int) -> dict[str, float]:
    """Create runs that sleep."""
    return await _fill(store, size, workloads.sleeper, LONG, "timer", "timer", "")


async def fill_with_listeners(store: Path, size: int) -> dict[str, float]:
    """Create runs that wait for a signal."""
    return await _fill(store, size, workloads.listener, 1, "signal", "signal:go", "go")


async def _fill(
    place: Path,
    size: int,
    workflow: Workflow[..., object],
    argument: int,
    kind: str,
    label: str,
    name: str,
) -> dict[str, float]:
    started = time.perf_counter()
    now = SystemClock().now()
    due = now + LONG * SECOND if kind == "timer" else None
    data = workflow.codec.encode((argument,), {})
    path = StepPath((), label, 1)
    store = open_store(f"sqlite:///{place}")
    await store.open()
    for first in range(0, size, AT_ONCE):
        creations = []
        for number in range(first, min(size, first + AT_ONCE)):
            entries: tuple[AnyEntry, ...] = (
                RunCreated(
                    at=now,
                    run_id=f"run-{number}",
                    workflow=workflow.name,
                    version=workflow.version,
                    root=f"run-{number}",
                    input=data,
                ),
                RunStarted(at=now, version=workflow.version),
                WaitStarted(at=now, path=path, wait=kind, name=name, due=due),  # type: ignore[arg-type]  # one of them
            )
            new = NewRun(
                run_id=f"run-{number}",
                workflow=workflow.name,
                version=workflow.version,
                root=f"run-{number}",
                parent=None,
                priority=0,
                labels={},
                input_hash=content_hash(bytes(data)),
                created_at=now,
                wake_at=due,
                entries=entries,
                status="waiting",
            )
            creations.append(store.create(new))
        await asyncio.gather(*creations)
    seconds = time.perf_counter() - started
    await store.close()
    return {"created_per_second": size / seconds, "store_bytes": place.stat().st_size}


async def drive_sleepers(store: Path, size: int) -> dict[str, float]:
    """Drive a store of sleepers for a moment."""
    started = time.perf_counter()
    async with Stepwell(f"sqlite:///{store}", workflows=[workloads.sleeper]):
        opened = time.perf_counter() - started
        await asyncio.sleep(3)
        return {"resident_bytes": resident_bytes(), "open_seconds": opened}


async def start_due(store: Path, size: int) -> dict[str, float]:
    """Open a store of sleepers that are all due, until the step after the sleep has begun in `size` of them."""
    workloads.holding = False
    workloads.wanted = size
    workloads.all_held = asyncio.Event()
    async with Stepwell(f"sqlite:///{store}", workflows=[workloads.sleeper], clock=LaterClock(), grace="0s"):
        started = time.perf_counter()
        while workloads.held == 0:
            await asyncio.sleep(0.001)
        first = time.perf_counter() - started
        await workloads.all_held.wait()
        seconds = time.perf_counter() - started
        peak = resident_bytes()
    return {"starts_per_second": size / seconds, "first_seconds": first, "due_megabytes": peak / 1e6}


async def listeners(folder: Path, size: int) -> dict[str, float]:
    """`size` runs that wait for a signal, none of them in memory: from the call of `signal` to the step after it."""
    place = folder / "store.db"
    other_process("fill_with_listeners", place, size)
    return other_process("signal_some", place, size)


async def signal_some(store: Path, size: int) -> dict[str, float]:
    """Signal runs here and there, one after the other."""
    chance = Random(7)
    seconds: list[float] = []
    async with Stepwell(f"sqlite:///{store}", workflows=[workloads.listener]) as app:
        await asyncio.sleep(1)
        for number in chance.sample(range(size), min(size, SENT)):
            workloads.arrived = asyncio.Event()
            started = time.perf_counter()
            await app.signal(f"run-{number}", "go", number)
            await workloads.arrived.wait()
            seconds.append(time.perf_counter() - started)
        resident = resident_bytes()
    measured = seconds[20:]
    return {
        "p50_seconds": median(measured),
        "p99_seconds": quantiles(measured, n=100)[98],
        "megabytes": resident / 1e6,
    }
