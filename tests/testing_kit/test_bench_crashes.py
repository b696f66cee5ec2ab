"""Does a run of a bench survive the death of its process, at any step, and see today's code after a restart?"""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from bench_flows import charge, fetch, in_order, item, mail, order_flow, parent, patient

from stepwell import ctx, task, workflow
from stepwell.errors import ArgumentError, RunNotFound, RunSetAside
from stepwell.testing import Bench, CheckFailed, returns
from stepwell.testing.crashing import When
from stepwell.testing.kit import ProcessDied

PAID = {charge: returns("ref-1")}


@pytest.mark.parametrize(
    ("when", "calls", "attempts"),
    [("before", 1, 2), ("after", 2, 2), ("committed", 1, 1)],
)
def test_a_crash_at_a_step_costs_what_was_not_journaled(when: When, calls: int, attempts: int) -> None:
    with Bench(stubs=PAID) as bench:
        bench.crash_at(charge, when)
        run = bench.start(order_flow, "o-7")
        assert bench.crashes == 1
        assert run.waiting_for == ("signal approved",)
        assert len(bench.calls(charge)) == calls
        run.ran(charge, times=1, attempts=attempts)


@pytest.mark.parametrize("when", ["before", "after", "committed"])
@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_step_in_a_thread_survives_as_well(when: When, durability: str) -> None:
    with Bench(stubs=PAID) as bench:
        bench.crash_at("mail", when, times=2)
        run = bench.start(order_flow, "o-7", durability=durability)
        run.signal("approved")
        assert run.result().startswith("ref-1, mailed o-7")
        assert bench.crashes == (2 if when != "committed" else bench.crashes) >= 1


@pytest.mark.parametrize("when", ["before", "after", "committed"])
def test_the_process_dies_at_waits_and_child_runs_too(when: When) -> None:
    with Bench() as bench:
        bench.crash_at("signal:go", when)
        run = bench.start(patient)
        run.signal("go")
        assert run.result() == "gone"
        assert bench.crashes == 1
        bench.crash_at(item, when)
        bench.crash_at("fetch#1", when)
        assert bench.run(parent, [1, 2]) == [10, 20]
        assert bench.crashes >= 3


def test_only_the_named_occurrence_is_meant() -> None:
    with Bench() as bench:
        bench.crash_at("item#2", "committed")
        run = bench.start(parent, [1, 2, 3])
        assert run.result() == [10, 20, 30]
        assert bench.crashes == 1
        assert len(bench.calls(fetch)) == 3


def test_a_run_that_kills_every_process_is_set_aside() -> None:
    with Bench() as bench:
        bench.crash_at(fetch, "before", times=8)
        run = bench.start(item, 1)
        with pytest.raises(RunSetAside, match="made no progress"):
            run.result()
        assert (run.status, bench.crashes) == ("stuck", 6)
        run.resume()
        assert run.result() == 10
        assert bench.crashes == 8


def test_the_process_dies_now_and_time_passes_until_another_takes_over() -> None:
    with Bench(stubs=PAID) as bench:
        run = bench.start(order_flow, "o-7")
        bench.crash(down="3d")
        assert bench.crashes == 1
        assert run.result() == "expired"
        assert len(bench.calls(charge)) == 1


def test_an_attempt_in_flight_is_begun_again() -> None:
    with Bench() as bench:
        run = bench.start(item, 4)
        bench.advance("500ms")
        bench.crash()
        assert run.result() == 40
        run.ran(fetch, times=1, attempts=2)


def test_a_synchronous_body_is_unwound_and_rebuilt() -> None:
    with Bench() as bench:
        run = bench.start(in_order, "o-7")
        bench.crash()
        assert run.waiting_for == ("timer",)
        assert run.result().startswith("mailed o-7")
        assert len(bench.calls(mail)) == 2


def test_a_run_that_is_never_written_is_lost() -> None:
    with Bench() as bench:
        run = bench.start(patient, durability="memory")
        bench.crash()
        with pytest.raises(RunNotFound):
            run.status  # noqa: B018


def test_a_crash_point_that_never_strikes_fails_the_test() -> None:
    bench = Bench()
    bench.open()
    bench.crash_at("chrage")
    bench.start(patient)
    with pytest.raises(CheckFailed, match=r"crash_at\('chrage', 'after'\) never struck: is the step called so"):
        bench.close()


def test_a_crash_point_that_cannot_be_is_refused() -> None:
    with Bench() as bench:
        with pytest.raises(ArgumentError, match="use 'before', 'after' or 'committed'"):
            bench.crash_at(charge, "during")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="whole number from 1"):
            bench.crash_at(charge, times=0)


def test_a_program_that_waits_hears_that_its_process_died() -> None:
    with Bench() as bench:
        bench.crash_at(fetch)

        async def program() -> object:
            return await (await bench.app.start(item, 1, id="i-1")).result()

        with pytest.raises(ProcessDied):
            bench.wait_for(program())
        assert bench.handle("i-1").result() == 10


def test_a_restart_goes_on_in_good_order() -> None:
    with Bench(stubs=PAID) as bench:
        run = bench.start(order_flow, "o-7")
        before = bench.now
        bench.restart(down="1h")
        assert bench.now - before == timedelta(hours=1)
        assert bench.crashes == 0
        run.signal("approved")
        assert run.result().startswith("ref-1")


def test_a_run_under_way_goes_on_with_the_code_of_today() -> None:
    @workflow(name="order_flow")
    async def changed(order: str) -> str:
        reference = await charge(order, cents=500)
        await ctx.signal("approved", timeout="2d")
        return f"{reference}, and no mail"

    @workflow(name="order_flow")
    async def repriced(order: str) -> str:
        return await charge(order, cents=501)

    with Bench(stubs=PAID) as bench:
        run, other = bench.start(order_flow, "o-7"), bench.start(order_flow, "o-8")
        bench.restart(workflows=[changed])
        run.signal("approved")
        assert run.result() == "ref-1, and no mail"
        bench.restart(workflows=[repriced])
        other.signal("approved")
        assert other.status == "paused"
        other.resume(on_change="rerun")
        assert other.result() == "ref-1"
        assert [call["cents"] for call in bench.calls(charge)] == [500, 500, 501]


@pytest.mark.parametrize(("when", "attempts"), [("before", 2), ("after", 1), ("committed", 1)])
def test_what_a_transactional_task_writes_is_written_once(when: When, attempts: int) -> None:
    @task(transactional=True)
    def book(seat: str) -> int:
        ctx.connection.execute("CREATE TABLE IF NOT EXISTS seats (name TEXT)")
        ctx.connection.execute("INSERT INTO seats VALUES (?)", (seat,))
        return int(ctx.connection.execute("SELECT count(*) FROM seats").fetchone()[0])

    @workflow
    async def trip(seat: str) -> int:
        await ctx.sleep("1d")
        return await book.aio(seat)

    with Bench() as bench:
        bench.crash_at(book, when)
        run = bench.start(trip, "12A")
        bench.restart()
        assert run.result() == 1
        assert bench.crashes == 1
        run.ran(book, times=1, attempts=attempts)
        assert bench.run(trip, "12B") == 2


def test_a_labelled_version_serves_new_runs_beside_the_old_one() -> None:
    @workflow(name="patient", version="2")
    async def second() -> int:
        return 2

    with Bench() as bench:
        run = bench.start(patient)
        bench.restart(workflows=[second])
        bench.crash()
        assert bench.run(second) == 2
        run.signal("go")
        assert run.result() == "gone"


def test_a_thread_at_work_when_its_process_dies_is_waited_for_and_not_heard() -> None:
    ended: list[int] = []
    pause = threading.Event()

    @task
    def slow() -> int:
        while ctx.attempt == 1 and not ctx.cancelled:
            pause.wait(0.001)
        ended.append(ctx.attempt)
        return ctx.attempt

    @task
    async def quick() -> None:
        """Ends at once."""

    @workflow
    async def both() -> int:
        return (await asyncio.gather(slow.aio(), quick()))[0]

    with Bench() as bench:
        bench.crash_at(quick)
        run = bench.start(both)
        assert ended == [1, 2]
        assert run.result() == 2
