"""Child runs: their results, errors and identity, what becomes of them when nobody waits, thousands of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from patience import until

from stepwell import Limits, StepFailed, Stepwell, ctx, task, workflow
from stepwell.errors import DefinitionError, RunCancelled, RunExists, RunFailed, WrongStatus
from stepwell.model.entries import OnCancel
from stepwell.stores.memory import MemoryStore
from stepwell.stores.protocol import Filter

Play = Callable[..., Any]

ran: list[Any] = []


class World:
    """What tasks touch outside the engine."""

    gate: asyncio.Event
    broken = True


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    ran.clear()
    World.gate = asyncio.Event()
    World.broken = True


class Parcel(msgspec.Struct):
    order: int
    tags: set[str] = set()


@task
async def note(what: str) -> str:
    ran.append(what)
    return what


@task
async def held(what: str) -> str:
    ran.append(f"begin {what}")
    await World.gate.wait()
    ran.append(f"end {what}")
    return what


@task
async def fragile(what: str) -> str:
    ran.append(what)
    if World.broken:
        raise ValueError(f"{what} is broken")
    return what


@workflow
async def pack(order: int) -> Parcel:
    return Parcel(order, {await note(f"packed {order}")})


@workflow
async def who() -> list[str | None]:
    identity = ctx.identity
    return [identity.run_id, identity.parent, identity.root]


@workflow
async def waits() -> str:
    return await ctx.signal("go", str)


@workflow
async def tidies() -> str:
    """Takes a while to end when it is cancelled."""
    try:
        return await ctx.signal("go", str)
    finally:
        await held("tidying")


async def status(app: Stepwell, run: str) -> str:
    row = await app.store.get(run)
    return "" if row is None else row.status


async def is_now(app: Stepwell, run: str, wanted: str) -> bool:
    return await status(app, run) == wanted


async def tags(app: Stepwell, run: str) -> list[str]:
    return [str(one.entry.__struct_config__.tag) for one in await app.entries(run)]


# -- across the border ----------------------------------------------------------------------------------------------


def test_a_child_s_result_comes_back_as_the_type_that_it_declares_also_after_a_restart(play: Play) -> None:
    @workflow
    async def ships() -> list[Any]:
        parcel = await pack(7)
        assert isinstance(parcel, Parcel) and isinstance(parcel.tags, set)
        await ctx.signal("go")
        return [parcel.order, sorted(parcel.tags)]

    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(ships, id="s")
            await until(lambda: is_now(app, "s/pack#1", "completed"))
        async with make(workflows=[ships]) as app:
            await app.signal("s", "go")
            assert await app.handle("s").result() == [7, ["packed 7"]]
            assert ran == ["packed 7"]
            assert (await app.replay("s")).outcome == "ok"

    play(scenario)


def test_a_child_s_failure_is_an_exception_of_its_kind_in_the_parent(play: Play) -> None:
    @workflow
    async def fails() -> str:
        return await fragile("lamp")

    @workflow
    async def catches() -> list[str]:
        try:
            await fails()
        except ValueError as error:
            assert isinstance(error, StepFailed)
            return [str(error), error.failure.type, error.step]
        return []

    @workflow
    async def does_not() -> None:
        await fails()

    async def scenario(make: Play) -> None:
        async with make() as app:
            assert await app.run(catches) == ["lamp is broken", "ValueError", "fails#1"]
            run = await app.start(does_not, id="d")
            with pytest.raises(RunFailed, match="lamp is broken"):
                await run.result()
            assert [str(path) for path in (await run.state()).failed_steps] == ["fails#1"]
            assert await status(app, "d/fails#1") == "failed"

    play(scenario)


def test_a_child_that_somebody_cancels_fails_its_step(play: Play) -> None:
    @workflow
    async def parent() -> str:
        try:
            return await waits()
        except RunCancelled as error:
            return str(error)

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            await until(lambda: is_now(app, "p/waits#1", "waiting"))
            await app.cancel("p/waits#1", by="ann")
            assert await run.result() == "child run p/waits#1 was cancelled"

    play(scenario)


def test_large_inputs_and_results_cross_the_border(play: Play) -> None:
    @workflow
    async def doubles(text: str) -> str:
        return text * 2

    @workflow
    async def parent() -> int:
        return len(await doubles(await doubles("x" * 100_000)))

    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app:
            assert await app.run(parent) == 400_000

    play(scenario)


def test_a_parent_that_is_not_in_memory_comes_back_when_its_child_ends(play: Play) -> None:
    @workflow
    async def parent() -> str:
        return await waits()

    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app:
            await app.start(parent, id="p")
            await until(lambda: is_now(app, "p/waits#1", "waiting"))
            await until(lambda: not app.engine.runners)
            await app.signal("p/waits#1", "go", "on")
            assert await app.handle("p").result() == "on"

    play(scenario)


def test_a_synchronous_workflow_has_child_runs(play: Play) -> None:
    @workflow
    def adds(left: int, right: int) -> int:
        return left + right

    @workflow
    def parent() -> list[Any]:
        first = adds(1, 2)
        detached = ctx.sync.start(pack, 9)
        parcels = ctx.sync.wait(pack.map([1, 2]))
        return [first, detached, [parcel.order for parcel in parcels]]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            assert await run.result() == [3, "p/start:pack#1", [1, 2]]
            await until(lambda: is_now(app, "p/start:pack#1", "completed"))

    play(scenario)


# -- who they are ---------------------------------------------------------------------------------------------------


def test_all_runs_of_a_tree_know_their_parent_and_their_root(play: Play) -> None:
    @workflow
    async def middle() -> list[Any]:
        return [await who(), await ctx.start(who)]

    @workflow
    async def top() -> list[Any]:
        below, other = await asyncio.gather(middle(), who())
        return [below, other, await ctx.start_new(who)]

    async def scenario(make: Play) -> None:
        async with make() as app:
            (deep, detached), other, own = await (await app.start(top, id="t")).result()
            assert deep[1:] == ["t/middle#1", "t"]
            assert other[1:] == ["t", "t"]
            assert (await app.handle(detached).result())[1:] == ["t/middle#1", "t"]
            assert (await app.handle(own).result())[1:] == [None, own]
            tree = await app.runs(Filter(root="t"))
            assert Counter(row.workflow for row in tree) == {"top": 1, "middle": 1, "who": 3}
            assert len(await app.runs(Filter(parent="t/middle#1"))) == 2

    play(scenario)


def test_options_set_a_child_s_id_priority_and_labels(play: Play) -> None:
    @workflow
    async def parent() -> list[Any]:
        await pack(1)
        await pack.with_options(id="parcel-2", priority=9, labels={"shop": "x"})(2)
        started = await ctx.start(pack.with_options(id="parcel-3"), 3)
        return [started]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent, id="p", priority=4, labels={"team": "a"})
            assert await run.result() == ["parcel-3"]
            rows = {row.run_id: row for row in await app.runs()}
            assert (rows["p/pack#1"].priority, rows["p/pack#1"].labels) == (4, {})
            assert (rows["parcel-2"].priority, rows["parcel-2"].labels, rows["parcel-2"].parent) == (
                9,
                {"shop": "x"},
                "p",
            )
            assert rows["parcel-3"].parent == "p"

    play(scenario)


def test_a_child_s_id_that_another_run_has_is_refused_where_it_is_awaited(play: Play) -> None:
    @workflow
    async def parent(order: int) -> str:
        try:
            parcel = await pack.with_options(id="taken")(order)
        except RunExists as error:
            await ctx.signal("go")
            return str(error)
        return f"packed {parcel.order}"

    @workflow
    async def twice() -> list[Any]:
        same = pack.with_options(id="same")
        both: list[Any] = await asyncio.gather(same(1), same(1), return_exceptions=True)
        return [both[0].order, str(both[1])]

    async def scenario(make: Play) -> None:
        async with make() as app:
            other = await app.start(pack, 1, id="taken")
            run = await app.start(parent, 1, id="p")
            await until(lambda: is_now(app, "p", "waiting"))
            await other.result()
        async with make(workflows=[parent, twice]) as app:
            await app.signal("p", "go")
            text = await app.handle("p").result()
            assert "'taken'" in text and "taken by a run of pack" in text
            first, second = await app.run(twice)
            assert first == 1 and "'same'" in second
            assert run.id == "p"
        assert ran == ["packed 1", "packed 1"]

    play(scenario)


def test_a_run_that_is_started_under_an_id_that_is_taken_is_the_run_that_is_there(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def parent(order: int) -> str:
        return await ctx.start(pack.with_options(id="once"), order)

    async def scenario(make: Play) -> None:
        async with make() as app:
            for order in (1, 1, 2):
                assert await app.run(parent, order) == "once"
            await app.handle("once").result()
            await until(lambda: order != 2 or bool(caplog.records))
        assert ran == ["packed 1"]

    with caplog.at_level(logging.WARNING, "stepwell.engine"):
        play(scenario)
    [line] = [one.getMessage() for one in caplog.records]
    assert "'once'" in line and "nothing was started" in line


def test_options_that_cannot_be_are_refused(play: Play) -> None:
    with pytest.raises(DefinitionError, match="on_cancel='never'"):
        pack.with_options(on_cancel="never")  # type: ignore[arg-type]  # that is the mistake

    @workflow
    async def bad_id() -> None:
        await pack.with_options(id="no spaces")(1)

    @workflow
    async def bad_map() -> None:
        await waits.with_options(on_cancel="wait").map([])

    async def scenario(make: Play) -> None:
        async with make() as app:
            for target, said in ((bad_id, "'no spaces'"), (bad_map, "on_cancel='wait'")):
                run = await app.start(target)
                with pytest.raises(RunFailed, match=said):
                    await run.result()

    play(scenario)


# -- when nobody waits any more -------------------------------------------------------------------------------------


@workflow
async def is_cancelled(on_cancel: OnCancel) -> None:
    child = tidies.with_options(on_cancel=on_cancel, id=f"kid-{on_cancel}")
    try:
        await child()
    finally:
        await note("parent went on")


@workflow
async def loses(on_cancel: OnCancel) -> str:
    child = tidies.with_options(on_cancel=on_cancel, id=f"kid-{on_cancel}")
    name, _ = await ctx.select(kid=child(), other=ctx.signal("other"))
    return await note("parent went on") and name


@workflow
async def fails_beside(on_cancel: OnCancel) -> None:
    child = tidies.with_options(on_cancel=on_cancel, id=f"kid-{on_cancel}")

    async def beside() -> None:
        await ctx.signal("other")
        raise ValueError("beside it")

    await asyncio.gather(child(), beside())


@workflow
async def fails_in_order(on_cancel: OnCancel) -> None:
    child = tidies.with_options(on_cancel=on_cancel, id=f"kid-{on_cancel}")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            await ctx.signal("other")
            raise ValueError("beside it")
    finally:
        await note("parent went on")


ENDS = {is_cancelled: "cancelled", loses: "completed", fails_beside: "failed", fails_in_order: "failed"}


@pytest.mark.parametrize("parent", ENDS, ids=lambda one: one.name)
@pytest.mark.parametrize("on_cancel", ["cancel", "abandon", "wait"])
def test_what_becomes_of_a_child_that_nobody_waits_for_any_more(play: Play, parent: Any, on_cancel: str) -> None:
    kid = f"kid-{on_cancel}"

    async def scenario(make: Play) -> None:
        async with make(grace="0s") as app:
            await app.start(parent, on_cancel, id="p")
            await until(lambda: is_now(app, kid, "waiting"))
            await (app.cancel("p") if parent is is_cancelled else app.signal("p", "other"))
            if on_cancel == "wait":
                await until(lambda: ran == ["begin tidying"])
                await asyncio.sleep(0.01)
                assert await status(app, "p") in ("waiting", "running")
                assert ran == ["begin tidying"]
            else:
                await until(lambda: is_now(app, "p", ENDS[parent]))
        if on_cancel == "wait":
            ran.clear()  # the child's cleaning up was cut off, and begins again
        World.gate.set()
        async with make(workflows=[parent, tidies]) as app:
            if on_cancel == "abandon":
                assert await status(app, kid) == "waiting"
                await app.signal(kid, "go", "on its own")
                assert await app.handle(kid).result() == "on its own"
            else:
                await until(lambda: is_now(app, kid, "cancelled"))
            await until(lambda: is_now(app, "p", ENDS[parent]))
            if on_cancel == "wait":
                assert ran[:2] == ["begin tidying", "end tidying"]
                assert ran[2:] == ([] if parent is fails_beside else ["parent went on"])
            assert (await app.replay("p")).outcome == "ok"

    play(scenario)


def test_a_child_that_was_outlasted_is_retried_with_its_parent(play: Play) -> None:
    @workflow
    async def parent() -> list[str]:
        return list(await asyncio.gather(tidies.with_options(on_cancel="wait")(), fragile("lamp")))

    async def scenario(make: Play) -> None:
        World.gate.set()
        async with make() as app:
            run = await app.start(parent, id="p")
            with pytest.raises(RunFailed, match="lamp is broken"):
                await run.result()
            kid = "p/tidies#1"
            assert await status(app, kid) == "cancelled"
            World.broken = False
            await run.retry()
            await until(lambda: is_now(app, kid, "waiting"))
            await app.signal(kid, "go", "now")
            assert await run.result() == ["now", "lamp"]

    play(scenario)


def test_a_cancelled_parent_that_is_retried_has_its_child_go_on(play: Play) -> None:
    @workflow
    async def parent(on_cancel: OnCancel) -> str:
        return await waits.with_options(on_cancel=on_cancel)()

    async def scenario(make: Play) -> None:
        async with make() as app:
            for on_cancel in ("cancel", "abandon", "wait"):
                run = await app.start(parent, on_cancel, id=on_cancel)
                kid = f"{on_cancel}/waits#1"
                await until(lambda kid=kid: is_now(app, kid, "waiting"))
                await run.cancel()
                with pytest.raises(RunCancelled):
                    await run.result()
                if on_cancel == "abandon":
                    await app.signal(kid, "go", "while nobody waited")
                    await app.handle(kid).result()
                else:
                    await until(lambda kid=kid: is_now(app, kid, "cancelled"))
                await run.retry()
                if on_cancel != "abandon":
                    await until(lambda kid=kid: is_now(app, kid, "waiting"))
                    await app.signal(kid, "go", "again")
                assert await run.result() in ("again", "while nobody waited")

    play(scenario)


def test_a_child_that_has_not_begun_when_it_is_cancelled_never_begins(play: Play) -> None:
    @workflow
    async def parent() -> str:
        name, _ = await ctx.select(kid=pack(1), at_once=note("quick"))
        return name

    async def scenario(make: Play) -> None:
        async with make(limits=Limits(runs=1)) as app:
            run = await app.start(parent, id="p")
            assert await run.result() == "at_once"
            await until(lambda: is_now(app, "p/pack#1", "cancelled"))
            assert ran == ["quick"]

    play(scenario)


def test_a_run_that_was_started_and_forgotten_outlives_its_parent(play: Play) -> None:
    @workflow
    async def forgets() -> str:
        return await ctx.start(waits)

    @workflow
    async def forgets_and_fails() -> None:
        await ctx.start(waits)
        raise ValueError("no")

    async def scenario(make: Play) -> None:
        async with make() as app:
            kid = await app.run(forgets)
            failed = await app.start(forgets_and_fails, id="f")
            await failed.wait()
            cancelled = await app.start(forgets_and_fails, id="c")
            await cancelled.wait()
            for one in (kid, "f/start:waits#1", "c/start:waits#1"):
                await until(lambda one=one: is_now(app, one, "waiting"))
                await app.signal(one, "go", "alone")
                assert await app.handle(one).result() == "alone"

    play(scenario)


def test_a_replayed_parent_starts_nothing_again(play: Play) -> None:
    @workflow
    async def parent() -> list[str]:
        first = await ctx.start(pack, 1)
        await pack(2)
        await ctx.signal("go")
        return [first, await ctx.start(pack, 3)]

    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(parent, id="p")
            await until(lambda: is_now(app, "p", "waiting"))
            await until(lambda: not app.engine.runners)
            await run.signal("go")
            assert await run.result() == ["p/start:pack#1", "p/start:pack#2"]
            await until(lambda: len(ran) == 3)
            assert len(await app.runs()) == 4
            assert sorted(ran) == ["packed 1", "packed 2", "packed 3"]

    play(scenario)


# -- retries --------------------------------------------------------------------------------------------------------


def test_a_retried_parent_has_its_failed_child_go_on_from_its_failed_step(play: Play) -> None:
    @workflow
    async def kid() -> list[str]:
        return [await note("before"), await fragile("lamp")]

    @workflow
    async def parent() -> list[Any]:
        return [(await pack(1)).order, await kid()]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            with pytest.raises(RunFailed):
                await run.result()
        World.broken = False
        async with make(workflows=[parent]) as app:
            await app.retry("p")
            assert (await app.handle("p").result())[1] == ["before", "lamp"]
            assert ran == ["packed 1", "before", "lamp", "lamp"]

    play(scenario)


def test_a_retried_parent_is_told_again_of_a_child_whose_work_was_undone(play: Play) -> None:
    @task
    async def undo(what: str) -> None:
        ran.append(f"undid {what}")

    @workflow
    async def kid() -> str:
        done = await note("charged")
        ctx.compensate(undo, done)
        return await fragile("lamp")

    @workflow
    async def parent() -> str:
        return await kid()

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            with pytest.raises(RunFailed, match="lamp is broken"):
                await run.result()
            World.broken = False
            with pytest.raises(WrongStatus, match="undone"):
                await app.retry("p/kid#1")
            await run.retry()
            with pytest.raises(RunFailed, match="lamp is broken"):
                await run.result()
            assert ran == ["charged", "lamp", "undid charged"]
            assert (await tags(app, "p")).count("step.failed") == 2

    play(scenario)


def test_a_retried_parent_waits_for_a_child_that_is_still_under_way(play: Play) -> None:
    @workflow
    async def parent() -> list[str]:
        kid = waits.with_options(on_cancel="abandon")
        return list(await asyncio.gather(kid(), fragile("lamp")))

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            with pytest.raises(RunFailed):
                await run.result()
            World.broken = False
            await run.retry()
            await until(lambda: is_now(app, "p", "waiting"))
            await app.signal("p/waits#1", "go", "there")
            assert await run.result() == ["there", "lamp"]

    play(scenario)


# -- many -----------------------------------------------------------------------------------------------------------


@workflow
async def doubles(number: int, plus: int = 0) -> int:
    if number % 100 == 99:
        raise ValueError(f"not {number}")
    return number * 2 + plus


def test_map_gives_results_in_order_and_collects_errors(play: Play) -> None:
    @workflow
    async def parent() -> list[Any]:
        found = await doubles.map(range(100), on_error="collect", concurrency=7, common={"plus": 1})
        assert isinstance(found[99], ValueError)
        return [str(one) for one in found]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent)
            assert await run.result() == [*(str(number * 2 + 1) for number in range(99)), "not 99"]
            assert len(await app.runs(Filter(parent=run.id, limit=1000))) == 100
            assert (await app.replay(run.id)).outcome == "ok"

    play(scenario)


def test_map_raises_the_first_error_and_cancels_the_other_children(play: Play) -> None:
    @workflow
    async def one(number: int) -> int:
        return len(await waits()) if number else await doubles(99)

    @workflow
    async def parent() -> list[int]:
        return await one.map(range(5), key=lambda number: f"n{number}")

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            with pytest.raises(RunFailed, match="not 99"):
                await run.result()
            rows = [row for row in await app.runs() if row.parent == "p"]
            for row in rows:
                wanted = "failed" if row.run_id == min(r.run_id for r in rows if r.status == "failed") else "cancelled"
                await until(lambda row=row, wanted=wanted: is_now(app, row.run_id, wanted))

    play(scenario)


class Spying(MemoryStore):
    """Counts the transactions of the run `p` and of others, and how many runs each creates."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: Counter[str] = Counter()
        self.created: list[int] = []

    def append(self, append: Any) -> Any:
        self.appends["p" if append.run_id == "p" else "children"] += 1
        if append.children:
            self.created.append(len(append.children))
        return super().append(append)


def test_ten_thousand_children_take_few_transactions_and_few_of_them_are_in_memory_at_once() -> None:
    most = 0

    @workflow
    async def small(number: int) -> int:
        nonlocal most
        most = max(most, len(app.engine.runners))
        return number + 1

    @workflow
    async def parent(count: int) -> int:
        return sum(await small.map(range(count)))

    app = Stepwell(Spying(), limits=Limits(runs=500))

    async def scenario() -> None:
        async with app:
            run = await app.start(parent, 10_000, id="p")
            assert await run.result() == sum(range(1, 10_001))
            assert await app.counts() == {"completed": 10_001}

    asyncio.run(scenario())
    store = app.store
    assert isinstance(store, Spying)
    assert store.created == [10_000]
    assert store.appends["children"] <= 2 * 10_000
    assert store.appends["p"] <= 2_000
    assert most <= 500


def test_a_thousand_children_across_a_restart_run_once_each(play: Play) -> None:
    @workflow
    async def small(number: int) -> int:
        ran.append(number)
        if number == 500:
            await ctx.signal("go")
        return number

    @workflow
    async def parent() -> int:
        return sum(await small.map(range(1000)))

    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(parent, id="p")
            await until(lambda: _ended(app, 999))
        assert len(ran) == 1000
        async with make(workflows=[parent, small]) as app:
            [left] = await app.runs(Filter(status=("waiting",), parent="p"))
            await app.signal(left.run_id, "go")
            assert await app.handle("p").result() == sum(range(1000))
        assert sorted(ran) == sorted([*range(1000), 500])

    play(scenario)


async def _ended(app: Stepwell, count: int) -> bool:
    return (await app.counts()).get("completed", 0) >= count
