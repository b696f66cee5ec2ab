"""Rerun, fork, edited inputs and state, snapshots: what has happened stays, and what follows may be otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from patience import until

from stepwell import ctx, task, workflow
from stepwell.app import Stepwell
from stepwell.errors import (
    ArgumentError,
    RequestRefused,
    RunExists,
    RunFailed,
    RunNotFound,
    StepFailed,
    WrongStatus,
)
from stepwell.model.entries import (
    RunCancelRequested,
    RunCreated,
    RunPaused,
    RunResumed,
    StateSet,
    StepCompleted,
    StepEdited,
    StepStarted,
    WaitStarted,
)
from stepwell.stores.protocol import Filter

Maker = Callable[..., Stepwell]
Play = Callable[[Any], Any]

begun: list[str] = []


@pytest.fixture(autouse=True)
def nothing_begun() -> None:
    begun.clear()


@task
async def price(item: str) -> int:
    begun.append(f"price {item}")
    return len(item)


@task
async def charge(cents: int, currency: str = "EUR") -> str:
    begun.append(f"charge {cents} {currency}")
    if cents > 50:
        raise ValueError(f"{cents} is too much")
    return f"paid {cents} {currency}"


@task
async def pack(item: str) -> str:
    begun.append(f"pack {item}")
    return f"packed {item}"


@workflow
async def order(item: str) -> list[str]:
    ctx.state["stage"] = "pricing"
    cents = await price(item)
    cents *= ctx.state.get("factor", 1)
    ctx.state["stage"] = "charging"
    paid = await charge(cents)
    return [paid, await pack(item), ctx.state["stage"]]


@workflow
async def expensive(cents: int) -> str:
    first = await price("lamp")
    paid = await charge(cents)
    return f"{first} {paid}"


@workflow
async def waits(item: str) -> object:
    first = await price(item)
    answer = await ctx.signal("go")
    return [first, answer, await pack(item), dict(ctx.state)]


@workflow
async def asks() -> object:
    await price("lamp")
    answer = await ctx.ask("Publish?", bool)
    return [answer, await pack("lamp")]


@workflow
async def fans_out(items: list[str]) -> list[int]:
    return await price.map(items, concurrency=1)


@workflow
async def sleeps() -> str:
    await price("lamp")
    await ctx.sleep("1h")
    return "slept"


@workflow
async def parent(item: str) -> object:
    first = await price(item)
    return [first, await waits(item), await pack(item)]


@workflow
async def cleans_up() -> str:
    try:
        await price("lamp")
        await ctx.signal("go")
    except asyncio.CancelledError:
        await pack("the rest")
        raise
    return await pack("the lamp")


async def kinds(app: Stepwell, id: str) -> list[str]:
    return [f"{type(one.entry).__name__} {getattr(one.entry, 'path', '')}".strip() for one in await app.entries(id)]


async def entries_of(app: Stepwell, id: str, kind: type) -> list[Any]:
    return [one.entry for one in await app.entries(id) if isinstance(one.entry, kind)]


async def waiting(app: Stepwell, id: str) -> None:
    async def holds() -> bool:
        row = await app.store.get(id)  # a child run may not be there yet
        return row is not None and row.status == "waiting"

    await until(holds)


# -- rerun ----------------------------------------------------------------------------------------------------------


def test_a_rerun_is_a_new_run_with_the_same_input_and_says_where_it_came_from(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(order, "lamp", id="one", labels={"shop": "a"}, priority=3)).result()
            run = await app.rerun("one", "two", by="Ada", reason="once more")
            assert await run.result() == ["paid 4 EUR", "packed lamp", "charging"]
            (created,) = await entries_of(app, "two", RunCreated)
            assert (created.origin, created.origin_seq, created.by, created.reason) == ("one", 0, "Ada", "once more")
            row = await app.get("two")
            assert (row.labels, row.priority, row.parent, row.root) == ({"shop": "a"}, 3, None, "two")
            assert begun == 2 * ["price lamp", "charge 4 EUR", "pack lamp"]
            assert (await app.rerun("one", "two")).id == "two"
            with pytest.raises(RunExists):
                await (await app.start(order, "mug", id="three")).result()
                await app.rerun("one", "three")
            with pytest.raises(RunNotFound):
                await app.rerun("nobody")

    play(scenario)


def test_a_client_that_does_not_know_the_code_can_ask_for_a_rerun(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(order, "lamp", id="one")).result()
            async with make(drive=False) as client:
                run = await client.rerun("one")
            assert await app.handle(run.id).result() == ["paid 4 EUR", "packed lamp", "charging"]

    play(scenario)


# -- fork -----------------------------------------------------------------------------------------------------------


def test_a_fork_keeps_what_had_ended_before_the_step_and_does_the_rest_anew(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(order, "lamp", id="one")).result()
            before = await app.entries("one")
            begun.clear()
            run = await app.fork("one", before="charge#1", new_id="two", by="Ada", reason="what if")
            assert await run.result() == ["paid 4 EUR", "packed lamp", "charging"]
            assert begun == ["charge 4 EUR", "pack lamp"]
            assert await app.entries("one") == before
            (created,) = await entries_of(app, "two", RunCreated)
            assert (created.run_id, created.root, created.origin, created.by) == ("two", "two", "one", "Ada")
            assert before[created.origin_seq].entry == next(
                one.entry for one in before if isinstance(one.entry, StepStarted) and one.entry.path.name == "charge"
            )
            assert (await app.state("two")).origin == "one"

    play(scenario)


def test_a_forked_step_may_be_given_another_input_and_replays_find_it_all_the_same(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            with pytest.raises(RunFailed):
                await (await app.start(expensive, 99, id="one")).result()
            begun.clear()
            run = await app.fork("one", before="charge", new_id="two", input={"cents": 7, "currency": "USD"}, by="Ada")
            assert await run.result() == "4 paid 7 USD"
            assert begun == ["charge 7 USD"]
            (edit,) = await entries_of(app, "two", StepEdited)
            assert (bytes(edit.input), edit.by) == (b'{"cents":7,"currency":"USD"}', "Ada")
            started = (await entries_of(app, "two", StepStarted))[-1]
            assert bytes(started.input) == b'{"cents":99}'
            assert (await app.replay("two")).outcome == "ok"

    play(scenario)


def test_a_fork_may_set_state_which_the_step_s_call_sees(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(order, "lamp", id="one")).result()
            begun.clear()
            run = await app.fork("one", before="charge#1", set={"factor": 3, "stage": "edited"}, by="Ada")
            assert await run.result() == ["paid 12 EUR", "packed lamp", "edited"]
            assert begun == ["charge 12 EUR", "pack lamp"]
            sets = [entry for entry in await entries_of(app, run.id, StateSet) if entry.path is None]
            assert {entry.by for entry in sets} == {"Ada"}
            assert (await app.replay(run.id)).outcome == "ok"

    play(scenario)


def test_state_that_is_set_before_the_first_step_is_there_when_the_body_begins(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(order, "lamp", id="one")).result()
            run = await app.fork("one", before="price#1", set={"factor": 2})
            assert await run.result() == ["paid 8 EUR", "packed lamp", "charging"]
            assert (await app.replay(run.id)).outcome == "ok"

    play(scenario)


def test_a_fork_at_a_position_of_the_journal_takes_over_all_up_to_it(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(order, "lamp", id="one")).result()
            done = [one.seq for one in await app.entries("one") if isinstance(one.entry, StepCompleted)]
            begun.clear()
            assert await (await app.fork("one", at=done[1])).result() == ["paid 4 EUR", "packed lamp", "charging"]
            assert begun == ["pack lamp"]

    play(scenario)


def test_every_position_of_a_journal_can_be_forked_or_is_refused_with_a_reason(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            with pytest.raises(RunFailed):
                await (await app.start(expensive, 99, id="one")).result()
            await app.retry("one", inputs={"charge#1": {"cents": 5}})
            assert await app.handle("one").result() == "4 paid 5 EUR"
            last = (await app.get("one")).next_seq - 1
            came_to: dict[int, str] = {}
            for seq in range(1, last + 1):
                try:
                    run = await app.fork("one", at=seq, new_id=f"fork-{seq}")
                    came_to[seq] = str(await run.result())
                except RequestRefused as refused:
                    came_to[seq] = "refused"
                    assert "nothing goes on from there" in str(refused)
                except RunFailed:
                    came_to[seq] = "failed"
            assert came_to[last] == "refused"
            names = await kinds(app, "one")
            by_kind = {name.partition(" ")[0]: came_to[n] for n, name in enumerate(names, 1)}
            assert by_kind["RunFailed"] == "refused"
            assert by_kind["StepEdited"] == "refused"
            assert by_kind["RunResumed"] == "4 paid 5 EUR"
            assert came_to[1] == "failed"

    play(scenario)


def test_what_was_under_way_at_the_fork_begins_anew_under_the_fork_s_own_identity(play: Play) -> None:
    gate = asyncio.Event()
    keys: list[str] = []

    @task
    async def slow(name: str) -> str:
        keys.append(f"{ctx.idempotency_key} {ctx.attempt}")
        await gate.wait()
        return name

    @workflow
    async def both() -> list[str]:
        async def late() -> str:
            await ctx.signal("go")
            return await pack("lamp")

        return list(await asyncio.gather(slow("a"), late()))

    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(both, id="one")
            await until(lambda: len(keys) == 1)
            await run.signal("go")
            await until(lambda: "pack lamp" in begun)
            fork = await app.fork("one", before="task:2/pack#1", new_id="two")
            await until(lambda: len(keys) == 2)
            gate.set()
            assert await run.result() == await fork.result() == ["a", "packed lamp"]
            assert keys == ["one:slow#1 1", "two:slow#1 1"]

    play(scenario)


def test_a_fork_inside_a_map_goes_on_with_that_item(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(fans_out, ["a", "bb", "ccc", "dddd"], id="one")).result()
            begun.clear()
            run = await app.fork("one", before="price.map:1/price#3", input={"item": "ccccccc"})
            assert await run.result() == [1, 2, 7, 4]
            assert begun == ["price ccccccc", "price dddd"]

    play(scenario)


def test_an_awaited_child_run_that_had_not_ended_is_started_anew_for_the_fork(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(parent, "lamp", id="one")
            await waiting(app, "one/waits#1")
            last = (await app.get("one")).next_seq - 1
            fork = await app.fork("one", at=last, new_id="two")
            await waiting(app, "two/waits#1")
            for id in ("one", "two"):
                await app.signal(f"{id}/waits#1", "go", id)
            assert await run.result() == [4, [4, "one", "packed lamp", {}], "packed lamp"]
            assert await fork.result() == [4, [4, "two", "packed lamp", {}], "packed lamp"]
            assert (await app.get("two/waits#1")).parent == "two"

            begun.clear()
            again = await app.fork("two", before="pack#1")
            assert await again.result() == [4, [4, "two", "packed lamp", {}], "packed lamp"]
            assert begun == ["pack lamp"]

    play(scenario)


def test_a_fork_may_give_a_child_run_another_input(play: Play) -> None:
    @workflow
    async def outer() -> object:
        return await inner("lamp")

    @workflow
    async def inner(item: str) -> str:
        return await pack(item)

    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(outer, id="one")).result()
            run = await app.fork("one", before="inner#1", input={"item": "mug"})
            assert await run.result() == "packed mug"
            assert (await app.replay(run.id)).outcome == "ok"

    play(scenario)


def test_an_open_question_of_the_past_is_open_in_the_fork_under_its_own_id(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make(workflows=[asks]) as app:
            run = await app.start(asks, id="one")
            await waiting(app, "one")
            last = (await app.get("one")).next_seq - 1
            async with make(drive=False) as client:
                await client.fork("one", at=last, new_id="two")
                requests = {one.run_id: one for one in await client.inbox()}
            assert set(requests) == {"one", "two"}
            assert requests["one"].id != requests["two"].id
            await app.answer(requests["two"].id, False, by="Ada")
            assert await app.handle("two").result() == [False, "packed lamp"]
            await app.answer(requests["one"].id, True, by="Ada")
            assert await run.result() == [True, "packed lamp"]

    play(scenario)


def test_a_timer_of_the_past_keeps_its_due_time_in_the_fork(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await app.start(sleeps, id="one")
            await waiting(app, "one")
            fork = await app.fork("one", at=(await app.get("one")).next_seq - 1)
            await waiting(app, fork.id)
            (due,), (other,) = [[wait.due for wait in (await app.state(id)).waits.values()] for id in ("one", fork.id)]
            assert due == other

    play(scenario)


def test_neither_a_pause_nor_a_request_to_cancel_goes_with_a_fork(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(cleans_up, id="one")
            await waiting(app, "one")
            await run.pause()
            assert (await run.wait()).status == "paused"
            paused = (await app.get("one")).next_seq - 1
            await run.cancel()
            assert (await run.wait()).status == "cancelled"
            assert "pack the rest" in begun
            asked = next(one.seq for one in await app.entries("one") if isinstance(one.entry, RunCancelRequested))
            for number, seq in enumerate((paused, asked, asked + 1, asked + 2)):
                begun.clear()
                fork = await app.fork("one", at=seq, new_id=f"fork-{number}")
                assert not await entries_of(app, fork.id, RunCancelRequested)
                pauses = await entries_of(app, fork.id, RunPaused)
                assert len(pauses) == len(await entries_of(app, fork.id, RunResumed))
                await fork.signal("go")
                assert await fork.result() == "packed the lamp"
                assert begun == ["pack the lamp"]

    play(scenario)


def test_a_fork_of_a_cancelled_or_failed_run_may_begin_before_the_end(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(waits, "lamp", id="one")
            await waiting(app, "one")
            await run.cancel()
            assert (await run.wait()).status == "cancelled"
            fork = await app.fork("one", before="signal:go#1")
            await fork.signal("go", 1)
            assert await fork.result() == [4, 1, "packed lamp", {}]

    play(scenario)


def test_a_fork_that_makes_no_sense_is_refused_with_what_to_do(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            with pytest.raises(RunFailed):
                await (await app.start(expensive, 99, id="one")).result()
            last = (await app.get("one")).next_seq - 1
            for settings, text in (
                ({}, "either before="),
                ({"before": "charge", "at": 2}, "either before="),
                ({"before": "chage#1"}, "there is charge#1"),
                ({"at": 99}, "there is no entry 99"),
                ({"at": last}, "before a step that failed (charge#1)"),
                ({"at": 3, "input": {}}, "name it with before="),
                ({"before": "charge", "input": b"[1]"}, "must be a JSON object"),
            ):
                with pytest.raises(RequestRefused) as refused:
                    await app.fork("one", **settings)
                assert text in str(refused.value)
            with pytest.raises(RunExists):
                await app.fork("one", before="charge", new_id="one")
            with pytest.raises(ArgumentError):
                await app.fork("one", before="charge", new_id="not an id")
            assert [row.run_id for row in await app.runs()] == ["one"]

    play(scenario)


# -- retry with other inputs ------------------------------------------------------------------------------------------


def test_a_failed_step_may_be_tried_again_with_another_input(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(expensive, 99, id="one")
            with pytest.raises(RunFailed):
                await run.result()
            begun.clear()
            await run.retry(inputs={"charge": {"cents": 9}}, by="Ada", reason="a rebate")
            assert await run.result() == "4 paid 9 EUR"
            assert begun == ["charge 9 EUR"]
            (edit,) = await entries_of(app, "one", StepEdited)
            assert (str(edit.path), edit.by, edit.reason) == ("charge#1", "Ada", "a rebate")
            assert (await app.replay("one")).outcome == "ok"

    play(scenario)


def test_an_edited_input_survives_a_restart_and_holds_until_the_step_is_done(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(expensive, 99, id="one")
            with pytest.raises(RunFailed):
                await run.result()
            await run.retry(inputs={"charge#1": {"cents": 98}})
            with pytest.raises(RunFailed):
                await run.result()
        async with make(drive=False) as client:
            await client.retry("one", inputs={"charge#1": b'{"cents": 8, "currency": "' + 70_000 * b"X" + b'"}'})
        async with make(workflows=[expensive]) as app:
            assert str(await app.handle("one").result()).startswith("4 paid 8 XXX")

    play(scenario)


def test_only_inputs_of_tasks_whose_failure_ended_the_run_can_be_edited(play: Play) -> None:
    @workflow
    async def outer() -> object:
        return await expensive(99)

    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(outer, id="one")
            with pytest.raises(RunFailed):
                await run.result()
            with pytest.raises(RequestRefused, match="these are: expensive#1"):
                await run.retry(inputs={"price#1": {"item": "mug"}})
            with pytest.raises(RequestRefused, match="child run one/expensive#1"):
                await run.retry(inputs={"expensive#1": {"cents": 1}})
            await app.retry("one/expensive#1", inputs={"charge#1": {"cents": 1}})
            assert await app.handle("one/expensive#1").result() == "4 paid 1 EUR"
            await run.retry()
            assert await run.result() == "4 paid 1 EUR"

    play(scenario)


def test_an_edited_input_that_does_not_fit_fails_the_step_with_the_argument_named(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(expensive, 99, id="one")
            with pytest.raises(RunFailed):
                await run.result()
            await run.retry(inputs={"charge#1": {"cent": 9}})
            with pytest.raises(RunFailed, match="no parameter 'cent'"):
                await run.result()
            await run.retry(inputs={"charge#1": {"cents": 9}})
            assert await run.result() == "4 paid 9 EUR"

    play(scenario)


# -- state ------------------------------------------------------------------------------------------------------------


def test_state_that_is_set_from_outside_is_seen_by_the_body_and_on_every_replay(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            run = await app.start(waits, "lamp", id="one")
            await waiting(app, "one")
            await app.set_state("one", "rate", 7, by="Ada", reason="new price list")
            await app.set_state("one", "gone", 1)
            await app.set_state("one", "gone", deleted=True)
        async with make(workflows=[waits]) as app:
            await app.signal("one", "go")
            assert await app.handle("one").result() == [4, None, "packed lamp", {"rate": 7}]
            edits = await entries_of(app, "one", StateSet)
            assert [(edit.key, edit.deleted, edit.by, edit.reason) for edit in edits] == [
                ("rate", False, "Ada", "new price list"),
                ("gone", False, "", ""),
                ("gone", True, "", ""),
            ]
            assert (await app.replay("one")).outcome == "ok"
            before = await app.state("one", at=5)
            assert dict(before.variables) == {}
            with pytest.raises(WrongStatus):
                await app.set_state("one", "rate", 8)
            with pytest.raises(RequestRefused):
                await app.set_state("one", "", 8)
        assert run.id == "one"

    play(scenario)


def test_state_may_be_set_before_a_run_begins_and_while_it_is_paused(play: Play) -> None:
    @workflow
    async def reads() -> object:
        first = dict(ctx.state)
        await ctx.signal("go")
        return [first, dict(ctx.state)]

    async def scenario(make: Maker) -> None:
        async with make(drive=False) as client:
            await client.start(reads, id="one")
            await client.set_state("one", "a", 1)
        async with make(workflows=[reads]) as app:
            run = app.handle("one")
            await waiting(app, "one")
            await run.pause()
            assert (await run.wait()).status == "paused"
            await app.set_state("one", "b", 2)
            await run.signal("go")
        async with make(workflows=[reads]) as app:
            run = app.handle("one")
            await run.resume()
            assert await run.result() == [{"a": 1}, {"a": 1, "b": 2}]
            assert (await app.replay("one")).outcome == "ok"

    play(scenario)


# -- snapshots -------------------------------------------------------------------------------------------------------


def test_a_snapshot_goes_on_in_another_store_with_an_equal_journal(play: Play) -> None:
    large = 90_000 * "x"

    async def scenario(make: Maker) -> None:
        async with make() as app:
            await app.start(waits, large, id="one", labels={"shop": "a"})
            await waiting(app, "one")
            await app.pause("one")
            await app.handle("one").wait()
            await app.signal("one", "go", 5, by="Ada")
            data = await app.export("one")
            entries = [stored.entry for stored in await app.entries("one")]
        async with Stepwell("memory://", workflows=[waits]) as other:
            run = await other.import_run(data)
            assert [stored.entry for stored in await other.entries("one")][: len(entries)] == entries
            row = await other.get("one")
            assert (row.status, row.labels) == ("paused", {"shop": "a"})
            await run.resume()
            assert await run.result() == [90_000, 5, f"packed {large}", {}]
            assert begun == [f"price {large}", f"pack {large}"]
            with pytest.raises(RunExists):
                await other.import_run(data)
            ended = await other.export("one")
        async with Stepwell("memory://", drive=False) as third:
            assert await (await third.import_run(ended)).result() == [90_000, 5, f"packed {large}", {}]
            again = await third.export("one")
            document, other_document = (msgspec.json.decode(one)["content"]["runs"] for one in (ended, again))
            assert [run["entries"] for run in document] == [run["entries"] for run in other_document]
            renamed = await third.import_run(ended, "two")
            (created, *_) = [stored.entry for stored in await third.entries("two")]
            assert isinstance(created, RunCreated)
            assert (renamed.id, created.run_id, created.root, created.origin) == ("two", "two", "two", "one")

    play(scenario)


def test_an_imported_question_is_in_the_inbox_at_once_and_its_answer_goes_with_it(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await app.start(asks, id="one")
            await waiting(app, "one")
        async with make(drive=False) as client:
            unanswered = await client.export("one")
            (request,) = await client.inbox()
            await client.answer(request.id, True, by="Ada")
            answered = await client.export("one")
        async with Stepwell("memory://", workflows=[asks]) as other:
            assert await (await other.import_run(answered)).result() == [True, "packed lamp"]
            await other.import_run(unanswered, "two")
            (open_one,) = await other.inbox()
            await other.answer(open_one.id, False, by="Bob")
            assert await other.handle("two").result() == [False, "packed lamp"]

    play(scenario)


def test_a_whole_tree_can_be_taken_along_and_half_of_one_is_refused(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make() as app:
            await app.start(parent, "lamp", id="one")
            await waiting(app, "one/waits#1")
            await waiting(app, "one")
            half, whole = await app.export("one"), await app.export("one", tree=True)
        async with Stepwell("memory://", workflows=[parent]) as other:
            with pytest.raises(RequestRefused, match="whole tree"):
                await other.import_run(half)
            run = await other.import_run(whole)
            await other.signal("one/waits#1", "go", 1)
            assert await run.result() == [4, [4, 1, "packed lamp", {}], "packed lamp"]
            assert {row.root for row in await other.runs(Filter())} == {"one"}

    play(scenario)


def test_what_is_no_whole_snapshot_is_refused_and_nothing_is_created() -> None:
    async def scenario() -> None:
        async with Stepwell("memory://") as app:
            await (await app.start(order, "lamp", id="one")).result()
            data = await app.export("one")
        document = msgspec.json.decode(data)
        async with Stepwell("memory://") as other:
            for wrong, text in (
                (b"no json", "not a snapshot"),
                (b'{"a": 1}', "not a snapshot"),
                (data.replace(b"lamp", b"lump"), "was altered"),
                (msgspec.json.format(data), "was altered"),
                (data.replace(b'"version":1', b'"version":2', 1), "version 2"),
                (msgspec.json.encode(document | {"format": "x"}), "format 'x'"),
            ):
                with pytest.raises(RequestRefused, match=text):
                    await other.import_run(wrong)
            assert await other.runs() == []

    asyncio.run(scenario())


def test_a_step_s_failure_is_still_caught_as_its_class_after_a_fork(play: Play) -> None:
    @workflow
    async def catches() -> str:
        try:
            await charge(99)
        except ValueError as error:
            assert isinstance(error, StepFailed)
            return f"{error} {await pack('a rebate')}"
        return "paid"

    async def scenario(make: Maker) -> None:
        async with make() as app:
            await (await app.start(catches, id="one")).result()
            begun.clear()
            run = await app.fork("one", before="pack#1")
            assert await run.result() == "99 is too much packed a rebate"
            assert begun == ["pack a rebate"]
            waits_of_fork = await entries_of(app, run.id, WaitStarted)
            assert waits_of_fork == []

    play(scenario)
