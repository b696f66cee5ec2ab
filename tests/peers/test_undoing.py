"""Is finished work undone in order, once, and to the end? What others leave to a handler of one's own."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Retry, ctx, task, workflow
from stepwell.errors import RunCancelled, RunFailed
from stepwell.testing import Bench, fails

done: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


@task
async def book(what: str) -> str:
    done.append(f"book {what}")
    return what


@task(retry=Retry(attempts=3, first="1m", jitter=False))
async def unbook(what: str) -> None:
    done.append(f"unbook {what}")


@task
async def pay() -> str:
    raise ValueError("the card was refused")


@workflow
async def trip(*, waits: bool = False) -> str:
    async with ctx.saga():
        for what in ("flight", "hotel", "car"):
            ctx.compensate(unbook, await book(what))
        if waits:
            await ctx.signal("go")
        return await pay()


BOOKED = ["book flight", "book hotel", "book car"]
UNDONE = ["unbook car", "unbook hotel", "unbook flight"]


@pytest.mark.parametrize("step", ["saga:1/unbook#1", "saga:1/unbook#2", "saga:1/unbook#3"])
@pytest.mark.parametrize("when", ["before", "committed"])
def test_a_crash_in_the_middle_of_undoing_undoes_the_rest_and_nothing_twice(step: str, when: Any) -> None:
    with Bench() as bench:
        bench.crash_at(step, when)
        with pytest.raises(RunFailed, match="card was refused"):
            bench.run(trip)
        assert done == BOOKED + UNDONE


def test_a_cancelled_run_undoes_what_it_has_done() -> None:
    with Bench() as bench:
        run = bench.start(trip, waits=True)
        run.cancel()
        with pytest.raises(RunCancelled):
            run.result()
        assert done == BOOKED + UNDONE


def test_an_undoing_that_fails_for_good_fails_the_run_visibly_and_a_retry_goes_on_from_there() -> None:
    with Bench(stubs={unbook: fails(3)}) as bench:
        run = bench.start(trip)
        with pytest.raises(RunFailed):
            run.result()
        assert run.steps(unbook)[0].ended == "failed"
        assert done == BOOKED, "what is left to undo waits"
        bench.stub(unbook, lambda what: done.append(f"unbook {what}"))
        run.retry()
        with pytest.raises(RunFailed, match="card was refused"):
            run.result()
        assert done == BOOKED + UNDONE
