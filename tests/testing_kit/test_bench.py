"""Does a bench drive runs as an engine does, with time that only moves when it is told to?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from bench_flows import charge, fetch, in_order, item, order_flow, parent, patient

from stepwell import ctx, workflow
from stepwell.errors import ArgumentError, RequestRefused, RunCancelled, RunFailed, RunNotFound, RunSetAside
from stepwell.testing import Bench, CheckFailed, raises, returns

PAID = {charge: returns("ref-1")}


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_run_that_nobody_answers_expires_when_its_time_has_come() -> None:
    with Bench(stubs=PAID) as bench:
        run = bench.start(order_flow, "o-7")
        bench.advance("47h")
        assert run.status == "waiting"
        bench.advance("1h")
        assert run.status == "completed"
        assert run.result() == "expired"


def test_a_start_does_all_that_can_be_done_without_time_passing() -> None:
    with Bench(stubs=PAID) as bench:
        before = bench.now
        run = bench.start(order_flow, "o-7")
        assert run.waiting_for == ("signal approved",)
        assert bench.now == before


def test_a_result_lets_time_pass_as_far_as_it_needs_and_no_further() -> None:
    with Bench(stubs=PAID, at="2027-03-01T09:00:00+01:00") as bench:
        assert bench.run(order_flow, "o-7") == "expired"
        assert bench.now == datetime(2027, 3, 3, 8, tzinfo=UTC)


def test_a_result_that_needs_somebody_else_is_refused_with_what_it_waits_for_and_the_journal() -> None:
    with Bench() as bench:
        run = bench.start(patient)
        with pytest.raises(CheckFailed, match=r"run patient-1 has not ended .* waits for signal go") as refused:
            run.result()
        assert "wait.started  signal:go#1" in str(refused.value)


def test_a_result_is_waited_for_no_longer_than_it_may_take() -> None:
    with Bench(stubs=PAID) as bench:
        run = bench.start(order_flow, "o-7")
        with pytest.raises(CheckFailed, match="has not ended"):
            run.result(within="1d")
        assert run.result(within="2d") == "expired"


def test_the_body_and_the_journal_see_the_bench_s_clock() -> None:
    @workflow
    async def clocks() -> list[str]:
        first = ctx.now()
        await ctx.sleep("1d")
        return [first.isoformat(), ctx.now().isoformat()]

    with Bench(at="2028-02-28T12:00:00Z") as bench:
        assert bench.run(clocks) == ["2028-02-28T12:00:00+00:00", "2028-02-29T12:00:00+00:00"]


def test_time_goes_on_to_a_moment_and_never_back() -> None:
    with Bench(at="2027-03-01T09:00:00Z") as bench:
        bench.advance_to("2027-03-01T10:00:00Z")
        assert bench.now == datetime(2027, 3, 1, 10, tzinfo=UTC)
        with pytest.raises(ArgumentError, match="does not run back"):
            bench.advance_to(datetime(2027, 3, 1, 9, tzinfo=UTC))
        with pytest.raises(ArgumentError, match="has no time zone"):
            bench.advance_to("2027-04-01")
        with pytest.raises(ArgumentError, match="is no time"):
            bench.advance_to("tomorrow")


def test_an_idle_engine_does_nothing_while_months_pass() -> None:
    with Bench() as bench:
        bench.start(patient)
        bench.advance("1h")  # the body is dropped meanwhile
        before = bench._time.batches
        bench.advance("90d")
        assert bench._time.batches == before


def test_what_comes_due_happens_in_order_and_at_its_own_time() -> None:
    @workflow
    async def sleeper(hours: int) -> str:
        await ctx.sleep(f"{hours}h")
        return f"{ctx.now():%H}"

    with Bench(at="2027-03-01T00:00:00Z") as bench:
        runs = [bench.start(sleeper, hours) for hours in (5, 2, 9)]
        bench.advance("1d")
        assert [run.result() for run in runs] == ["05", "02", "09"]


def test_a_condition_is_waited_for() -> None:
    with Bench(stubs={charge: raises(OSError)}) as bench:
        run = bench.start(order_flow, "o-7")
        assert bench.until(lambda: run.steps(charge)[0].attempts == 2)
        assert run.waiting_for == ("retry of charge#1",)
        assert not bench.until(lambda: run.status == "completed")
        assert run.status == "failed"


def test_time_does_not_go_further_than_a_condition_may_take() -> None:
    with Bench(stubs=PAID) as bench:
        run = bench.start(order_flow, "o-7")
        assert not bench.until(lambda: run.status == "completed", within="1h")
        assert run.status == "waiting"


def test_a_run_without_an_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @workflow
    async def for_ever() -> None:
        while True:
            await ctx.sleep("1s")

    monkeypatch.setattr("stepwell.testing.kit.BATCHES", 2000)
    with Bench() as bench:
        run = bench.start(for_ever)
        with pytest.raises(CheckFailed, match="say how long it may take"):
            run.result()
        run.cancel()


# -- runs -------------------------------------------------------------------------------------------------------------


def test_runs_are_numbered_by_workflow_or_called_as_asked() -> None:
    with Bench() as bench:
        assert [bench.start(patient).id, bench.start(patient).id] == ["patient-1", "patient-2"]
        assert bench.start(patient, id="mine", labels={"a": "b"}).row.labels == {"a": "b"}
        assert bench.handle("mine").waiting_for == ("signal go",)
        with pytest.raises(RunNotFound, match="'yours'; there are: patient-1, patient-2, mine"):
            bench.handle("yours")


def test_a_task_can_be_started_by_itself() -> None:
    with Bench() as bench:
        assert bench.run(fetch, 4) == 40


def test_signals_and_verbs_act_at_once() -> None:
    with Bench(stubs=PAID) as bench:
        run = bench.start(order_flow, "o-7")
        run.pause(by="Ada", reason="stocktaking")
        assert (run.status, run.waiting_for) == ("paused", ("resume",))
        assert run.signal("approved", key="form-1")
        assert not run.signal("approved", key="form-1")
        with pytest.raises(RunSetAside, match="stocktaking"):
            run.result()
        run.resume()
        assert run.result() == "ref-1, mailed o-7 in attempt 1"
        with pytest.raises(RequestRefused):
            run.signal("approved")


def test_a_run_that_ends_otherwise_raises_as_in_the_product_and_shows_its_journal() -> None:
    with Bench(stubs={charge: raises(ValueError("no such order"))}) as bench:
        run = bench.start(order_flow, "o-7")
        with pytest.raises(RunFailed, match="no such order") as failed:
            run.result()
        assert "step.failed" in failed.value.__notes__[0]
        assert run.failure is not None and run.failure.type == "ValueError"
        bench.stub(charge, returns("ref-2"))
        run.retry()
        run.cancel()
        with pytest.raises(RunCancelled):
            run.result()


def test_child_runs_are_runs_of_the_bench() -> None:
    with Bench() as bench:
        run = bench.start(parent, [1, 2])
        assert run.waiting_for == ("child run parent-1/item#1",)
        assert run.result() == [10, 20]
        assert [child.id for child in run.children] == ["parent-1/item#1", "parent-1/item#2"]
        assert [child.result() for child in run.children] == [10, 20]
        assert len(bench.runs) == 3
        assert bench.calls(item) == [{"number": 1}, {"number": 2}]


def test_a_run_that_is_never_written_can_be_looked_at_too() -> None:
    with Bench() as bench:
        run = bench.start(patient, durability="memory")
        assert run.waiting_for == ("signal go",)
        run.signal("go")
        assert run.result() == "gone"


def test_a_body_is_dropped_and_rebuilt_while_it_waits() -> None:
    bodies: list[int] = []

    @workflow
    async def counted() -> int:
        bodies.append(1)
        await ctx.sleep("1h")
        return len(bodies)

    with Bench() as bench:
        assert bench.run(counted) == 2
    bodies.clear()
    with Bench(warm_wait="2h") as bench:
        assert bench.run(counted) == 1


def test_a_synchronous_workflow_waits_in_virtual_time() -> None:
    with Bench() as bench:
        assert bench.run(in_order, "o-7") == "mailed o-7 in attempt 1; mailed o-7 in attempt 1"


def test_events_come_by_the_asynchronous_interface() -> None:
    @workflow
    async def reader() -> object:
        return (await ctx.event("news", timeout="3d")).data

    with Bench() as bench:
        run = bench.start(reader)
        assert run.waiting_for == ("event news",)
        bench.wait_for(bench.app.publish("news", {"headline": "rain"}))
        assert run.result() == {"headline": "rain"}


def test_the_same_bench_draws_the_same() -> None:
    @workflow
    async def drawing() -> list[str]:
        return [str(ctx.random()), str(ctx.uuid())]

    def drawn(seed: int) -> list[str]:
        with Bench(seed=seed) as bench:
            return bench.run(drawing)

    assert drawn(1) == drawn(1) != drawn(2)


# -- the bench itself -------------------------------------------------------------------------------------------------


def test_a_bench_works_inside_a_running_loop() -> None:
    async def test() -> str:
        await asyncio.sleep(0)
        with Bench(stubs=PAID) as bench:
            result = bench.run(order_flow, "o-7")
        await asyncio.sleep(0)
        return result

    assert asyncio.run(test()) == "expired"


def test_the_asynchronous_interface_runs_in_virtual_time_too() -> None:
    with Bench(stubs=PAID) as bench:

        async def program() -> str:
            run = await bench.app.start(order_flow, "o-7")
            await asyncio.sleep(3600)
            await run.signal("approved")
            return await run.result()

        before = bench.now
        assert bench.wait_for(program()) == "ref-1, mailed o-7 in attempt 1"
        assert (bench.now - before).total_seconds() == 3600


def test_waiting_for_what_cannot_come_is_found_out() -> None:
    with Bench() as bench, pytest.raises(CheckFailed, match="nothing is due any more"):
        bench.wait_for(asyncio.Event().wait())


def test_journals_can_be_read_when_the_bench_has_closed() -> None:
    with Bench(stubs=PAID) as bench:
        run = bench.start(order_flow, "o-7")
    assert run.kinds[-1] == "wait.started"
    assert run.status == "waiting"
    with pytest.raises(RequestRefused, match="not open"):
        run.signal("approved")
    with pytest.raises(RequestRefused, match="not open"):
        bench.crash()


def test_a_test_that_fails_is_not_covered_up_by_what_the_bench_finds() -> None:
    with pytest.raises(ZeroDivisionError), Bench() as bench:
        bench.crash_at("nothing")
        bench.start(patient)
        raise ZeroDivisionError


def test_the_kit_loads_nothing_before_it_is_asked_for() -> None:
    code = (
        "import sys, stepwell.testing, stepwell.testing.plugin; "
        "print([name for name in ('hypothesis', 'stepwell.engine', 'stepwell.testing.kit') if name in sys.modules]); "
        "stepwell.testing.Bench; print('hypothesis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_every_name_of_the_kit_can_be_had() -> None:
    import stepwell.testing

    assert all(getattr(stepwell.testing, name) is not None for name in stepwell.testing.__all__)
    with pytest.raises(AttributeError):
        stepwell.testing.nothing  # noqa: B018
