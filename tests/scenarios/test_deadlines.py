"""Deadlines of whole runs: wherever a run stands when it passes, it ends as failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from virtually import HOUR, Virtual

from stepwell import Queue, ctx, task, workflow
from stepwell.errors import RunFailed

Play = Callable[..., Any]


@workflow
async def naps(length: str = "3h") -> str:
    await ctx.sleep(length)
    return "rested"


@task
async def works_on(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@workflow
async def works(seconds: float) -> str:
    return await works_on(seconds)


async def fails_at(virtual: Virtual, run: Any, at: int) -> None:
    with pytest.raises(RunFailed, match="deadline") as found:
        await run.result()
    assert found.value.failure.type == "stepwell.errors.DeadlinePassed"
    row = await run.row()
    assert row.status == "failed"
    assert row.finished_at is not None
    assert at <= row.finished_at - row.created_at < at + HOUR // 60
    cancel = (await run.state()).cancel
    assert cancel is not None and (cancel.deadline, cancel.by) == (True, "deadline")


def test_a_run_that_waits_fails_at_its_deadline() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await fails_at(virtual, await app.start(naps, deadline="1h"), HOUR)
            assert await (await app.start(naps, deadline="4h")).result() == "rested"

    virtual.play(scenario())


def test_a_run_whose_attempt_goes_on_fails_at_its_deadline() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await fails_at(virtual, await app.start(works, 86_400, deadline="1h"), HOUR)

    virtual.play(scenario())


def test_a_paused_run_fails_at_its_deadline() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make(warm_wait="1s") as app:
            run = await app.start(naps, deadline="1h")
            await run.pause()
            await run.wait()
            await asyncio.sleep(30)  # it has left memory since
            assert not app.engine.runners
            await asyncio.sleep(3600)
            await fails_at(virtual, run, HOUR)

    virtual.play(scenario())


def test_a_run_that_its_queue_does_not_let_in_fails_at_its_deadline() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make(queues=[Queue("q", concurrency=1)]) as app:
            first = await app.start(naps, "2h", queue="q")
            held = await app.start(naps, queue="q", deadline="1h")
            last = await app.start(naps, "1m", queue="q", deadline="3h")
            await fails_at(virtual, held, HOUR)
            assert (await held.state()).started_at is None
            assert await first.result() == "rested"
            assert await last.result() == "rested"

    virtual.play(scenario())


def test_the_deadline_of_a_run_that_another_process_put_into_a_queue_counts_too() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make(drive=False) as client:
            blocker = await client.start(naps, "2h", queue="q")
            held = await client.start(naps, queue="q", deadline="1h")
        async with virtual.make(queues=[Queue("q", concurrency=1)], workflows=[naps]) as app:
            await fails_at(virtual, app.handle(held.id), HOUR)
            assert await app.handle(blocker.id).result() == "rested"

    virtual.play(scenario())


def test_a_delayed_run_has_its_deadline_from_when_it_may_begin() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await fails_at(virtual, await app.start(naps, delay="2h", deadline="1h"), 3 * HOUR)

    virtual.play(scenario())


def test_a_workflow_can_have_a_deadline_of_its_own_and_a_child_another() -> None:
    virtual = Virtual()

    @workflow(deadline="1h")
    async def hurried() -> str:
        return await naps()

    @workflow
    async def patient() -> str:
        try:
            return await naps.with_options(deadline="10m")()
        except Exception as error:
            return type(error).__name__ + ": " + str(error)

    async def scenario() -> None:
        async with virtual.make() as app:
            await fails_at(virtual, await app.start(hurried), HOUR)
            assert "deadline" in await app.run(patient)
            assert virtual.now < 2 * HOUR

    virtual.play(scenario())


def test_a_body_may_clean_up_when_its_deadline_passes() -> None:
    virtual = Virtual()
    cleaned: list[str] = []

    @task
    async def clean() -> None:
        cleaned.append("clean")

    @workflow
    async def careful() -> None:
        try:
            await ctx.sleep("5h")
        finally:
            await clean()

    async def scenario() -> None:
        async with virtual.make() as app:
            await fails_at(virtual, await app.start(careful, deadline="1h"), HOUR)
            assert cleaned == ["clean"]

    virtual.play(scenario())


def test_who_retries_a_run_after_its_deadline_gives_it_the_time_that_it_needs() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            run = await app.start(naps, deadline="1h")
            await fails_at(virtual, run, HOUR)
            await run.retry()
            assert await run.result() == "rested"

    virtual.play(scenario())


def test_a_deadline_that_passed_while_nobody_drove_is_seen_by_the_next_engine(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(naps, deadline="50ms")
        await asyncio.sleep(0.06)
        async with make(workflows=[naps]) as app:
            with pytest.raises(RunFailed, match="deadline"):
                await app.handle(run.id).result()

    play(scenario)
