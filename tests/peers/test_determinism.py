"""Is what was drawn once the same for ever? Recorded time and chance, replayed whole, in part, and from every step."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from stepwell import ctx, task, workflow
from stepwell.errors import RunFailed
from stepwell.testing import Bench

bodies: list[list[str]] = []
"""What each rebuilt body drew, in order."""


@pytest.fixture(autouse=True)
def _nothing_drawn() -> None:
    bodies.clear()


@task
async def work(number: int) -> int:
    return number


def draw() -> str:
    return f"{ctx.random()} {ctx.uuid()} {ctx.now().isoformat()}"


@workflow
async def draws_and_waits(rounds: int) -> list[str]:
    mine: list[str] = []
    bodies.append(mine)
    for number in range(rounds):
        mine.append(draw())
        await work(number)
        await ctx.sleep("10m")
    return mine


@workflow
async def draws_of_every_kind(order: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"r": [], "u": [], "n": []}
    for kind in order:
        match kind:
            case "r":
                found["r"].append(str(ctx.random()))
            case "u":
                found["u"].append(str(ctx.uuid()))
            case _:
                found["n"].append(ctx.now().isoformat())
    return found


@workflow
async def draws_in_branches(branches: int) -> list[str]:
    async def branch(number: int) -> str:
        await work(number)
        first = str(ctx.random())
        await ctx.sleep(f"{number + 1}m")
        return f"{number}: {first} {ctx.uuid()}"

    return list(await asyncio.gather(*(branch(number) for number in range(branches))))


def test_random_numbers_are_from_nought_to_one_and_ids_are_uuids_and_none_comes_twice() -> None:
    with Bench() as bench:
        found = bench.run(draws_of_every_kind, "ru" * 50)
        assert all(0 <= float(one) < 1 for one in found["r"])
        assert {UUID(one).version for one in found["u"]} == {4}
        assert len({*found["r"], *found["u"]}) == 100


def test_time_is_the_clocks_and_never_runs_back() -> None:
    with Bench(at="2027-03-01T09:00:00Z") as bench:
        times = [line.split()[2] for line in bench.run(draws_and_waits, 3)]
        assert times == ["2027-03-01T09:00:00+00:00", "2027-03-01T09:10:00+00:00", "2027-03-01T09:20:00+00:00"]


def test_a_body_that_is_rebuilt_gets_what_was_recorded_and_then_what_is_new() -> None:
    with Bench() as bench:
        run = bench.start(draws_and_waits, 4)
        for _ in range(3):
            bench.advance("10m")
            bench.crash()
        whole = run.result()
        assert len(whole) == 4
        assert len(bodies) > 3
        for number, drawn in enumerate(bodies):
            assert drawn == whole[: len(drawn)], f"life {number + 1} drew otherwise"
        assert run.kinds.count("value.recorded") == 12


def test_a_body_dropped_at_every_wait_draws_no_otherwise_than_one_that_stays() -> None:
    with Bench(warm_wait=0) as bench:
        dropped = bench.run(draws_and_waits, 4)
        assert all(drawn == dropped[: len(drawn)] for drawn in bodies)
        assert len(bodies) > 1, "the body was dropped and rebuilt"


def test_values_of_different_kinds_do_not_move_each_other() -> None:
    with Bench() as bench:
        run = bench.start(draws_of_every_kind, "rrunrunnu")
        found = run.result()
        assert {kind: len(values) for kind, values in found.items()} == {"r": 3, "u": 3, "n": 3}
        assert bench.wait_for(bench.app.replay(run.id)).outcome == "ok"


def test_branches_that_draw_at_the_same_time_each_find_their_own_again() -> None:
    with Bench() as bench:
        run = bench.start(draws_in_branches, 4)
        bench.advance("150s")
        bench.crash()
        result = run.result()
        assert [line.split(":")[0] for line in result] == ["0", "1", "2", "3"]
        assert bench.wait_for(bench.app.replay(run.id)).outcome == "ok"


def test_two_runs_of_one_workflow_draw_differently() -> None:
    with Bench() as bench:
        first, second = (bench.run(draws_of_every_kind, "ru") for _ in range(2))
        assert first["r"] != second["r"] and first["u"] != second["u"]


def test_a_body_that_asks_the_machine_itself_fails_at_that_line_when_it_is_told_to_be_strict() -> None:
    @workflow
    async def cheats() -> float:
        clock = __import__("time")  # hidden from the lint
        return float(clock.time())

    with Bench(strict=True) as bench, pytest.raises(RunFailed, match=r"time\.time"):
        bench.run(cheats)
