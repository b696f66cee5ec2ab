"""What if the code changed meanwhile? Failures that were recorded, branches that are gone, another order of things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import ctx, task, workflow
from stepwell.authoring.workflow import Workflow
from stepwell.errors import RunSetAside
from stepwell.testing import Bench

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@task
async def step(name: str) -> str:
    ran.append(name)
    return name


@task
async def slow(name: str) -> str:
    ran.append(name)
    await asyncio.sleep(60)
    return name


@task
async def broken(name: str) -> str:
    ran.append(name)
    raise ValueError(f"{name} is broken")


def flow(body: Callable[..., Any]) -> Workflow[..., Any]:
    made: Workflow[..., Any] = workflow(name="flow")(body)
    return made


@flow
async def falls_back() -> str:
    try:
        found = await broken("a")
    except ValueError:
        found = "fell back"
    await ctx.signal("go")
    return found


@flow
async def three_branches() -> list[str]:
    return list(await asyncio.gather(step("quick"), slow("slow"), step("also quick")))


@flow
async def in_one_order() -> list[str]:
    found = [await step("a"), await step("b")]
    await ctx.signal("go")
    return found


def test_a_step_that_failed_has_failed_also_for_code_that_takes_it_otherwise() -> None:
    @flow
    async def tells() -> str:
        try:
            found = await broken("a")
        except ValueError as error:
            found = f"told: {error}"
        await ctx.signal("go")
        return found

    with Bench() as bench:
        run = bench.start(falls_back)
        bench.restart([tells])
        run.signal("go")
        assert run.result() == "told: a is broken"
        assert ran == ["a"]


def test_a_failure_that_new_code_no_longer_catches_fails_the_run_and_a_retry_runs_the_step_again() -> None:
    @flow
    async def does_not_catch() -> str:
        return await broken("a")

    with Bench() as bench:
        run = bench.start(falls_back)
        bench.restart([does_not_catch])
        run.signal("go")
        assert bench.until(lambda: run.status == "failed")
        assert run.failure is not None and "a is broken" in run.failure.message
        assert ran == ["a"], "the failure was recorded: nothing ran for it again"
        bench.stub(broken, lambda name: f"{name} is mended")
        run.retry()
        assert run.result() == "a is mended"


def test_a_parallel_step_that_has_disappeared_is_left_over_and_the_others_go_on() -> None:
    @flow
    async def two_branches() -> list[str]:
        return list(await asyncio.gather(slow("slow"), step("also quick")))

    with Bench() as bench:
        run = bench.start(three_branches)
        bench.advance("1s")
        bench.restart([two_branches])
        assert run.result() == ["slow", "also quick"]
        assert sorted(ran) == ["also quick", "quick", "slow", "slow"], "only what was in flight ran again"
        replayed = bench.wait_for(bench.app.replay(run.id))
        assert (replayed.outcome, replayed.orphans) == ("ok", ("step#1",))


def test_a_parallel_step_in_flight_that_has_disappeared_is_not_waited_for() -> None:
    @flow
    async def without_the_slow_one() -> list[str]:
        return list(await asyncio.gather(step("quick"), step("also quick")))

    with Bench() as bench:
        run = bench.start(three_branches)
        bench.advance("1s")
        bench.restart([without_the_slow_one])
        assert run.result() == ["quick", "also quick"]
        assert ran == ["quick", "slow", "also quick"]


def test_steps_in_another_order_find_their_own_records() -> None:
    @flow
    async def in_another_order() -> list[str]:
        found = [await step("b"), await step("a")]
        await ctx.signal("go")
        return found

    with Bench() as bench:
        run = bench.start(in_one_order)
        bench.restart([in_another_order])
        run.signal("go")
        assert run.result() == ["b", "a"]
        assert ran == ["a", "b"]


def test_a_body_that_takes_another_way_each_time_is_stopped_with_both_calls_named() -> None:
    lives = iter(range(10))

    @flow
    async def fickle() -> list[str]:
        life = next(lives)
        found = [await step(f"life {life}")]
        await ctx.signal("go")
        return found

    with Bench() as bench:
        run = bench.start(fickle)
        bench.crash()
        with pytest.raises(RunSetAside, match="life 0") as stopped:
            run.signal("go")
            run.result()
        assert "life 1" in str(stopped.value) and ran == ["life 0"]
        run.resume(on_change="reuse")
        assert run.result() == ["life 0"], "and the signal sent before is still there"
