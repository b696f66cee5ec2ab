"""Can a test say what a journal has to show, and is the answer readable when it does not?"""

from __future__ import annotations

import pytest
from bench_flows import charge, fetch, item, mail, order_flow, parent, patient

from stepwell import task, workflow
from stepwell.errors import RunFailed
from stepwell.testing import Bench, CheckFailed, fails, raises, returns

STUBS = {charge: fails(1, then="ref-1")}


def test_steps_are_counted_and_compared() -> None:
    with Bench(stubs=STUBS) as bench:
        run = bench.start(order_flow, "o-7")
        bench.advance("1h")
        run.signal("approved")
        assert run.ran(charge)[0].path == "charge#1"
        run.ran("charge", times=1, attempts=2, input={"order": "o-7", "cents": 500}, output="ref-1")
        run.ran("charge#1", times=1)
        run.ran(mail, times=1, attempts=1)
        run.did_not_run(fetch)
        assert [step.name for step in run.steps()] == ["charge", "mail"]
        first = run.steps("charge")[0]
        assert first.ended == "completed"
        assert first.ended_at is not None
        assert first.ended_at - first.started_at == 3600 * 1_000_000


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"times": 2}, "step charge ran once, not twice"),
        ({"times": 0}, "step charge ran once, not no time"),
        ({"attempts": 1}, "step charge#1 took 2 attempts, not 1 attempt"),
        (
            {"input": {"order": "o-8"}},
            "step charge#1 had the input {'cents': 500, 'order': 'o-7'}, not {'order': 'o-8'}",
        ),
        ({"output": "ref-2"}, "step charge#1 has 'ref-1', not the output 'ref-2'"),
    ],
)
def test_what_is_otherwise_is_said_with_the_journal(expected: dict[str, object], said: str) -> None:
    with Bench(stubs=STUBS) as bench:
        run = bench.start(order_flow, "o-7")
        bench.advance("1h")
        with pytest.raises(CheckFailed) as failed:
            run.ran(charge, **expected)  # type: ignore[arg-type]
    lines = str(failed.value).splitlines()
    assert lines[0] == f"run order_flow-1: {said}"
    assert lines[2].startswith("run order_flow-1 of order_flow: waiting for signal approved, next due in 2 d 0 h")
    assert lines[3].split()[:4] == ["1", "+0", "ms", "run.created"]
    assert len(lines) == 3 + len(run.journal)


def test_a_step_that_did_not_run_or_has_not_ended_is_said_to_be_so() -> None:
    with Bench() as bench:
        run = bench.start(item, 1)
        with pytest.raises(CheckFailed, match="run item-1: step charge did not run"):
            run.ran(charge)
        with pytest.raises(CheckFailed, match="step fetch#1 has no output: it is open, not the output 10"):
            run.ran(fetch, output=10)
        with pytest.raises(CheckFailed, match="step fetch ran once, not no time"):
            run.did_not_run(fetch)


def test_failed_and_cancelled_steps_are_known_as_such() -> None:
    with Bench(stubs={charge: raises(ValueError("no"))}) as bench:
        run = bench.start(order_flow, "o-7")
        with pytest.raises(RunFailed):
            run.result()
        (step,) = run.steps(charge)
        assert (step.ended, step.attempts) == ("failed", 3)
        assert step.error is not None and step.error.message == "no"
        other = bench.start(item, 1)
        other.cancel()
        assert other.steps(fetch)[0].ended == "cancelled"


def test_a_step_names_its_child_run() -> None:
    with Bench() as bench:
        run = bench.start(parent, [1])
        run.result()
        assert [step.child for step in run.steps(item)] == ["parent-1/item#1"]


def test_large_payloads_are_read_where_they_are_kept() -> None:
    @task
    async def large(size: int) -> str:
        return "x" * size

    @workflow
    async def largest(size: int) -> str:
        return await large(size)

    with Bench() as bench:
        run = bench.start(largest, 70_000)
        run.ran(large, output="x" * 70_000)
        assert run.result() == "x" * 70_000


def test_what_is_waited_for_is_said_in_order() -> None:
    with Bench(stubs={charge: raises(OSError)}) as bench:
        assert bench.start(order_flow, "o-7").waiting_for == ("retry of charge#1",)
        run = bench.start(item, 1)
        assert run.waiting_for == ("step fetch#1",)
        assert run.due is None
        ended = bench.start(patient)
        ended.signal("go")
        assert ended.waiting_for == ()


def test_a_long_journal_is_shown_with_its_middle_left_out() -> None:
    @workflow
    async def many() -> None:
        await fetch.map(range(50))

    with Bench(stubs={fetch: returns(1)}) as bench:
        run = bench.start(many)
        lines = run.table().splitlines()
        assert len(lines) == 1 + 15 + 1 + 45
        assert lines[16].split() == ["…", f"{len(run.journal) - 60}", "entries"]
