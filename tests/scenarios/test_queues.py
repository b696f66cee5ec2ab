"""Queues: how many runs go on at once, how fast they are let in, and that no limit keeps a parent from its children."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from patience import until
from virtually import HOUR, MINUTE, SECOND, Virtual

from stepwell import Limits, Queue, ctx, task, workflow
from stepwell.errors import ArgumentError, DefinitionError, RequestRefused, StepwellError
from stepwell.stores.protocol import Filter

Play = Callable[..., Any]


class Seen:
    """What the tasks of one test saw."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []


seen = Seen()


@pytest.fixture(autouse=True)
def fresh() -> None:
    global seen
    seen = Seen()


@task
async def work(key: str, name: str = "") -> str:
    seen.order.append(name or key)
    seen.now[key] += 1
    seen.now["all"] += 1
    for counted in (key, "all"):
        seen.most[counted] = max(seen.most[counted], seen.now[counted])
    await seen.gate.wait()
    seen.now[key] -= 1
    seen.now["all"] -= 1
    return name or key


@workflow
async def job(key: str, name: str = "") -> str:
    return await work(key, name)


async def waiting_in(app: Any, name: str) -> tuple[int, int]:
    row = next((row for row in await app.queues() if row.queue.name == name), None)
    return (0, 0) if row is None else (row.waiting, row.active)


async def is_so(app: Any, name: str, waiting: int, active: int) -> bool:
    return await waiting_in(app, name) == (waiting, active)


def test_a_queue_lets_in_as_many_runs_as_its_concurrency(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("mail", concurrency=2)]) as app:
            runs = [await app.start(job, "a", str(n), queue="mail") for n in range(7)]
            await until(lambda: seen.now["all"] == 2)
            await until(lambda: is_so(app, "mail", 5, 2))
            rows = await app.runs(Filter(queue="mail"))
            assert Counter(row.status for row in rows) == {"pending": 5, "running": 2}
            seen.gate.set()
            assert [await run.result() for run in runs] == [str(n) for n in range(7)]
            assert seen.most["all"] == 2
            assert await waiting_in(app, "mail") == (0, 0)

    play(scenario)


def test_a_queue_counts_the_runs_of_each_key(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("mail", concurrency_per_key=1)]) as app:
            runs = [
                await app.start(job, who, f"{who}{n}", queue="mail", queue_key=who) for n in range(3) for who in "abc"
            ]
            await until(lambda: seen.now["all"] == 3)
            assert sorted(seen.order) == ["a0", "b0", "c0"]
            seen.gate.set()
            await asyncio.gather(*(run.result() for run in runs))
            assert [seen.most[who] for who in "abc"] == [1, 1, 1]
            assert [name for name in seen.order if name[0] == "a"] == ["a0", "a1", "a2"]

    play(scenario)


def test_who_has_the_highest_priority_is_let_in_first_then_who_has_waited_longest(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("q", concurrency=1)]) as app:
            runs = [await app.start(job, "a", "first", queue="q")]
            await until(lambda: seen.order == ["first"])
            for name, priority in (("x1", 0), ("x2", 5), ("x3", 5), ("x4", -1)):
                runs.append(await app.start(job, "a", name, queue="q", priority=priority))
            seen.gate.set()
            await asyncio.gather(*(run.result() for run in runs))
            assert seen.order == ["first", "x2", "x3", "x1", "x4"]

    play(scenario)


def test_a_paused_queue_lets_nobody_in_and_stays_paused_when_it_is_put_again(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("q", concurrency=5)]) as app:
            await app.pause_queue("q")
            run = await app.start(job, "a", queue="q")
            assert (await run.row()).status == "pending"
        async with make(queues=[Queue("q", concurrency=4)], workflows=[job]) as app:
            (row,) = await app.queues()
            assert (row.queue.concurrency, row.queue.paused, row.waiting) == (4, True, 1)
            await app.resume_queue("q")
            seen.gate.set()
            assert await app.handle(run.id).result() == "a"

    play(scenario)


def test_changed_limits_hold_at_once(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("q", concurrency=1)]) as app:
            for n in range(4):
                await app.start(job, "a", str(n), queue="q")
            await until(lambda: is_so(app, "q", 3, 1))
            await app.put_queue(Queue("q", concurrency=3))
            await until(lambda: seen.now["all"] == 3)
            assert await waiting_in(app, "q") == (1, 3)
            with pytest.raises(RequestRefused, match="there is no queue 'p'; there are 'q'"):
                await app.pause_queue("p")

    play(scenario)


def test_a_queue_that_nobody_has_put_has_no_limits(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            for n in range(5):
                await app.start(job, "a", str(n), queue="new")
            await until(lambda: seen.now["all"] == 5)

    play(scenario)


def test_runs_that_wait_in_a_queue_are_let_in_by_the_next_engine(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("q", concurrency=1)]) as app:
            for n in range(3):
                await app.start(job, "a", str(n), queue="q", id=f"r{n}")
            await until(lambda: seen.now["all"] == 1)
        seen.now.clear()
        seen.gate.set()
        async with make(workflows=[job]) as app:
            assert [await app.handle(f"r{n}").result() for n in range(3)] == ["0", "1", "2"]

    play(scenario)


def test_a_client_s_runs_wait_in_the_queue_too(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        driver = make(queues=[Queue("q", concurrency=1)], workflows=[job])
        client = make(drive=False)
        async with driver, client:
            runs = [await client.start(job, "a", str(n), queue="q") for n in range(3)]
            await until(lambda: seen.now["all"] == 1)
            await until(lambda: is_so(client, "q", 2, 1))
            await client.put_queue(Queue("q", concurrency=2))
            await until(lambda: seen.now["all"] == 2)
            seen.gate.set()
            assert [await run.result() for run in runs] == ["0", "1", "2"]
            assert seen.most["all"] == 2

    play(scenario)


def test_a_run_that_waits_in_a_queue_can_be_cancelled(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("q", concurrency=1)]) as app:
            first, second, third = [await app.start(job, "a", str(n), queue="q") for n in range(3)]
            await until(lambda: seen.now["all"] == 1)
            await second.cancel()
            assert (await second.wait()).status == "cancelled"
            assert await waiting_in(app, "q") == (1, 1)
            seen.gate.set()
            assert await third.result() == "2"
            assert await first.result() == "0"
            assert seen.order == ["0", "2"]

    play(scenario)


def test_a_paused_run_keeps_its_place(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("q", concurrency=1)]) as app:
            run = await app.start(job, "a", "0", queue="q")
            await until(lambda: seen.now["all"] == 1)
            await run.pause()
            await run.wait()
            await app.start(job, "a", "1", queue="q")
            await app.start(job, "a", "free")
            await until(lambda: "free" in seen.order)
            assert await waiting_in(app, "q") == (1, 1)
            await run.cancel()
            await until(lambda: "1" in seen.order)

    play(scenario)


# -- no limit keeps a parent from its children -------------------------------------------------------------------------


@workflow(queue="one")
async def grandchild(name: str) -> str:
    return f"{name}!"


@workflow(queue="one")
async def child(name: str) -> str:
    both = await asyncio.gather(grandchild(f"{name}a"), grandchild(f"{name}b"))
    return "".join(both)


@workflow(queue="one")
async def parent(name: str) -> str:
    return await child(f"{name}1") + await child(f"{name}2")


@workflow(queue="left")
async def ping(depth: int) -> int:
    return 1 + (await pong(depth - 1) if depth else 0)


@workflow(queue="right")
async def pong(depth: int) -> int:
    return 1 + (await ping(depth - 1) if depth else 0)


def test_nested_child_runs_in_one_queue_of_one_place_come_to_their_end(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("one", concurrency=1)]) as app:
            runs = [await app.start(parent, name) for name in ("x", "y", "z")]
            expected = [f"{n}1a!{n}1b!{n}2a!{n}2b!" for n in ("x", "y", "z")]
            assert [await run.result() for run in runs] == expected
            assert await waiting_in(app, "one") == (0, 0)

    play(scenario)


def test_child_runs_across_two_queues_in_a_circle_come_to_their_end(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("left", concurrency=1), Queue("right", concurrency=1)]) as app:
            runs = [await app.start(target, 5) for target in (ping, pong, ping)]
            assert [await run.result() for run in runs] == [6, 6, 6]

    play(scenario)


def test_children_under_one_key_do_not_wait_for_their_own_parent(play: Play) -> None:
    @workflow
    async def outer() -> str:
        return await grandchild.with_options(queue="keyed", queue_key="k")("x")

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(queues=[Queue("keyed", concurrency_per_key=1)]) as app:
            run = await app.start(outer, queue="keyed", queue_key="k")
            assert await run.result() == "x!"

    play(scenario)


def test_a_workflow_that_limits_itself_may_call_itself(play: Play) -> None:
    @workflow(concurrency=1)
    async def countdown(number: int) -> int:
        return 0 if not number else 1 + await countdown(number - 1)

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            assert await app.run(countdown, 4) == 4
            ((row),) = await app.queues()
            assert (row.queue.name, row.queue.concurrency) == ("workflow:countdown", 1)

    play(scenario)


def test_many_children_in_a_queue_go_on_a_few_at_a_time(play: Play) -> None:
    @workflow
    async def fan(count: int) -> int:
        return len(await job.with_options(queue="few").map([f"k{n}" for n in range(count)]))

    async def scenario(make: Callable[..., Any]) -> None:
        seen.gate.set()
        async with make(queues=[Queue("few", concurrency=3)]) as app:
            assert await app.run(fan, 60) == 60
            assert seen.most["all"] <= 3

    play(scenario)


def test_runs_in_memory_keep_to_their_queue_s_limits() -> None:
    async def scenario() -> None:
        app = virtual.make(queues=[Queue("q", concurrency=1)])
        async with app:
            runs = [await app.start(job, "a", str(n), queue="q", durability="memory") for n in range(3)]
            await until(lambda: seen.now["all"] == 1)
            seen.gate.set()
            assert [await run.result() for run in runs] == ["0", "1", "2"]
            assert seen.most["all"] == 1

    virtual = Virtual()
    virtual.play(scenario())


# -- rates -------------------------------------------------------------------------------------------------------------


def test_a_queue_lets_in_no_more_than_its_rate() -> None:
    at: list[int] = []
    virtual = Virtual()

    @workflow
    async def quick() -> None:
        at.append(virtual.now // SECOND)

    async def scenario() -> None:
        async with virtual.make(queues=[Queue("q", rate="2/1m")]) as app:
            runs = [await app.start(quick, queue="q") for _ in range(5)]
            await asyncio.gather(*(run.result() for run in runs))

    virtual.play(scenario())
    assert at == [0, 0, 60, 60, 120]


def test_a_rate_per_key_keeps_one_key_from_holding_up_the_others() -> None:
    at: list[tuple[str, int]] = []
    virtual = Virtual()

    @workflow
    async def quick(who: str) -> None:
        at.append((who, virtual.now // SECOND))

    async def scenario() -> None:
        async with virtual.make(queues=[Queue("q", rate_per_key="1/10s")]) as app:
            runs = [await app.start(quick, who, queue="q", queue_key=who) for who in "aaabb"]
            await asyncio.gather(*(run.result() for run in runs))

    virtual.play(scenario())
    assert sorted(at) == [("a", 0), ("a", 10), ("a", 20), ("b", 0), ("b", 10)]


def test_a_delayed_run_enters_its_queue_when_its_time_has_come() -> None:
    order: list[tuple[str, int]] = []
    virtual = Virtual()

    @task
    async def note(name: str) -> None:
        order.append((name, virtual.now // MINUTE))

    @workflow
    async def naps(name: str) -> None:
        await note(name)
        await ctx.sleep("30m")

    async def scenario() -> None:
        async with virtual.make(queues=[Queue("q", concurrency=1)]) as app:
            late = await app.start(naps, "late", queue="q", delay="1h", priority=9)
            runs = [await app.start(naps, str(n), queue="q") for n in range(3)]
            await asyncio.gather(late.result(), *(run.result() for run in runs))

    virtual.play(scenario())
    assert order == [("0", 0), ("1", 30), ("late", 60), ("2", 90)]
    assert virtual.now >= 2 * HOUR


def test_a_task_s_rate_bounds_how_many_of_its_attempts_begin() -> None:
    at: list[int] = []
    virtual = Virtual()

    @task(rate="3/1s")
    async def call(number: int) -> int:
        at.append(virtual.now // SECOND)
        return number

    @workflow
    async def calls() -> int:
        return sum(await call.map(range(8)))

    async def scenario() -> None:
        async with virtual.make() as app:
            assert await app.run(calls) == 28

    virtual.play(scenario())
    assert at == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_task_s_rate_counts_each_key_for_itself_and_retries_too() -> None:
    at: list[tuple[str, int]] = []
    virtual = Virtual()

    @task(rate="1/10s", concurrency_key=lambda host, number: host, retry=2)
    async def call(host: str, number: int) -> int:
        at.append((host, virtual.now // SECOND))
        if host == "b" and ctx.attempt == 1:
            raise ValueError("again")
        return number

    @workflow
    async def calls() -> list[int]:
        return await asyncio.gather(call("a", 1), call("a", 2), call("b", 3))

    async def scenario() -> None:
        async with virtual.make() as app:
            assert await app.run(calls) == [1, 2, 3]

    virtual.play(scenario())
    assert sorted(at) == [("a", 0), ("a", 10), ("b", 0), ("b", 10)]


def test_a_step_that_waits_for_its_rate_holds_nothing_that_others_need() -> None:
    at: list[tuple[str, int]] = []
    virtual = Virtual()

    @task(rate="1/1h")
    async def rare(number: int) -> None:
        at.append(("rare", virtual.now // MINUTE))

    @task
    async def common(number: int) -> None:
        at.append(("common", virtual.now // MINUTE))

    @workflow
    async def both() -> None:
        await asyncio.gather(rare.map(range(3)), common.map(range(5)))

    async def scenario() -> None:
        async with virtual.make(limits=Limits(attempts=1)) as app:
            await app.run(both)

    virtual.play(scenario())
    assert Counter(at) == {("common", 0): 5, ("rare", 0): 1, ("rare", 60): 1, ("rare", 120): 1}


def test_a_clock_that_is_set_back_does_not_stop_a_rate() -> None:
    virtual = Virtual()

    @task(rate="1/1s")
    async def call(number: int) -> int:
        return number

    @workflow
    async def calls(count: int) -> int:
        return sum(await call.map(range(count)))

    async def scenario() -> None:
        async with virtual.make() as app:
            assert await app.run(calls, 3) == 3
            virtual.clock.jump(-24 * HOUR)
            assert await app.run(calls, 3) == 3

    virtual.play(scenario())
    assert virtual.time.micros < 10 * MINUTE


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Queue(""), "needs a name"),
        (lambda: Queue("q", concurrency=0), "concurrency=0; give a whole number from 1"),
        (lambda: Queue("q", concurrency_per_key=True), "concurrency_per_key=True"),
        (lambda: Queue("q", rate="often"), "queue 'q': rate: 'often' is not a rate; write how many per how long"),
        (lambda: Queue("q", rate="0/1s"), "'0/1s' is not a rate"),
        (lambda: Queue("q", rate="5/0s"), "'5/0s' is not a rate"),
        (lambda: Queue("q", rate="5/1s", rate_per_key="5/1m"), "give both per the same time"),
        (lambda: task(rate="x")(work.function), "rate=: 'x' is not a rate"),
        (lambda: workflow(queue="q", concurrency=2)(job.function), "its runs wait in one queue"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(made: Callable[[], object], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        made()


@pytest.mark.parametrize("text", ["50/1m", "50/m", " 50 / 60s ", "50/1m0s"])
def test_a_rate_can_be_written_in_several_ways(text: str) -> None:
    row = Queue("q", rate=text).row()
    assert (row.rate, row.period) == (50, MINUTE)


def test_a_queue_key_without_a_queue_is_refused(play: Play) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            with pytest.raises(ArgumentError, match="the run has no queue"):
                await app.start(job, "a", queue_key="k")
            assert issubclass(ArgumentError, StepwellError)
            assert await app.runs() == []

    play(scenario)
