"""Does a stub stand for a task, with everything around the task as it is?"""

from __future__ import annotations

import asyncio

import pytest
from bench_flows import charge, fetch, item, mail, order_flow, parent

from stepwell import Retry, ctx, task, workflow
from stepwell.errors import ArgumentError, DefinitionError, RunFailed, Unserialisable
from stepwell.testing import Bench, Call, fails, in_turn, raises, real, returns, takes


def test_a_function_stands_for_a_task_whatever_its_parameters_are_called() -> None:
    with Bench(stubs={charge: lambda who, how_much: f"{who} paid {how_much}"}) as bench:
        assert bench.run(charge, "o-7", cents=5) == "o-7 paid 5"


def test_an_async_function_stands_for_a_task_and_is_an_attempt_like_any_other() -> None:
    async def paid(order: str, cents: int) -> str:
        await asyncio.sleep(60)
        return f"{ctx.idempotency_key}, attempt {ctx.attempt}"

    with Bench(stubs={charge: paid}) as bench:
        assert bench.run(charge, "o-7", 5) == "charge-1:charge#1, attempt 1"


def test_a_stub_goes_by_the_task_s_name_too() -> None:
    with Bench(stubs={"charge": returns("ref-1"), "*": returns("all others")}) as bench:
        run = bench.start(order_flow, "o-7")
        run.signal("approved")
        assert run.result() == "ref-1, all others"


def test_what_a_stub_returns_is_written_and_read_as_the_real_result_is() -> None:
    with pytest.raises(Unserialisable, match="result of charge"):
        Bench(stubs={charge: returns(5)})
    with Bench(stubs={charge: lambda order, cents: 5}) as bench, pytest.raises(RunFailed, match="result of charge"):
        bench.run(charge, "o-7", 5)


def test_errors_are_retried_as_the_task_says() -> None:
    with Bench(stubs={charge: raises(ConnectionError("busy"))}) as bench:
        run = bench.start(order_flow, "o-7")
        before = bench.now
        with pytest.raises(RunFailed, match="busy"):
            run.result()
        run.ran(charge, times=1, attempts=3)
        assert (bench.now - before).total_seconds() == 2 * 3600


def test_a_stub_fails_some_attempts_of_every_step_and_then_does_something_else() -> None:
    with Bench(stubs={charge: fails(2, then="ref-3"), mail: fails(error=OSError)}) as bench:
        run = bench.start(order_flow, "o-7")
        bench.until(lambda: run.waiting_for == ("signal approved",))
        run.signal("approved")
        with pytest.raises(RunFailed, match="OSError"):
            run.result()
        assert run.ran(charge, attempts=3)[0].output == "ref-3"


@pytest.mark.parametrize("wrapped", [fails(1), takes("1h"), real, fails(1, then=takes("1m"))])
def test_the_task_itself_may_follow(wrapped: object) -> None:
    said: list[str] = []

    @task(retry=Retry(attempts=2, first="1s"))
    def measure(length: int) -> int:
        ctx.log("measuring", length=length)
        said.append(f"attempt {ctx.attempt}")
        return length * 2

    @task(retry=Retry(attempts=2, first="1s"))
    async def weigh(length: int) -> int:
        return length * 3

    @workflow
    async def both(length: int) -> int:
        return await measure.aio(length) + await weigh(length)

    with Bench(stubs={measure: wrapped, weigh: wrapped}) as bench:
        assert bench.run(both, 5) == 25
    assert len(said) == 1


def test_a_stub_that_takes_too_long_passes_the_task_s_time_limit() -> None:
    with Bench(stubs={fetch: takes("11s", then=5)}) as bench, pytest.raises(RunFailed, match=r"timeout of 10\.0 s"):
        bench.run(item, 1)
    with Bench(stubs={fetch: takes("9s", then=5)}) as bench:
        assert bench.run(item, 1) == 5


def test_answers_in_turn_go_to_calls_in_order_and_one_call_too_many_fails() -> None:
    with Bench(stubs={fetch: in_turn(5, raises(ValueError("no")), lambda number: number + 1)}) as bench:
        assert bench.run(item, 1) == 5
        with pytest.raises(RunFailed, match="no"):
            bench.run(item, 2)
        assert bench.run(item, 3) == 4
        with pytest.raises(RunFailed, match=r"has 3 answers, and this is call 4: \{'number': 4\}"):
            bench.run(item, 4)


def test_a_stub_may_be_put_at_any_time() -> None:
    with Bench() as bench:
        assert bench.run(item, 1) == 10
        bench.stub(fetch, returns(7))
        assert bench.run(item, 1) == 7
        bench.stub(fetch, real)
        assert bench.run(item, 1) == 10


def test_a_workflow_is_stubbed_where_it_is_a_child_run() -> None:
    with Bench(stubs={item: lambda number: number + 100}) as bench:
        run = bench.start(parent, [1, 2])
        assert run.result() == [101, 102]
        run.ran(item, times=2, attempts=1)
        assert bench.calls(item) == [{"number": 1}, {"number": 2}]
        assert bench.calls(fetch) == []
        with pytest.raises(ArgumentError, match="workflow item is stubbed"):
            bench.start(item, 1)


def test_a_stubbed_workflow_stays_so_after_a_crash_and_fails_by_its_runs() -> None:
    with Bench(stubs={item: fails(1, ValueError("the first"), then=takes("1h", then=5))}) as bench:
        run = bench.start(parent, [1])
        with pytest.raises(RunFailed, match="the first"):
            run.result()
        other = bench.start(parent, [1])
        bench.crash()
        assert other.result() == [5]


def test_tasks_for_other_processes_and_executors_run_in_the_test_s_own() -> None:
    @task(executor="process")
    def heavy(number: int) -> int:
        return number + 1

    @task(executor="gpu")
    def trained(number: int) -> int:
        return number + 2

    @workflow
    async def numbers(number: int) -> list[int]:
        return [await heavy.aio(number), await trained.aio(number)]

    with Bench() as bench:
        assert bench.run(numbers, 1) == [2, 3]


def test_a_stub_of_a_transactional_task_needs_no_database() -> None:
    @task(transactional=True)
    def book(seat: str) -> int:
        raise AssertionError("the stub stands for it")

    with Bench(stubs={book: lambda seat: len(seat)}) as bench:
        assert bench.run(book, "12A") == 3
        assert bench.data.database is None


def test_calls_are_recorded_with_or_without_a_stub() -> None:
    with Bench(stubs={charge: fails(1, then="ref-1")}) as bench:
        run = bench.start(order_flow, "o-7")
        bench.until(lambda: run.waiting_for == ("signal approved",))
        run.signal("approved")
        run.result()
        calls = bench.calls(charge)
        assert calls == [{"order": "o-7", "cents": 500}] * 2
        assert [(call.step, call.attempt, call.run_id) for call in calls] == [
            ("charge#1", 1, "order_flow-1"),
            ("charge#1", 2, "order_flow-1"),
        ]
        assert bench.calls("mail") == [{"to": "o-7"}]


def test_what_cannot_be_a_stub_is_refused_with_how_to_write_it() -> None:
    with pytest.raises(DefinitionError, match=r"what returns\(…\) and its like give; found 'ref-1'"):
        Bench(stubs={charge: "ref-1"})
    with pytest.raises(DefinitionError, match=r"written raises\("):
        Bench(stubs={charge: OSError("busy")})
    with pytest.raises(DefinitionError, match=r"found 7"):
        Bench(stubs={7: returns(1)})
    with pytest.raises(ArgumentError, match=r"the stub of charge takes \(order\), which does not fit charge\("):
        Bench(stubs={charge: lambda order: "ref-1"})
    with pytest.raises(DefinitionError, match="takes an exception"):
        raises("busy")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="whole number from 1"):
        fails(0)
    with pytest.raises(DefinitionError, match="at least one answer"):
        in_turn()


def test_a_stub_that_does_not_fit_a_call_fails_once_and_says_so() -> None:
    with Bench(stubs={mail: lambda to: "mailed"}) as bench:
        assert bench.run(mail, "Ada") == "mailed"
        with pytest.raises(
            RunFailed, match=r"the stub of mail#1 takes \(to\), which does not fit mail#1\('Ada', 'hi'\)"
        ):
            bench.run(mail, "Ada", text="hi")


def test_a_call_is_a_dict_of_what_was_given() -> None:
    call = Call(mail, ("Ada",), {"text": "hi"}, "r", "mail#1", 1)
    assert call == {"to": "Ada", "text": "hi"}
    assert call.unpacked() == (("Ada", "hi"), {})
