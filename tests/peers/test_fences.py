"""Does what comes too late change nothing? Attempts that outlive their run, and drivers that outlive their lease."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import until

from stepwell import ctx, task, workflow
from stepwell.errors import Fenced, RunCancelled, WrongStatus
from stepwell.model.entries import RunCompleted, StepCompleted, StepStarted, kind_of
from stepwell.model.ids import StepPath
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.stores.protocol import Store
from stepwell.stores.sqlite import SqliteStore
from stepwell.testing.conformance.kit import appended, asked, claim_one, happened, mail, new_run, notes

go_on = threading.Event()
begun = threading.Event()


@pytest.fixture(autouse=True)
def _gate() -> None:
    go_on.clear()
    begun.clear()


@task
def deaf(name: str) -> str:
    """Works on in its thread whatever becomes of the run."""
    begun.set()
    go_on.wait(5)
    return name


@task
async def last(name: str) -> str:
    return name


@workflow
async def works() -> str:
    return await deaf.aio("result")


@workflow
async def ends_after_a_step() -> str:
    await ctx.signal("go")
    return await last("result")


def test_what_an_attempt_returns_after_its_run_was_cancelled_is_not_journaled(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(works)
            await until(begun.is_set)
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            before = await app.entries(run.id)
            go_on.set()
            await asyncio.sleep(0.05)  # the thread ends meanwhile, and nothing tells of it
            assert await app.entries(run.id) == before
            kinds = [kind_of(stored.entry) for stored in before]
            assert kinds[-2:] == ["step.cancelled", "run.cancelled"]

    play(scenario)


def test_a_cancel_after_the_last_step_is_refused_and_the_result_stays(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(ends_after_a_step)
            await run.signal("go")
            assert await run.result() == "result"
            with pytest.raises(WrongStatus, match="completed"):
                await run.cancel()
            assert await run.result() == "result"

    play(scenario)


@pytest.mark.parametrize("turns", range(0, 40, 2))
def test_a_cancel_around_the_last_step_ends_the_run_in_one_way_only(play: Callable[..., Any], turns: int) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(ends_after_a_step)
            await run.signal("go")
            for _ in range(turns):
                await asyncio.sleep(0)
            try:
                await run.cancel()
                accepted = True
            except WrongStatus:
                accepted = False
            row = await run.wait()
            kinds = [kind_of(stored.entry) for stored in await app.entries(run.id)]
            endings = [kind for kind in kinds if kind in ("run.completed", "run.cancelled")]
            assert endings == [f"run.{row.status}"] == kinds[-1:]
            if not accepted:
                assert row.status == "completed"

    play(scenario)


@pytest.fixture(params=["memory", "sqlite"])
def two_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    data = MemoryData()

    def make() -> Store:
        if request.param == "memory":
            return MemoryStore(data)
        return SqliteStore(tmp_path / "runs.db")

    return make


def test_a_driver_that_was_taken_over_starts_no_child_tells_nobody_and_ends_no_run(
    two_stores: Callable[[], Store],
) -> None:
    step = StepPath((), "charge", 1)
    started = StepStarted(at=2, path=step, step="child", attempt=1, child="child")
    completed = StepCompleted(at=2, path=step, attempt=1)
    stale = [
        appended("r", 2, entries=(started,), children=(new_run("child", parent="r", root="r"),)),
        appended("r", 2, entries=(completed,), posts=(mail("other"),), events=(happened("e1"),)),
        appended("r", 2, entries=(), opened=(asked("q1", "r"),)),
        appended("r", 2, entries=(RunCompleted(at=2),), status="completed", finished_at=2),
    ]

    async def scenario() -> None:
        store = two_stores()
        await store.open()
        try:
            await store.drive("w1", lease=10, now=1)
            await store.create(new_run("other", wake_at=None))
            await store.create(new_run("r", owner="w1"))
            await store.append(appended("r", 2, "x", release=True, wake_at=1))
            claimed = await claim_one(store)
            for append in stale:
                with pytest.raises(Fenced):
                    await store.append(append)
            assert await store.get("r") == claimed.row
            assert await store.get("child") is None
            assert await store.mailbox("other") == []
            assert await store.events(after=0, topic=None, limit=9) == []
            assert await store.open_waits("input", limit=9) == []
            assert notes(await store.read("r")) == ["x"]
        finally:
            await store.close()

    asyncio.run(scenario())
