"""What is done again after a crash, and what is not? Failures, time limits, waits and empty results included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from virtually import Virtual

from stepwell import Retry, StepFailed, ctx, task, workflow
from stepwell.app import Stepwell
from stepwell.errors import StepTimedOut, StoreBusy
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.stores.protocol import Claimed
from stepwell.testing import Bench, fails, returns

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@task
async def nothing(name: str) -> None:
    ran.append(name)


@task
async def broken(name: str) -> str:
    ran.append(name)
    raise ValueError(f"{name} is broken")


@task(timeout="10s")
async def endless(name: str) -> str:
    ran.append(name)
    await asyncio.Event().wait()
    return name


@task(retry=Retry(attempts=4, first="1h", backoff=2, max="1d", jitter=False))
async def flaky(name: str) -> str:
    ran.append(name)
    return f"{name} in attempt {ctx.attempt}"


@task
async def steady(name: str) -> str:
    ran.append(name)
    return name


@workflow
async def has_no_result() -> list[object]:
    found: list[object] = [await nothing("a")]  # type: ignore[func-returns-value]  # that is the point
    await ctx.signal("go")
    return found


@workflow
async def catches() -> str:
    try:
        await broken("a")
    except ValueError as error:
        caught = f"{type(error).__name__}: {error}"
    await ctx.signal("go")
    return caught


@workflow
async def runs_out_of_time() -> str:
    try:
        await endless("a")
    except StepTimedOut as error:
        caught = type(error).__name__
    await ctx.signal("go")
    return caught


@workflow
async def waits_in_vain() -> list[str]:
    found = []
    try:
        await ctx.signal("never", timeout="1h")
    except TimeoutError:
        found.append("timed out")
    found.append(await steady("after the wait"))
    await ctx.signal("go")
    return found


@workflow
async def retries() -> str:
    return await flaky("a")


@workflow
async def repeats(times: int) -> list[str]:
    found = []
    for number in range(times):
        found.append(await steady(f"{number % 2}"))
        await ctx.sleep("1h")
    return found


@workflow
async def below(name: str) -> str:
    return await steady(name)


@workflow
async def a_bit_of_everything() -> dict[str, object]:
    first = await steady("first")
    left, right = await asyncio.gather(below("left"), flaky("right"))
    ctx.state["stage"] = "waiting"
    try:
        async with asyncio.timeout(3600):
            await ctx.signal("never")
    except TimeoutError:
        ctx.state["stage"] = "late"
    mapped = await steady.map(["x", "y"])
    drawn = str(ctx.uuid())
    await ctx.sleep("1d")
    return {"all": [first, left, right, *mapped], "stage": ctx.state["stage"], "drawn": drawn}


def test_a_step_that_gave_nothing_is_not_run_again() -> None:
    with Bench() as bench:
        run = bench.start(has_no_result)
        bench.crash()
        run.signal("go")
        assert run.result() == [None]
        assert ran == ["a"]


def test_a_failure_that_was_caught_is_raised_again_and_the_step_not_run_again() -> None:
    with Bench() as bench:
        run = bench.start(catches)
        bench.crash()
        run.signal("go")
        assert run.result() == "ValueError: a is broken"
        assert ran == ["a"]


def test_a_step_that_ran_out_of_time_has_run_out_of_it_for_good() -> None:
    with Bench() as bench:
        run = bench.start(runs_out_of_time)
        bench.advance("11s")
        bench.crash()
        run.signal("go")
        assert run.result() == "StepTimedOut"
        assert ran == ["a"]


def test_a_wait_whose_time_is_up_is_not_waited_for_again() -> None:
    with Bench() as bench:
        run = bench.start(waits_in_vain)
        bench.advance("1h")
        for _ in range(2):
            bench.crash()
        run.signal("never")
        assert run.waiting_for == ("signal go",)
        run.signal("go")
        assert run.result() == ["timed out", "after the wait"]
        assert ran == ["after the wait"]
        assert run.kinds.count("wait.started") == 2


def test_a_retry_that_a_crash_interrupts_comes_when_it_was_due_and_keeps_count() -> None:
    with Bench(stubs={flaky: fails(3)}) as bench:
        began = bench.now
        run = bench.start(retries)
        dues = []
        while run.status not in ("completed", "failed"):
            assert run.due is not None
            dues.append((run.due - began).total_seconds() / 3600)
            bench.crash(down="20m")
            bench.advance_to(run.due)
        assert dues == [1, 3, 7]
        assert run.result() == "a in attempt 4"


def test_a_timer_that_a_crash_interrupts_keeps_its_due_time() -> None:
    with Bench() as bench:
        run = bench.start(repeats, 2)
        due = run.due
        bench.advance("30m")
        bench.crash()
        assert run.due == due
        run.result()
        assert ran == ["0", "1"]


def test_steps_of_one_name_are_told_apart_in_a_loop_that_is_cut_off_again_and_again() -> None:
    with Bench() as bench:
        run = bench.start(repeats, 6)
        for _ in range(5):
            bench.advance("1h")
            bench.crash()
        assert run.result() == ["0", "1", "0", "1", "0", "1"]
        assert ran == ["0", "1", "0", "1", "0", "1"]


def everything(*, warm_wait: str | int = "30s", crash: str = "", when: Any = "after") -> tuple[dict[str, Any], Bench]:
    with Bench(stubs={flaky: fails(1, then=returns("right"))}, warm_wait=warm_wait) as bench:
        if crash:
            bench.crash_at(crash, when)
        return bench.run(a_bit_of_everything), bench


@pytest.mark.parametrize("when", ["before", "after", "committed"])
@pytest.mark.parametrize("step", ["steady#1", "below", "flaky", "timer#1", "steady.map:1/steady#1"])
def test_a_run_that_is_cut_off_at_any_step_comes_to_the_same_end(step: str, when: str) -> None:
    found, bench = everything(crash=step, when=when)
    assert found["all"] == ["first", "left", "right", "x", "y"]
    assert found["stage"] == "late"
    assert bench.crashes == 1


def test_a_run_whose_body_is_dropped_at_every_wait_comes_to_the_same_end() -> None:
    found, _ = everything(warm_wait=0)
    assert found["all"] == ["first", "left", "right", "x", "y"]
    assert sorted(ran) == ["first", "left", "x", "y"], "and each step ran once"


def test_a_run_whose_code_is_not_there_waits_untouched_for_a_process_that_has_it(play: Callable[..., Any]) -> None:
    @workflow
    async def elsewhere() -> str:
        return await steady("elsewhere")

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(drive=False) as client:
            await client.start(elsewhere, id="later")
        async with make(workflows=[below]) as app:
            assert await app.run(below, "mine") == "mine"
            row = await app.get("later")
            assert (row.status, row.claims, row.owner) == ("pending", 0, None)
        async with make(workflows=[elsewhere]) as app:
            assert await app.handle("later").result() == "elsewhere"

    play(scenario)


class OutOfReach(MemoryStore):
    """A store that cannot be reached for a while: it hands out no runs, and says that this may pass."""

    def __init__(self, data: MemoryData, refusals: int) -> None:
        super().__init__(data)
        self.refusals = refusals

    async def claim(self, *args: Any, **kwargs: Any) -> list[Claimed]:
        if self.refusals:
            self.refusals -= 1
            raise StoreBusy("the store cannot be reached just now")
        return await super().claim(*args, **kwargs)


def test_a_store_that_cannot_be_reached_while_runs_are_recovered_strands_none_of_them() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            for number in range(5):
                await app.start(repeats, 2, id=f"r{number}")
            await asyncio.sleep(1)
        store = OutOfReach(virtual.data, 3)
        async with Stepwell(store, workflows=[repeats], clock=virtual.clock, chance=Random(1), grace=0) as again:
            results = [await again.handle(f"r{number}").result() for number in range(5)]
        assert results == [["0", "1"]] * 5
        assert store.refusals == 0

    virtual.play(scenario())


def test_an_error_that_may_not_be_tried_again_ends_the_step_at_once() -> None:
    class Refused(Exception):
        pass

    @task(retry=Retry(attempts=5, first="1s", never_on=(Refused,)))
    async def refused() -> str:
        ran.append("refused")
        raise Refused("no")

    @workflow
    async def is_refused() -> int:
        with pytest.raises(StepFailed):
            await refused()
        return len(ran)

    with Bench() as bench:
        assert bench.run(is_refused) == 1
