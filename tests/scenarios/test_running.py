"""Where attempts run, how much at once, in which order, and how an engine closes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from patience import until

from stepwell import Limits, Retry, ctx, task, workflow
from stepwell.errors import DefinitionError, RunCancelled, RunFailed
from stepwell.stores.protocol import Filter

ran: list[Any] = []


class World:
    """What tasks touch outside the engine."""

    gate: asyncio.Event


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    ran.clear()
    World.gate = asyncio.Event()


@task(executor="process")
def where(number: int) -> tuple[int, int, str, str | None]:
    return os.getpid(), number * 2, ctx.idempotency_key, ctx.identity.parent


@task(executor="process", retry=Retry(attempts=2, first=0))
def dies_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.write_text("died")
        os._exit(3)
    return path.read_text()


@task(executor="process")
def endless(marker: str) -> None:
    Path(marker).write_text(str(os.getpid()))
    while True:
        pass


@task(executor="gpu")
def on_gpu(number: int) -> str:
    return f"{threading.current_thread().name.split('_')[0]} {number}"


@task
async def noted(what: str) -> str:
    ran.append(what)
    return what


@task
async def held(what: str) -> str:
    ran.append(f"begin {what}")
    await World.gate.wait()
    ran.append(f"end {what}")
    return what


@workflow
async def hold(what: str) -> str:
    return await held(what)


def test_process_tasks_run_in_a_child_with_their_identity(play: Callable[..., Any]) -> None:
    @workflow
    async def body() -> list[Any]:
        return [await where.aio(21)]

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            [(pid, doubled, key, parent)] = await (await app.start(body, id="r")).result()
            assert pid != os.getpid()
            assert (doubled, key, parent) == (42, "r:where#1", None)

    play(scenario)


def test_a_child_process_that_dies_is_a_failed_attempt_and_is_retried(play: Callable[..., Any], tmp_path: Path) -> None:
    @workflow
    async def body() -> str:
        return await dies_once.aio(str(tmp_path / "marker"))

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(body)
            assert await run.result() == "died"
            failures = [s.entry.error for s in await app.entries(run.id) if type(s.entry).__name__ == "StepFailed"]
            assert "exit code 3" in failures[0].message

    play(scenario)


def test_cancel_terminates_a_process_that_never_returns(play: Callable[..., Any], tmp_path: Path) -> None:
    marker = tmp_path / "pid"

    @workflow
    async def body() -> None:
        await endless.aio(str(marker))

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(body)
            await until(lambda: marker.exists() and bool(marker.read_text()))
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            await until(lambda: not _lives(int(marker.read_text())))

    play(scenario)


def test_executors_given_by_name_run_the_tasks_that_name_them(play: Callable[..., Any]) -> None:
    @workflow
    async def body() -> list[str]:
        return list(await on_gpu.map([1, 2]))

    async def scenario(make: Callable[..., Any]) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="gpu") as gpu:
            async with make(executors={"gpu": gpu}) as app:
                assert await app.run(body) == ["gpu 1", "gpu 2"]
        async with make() as app:
            with pytest.raises(RunFailed, match=r"executor 'gpu' is not known here \(known: process, thread\)"):
                await app.run(body)

    play(scenario)


def test_higher_priority_goes_first(play: Callable[..., Any]) -> None:
    @workflow
    async def body(what: str) -> str:
        return await noted(what)

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(limits=Limits(attempts=1)) as app:
            blocker = await app.start(hold, "x")
            await until(lambda: ran == ["begin x"])
            runs = [await app.start(body, f"p{p}", priority=p) for p in (1, 3, 2)]
            await until(lambda: len(app.engine.runners) == 4)
            await until(lambda: all(r.steps.busy for r in app.engine.runners.values()))
            World.gate.set()
            await asyncio.gather(blocker.result(), *[run.result() for run in runs])
            assert ran == ["begin x", "end x", "p3", "p2", "p1"]

    play(scenario)


def test_a_workflow_limits_its_own_runs(play: Callable[..., Any]) -> None:
    @workflow(concurrency=2)
    async def narrow(what: str) -> str:
        return await held(what)

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            runs = [await app.start(narrow, str(n)) for n in range(5)]
            await until(lambda: len(ran) == 2)
            assert len(await app.runs(Filter(status=("pending",)))) == 3
            World.gate.set()
            assert sorted([await run.result() for run in runs]) == ["0", "1", "2", "3", "4"]

    play(scenario)


def test_closing_lets_attempts_in_flight_end_within_the_grace(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(grace="5s") as app:
            await app.start(hold, "x", id="r")
            await until(lambda: ran == ["begin x"])
            asyncio.get_running_loop().call_later(0.05, World.gate.set)
        assert ran == ["begin x", "end x"]
        async with make(workflows=[hold]) as app:
            assert await app.handle("r").result() == "x"
        assert ran == ["begin x", "end x"]

    play(scenario)


def test_two_definitions_of_one_name_are_refused(play: Callable[..., Any]) -> None:
    @workflow(name="hold")
    async def another() -> None: ...

    async def scenario(make: Callable[..., Any]) -> None:
        with pytest.raises(DefinitionError, match="two workflows are called 'hold'"):
            async with make(workflows=[hold, another]):
                pass

    play(scenario)


def test_runs_are_found_by_status_workflow_label_and_text(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        World.gate.set()
        async with make() as app:
            for n in range(3):
                await (await app.start(hold, "x", id=f"one-{n}", labels={"n": str(n)})).result()
            assert [r.run_id for r in await app.runs()] == ["one-2", "one-1", "one-0"]
            assert [r.run_id for r in await app.runs(Filter(labels={"n": "1"}))] == ["one-1"]
            assert [r.run_id for r in await app.runs(Filter(search="E-2"))] == ["one-2"]
            assert await app.runs(Filter(status=("failed",))) == []
            assert await app.counts() == {"completed": 3}
            assert await app.gc(older_than="1h") == 0
            assert await app.gc(older_than=0) == 3
            assert await app.runs() == []

    play(scenario)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
