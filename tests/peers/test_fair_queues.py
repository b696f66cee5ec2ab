"""Are limits kept, and is nobody starved or stopped by others? Queues, rates and slow work."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from patience import until

from stepwell import Queue, ctx, task, workflow
from stepwell.errors import RunExists
from stepwell.testing import Bench

order: list[str] = []
go_on = threading.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    order.clear()
    go_on.clear()


@task
async def note(name: str) -> str:
    order.append(name)
    return name


@task
def holds_its_thread() -> str:
    go_on.wait(5)
    return "slow"


@workflow
async def passes_through(name: str) -> str:
    return await note(name)


@workflow
async def stays(name: str) -> str:
    await note(name)
    await ctx.sleep("1h")
    return name


@workflow
async def is_slow() -> str:
    return await holds_its_thread.aio()


@workflow
async def waits_for_its_like(depth: int) -> int:
    return 0 if depth == 0 else 1 + await waits_for_its_like.with_options(queue="deep")(depth - 1)


def test_a_slow_task_in_a_thread_keeps_no_other_run_from_beginning(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            slow = [await app.start(is_slow) for _ in range(3)]
            others = [await app.start(passes_through, str(number)) for number in range(20)]
            assert [await run.result() for run in others] == [str(number) for number in range(20)]
            await until(lambda: len(order) == 20)
            go_on.set()
            assert [await run.result() for run in slow] == ["slow"] * 3

    play(scenario)


def test_limits_of_a_queue_and_of_its_keys_hold_together() -> None:
    with Bench() as bench:
        bench.wait_for(bench.app.put_queue(Queue("q", concurrency=3, concurrency_per_key=2)))
        runs = [bench.start(stays, f"{key}{number}", queue="q", queue_key=key) for key in "ab" for number in range(4)]
        assert order == ["a0", "a1", "b0"], "two of a, and b has what is left of the queue's three"
        for run in runs:
            run.result()
        assert sorted(order) == [f"{key}{number}" for key in "ab" for number in range(4)]


def test_a_thousand_of_one_key_do_not_starve_the_next_key() -> None:
    with Bench() as bench:
        bench.wait_for(bench.app.put_queue(Queue("q", concurrency_per_key=1)))
        for number in range(200):
            bench.start(stays, f"a{number}", queue="q", queue_key="a")
        last = bench.start(passes_through, "b", queue="q", queue_key="b")
        assert last.result() == "b"
        assert order == ["a0", "b"]


def test_a_queue_that_was_paused_over_a_crash_is_still_paused_and_loses_nobody() -> None:
    with Bench() as bench:
        bench.wait_for(bench.app.put_queue(Queue("q", concurrency=1)))
        bench.wait_for(bench.app.pause_queue("q"))
        runs = [bench.start(passes_through, str(number), queue="q") for number in range(3)]
        bench.crash(down="1h")
        bench.advance("1h")
        assert order == []
        bench.wait_for(bench.app.resume_queue("q"))
        assert [run.result() for run in runs] == ["0", "1", "2"] == order


def test_a_run_that_holds_the_last_place_when_its_process_dies_gives_it_back_when_it_ends() -> None:
    with Bench() as bench:
        bench.wait_for(bench.app.put_queue(Queue("q", concurrency=1)))
        runs = [bench.start(stays, str(number), queue="q") for number in range(2)]
        for _ in range(3):
            bench.crash()
        assert order == ["0"]
        assert [run.result() for run in runs] == ["0", "1"]
        assert order == ["0", "1"]


def test_parents_that_wait_for_children_in_their_own_full_queue_come_to_their_end() -> None:
    with Bench() as bench:
        bench.wait_for(bench.app.put_queue(Queue("deep", concurrency=1)))
        runs = [bench.start(waits_for_its_like, 5, queue="deep") for _ in range(3)]
        bench.crash()
        assert [run.result() for run in runs] == [5, 5, 5]


@pytest.mark.parametrize(("policy", "kept"), [("refuse", "first"), ("attach", "first"), ("replace", "second")])
def test_of_two_runs_that_exclude_each_other_the_policy_says_which_goes_on(policy: Any, kept: str) -> None:
    with Bench() as bench:
        first = second = bench.start(stays, "a", id="first", singleton="k")
        with pytest.raises(RunExists) if policy == "refuse" else contextlib.nullcontext():
            second = bench.start(stays, "b", id="second", singleton="k", on_conflict=policy)
        assert second.id == kept
        assert second.result() == ("a" if kept == "first" else "b")
        assert first.status == ("cancelled" if policy == "replace" else "completed")


def test_starts_that_race_for_one_id_are_one_run(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app, make(drive=False) as client:
            starts = [one.start(passes_through, "x", id="same") for one in (app, client) for _ in range(10)]
            runs = await asyncio.gather(*starts)
            assert {await run.result() for run in runs} == {"x"}
            assert order == ["x"]

    play(scenario)
