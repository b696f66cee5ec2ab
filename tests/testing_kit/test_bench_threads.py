"""Does time stand while a thread works, and is what threads do to a journal the same every time?"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stepwell import ctx, task, workflow
from stepwell.model.entries import encode
from stepwell.testing import Bench
from stepwell.testing.threads import StillWorking


@task
def hold(number: int) -> int:
    threading.Event().wait(0.001 * (5 - number))
    ctx.progress(number)
    return number * 10


@task
async def aside(number: int) -> int:
    return await asyncio.to_thread(lambda: number + 1)


@workflow
async def both(count: int) -> list[int]:
    held, others = await asyncio.gather(hold.map(range(count)), aside.map(range(count)))
    return [*held, *others]


def test_time_stands_while_threads_work() -> None:
    with Bench() as bench:
        before = bench.now
        assert bench.run(both, 3) == [0, 10, 20, 1, 2, 3]
        assert bench.now == before


def test_threads_end_in_the_same_order_every_time() -> None:
    def journal() -> list[bytes]:
        with Bench() as bench:
            run = bench.start(both, 5)
            return [encode(stored.entry) for stored in run.journal]

    first = journal()
    assert all(journal() == first for _ in range(5))


def test_several_threads_work_side_by_side_when_they_are_asked_for() -> None:
    meeting = threading.Barrier(3, timeout=5)

    @task
    def meet(number: int) -> int:
        return meeting.wait() * 0 + number

    @workflow
    async def met() -> list[int]:
        return await meet.map(range(3))

    with Bench(threads=3) as bench:
        assert bench.run(met) == [0, 1, 2]


def test_a_thread_that_does_not_end_is_named() -> None:
    stop = threading.Event()

    @task
    def stuck() -> None:
        stop.wait(5)

    said = r"step stuck#1: still at work in a thread after 0\.05 real seconds"
    with pytest.raises(StillWorking, match=said), Bench(patience=0.05) as bench:
        bench.start(stuck)
    stop.set()


def test_work_in_executors_of_one_s_own_is_waited_for() -> None:
    with ThreadPoolExecutor(1) as pool:

        @task
        async def elsewhere() -> int:
            loop = asyncio.get_running_loop()
            told: asyncio.Future[int] = loop.create_future()
            await loop.run_in_executor(pool, lambda: loop.call_soon_threadsafe(told.set_result, 5))
            return await told

        with Bench() as bench:
            assert bench.run(elsewhere) == 5


def test_no_thread_is_left_when_a_bench_has_closed() -> None:
    with Bench() as bench:
        bench.run(both, 2)
        bench.crash()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("stepwell-bench")] == []


def test_what_needs_the_network_is_refused_by_name() -> None:
    @task
    async def call() -> None:
        await asyncio.open_connection("localhost", 1)

    with Bench() as bench:
        run = bench.start(call)
        assert run.failure is not None
        assert "needs a real event loop" in run.failure.message
