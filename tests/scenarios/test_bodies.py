"""What workflow bodies may do: ordinary asyncio, children, synchronous functions, values, timeouts; and what not."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from patience import until

from stepwell import Retry, StepFailed, ctx, task, workflow
from stepwell.errors import RunFailed, RunSetAside, StepTimedOut

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    ran.clear()


@dataclass
class Page:
    url: str
    words: set[str]


@task
async def fetch(url: str) -> Page:
    ran.append(url)
    return Page(url, {url, "x"})


@task
def double(number: int) -> int:
    ran.append((number, threading.current_thread().name.startswith("stepwell-task")))
    return number * 2


@task
async def plus(left: int, right: int = 1) -> int:
    return left + right


@workflow
async def child(number: int) -> tuple[int, str, str | None, str]:
    identity = ctx.identity
    return await plus(number), identity.run_id, identity.parent, identity.root


def test_values_come_back_as_the_task_declares_them(play: Callable[..., Any]) -> None:
    @workflow
    async def body() -> bool:
        page = await fetch("a")
        return isinstance(page, Page) and page.words == {"a", "x"}

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            assert await app.run(body) is True

    play(scenario)


def test_synchronous_workflows_and_tasks_work_like_async_ones(play: Callable[..., Any]) -> None:
    @workflow
    def body(start: int) -> list[int]:
        first = double(start)
        ctx.sync.sleep("1ms")
        second = plus.sync(first)
        ctx.state["second"] = second
        try:
            broken.sync()
        except ZeroDivisionError:
            second += 0
        return [second, *double.map_sync([1, 2, 3], concurrency=2), ctx.sync.signal("go", int)]

    @task
    async def broken() -> None:
        raise ZeroDivisionError("no")

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(body, 5)
            await until(lambda: not app.engine.runners)  # waiting for the signal: its thread is gone
            await run.signal("go", 7)
            assert await run.result() == [11, 2, 4, 6, 7]
            assert sorted(ran) == [(1, True), (2, True), (3, True), (5, True)]

    threads = threading.active_count()
    try:
        play(scenario)
    finally:
        assert threading.active_count() <= threads + 40


def test_a_child_workflow_is_a_run_with_inherited_identity(play: Callable[..., Any]) -> None:
    @workflow
    async def parent() -> list[Any]:
        first, second = await asyncio.gather(child(1), child(2))
        detached = await ctx.start(child, 3)
        own = await ctx.start_new(child, 4)
        return [first, second, detached, own]

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            first, second, detached, own = await run.result()
            assert tuple(first) == (2, "p/task:1/child#1", "p", "p") or tuple(first) == (2, "p/child#1", "p", "p")
            assert second[2:] == ["p", "p"] or second[2:] == ("p", "p")
            assert (await app.handle(detached).result())[2:] == ["p", "p"]
            assert (await app.handle(own).result())[2:] == [None, own]

    play(scenario)


def test_a_failed_child_fails_its_parent_and_retry_goes_down_to_it(play: Callable[..., Any]) -> None:
    broken = [True]

    @task
    async def fragile() -> str:
        ran.append("fragile")
        if broken[0]:
            raise ValueError("child broke")
        return "fine"

    @workflow
    async def kid() -> str:
        return await fragile()

    @workflow
    async def parent() -> str:
        return await kid()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(parent)
            with pytest.raises(RunFailed, match="child broke"):
                await run.result()
            broken[0] = False
            await run.retry()
            assert await run.result() == "fine"
            assert ran == ["fragile", "fragile"]

    play(scenario)


def test_a_task_started_on_its_own_is_a_run(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(plus, 4, right=5, id="alone")
            assert await run.result() == 9
            assert (await run.row()).workflow == "plus"

    play(scenario)


def test_recorded_values_are_real_and_the_same_after_a_restart(play: Callable[..., Any]) -> None:
    seen: list[Any] = []

    @workflow
    async def body() -> list[Any]:
        values = [ctx.now(), ctx.random(), ctx.uuid(), ctx.random()]
        seen.append(values)
        await ctx.signal("go")
        return [str(value) for value in values]

    async def scenario(make: Callable[..., Any]) -> None:
        before = datetime.now(UTC)
        async with make() as app:
            run = await app.start(body, id="v")
            await until(lambda: _waits(run))
        async with make(workflows=[body]) as app:
            await app.signal("v", "go")
            result = await app.handle("v").result()
        assert len(seen) == 2
        assert seen[0] == seen[1]
        now, number, identifier, other = seen[0]
        assert before <= now <= datetime.now(UTC)
        assert number != other
        assert uuid.UUID(result[2]) == identifier

    play(scenario)


def test_time_limits_of_attempts_steps_and_heartbeats(play: Callable[..., Any]) -> None:
    @task(timeout="20ms", retry=Retry(attempts=2, first=0))
    async def slow() -> None:
        ran.append("slow")
        await asyncio.sleep(60)

    @task(total_timeout="30ms", retry=Retry(attempts=1000, first="1ms", backoff=1))
    async def keeps_failing() -> None:
        raise ValueError("again")

    @task(heartbeat="30ms")
    async def silent() -> None:
        ctx.heartbeat()
        await asyncio.sleep(60)

    @task(timeout="20ms")
    def deaf() -> None:
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        ran.append("noticed")

    @workflow
    async def body() -> list[str]:
        problems = []
        for step in (slow(), keeps_failing(), silent(), deaf.aio()):
            try:
                await step
            except StepTimedOut as error:
                problems.append(str(error).split(" passed ")[-1].split(" was ")[-1])
            except StepFailed as error:
                problems.append(error.failure.type)
        try:
            async with asyncio.timeout(0.01):
                await silent()
        except TimeoutError:
            problems.append("asyncio.timeout")
        try:
            await ctx.signal("never", timeout="5ms")
        except TimeoutError:
            problems.append("signal")
        return problems

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            assert await app.run(body) == [
                "its timeout of 20 ms",
                ANY_TOTAL,
                "silent for longer than its heartbeat of 30 ms",
                "its timeout of 20 ms",
                "asyncio.timeout",
                "signal",
            ]
            await until(lambda: "noticed" in ran)
            assert ran.count("slow") == 2

    play(scenario)


class _AnyTotal:
    def __eq__(self, other: object) -> bool:
        return other == "ValueError" or "total_timeout" in str(other)


ANY_TOTAL = _AnyTotal()


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (lambda: asyncio.to_thread(print), "a thread"),
        (lambda: asyncio.open_connection("127.0.0.1", 9), "network I/O"),
        (lambda: asyncio.create_subprocess_exec("true"), "a subprocess"),
    ],
)
def test_reaching_outside_from_a_body_is_a_clear_error(play: Callable[..., Any], what: Any, expected: str) -> None:
    @workflow
    async def body() -> None:
        await what()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            with pytest.raises(RunFailed, match=f"{expected}.*put this in a task"):
                await app.run(body)

    play(scenario)


def test_a_run_that_can_never_move_again_is_seen_as_stuck(play: Callable[..., Any]) -> None:
    @workflow
    async def body() -> None:
        await plus(1)
        await asyncio.Event().wait()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(body)
            with pytest.raises(RunSetAside, match=r"stuck.*test_bodies.py:\d+"):
                await run.result()
            await run.cancel()
            await until(lambda: _ended(run))
            assert (await run.row()).status == "cancelled"

    play(scenario)


def test_map_keeps_order_bounds_what_is_in_flight_and_collects_errors(play: Callable[..., Any]) -> None:
    now = [0, 0]

    @task
    async def work(number: int) -> int:
        now[0] += 1
        now[1] = max(now)
        await asyncio.sleep(0)
        now[0] -= 1
        if number % 5 == 4:
            raise ValueError(f"bad {number}")
        return number * 10

    async def pipeline(number: int) -> int:
        return await plus(await work(number))

    @workflow
    async def body() -> list[Any]:
        first = await work.map(range(12), concurrency=4, on_error="collect")
        second = await ctx.map(pipeline, range(12), concurrency=3, on_error="collect")
        try:
            await work.map(range(12), concurrency=2)
        except ValueError as error:
            last = str(error)
        return [[str(x) for x in first], [str(x) for x in second], last]

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(body)
            first, second, last = await run.result()
            assert first == [f"bad {n}" if n % 5 == 4 else str(n * 10) for n in range(12)]
            assert second == [f"bad {n}" if n % 5 == 4 else str(n * 10 + 1) for n in range(12)]
            assert last == "bad 4"
            assert now[1] <= 4

    play(scenario)


def test_large_payloads_are_kept_as_blobs_and_come_back(play: Callable[..., Any]) -> None:
    @task
    async def big(size: int, filler: str) -> str:
        return filler * size

    @workflow
    async def body(filler: str) -> int:
        text = await big(200_000, filler)
        echoed = await big(1, text)
        await ctx.signal("go")
        return len(echoed)

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(body, "é", id="b")
            await until(lambda: _waits(run))
        async with make(workflows=[body]) as app:
            await app.signal("b", "go", "y" * 100_000)
            assert await app.handle("b").result() == 200_000

    play(scenario)


def test_what_cannot_be_written_is_refused_with_its_place(play: Callable[..., Any]) -> None:
    @task
    async def gives_a_lock() -> dict[str, Any]:
        return {"pages": [1, threading.Lock()]}

    @workflow
    async def body() -> None:
        await gives_a_lock()

    @workflow
    async def result() -> Any:
        return {"x": object()}

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            with pytest.raises(RunFailed, match=r"gives_a_lock.*pages"):
                await app.run(body)
            with pytest.raises(RunFailed, match=r"result"):
                await app.run(result)

    play(scenario)


async def _waits(run: Any) -> bool:
    return bool((await run.row()).status == "waiting")


async def _ended(run: Any) -> bool:
    return (await run.row()).finished_at is not None


def test_a_child_goes_on_after_a_restart_though_only_its_parent_was_named(play: Callable[..., Any]) -> None:
    @workflow
    async def kid() -> int:
        return await ctx.signal("go", int)

    @workflow
    async def parent() -> int:
        return await kid()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            run = await app.start(parent, id="p")
            await until(lambda: _waits(app.handle("p/kid#1")) if "p/kid#1" in app.engine.runners else False)
            assert (await run.row()).status == "waiting"
        async with make(workflows=[parent]) as app:
            await app.signal("p/kid#1", "go", 7)
            assert await app.handle("p").result() == 7

    play(scenario)


def test_a_payload_over_the_limit_is_refused_with_its_place_and_size(play: Callable[..., Any]) -> None:
    @task
    async def huge() -> str:
        return "x" * (33 * 1024 * 1024)

    @workflow
    async def body() -> None:
        await huge()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make() as app:
            with pytest.raises(RunFailed, match=r"huge#1 is 34,603,010 bytes of JSON; the limit is 33,554,432"):
                await app.run(body)

    play(scenario)
