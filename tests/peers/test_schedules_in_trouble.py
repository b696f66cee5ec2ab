"""Does what was planned happen when the store or the process fails in between? Schedules, debounces, delayed starts."""

from __future__ import annotations

import asyncio
import itertools
from random import Random
from typing import Any

from virtually import MINUTE, Virtual

from stepwell import task, workflow
from stepwell.app import Stepwell
from stepwell.errors import StoreBusy
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.stores.protocol import Filter
from stepwell.testing import Bench


@task
async def note(name: str) -> str:
    return name


@workflow
async def nightly(name: str) -> str:
    return await note(name)


class Unreachable(MemoryStore):
    """A store that advances no trigger for as long as it is told to be out of reach."""

    def __init__(self, data: MemoryData) -> None:
        super().__init__(data)
        self.is_out_of_reach = False
        self.refused = 0

    async def advance(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_out_of_reach:
            self.refused += 1
            raise StoreBusy("the store cannot be reached just now")
        return await super().advance(*args, **kwargs)


def test_a_schedule_goes_on_when_the_store_is_back_and_catches_up() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        store = Unreachable(virtual.data)
        async with Stepwell(store, workflows=[nightly], clock=virtual.clock, chance=Random(1), grace=0) as app:
            await app.schedule("n", nightly, "x", every="1m", catch_up="all")
            await asyncio.sleep(2.5 * 60)
            store.is_out_of_reach = True
            await asyncio.sleep(3 * 60)
            store.is_out_of_reach = False
            assert store.refused > 0
            await asyncio.sleep(2 * 60)
            firings = await app.firings("n")
            occasions = sorted(one.occasion for one in firings)
            assert len(occasions) == len(set(occasions)) == 7
            assert {later - sooner for sooner, later in itertools.pairwise(occasions)} == {MINUTE}
            assert len(await app.runs(Filter(status=("completed",)))) == 7

    virtual.play(scenario())


def test_an_input_that_a_debounce_has_accepted_is_there_after_a_crash() -> None:
    with Bench() as bench:
        first = bench.start(nightly, "first", debounce="10m")
        bench.advance("5m")
        assert bench.start(nightly, "second", debounce="10m").id == first.id
        bench.crash(down="1m")
        assert bench.start(nightly, "third", debounce="10m").id == first.id
        bench.crash()
        bench.advance("9m")
        assert first.status == "pending"
        bench.advance("2m")
        assert first.result() == "third"
        assert len(bench.runs) == 1


def test_a_schedule_fires_each_occasion_once_though_the_process_dies_at_its_runs() -> None:
    with Bench([nightly]) as bench:
        bench.wait_for(bench.app.schedule("n", nightly, "x", every="1h"))
        for _ in range(3):
            bench.crash_at(note, "before")
            bench.advance("1h")
        assert bench.crashes == 3
        assert [run.result() for run in bench.runs] == ["x"] * 3


def test_a_delayed_start_that_comes_due_while_nothing_drives_begins_with_the_next_process() -> None:
    with Bench() as bench:
        run = bench.start(nightly, "later", delay="1h")
        bench.crash(down="3h")
        assert run.result() == "later"
