"""What a saga has done is undone, in reverse order and to the end, whatever interrupts it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from dying import Fuse, burnt_or_done, die
from patience import until
from trips import (
    LaterClock,
    Sold,
    World,
    book,
    booked,
    branches,
    compensations,
    drop,
    drop_held,
    drop_in_a_thread,
    failing,
    fresh_world,
    has_entry,
    held,
    held_trip,
    is_read,
    keys,
    play_on,
    ran,
    replays,
    trip,
    trip_without_block,
    undone,
)

from stepwell import Stepwell, ctx, workflow
from stepwell.errors import DefinitionError, RunCancelled, RunFailed, WrongStatus


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    fresh_world()


# -- what is undone, and in which order --------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", [trip, trip_without_block])
def test_what_was_done_is_undone_in_reverse_order_when_a_later_step_fails(play: Callable[..., Any], flow: Any) -> None:
    World.broken = {"car"}

    async def story(app: Stepwell) -> None:
        last = await failing(app, flow, "hotel", "flight", "car", "guide")
        assert ran == ["book hotel", "book flight", "book car", "drop flight", "drop hotel"]
        assert last.error.type.endswith("Sold")
        assert last.undone
        assert not last.undoing

    play_on(play, story)


@pytest.mark.parametrize("flow", [trip, trip_without_block])
def test_nothing_is_undone_when_the_run_completes(play: Callable[..., Any], flow: Any) -> None:
    async def story(app: Stepwell) -> None:
        assert await app.run(flow, "hotel", "flight") == "booked"
        assert undone() == []

    play_on(play, story)


def test_only_what_was_registered_is_undone(play: Callable[..., Any]) -> None:
    @workflow
    async def part() -> None:
        await booked("hotel")
        await book("newspaper")
        await booked("flight")
        raise ValueError("no")

    async def story(app: Stepwell) -> None:
        await failing(app, part)
        assert undone() == ["drop flight", "drop hotel"]

    play_on(play, story)


def test_a_block_left_in_good_order_is_undone_with_what_is_around_it(play: Callable[..., Any]) -> None:
    @workflow
    async def nested() -> None:
        async with ctx.saga():
            await booked("a")
            async with ctx.saga():
                await booked("b")
                async with ctx.saga():
                    await booked("c")
            await booked("d")
            raise ValueError("no")

    async def story(app: Stepwell) -> None:
        await failing(app, nested)
        assert undone() == ["drop d", "drop c", "drop b", "drop a"]

    play_on(play, story)


def test_a_block_whose_failure_the_body_catches_is_undone_alone_and_the_run_goes_on(play: Callable[..., Any]) -> None:
    World.broken = {"flight"}

    @workflow
    async def by_train_then() -> str:
        async with ctx.saga():
            await booked("hotel")
            try:
                async with ctx.saga():
                    await booked("taxi")
                    await booked("flight")
            except Sold:
                await booked("train")
        return "booked"

    async def story(app: Stepwell) -> None:
        run = await app.start(by_train_then, id="r")
        assert await run.result() == "booked"
        assert ran == ["book hotel", "book taxi", "book flight", "drop taxi", "book train"]
        await replays(app, "r", by_train_then)

    play_on(play, story)


def test_the_run_s_own_compensations_come_after_those_of_its_blocks(play: Callable[..., Any]) -> None:
    @workflow
    async def both() -> None:
        await booked("run")
        async with ctx.saga():
            await booked("block")
            raise ValueError("no")

    async def story(app: Stepwell) -> None:
        await failing(app, both)
        assert undone() == ["drop block", "drop run"]

    play_on(play, story)


def test_the_block_itself_takes_compensations_for_code_that_is_handed_it(play: Callable[..., Any]) -> None:
    @workflow
    async def handed() -> None:
        async with ctx.saga() as trip, ctx.saga():
            trip.compensate(drop, what="outer")
            await booked("inner")
            raise ValueError("no")

    async def story(app: Stepwell) -> None:
        await failing(app, handed)
        assert undone() == ["drop inner", "drop outer"]

    play_on(play, story)


def test_any_task_with_any_options_can_compensate(play: Callable[..., Any]) -> None:
    @workflow
    async def various() -> None:
        ctx.compensate(drop_in_a_thread, "thread")
        ctx.compensate(drop.with_options(key="mine"), "key")
        raise ValueError("no")

    async def story(app: Stepwell) -> None:
        await failing(app, various)
        assert undone() == ["drop key", "drop thread"]
        assert list(await compensations(app, "r")) == ["undo:1/drop[mine]", "undo:1/drop_in_a_thread#1"]

    play_on(play, story)


def test_a_call_that_does_not_fit_is_refused_where_it_is_registered(play: Callable[..., Any]) -> None:
    @workflow
    async def misfits() -> list[str]:
        said = []
        for args in ((), ("a", "b"), (threading.Lock(),)):
            try:
                ctx.compensate(drop, *args)  # type: ignore[arg-type]
            except DefinitionError as error:
                said.append(str(error))
        try:
            ctx.compensate(booked, "a")  # type: ignore[arg-type]
        except DefinitionError as error:
            said.append(str(error))
        return said

    async def story(app: Stepwell) -> None:
        missing, surplus, unwritable, no_task = await app.run(misfits)
        assert "what" in missing
        assert "drop" in surplus
        assert "what" in unwritable
        assert "ctx.compensate takes a task" in no_task
        assert undone() == []

    play_on(play, story)


def test_a_result_that_cannot_be_written_is_a_failure_too(play: Callable[..., Any]) -> None:
    @workflow
    async def unwritable() -> object:
        await booked("hotel")
        return threading.Lock()

    async def story(app: Stepwell) -> None:
        last = await failing(app, unwritable)
        assert last.error.type.endswith("Unserialisable")
        assert undone() == ["drop hotel"]

    play_on(play, story)


# -- cancellation, deadlines, time limits ------------------------------------------------------------------------------


def test_a_cancelled_run_is_undone_and_its_compensations_are_retried_all_the_same(play: Callable[..., Any]) -> None:
    World.broken = {"drop flight once"}

    async def story(app: Stepwell) -> None:
        run = await app.start(held_trip, "hotel", "flight", id="r")
        await until(lambda: "begin payment" in ran)
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        assert undone() == ["drop flight", "drop flight", "drop hotel"]
        assert "end payment" not in ran
        assert set((await compensations(app, "r")).values()) == {1}
        await replays(app, "r", held_trip)

    play_on(play, story)


def test_a_second_cancellation_while_it_is_undone_changes_nothing(play: Callable[..., Any]) -> None:
    @workflow
    async def slow() -> None:
        async with ctx.saga():
            await booked("hotel")
            ctx.compensate(drop_held, "flight")
            await ctx.signal("never")

    async def story(app: Stepwell) -> None:
        run = await app.start(slow, id="r")
        await until(lambda: ran == ["book hotel"])
        await run.cancel()
        await until(lambda: "begin drop flight" in ran)
        await run.cancel()
        await until(lambda: is_read(app, "r"))
        World.gate.set()
        with pytest.raises(RunCancelled):
            await run.result()
        assert ran == ["book hotel", "begin drop flight", "drop flight", "drop hotel"]

    play_on(play, story)


def test_a_run_that_is_cancelled_while_a_failed_block_is_undone_ends_cancelled(play: Callable[..., Any]) -> None:
    @workflow
    async def goes_on() -> str:
        for _ in range(3):
            with contextlib.suppress(ValueError):
                async with ctx.saga():
                    await booked("hotel")
                    ctx.compensate(drop_held, "flight")
                    raise ValueError("no")
        return "went on"

    async def story(app: Stepwell) -> None:
        run = await app.start(goes_on, id="r")
        await until(lambda: "begin drop flight" in ran)
        await run.cancel()
        await until(lambda: is_read(app, "r"))
        World.gate.set()
        with pytest.raises(RunCancelled):
            await run.result()
        assert ran == ["book hotel", "begin drop flight", "drop flight", "drop hotel"]
        await replays(app, "r", goes_on)

    play_on(play, story)


def test_a_run_whose_deadline_passes_is_undone(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(grace=0) as app:
            await app.start(held_trip, "hotel", id="r", deadline="1h")
            await until(lambda: "begin payment" in ran)
        async with make(workflows=[held_trip], clock=LaterClock()) as app:
            run = app.handle("r")
            with pytest.raises(RunFailed, match="deadline"):
                await run.result()
            assert undone() == ["drop hotel"]
            with pytest.raises(WrongStatus, match="rerun"):
                await run.retry()

    play(scenario)


def test_a_block_whose_time_is_up_is_undone_and_the_body_goes_on(play: Callable[..., Any]) -> None:
    @workflow
    async def limited() -> str:
        try:
            async with asyncio.timeout(0.01), ctx.saga():
                await booked("hotel")
                await ctx.signal("never")
        except TimeoutError:
            return await book("tent")
        return "hotel"

    async def story(app: Stepwell) -> None:
        run = await app.start(limited, id="r")
        assert await run.result() == "tent"
        assert ran == ["book hotel", "drop hotel", "book tent"]
        await replays(app, "r", limited)

    play_on(play, story)


def test_time_that_is_up_while_a_block_is_undone_is_told_when_it_is(play: Callable[..., Any]) -> None:
    @workflow
    async def limited() -> str:
        try:
            async with asyncio.timeout(0.01), ctx.saga():
                ctx.compensate(drop_held, "hotel")
                raise ValueError("no")
        except TimeoutError:
            return "too late"
        return "never"

    async def story(app: Stepwell) -> None:
        run = await app.start(limited, id="r")
        await until(lambda: has_entry(app, "r", "wait.satisfied"))
        World.gate.set()
        assert await run.result() == "too late"
        assert undone() == ["drop hotel"]
        await replays(app, "r", limited)

    play_on(play, story)


# -- branches ----------------------------------------------------------------------------------------------------------


def test_a_branch_that_goes_on_beside_one_that_failed_is_cancelled_and_undone_too(play: Callable[..., Any]) -> None:
    async def story(app: Stepwell) -> None:
        run = await app.start(branches, id="r")
        await until(lambda: "begin b" in ran and "book a" in ran)
        await run.signal("fail")
        with pytest.raises(RunFailed):
            await run.result()
        assert undone() == ["drop a", "drop b"]
        await replays(app, "r", branches)
        with pytest.raises(WrongStatus, match="rerun"):
            await run.retry()

    play_on(play, story)


@pytest.mark.parametrize("grouped", [False, True])
def test_what_still_goes_on_inside_a_block_that_fails_ends_before_it_is_undone(
    play: Callable[..., Any], grouped: bool
) -> None:
    @workflow
    async def parallel(grouped: bool) -> str:
        async def late() -> None:
            await booked("b")
            try:
                await held("b")
            finally:
                await booked("tidied up")

        async def fails() -> None:
            await booked("a")
            await ctx.signal("fail")
            raise ValueError("no")

        try:
            async with ctx.saga():
                if grouped:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fails())
                        group.create_task(late())
                else:
                    await asyncio.gather(fails(), late())
        except* ValueError:
            pass
        return await book("c")

    async def story(app: Stepwell) -> None:
        run = await app.start(parallel, grouped, id="r")
        await until(lambda: "begin b" in ran and "book a" in ran)
        await run.signal("fail")
        assert await run.result() == "c"
        assert ran[-5:] == ["book tidied up", "drop tidied up", "drop " + ran[1][-1], "drop " + ran[0][-1], "book c"]
        await replays(app, "r", parallel)

    play_on(play, story)


def test_a_branch_that_was_undone_because_code_beside_it_raised_is_not_gone_on_from(play: Callable[..., Any]) -> None:
    @workflow
    async def group() -> None:
        async def raises() -> None:
            await ctx.signal("fail")
            raise ValueError("a mistake in the code")

        async def books() -> None:
            async with ctx.saga():
                await booked("b")
                await ctx.signal("never")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(raises())
            tasks.create_task(books())

    async def story(app: Stepwell) -> None:
        run = await app.start(group, id="r")
        await until(lambda: ran == ["book b"])
        await run.signal("fail")
        with pytest.raises(RunFailed):
            await run.result()
        assert undone() == ["drop b"]
        with pytest.raises(WrongStatus, match="rerun"):
            await run.retry()

    play_on(play, story)


@pytest.mark.parametrize("concurrency", [None, 1])
def test_each_item_of_a_map_has_a_saga_of_its_own(play: Callable[..., Any], concurrency: int | None) -> None:
    World.broken = {"2"}

    @workflow
    async def each(concurrency: int | None) -> list[str]:
        async def one(number: int) -> str:
            async with ctx.saga():
                await booked(f"hotel {number}")
                return await book(str(number))

        found = await ctx.map(one, [1, 2, 3], concurrency=concurrency, on_error="collect")
        return [str(one) for one in found]

    async def story(app: Stepwell) -> None:
        run = await app.start(each, concurrency, id="r")
        assert await run.result() == ["1", "2 is sold out", "3"]
        assert undone() == ["drop hotel 2"]
        await replays(app, "r", each)

    play_on(play, story)


@pytest.mark.parametrize("concurrency", [None, 1, 2])
def test_items_of_a_map_inside_a_saga_belong_to_it(play: Callable[..., Any], concurrency: int | None) -> None:
    World.broken = {"4"}

    @workflow
    async def around(concurrency: int | None) -> None:
        async with ctx.saga():
            await ctx.map(booked, "1234", concurrency=concurrency)

    async def story(app: Stepwell) -> None:
        await failing(app, around, concurrency)
        assert sorted(undone()) == ["drop 1", "drop 2", "drop 3"]
        done = [line.replace("book", "drop") for line in ran if line.startswith("book") and "4" not in line]
        if concurrency == 1:
            assert undone() == done[::-1]

    play_on(play, story)


def test_a_child_run_undoes_its_own_work_and_its_parent_what_the_parent_registered(play: Callable[..., Any]) -> None:
    World.broken = {"flight"}

    @workflow
    async def journey() -> str:
        async with ctx.saga():
            await booked("insurance")
            return await trip("hotel", "flight")

    async def story(app: Stepwell) -> None:
        await failing(app, journey)
        assert undone() == ["drop hotel", "drop insurance"]

    play_on(play, story)


# -- synchronous bodies ------------------------------------------------------------------------------------------------


@workflow
def sync_trip(*stops: str) -> str:
    with ctx.sync.saga():
        for stop in stops:
            book.sync(stop)
            ctx.compensate(drop, stop)
    return "booked"


def test_a_synchronous_workflow_is_undone(play: Callable[..., Any]) -> None:
    World.broken = {"car"}

    async def story(app: Stepwell) -> None:
        await failing(app, sync_trip, "hotel", "flight", "car")
        assert undone() == ["drop flight", "drop hotel"]
        World.broken = set()
        assert await app.run(sync_trip, "hotel") == "booked"
        assert undone() == ["drop flight", "drop hotel"]

    play_on(play, story)


def test_blocks_nest_in_synchronous_workflows_and_hold_what_runs_on_the_loop(play: Callable[..., Any]) -> None:
    @workflow
    def nested() -> str:
        with ctx.sync.saga():
            ctx.compensate(drop, "outer")
            try:
                with ctx.sync.saga():
                    ctx.sync.map(booked, ["a", "b"], concurrency=1)
                    ctx.compensate(drop, "inner")
                    raise ValueError("no")
            except ValueError:
                ctx.compensate(drop, "outer too")
            raise KeyError("neither")

    async def story(app: Stepwell) -> None:
        await failing(app, nested)
        assert undone() == ["drop inner", "drop b", "drop a", "drop outer too", "drop outer"]

    play_on(play, story)


def test_a_synchronous_workflow_cannot_catch_the_failure_of_a_compensation(play: Callable[..., Any]) -> None:
    World.broken = {"drop hotel"}

    @workflow
    def careless() -> str:
        try:
            with ctx.sync.saga():
                ctx.compensate(drop, "hotel")
                raise ValueError("no")
        except Exception:
            return book.sync("whatever")

    async def story(app: Stepwell) -> None:
        last = await failing(app, careless)
        assert last.undoing
        assert "book whatever" not in ran
        World.broken = set()
        run = app.handle("r")
        await run.retry()
        assert await run.result() == "whatever"

    play_on(play, story)


# -- crashes -----------------------------------------------------------------------------------------------------------


@workflow
async def doomed(waits: bool) -> None:
    await booked("run")
    async with ctx.saga():
        await booked("a")
        async with ctx.saga():
            await booked("b")
        await asyncio.gather(booked("c"), booked("d"))
        await (held("last") if waits else book("broken"))


async def to_its_end(app: Stepwell, id: str, cancels: bool) -> None:
    """Drive the run on, however far it is: it fails, or is cancelled in its last step."""
    run = await app.start(doomed, cancels, id=id)

    async def is_in_its_last_step() -> bool:
        state = await app.state(id)
        return bool(state.cancel or state.ended or any(path.name == "held" for path in state.steps))

    if cancels:
        await until(is_in_its_last_step)
        with contextlib.suppress(WrongStatus):
            await run.cancel()
    with pytest.raises(RunCancelled if cancels else RunFailed):
        await run.result()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("cancels", [False, True])
def test_whatever_commit_it_dies_at_each_compensation_is_completed_once_and_in_order(
    play: Callable[..., Any], when: Any, cancels: bool
) -> None:
    async def life(make: Callable[..., Stepwell], n: int) -> bool:
        ran.clear()
        keys.clear()
        World.broken = {"broken", "drop b once"}
        id = f"r-{n}"
        app = make(workflows=[doomed])
        await app.open()
        fuse = Fuse(app, n, when)
        burnt = await burnt_or_done(fuse, to_its_end(app, id, cancels))
        await die(app)
        async with make(workflows=[doomed]) as app:
            await to_its_end(app, id, cancels)
            steps = await compensations(app, id)
            assert list(steps.values()) == [1] * 5, steps
            assert len(set(keys)) == 5, "each has one idempotency key, however often it ran"
            order = list(dict.fromkeys(undone()))
            assert sorted(order[:2]) == ["drop c", "drop d"]
            assert order[2:] == ["drop b", "drop a", "drop run"]
            await replays(app, id, doomed)
            with pytest.raises(WrongStatus, match="rerun"):
                await app.retry(id)
        return burnt

    async def scenario(make: Callable[..., Stepwell]) -> None:
        n = 1
        while await life(make, n):
            n += 1
        assert n > 12

    play(scenario)


def test_a_run_paused_while_it_is_undone_goes_on_when_it_is_resumed(play: Callable[..., Any]) -> None:
    @workflow
    async def slow() -> None:
        ctx.compensate(drop, "hotel")
        ctx.compensate(drop_held, "flight")
        raise ValueError("no")

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(slow, id="r")
            await until(lambda: "begin drop flight" in ran)
            await run.pause()
            await until(lambda: is_read(app, "r"))
            World.gate.set()
            await until(lambda: has_entry(app, "r", "step.completed"))
        async with make(workflows=[slow]) as app:
            assert (await app.get("r")).status == "paused"
            assert undone() == ["drop flight"]
            await app.resume("r")
            with pytest.raises(RunFailed):
                await app.handle("r").result()
            assert undone() == ["drop flight", "drop hotel"]

    play(scenario)
