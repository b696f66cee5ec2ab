"""Is the past safe with retry, rerun and fork? Refusals leave it alone, and what was told is not told again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from patience import until

from stepwell import Queue, ctx, task, workflow
from stepwell.errors import RequestRefused, RunFailed, WrongStatus
from stepwell.testing import Bench, fails

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@task
async def charge(order: str) -> str:
    ran.append(f"charge {order}")
    return f"charged {order}"


@task
async def ship(order: str) -> str:
    ran.append(f"ship {order}")
    if ran.count(f"ship {order}") == 1:
        raise ConnectionError("the carrier does not answer")
    return f"shipped {order}"


@workflow
async def deliver(order: str) -> list[str]:
    return [await charge(order), await ship(order)]


@workflow
async def orders(names: list[str]) -> list[list[str]]:
    return [await deliver(name) for name in names]


@workflow
async def announces() -> str:
    ctx.publish("began", 1)
    drawn = str(ctx.uuid())
    await charge("o")
    ctx.publish("charged", 2)
    await ctx.signal("go")
    ctx.publish("ended", 3)
    return drawn


@workflow
async def keeps_its_place(order: str) -> str:
    await charge(order)
    await ctx.sleep("1h")
    return order


def test_a_retry_that_is_refused_leaves_the_run_as_it_was(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(deliver, "a")
            with pytest.raises(RunFailed):
                await run.result()
            before = (await run.row(), await app.entries(run.id))
            with pytest.raises(RequestRefused, match="charge"):
                await run.retry(inputs={"charge#1": {"order": "b"}})
            with pytest.raises(RequestRefused):
                await run.fork(before="no such step")
            with pytest.raises(WrongStatus):
                await run.resume()
            assert (await run.row(), await app.entries(run.id)) == before
            await run.retry()
            assert await run.result() == ["charged a", "shipped a"]

    play(scenario)


def test_between_an_accepted_retry_and_its_beginning_the_run_reads_as_it_ended(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(deliver, "a", id="r")
            with pytest.raises(RunFailed):
                await run.result()
            before = await app.state("r")
        async with make(drive=False) as client:
            await client.retry("r")
            state = await client.state("r")
            assert (state.status, state.completed, state.seq) == ("failed", 1, before.seq)
            with pytest.raises(TimeoutError):
                await client.result("r", timeout="50ms")  # it is about to go on: that it failed is not its last word
        async with make(workflows=[deliver]) as app:
            assert await app.result("r") == ["charged a", "shipped a"]
            assert ran == ["charge a", "ship a", "ship a"]

    play(scenario)


def test_a_child_and_its_parent_are_repaired_by_one_retry_and_what_was_done_stays_done() -> None:
    with Bench() as bench:
        run = bench.start(orders, ["a", "b"])
        assert bench.until(lambda: run.status == "failed")
        run.retry()
        assert bench.until(lambda: run.status == "failed"), "the second order fails the first time, too"
        run.retry()
        assert run.result() == [["charged a", "shipped a"], ["charged b", "shipped b"]]
        assert ran.count("charge a") == ran.count("charge b") == 1
        assert len(bench.runs) == 3, "the same child runs went on"


def test_a_fork_does_not_tell_again_what_the_other_run_has_told() -> None:
    with Bench() as bench:
        run = bench.start(announces)
        forked = bench.handle(bench.wait_for(bench.app.fork(run.id, before="signal:go")).id)
        bench.settle()
        for one in (run, forked):
            one.signal("go")
        assert run.result() == forked.result(), "what was drawn in the common past is the same"
        events = bench.wait_for(bench.app.events())
        assert [event.topic for event in events] == ["began", "charged", "ended", "ended"]
        assert ran == ["charge o"]


@pytest.mark.parametrize("verb", ["fork", "rerun"])
def test_forks_and_reruns_wait_in_the_queue_of_their_run(verb: str) -> None:
    with Bench() as bench:
        bench.wait_for(bench.app.put_queue(Queue("post", concurrency=1)))
        first = bench.start(keeps_its_place, "a", queue="post")
        match verb:
            case "fork":
                made = bench.wait_for(bench.app.fork(first.id, before="timer"))
            case _:
                made = bench.wait_for(bench.app.rerun(first.id))
        again = bench.handle(made.id)
        bench.settle()
        assert (again.row.queue, again.row.held_until is not None) == ("post", True)
        bench.advance("30m")
        assert again.row.held_until is not None, "there is one place, and the first run has it"
        bench.until(lambda: first.status == "completed")
        assert again.result() == "a"


def test_a_run_that_failed_for_want_of_attempts_has_them_all_again_when_it_is_retried() -> None:
    with Bench(stubs={charge: fails(2)}) as bench:
        run = bench.start(deliver, "a")
        for _ in range(2):
            assert bench.until(lambda: run.status == "failed")
            run.retry()
        with pytest.raises(RunFailed, match="carrier"):
            run.result()
        (record,) = run.steps(charge)
        assert (record.attempts, record.ended) == (3, "completed")


def test_runs_that_failed_are_retried_together_and_the_others_left_alone(play: Callable[..., Any]) -> None:
    from stepwell.stores.protocol import Filter

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            runs = [await app.start(deliver, name, labels={"day": "monday"}) for name in "abc"]
            other = await app.start(deliver, "d")
            for run in [*runs, other]:
                with pytest.raises(RunFailed):
                    await run.result()
            done = await app.retry_all(Filter(labels={"day": "monday"}))
            assert (done.done, done.refused) == (3, [])
            assert [await run.result() for run in runs] == [[f"charged {one}", f"shipped {one}"] for one in "abc"]
            await until(lambda: ran.count("ship d") == 1)
            assert (await other.row()).status == "failed"

    play(scenario)
