"""Versions side by side: a run stays with the function of its label until somebody upgrades it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from patience import until

from stepwell import ctx, task, workflow
from stepwell.app import Stepwell
from stepwell.errors import DefinitionError, RequestRefused, WrongStatus
from stepwell.model.entries import RunPaused, RunUpgraded
from stepwell.model.versions import label_of, version_text
from stepwell.stores.protocol import Filter

Maker = Callable[..., Stepwell]
Play = Callable[[Any], Any]


@task
async def charge(cents: int) -> int:
    return cents


@task
async def pack(item: str) -> str:
    return f"packed {item}"


@workflow(name="order")
async def order_0(item: str) -> list[object]:
    paid = await charge(5)
    await ctx.signal("go")
    return ["no label", paid, await pack(item)]


@workflow(name="order", version="1")
async def order_1(item: str) -> list[object]:
    paid = await charge(5)
    await ctx.signal("go")
    return ["one", paid, await pack(item)]


@workflow(name="order", version="2")
async def order_2(item: str) -> list[object]:
    paid = await charge(5)
    await ctx.signal("go")
    return ["two", paid, await pack(item), await pack("a card")]


@workflow(name="order", version="dearer")
async def order_dearer(item: str) -> list[object]:
    paid = await charge(6)
    await ctx.signal("go")
    return ["dearer", paid, await pack(item)]


async def waiting(app: Stepwell, id: str) -> None:
    async def holds() -> bool:
        return (await app.get(id)).status == "waiting"

    await until(holds)


async def begun(make: Maker, *targets: Any) -> None:
    """A run of each, waiting in the middle, in a store that nobody drives any more."""
    async with make() as app:
        for number, target in enumerate(targets, 1):
            await app.start(target, "lamp", id=f"run-{number}")
            await waiting(app, f"run-{number}")


async def end_of(app: Stepwell, id: str) -> Any:
    await app.signal(id, "go")
    return await app.handle(id).result()


def test_a_version_is_read_in_one_place() -> None:
    for label, digest in (("", "0123456789ab"), ("2", "0123456789ab"), ("a+b", "0123456789ab"), ("2", "")):
        assert label_of(version_text(label, digest)) == label


def test_each_run_goes_on_under_the_label_that_it_began_with(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1, order_2, order_0)
        async with make(workflows=[order_0, order_1, order_2]) as app:
            assert await end_of(app, "run-1") == ["one", 5, "packed lamp"]
            assert await end_of(app, "run-2") == ["two", 5, "packed lamp", "packed a card"]
            assert await end_of(app, "run-3") == ["no label", 5, "packed lamp"]

    play(scenario)


def test_new_runs_are_served_by_what_was_registered_last_or_is_started(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        async with make(drive=False) as client:
            await client.start(order_0, "lamp", id="run-0")
        async with make(workflows=[order_1, order_2]) as app:
            assert (await end_of(app, "run-0"))[0] == "two"
            await app.start(order_1, "lamp", id="run-1")
            assert (await end_of(app, "run-1"))[0] == "one"
            await app.rerun("run-1", "run-2")
            assert (await end_of(app, "run-2"))[0] == "two"
            assert label_of((await app.state("run-2")).version) == "2"

    play(scenario)


def test_two_functions_of_one_name_and_label_are_refused(play: Play) -> None:
    @workflow(name="order", version="2")
    async def other(item: str) -> str:
        return item

    async def scenario(make: Maker) -> None:
        with pytest.raises(DefinitionError, match="version label"):
            async with make(workflows=[order_2, other]):
                pass

    play(scenario)


def test_a_run_whose_label_is_not_registered_is_set_aside_and_goes_on_when_it_is(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1)
        async with make(workflows=[order_2]) as app:
            await app.signal("run-1", "go")
            assert (await app.wait("run-1")).status == "paused"
            (pause,) = [one.entry for one in await app.entries("run-1") if isinstance(one.entry, RunPaused)]
            assert pause.cause == "code_change"
            assert "version '1' of workflow 'order'" in pause.reason
            assert "stepwell upgrade run-1 --to 2" in pause.reason
            await app.resume("run-1")
            await until(lambda: again(app))
        async with make(workflows=[order_1, order_2]) as app:
            await app.resume("run-1")
            assert await app.handle("run-1").result() == ["one", 5, "packed lamp"]

    async def again(app: Stepwell) -> bool:
        pauses = [one for one in await app.entries("run-1") if isinstance(one.entry, RunPaused)]
        return len(pauses) == 2 and (await app.get("run-1")).status == "paused"

    play(scenario)


def test_a_run_of_a_label_that_nobody_has_can_be_cancelled(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1)
        async with make(workflows=[order_2]) as app:
            await app.signal("run-1", "go")
            await app.wait("run-1")
            await app.cancel("run-1")
            assert (await app.wait("run-1")).status == "cancelled"

    play(scenario)


def test_an_upgrade_rebuilds_the_body_with_the_new_function(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1, order_1)
        async with make(drive=False) as client:
            await client.upgrade("run-2", to="2")
        async with make(workflows=[order_1, order_2]) as app:
            await app.upgrade("run-1", to="2", by="Ada", reason="cards for all")
            for id in ("run-1", "run-2"):
                assert await end_of(app, id) == ["two", 5, "packed lamp", "packed a card"]
            (upgraded,) = [one.entry for one in await app.entries("run-1") if isinstance(one.entry, RunUpgraded)]
            assert (label_of(upgraded.version), upgraded.by, upgraded.reason) == ("2", "Ada", "cards for all")
            with pytest.raises(WrongStatus):
                await app.upgrade("run-1", to="1")

    play(scenario)


def test_an_upgrade_frees_a_run_that_was_set_aside_for_its_label_but_not_one_that_a_person_paused(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1, order_1)
        async with make(workflows=[order_2]) as app:
            await app.pause("run-2")
            await app.wait("run-2")
            await app.signal("run-1", "go")
            await app.wait("run-1")
            for id in ("run-1", "run-2"):
                await app.upgrade(id, to="2")
            assert (await app.handle("run-1").result())[0] == "two"
            await app.signal("run-2", "go")
            await until(lambda: is_upgraded(app, "run-2"))
            assert (await app.get("run-2")).status == "paused"
            await app.resume("run-2")
            assert (await app.handle("run-2").result())[0] == "two"

    async def is_upgraded(app: Stepwell, id: str) -> bool:
        return label_of((await app.state(id)).version) == "2"

    play(scenario)


def test_an_upgrade_to_code_that_calls_otherwise_pauses_with_the_difference(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1)
        async with make(workflows=[order_1, order_dearer]) as app:
            await app.upgrade("run-1", to="dearer")
            assert (await app.wait("run-1")).status == "paused"
            reason = (await app.state("run-1")).pause.reason
            assert '{"cents":5}' in reason and '{"cents":6}' in reason and "test_versions.py:" in reason
            await app.upgrade("run-1", to="1")
            assert (await end_of(app, "run-1")) == ["one", 5, "packed lamp"]

    play(scenario)


def test_all_runs_of_a_workflow_can_be_upgraded_at_once_and_those_that_are_there_stay_as_they_are(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1, order_1, order_2)
        async with make(workflows=[order_1, order_2]) as app:
            result = await app.upgrade_all(Filter(workflow="order"), to="2", by="Ada")
            assert (result.done, result.refused) == (3, [])
            for number in (1, 2, 3):
                assert (await end_of(app, f"run-{number}"))[0] == "two"
            upgraded = [one for one in await app.entries("run-3") if isinstance(one.entry, RunUpgraded)]
            assert upgraded == []
            with pytest.raises(RequestRefused):
                await app.upgrade_all(Filter(), to="2")

    play(scenario)


def test_unlabelled_code_goes_on_under_whatever_the_code_is_now(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_0)
        async with make(workflows=[order_2]) as app:
            assert (await end_of(app, "run-1"))[0] == "two"

    play(scenario)


def test_a_fork_stays_with_the_version_of_the_run_that_it_branches_off(play: Play) -> None:
    async def scenario(make: Maker) -> None:
        await begun(make, order_1)
        async with make(workflows=[order_1, order_2]) as app:
            assert (await end_of(app, "run-1"))[0] == "one"
            fork = await app.fork("run-1", before="pack#1")
            assert (await fork.result())[0] == "one"

    play(scenario)
