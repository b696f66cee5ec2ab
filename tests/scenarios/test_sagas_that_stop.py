"""A compensation that fails for good stops the run where it stands; a retry goes on undoing and never forward."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from patience import until
from trips import (
    LaterClock,
    Sold,
    World,
    book,
    booked,
    branches,
    compensations,
    failing,
    fresh_world,
    held_trip,
    play_on,
    ran,
    replays,
    trip,
    undone,
)

from stepwell import Stepwell, ctx, workflow
from stepwell.errors import RunCancelled, RunFailed, WrongStatus
from stepwell.model.entries import StepStarted
from stepwell.observe.telling import tell
from stepwell.stores.protocol import Filter


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    fresh_world()


# -- compensations that fail -------------------------------------------------------------------------------------------


def test_a_compensation_is_a_step_of_its_own_kind_with_its_own_retry_policy(play: Callable[..., Any]) -> None:
    World.broken = {"flight", "drop hotel once"}

    async def story(app: Stepwell) -> None:
        await failing(app, trip, "hotel", "flight")
        starts = [s.entry for s in await app.entries("r") if isinstance(s.entry, StepStarted)]
        last = [(str(one.path), one.step, one.attempt) for one in starts[-2:]]
        assert [tell(one) for one in starts[-2:]] == ["attempt 1 of a compensation", "attempt 2 of a compensation"]
        assert last == [("saga:1/drop#1", "compensation", 1), ("saga:1/drop#1", "compensation", 2)]

    play_on(play, story)


def test_a_compensation_that_fails_for_good_fails_the_run_and_a_retry_goes_on_with_it_and_the_rest(
    play: Callable[..., Any],
) -> None:
    World.broken = {"guide", "drop flight"}

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            last = await failing(app, trip, "hotel", "flight", "car", "guide")
            assert last.undoing
            assert not last.undone
            assert last.error.message == "cannot drop flight"
            assert [path.name for path in last.steps] == ["drop"]
            assert undone() == ["drop car", *["drop flight"] * 3]
            before = list(ran)
        async with make(workflows=[trip]) as app:
            run = app.handle("r")
            await run.retry()
            with pytest.raises(RunFailed, match="cannot drop flight"):
                await run.result()
            assert ran == [*before, *["drop flight"] * 3], "nothing is booked again"
            World.broken = set()
            await run.retry(by="ann")
            with pytest.raises(RunFailed, match="guide is sold out"):
                await run.result()
            assert ran == [*before, *["drop flight"] * 4, "drop hotel"]
            assert set((await compensations(app, "r")).values()) == {1}
            await replays(app, "r", trip)
            with pytest.raises(WrongStatus, match="rerun"):
                await run.retry()

    play(scenario)


def test_a_cancelled_run_whose_compensation_failed_is_cancelled_in_the_end(play: Callable[..., Any]) -> None:
    World.broken = {"drop hotel"}

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(held_trip, "taxi", "hotel", id="r")
            await until(lambda: "begin payment" in ran)
            await run.cancel()
            with pytest.raises(RunFailed, match="cannot drop hotel"):
                await run.result()
        World.broken = set()
        async with make(workflows=[held_trip]) as app:
            run = app.handle("r")
            await run.retry()
            with pytest.raises(RunCancelled):
                await run.result()
            assert ran.count("begin payment") == 1
            assert undone() == [*["drop hotel"] * 4, "drop taxi"]
            await replays(app, "r", held_trip)
            with pytest.raises(WrongStatus, match="rerun"):
                await run.retry()

    play(scenario)


def test_a_run_whose_deadline_passed_and_whose_compensation_failed_has_failed_of_its_deadline_in_the_end(
    play: Callable[..., Any],
) -> None:
    World.broken = {"drop hotel"}

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(grace=0) as app:
            await app.start(held_trip, "hotel", id="r", deadline="1h")
            await until(lambda: "begin payment" in ran)
        async with make(workflows=[held_trip], clock=LaterClock()) as app:
            run = app.handle("r")
            with pytest.raises(RunFailed, match="cannot drop hotel"):
                await run.result()
            begun = ran.count("begin payment")
            World.broken = set()
            await run.retry()
            with pytest.raises(RunFailed, match="deadline"):
                await run.result()
            assert ran.count("begin payment") == begun
            assert undone() == ["drop hotel"] * 4

    play(scenario)


def test_no_body_can_catch_the_failure_of_a_compensation(play: Callable[..., Any]) -> None:
    World.broken = {"flight", "drop hotel"}

    @workflow
    async def careless() -> str:
        try:
            async with ctx.saga():
                await booked("hotel")
                await booked("flight")
        except Exception:
            return await book("tent")
        return "booked"

    async def story(app: Stepwell) -> None:
        last = await failing(app, careless)
        assert last.undoing
        assert "book tent" not in ran
        World.broken = set()
        run = app.handle("r")
        await run.retry()
        assert await run.result() == "tent", "what the body makes of the failure counts once the rest is undone"
        assert undone() == ["drop hotel"] * 4
        await replays(app, "r", careless)

    play_on(play, story)


def test_a_body_that_gathers_errors_goes_on_beside_and_has_failed_in_the_end(play: Callable[..., Any]) -> None:
    World.broken = {"drop a"}

    @workflow
    async def gathers() -> list[str]:
        async def one(name: str) -> str:
            async with ctx.saga():
                await booked(name)
                raise ValueError(name)

        found = await asyncio.gather(one("a"), one("b"), return_exceptions=True)
        await book("c")
        return [str(error) for error in found]

    async def story(app: Stepwell) -> None:
        last = await failing(app, gathers)
        assert last.undoing
        World.broken = set()
        run = app.handle("r")
        await run.retry()
        assert await run.result() == ["a", "b"]
        assert ran.count("book c") == 1
        assert Counter(undone()) == {"drop a": 4, "drop b": 1}

    play_on(play, story)


def test_what_is_around_a_block_waits_until_all_in_it_is_undone(play: Callable[..., Any]) -> None:
    World.broken = {"drop inner"}

    @workflow
    async def nested() -> None:
        await booked("run")
        async with ctx.saga():
            await booked("outer")
            async with ctx.saga():
                await booked("inner")
                raise ValueError("no")

    async def story(app: Stepwell) -> None:
        await failing(app, nested)
        assert undone() == ["drop inner"] * 3
        World.broken = set()
        run = app.handle("r")
        await run.retry()
        with pytest.raises(RunFailed, match="no"):
            await run.result()
        assert undone() == [*["drop inner"] * 4, "drop outer", "drop run"]

    play_on(play, story)


def test_not_even_an_error_of_a_finally_block_lets_what_is_around_go_first(play: Callable[..., Any]) -> None:
    World.broken = {"drop inner", "tidy"}

    @workflow
    async def tidies() -> None:
        async with ctx.saga():
            await booked("outer")
            try:
                async with ctx.saga():
                    await booked("inner")
                    raise ValueError("no")
            finally:
                await book("tidy")

    async def story(app: Stepwell) -> None:
        last = await failing(app, tidies)
        assert last.undoing
        assert undone() == ["drop inner"] * 3
        World.broken = set()
        run = app.handle("r")
        await run.retry()
        with pytest.raises(RunFailed):
            await run.result()
        assert undone() == [*["drop inner"] * 4, "drop outer"]

    play_on(play, story)


def test_a_branch_beside_a_compensation_that_fails_is_undone_and_does_not_go_forward_again(
    play: Callable[..., Any],
) -> None:
    World.broken = {"drop a"}

    async def story(app: Stepwell) -> None:
        run = await app.start(branches, id="r")
        await until(lambda: "begin b" in ran and "book a" in ran)
        await run.signal("fail")
        with pytest.raises(RunFailed, match="cannot drop a"):
            await run.result()
        assert undone() == [*["drop a"] * 3, "drop b"]
        World.broken = set()
        await run.retry()
        with pytest.raises(RunFailed, match="no"):
            await run.result()
        assert undone() == [*["drop a"] * 3, "drop b", "drop a"]
        assert ran.count("begin b") == 1
        await replays(app, "r", branches)

    play_on(play, story)


def test_what_was_undone_for_an_error_that_the_body_caught_is_no_obstacle_to_a_retry(play: Callable[..., Any]) -> None:
    World.broken = {"flight", "train"}

    @workflow
    async def second_best() -> str:
        try:
            async with ctx.saga():
                await booked("hotel")
                await booked("flight")
        except Sold:
            await book("train")
        return "there"

    async def story(app: Stepwell) -> None:
        last = await failing(app, second_best)
        assert not last.undone
        World.broken = {"flight"}
        run = app.handle("r")
        await run.retry()
        assert await run.result() == "there"
        assert ran == ["book hotel", "book flight", "drop hotel", "book train", "book train"]
        await replays(app, "r", second_best)

    play_on(play, story)


# -- retry and rerun ---------------------------------------------------------------------------------------------------


def test_a_run_that_is_undone_refuses_to_be_retried_and_says_what_to_do(play: Callable[..., Any]) -> None:
    World.broken = {"flight"}

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            await failing(app, trip, "hotel", "flight")
            cancelled = await app.start(held_trip, "hotel", id="c")
            await until(lambda: "begin payment" in ran)
            await cancelled.cancel()
            await cancelled.wait()
        async with make(drive=False) as client:
            for id in ("r", "c"):
                seen = len(await client.entries(id))
                with pytest.raises(WrongStatus, match=f"run {id} is .* undone its work.*rerun it to start anew"):
                    await client.retry(id)
                assert len(await client.entries(id)) == seen
                assert await client.store.mailbox(id) == []
            found = await client.retry_all(Filter(workflow="trip"))
            assert (found.done, len(found.refused)) == (0, 1)
        World.broken = set()
        async with make(workflows=[trip]) as app:
            assert await (await app.rerun("r", "again")).result() == "booked"

    play(scenario)


# -- the development guard ---------------------------------------------------------------------------------------------


@workflow
async def offends_in_a_block() -> str:
    import time

    await booked("run")
    async with ctx.saga():
        await booked("block")
        time.time()  # stepwell: the guard is to see it
    return "never"


@workflow
async def offends_and_catches() -> str:
    import time

    await booked("run")
    try:
        async with ctx.saga():
            await booked("block")
            time.time()
    except Exception:
        return await book("more")
    return "never"


@pytest.mark.parametrize("flow", [offends_in_a_block, offends_and_catches])
def test_a_call_that_the_guard_refuses_is_a_failure_and_undone(
    play: Callable[..., Any], flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.authoring.lint.check", lambda *_, **__: None)

    async def story(app: Stepwell) -> None:
        run = await app.start(flow, id="r")
        with pytest.raises(RunFailed, match=r"time\.time"):
            await run.result()
        assert undone() == ["drop block", "drop run"]
        assert "book more" not in ran

    play_on(play, story, strict=True)
