"""What a saga has done is undone, in reverse order and to the end, whatever interrupts it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from dying import Fuse, burnt_or_done, die
from patience import until

from stepwell import Retry, StepFailed, Stepwell, ctx, task, workflow
from stepwell.engine.clock import SystemClock
from stepwell.errors import DefinitionError, RunCancelled, RunFailed, WrongStatus
from stepwell.model.entries import RunFailed as Failed
from stepwell.model.entries import StepCompleted, StepStarted
from stepwell.model.ids import SECOND
from stepwell.observe.telling import tell
from stepwell.stores.protocol import Filter

ran: list[str] = []
keys: list[tuple[str, str]] = []


class World:
    """What tasks touch outside the engine."""

    gate: asyncio.Event
    broken: set[str]


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    ran.clear()
    keys.clear()
    World.gate = asyncio.Event()
    World.broken = set()


class LaterClock(SystemClock):
    """The machine's clock, two hours ahead."""

    def now(self) -> int:
        return super().now() + 7200 * SECOND


class Sold(Exception):
    pass


@task
async def book(what: str) -> str:
    ran.append(f"book {what}")
    if what in World.broken:
        raise Sold(f"{what} is sold out")
    return what


@task(retry=Retry(attempts=3, first="1ms", jitter=False))
async def drop(what: str) -> None:
    ran.append(f"drop {what}")
    keys.append((what, ctx.idempotency_key))
    if f"drop {what}" in World.broken:
        raise OSError(f"cannot drop {what}")
    if f"drop {what} once" in World.broken and ctx.attempt == 1:
        raise OSError(f"cannot drop {what} yet")


@task
def drop_in_a_thread(what: str) -> None:
    ran.append(f"drop {what}")


@task
async def held(what: str) -> str:
    ran.append(f"begin {what}")
    await World.gate.wait()
    ran.append(f"end {what}")
    return what


@task
async def drop_held(what: str) -> None:
    ran.append(f"begin drop {what}")
    await World.gate.wait()
    ran.append(f"drop {what}")


async def booked(what: str) -> None:
    await book(what)
    ctx.compensate(drop, what)


@workflow
async def trip(*stops: str) -> str:
    async with ctx.saga():
        for stop in stops:
            await booked(stop)
    return "booked"


@workflow
async def trip_without_block(*stops: str) -> str:
    for stop in stops:
        await booked(stop)
    return "booked"


@workflow
async def held_trip(*stops: str) -> str:
    async with ctx.saga():
        for stop in stops:
            await booked(stop)
        await held("payment")
    return "paid"


def undone() -> list[str]:
    return [line for line in ran if line.startswith(("drop", "undo"))]


async def compensations(app: Stepwell, id: str) -> dict[str, int]:
    """The compensations of a run by readable path, with how often each was completed."""
    entries = [stored.entry for stored in await app.entries(id)]
    paths = [str(e.path) for e in entries if isinstance(e, StepStarted) and e.step == "compensation"]
    done = Counter(str(entry.path) for entry in entries if isinstance(entry, StepCompleted))
    return {path: done[path] for path in paths}


async def replays(app: Stepwell, id: str, flow: Any) -> None:
    """The run's journal is what today's code makes of it."""
    found = await app.replay(id, flow)
    assert (found.outcome, found.detail, found.new_calls, found.orphans, found.note) == ("ok", "", (), (), ""), found


async def failing(app: Stepwell, flow: Any, *args: Any, id: str = "r") -> Failed:
    """Run a workflow that fails; how its journal says so."""
    run = await app.start(flow, *args, id=id)
    with pytest.raises(RunFailed):
        await run.result()
    await replays(app, id, flow)
    last = (await app.entries(id))[-1].entry
    assert isinstance(last, Failed)
    return last


def play_on(play: Callable[..., Any], story: Callable[[Stepwell], Any], **settings: Any) -> None:
    """A scenario on one engine."""

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(**settings) as app:
            await story(app)

    play(scenario)


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
        await until(lambda: _is_read(app, "r"))
        World.gate.set()
        with pytest.raises(RunCancelled):
            await run.result()
        assert ran == ["book hotel", "begin drop flight", "drop flight", "drop hotel"]

    play_on(play, story)


async def _is_read(app: Stepwell, id: str) -> bool:
    return not await app.store.mailbox(id)


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
        await until(lambda: _is_read(app, "r"))
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
        await until(lambda: _has(app, "r", "wait.satisfied"))
        World.gate.set()
        assert await run.result() == "too late"
        assert undone() == ["drop hotel"]
        await replays(app, "r", limited)

    play_on(play, story)


async def _has(app: Stepwell, id: str, tag: str) -> bool:
    return any(stored.entry.__struct_config__.tag == tag for stored in await app.entries(id))


# -- branches ----------------------------------------------------------------------------------------------------------


def test_a_branch_that_goes_on_beside_one_that_failed_is_cancelled_and_undone_too(play: Callable[..., Any]) -> None:
    @workflow
    async def beside() -> None:
        async def fails() -> None:
            async with ctx.saga():
                await booked("a")
                await ctx.signal("fail")
                raise ValueError("no")

        async def goes_on() -> None:
            async with ctx.saga():
                await booked("b")
                await held("b")

        await asyncio.gather(fails(), goes_on())

    async def story(app: Stepwell) -> None:
        run = await app.start(beside, id="r")
        await until(lambda: "begin b" in ran and "book a" in ran)
        await run.signal("fail")
        with pytest.raises(RunFailed):
            await run.result()
        assert undone() == ["drop a", "drop b"]
        await replays(app, "r", beside)
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
            await until(lambda: _is_read(app, "r"))
            World.gate.set()
            await until(lambda: _has(app, "r", "step.completed"))
        async with make(workflows=[slow]) as app:
            assert (await app.get("r")).status == "paused"
            assert undone() == ["drop flight"]
            await app.resume("r")
            with pytest.raises(RunFailed):
                await app.handle("r").result()
            assert undone() == ["drop flight", "drop hotel"]

    play(scenario)


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

    @workflow
    async def beside() -> None:
        async def fails() -> None:
            async with ctx.saga():
                await booked("a")
                await ctx.signal("fail")
                raise ValueError("no")

        async def goes_on() -> None:
            async with ctx.saga():
                await booked("b")
                await held("b")

        await asyncio.gather(fails(), goes_on())

    async def story(app: Stepwell) -> None:
        run = await app.start(beside, id="r")
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
        await replays(app, "r", beside)

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
        with pytest.raises(RunFailed, match="time.time"):
            await run.result()
        assert undone() == ["drop block", "drop run"]
        assert "book more" not in ran

    play_on(play, story, strict=True)
