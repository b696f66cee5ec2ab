"""Ordinary asyncio is durable: whatever order outcomes come in, a replay sees exactly what the first execution saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from driver import Driver

from stepwell import ctx, task, workflow

seen: list[Any] = []
"""What bodies observed, in order; not part of any journal."""


@task
async def fetch(number: int) -> int:
    return number * 100


@task
async def parse(text: int) -> str:
    return f"parsed {text}"


async def branch(number: int) -> tuple[int, str]:
    page = await fetch(number)
    seen.append(("fetched", number, page))
    parsed = await parse(page)
    seen.append(("parsed", number, parsed))
    return number, parsed


async def by_gather() -> list[Any]:
    return list(await asyncio.gather(*[branch(n) for n in range(4)]))


async def by_task_group() -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(n)) for n in range(4)]
    return [one.result() for one in tasks]


async def by_first_completed() -> list[Any]:
    open_tasks = {asyncio.create_task(branch(n)) for n in range(4)}
    results = []
    while open_tasks:
        done, open_tasks = await asyncio.wait(open_tasks, return_when=asyncio.FIRST_COMPLETED)
        results += sorted(one.result() for one in done)
    return results


async def by_as_completed() -> list[Any]:
    return [await one for one in asyncio.as_completed([branch(n) for n in range(4)])]


async def by_queue() -> list[Any]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    results: list[Any] = []

    async def work() -> None:
        while True:
            number = await queue.get()
            results.append(await branch(number))
            queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(3)]
    for number in range(6):
        queue.put_nowait(number)
    await queue.join()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return results


async def by_semaphore() -> list[Any]:
    slots = asyncio.Semaphore(2)

    async def one(number: int) -> Any:
        async with slots:
            return await branch(number)

    return list(await asyncio.gather(*[one(n) for n in range(4)]))


async def by_timeout() -> list[Any]:
    async def one(number: int) -> Any:
        try:
            async with asyncio.timeout(1 + number / 2):
                return await branch(number)
        except TimeoutError:
            seen.append(("late", number))
            return number, "late"

    return list(await asyncio.gather(*[one(n) for n in range(4)]))


async def by_race_of_sleep_and_step() -> list[Any]:
    step = asyncio.create_task(branch(1))
    nap = asyncio.create_task(asyncio.sleep(1, "napped"))
    done, rest = await asyncio.wait({step, nap}, return_when=asyncio.FIRST_COMPLETED)
    for one in rest:
        one.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    return sorted(str(one.result()) for one in done)


async def by_event_and_state() -> list[Any]:
    ready = asyncio.Event()
    order: list[Any] = []

    async def waiter(name: str) -> None:
        await ready.wait()
        order.append(await branch(ord(name)))
        ctx.state[name] = [len(order), str(ctx.now()), ctx.random()]

    async def opener() -> None:
        await branch(0)
        ready.set()

    await asyncio.gather(waiter("a"), waiter("b"), opener())
    return [*order, dict(ctx.state)]


async def by_map() -> list[Any]:
    return list(await ctx.map(branch, range(5), concurrency=2))


async def by_wait_for() -> list[Any]:
    async def one(number: int) -> Any:
        try:
            return await asyncio.wait_for(branch(number), timeout=1.5)
        except TimeoutError:
            return number, "late"

    return list(await asyncio.gather(*[one(n) for n in range(3)]))


STYLES = [
    by_gather,
    by_task_group,
    by_first_completed,
    by_as_completed,
    by_queue,
    by_semaphore,
    by_timeout,
    by_race_of_sleep_and_step,
    by_event_and_state,
    by_map,
    by_wait_for,
]


def body_of(style: Callable[[], Coroutine[Any, Any, list[Any]]]) -> Any:
    async def body() -> list[Any]:
        return await style()

    body.__name__ = style.__name__
    return workflow(body)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_fifty_random_orders_replay_exactly_in_full_and_from_every_prefix(style: Any) -> None:
    body = body_of(style)
    for seed in range(50):
        seen.clear()
        first = Driver(body, seed=seed).run()
        observed, result, journal = list(seen), first.result, list(first.journal)

        seen.clear()
        again = Driver(body, journal, seed=seed + 1)
        assert seen == observed, f"seed {seed}"
        assert again.started == [], f"seed {seed}: a finished step was begun again"
        assert again.program.orphans() == []
        assert again.journal == journal, f"seed {seed}: the replay of an ended run wrote entries"

        stride = 1 if seed < 5 else 7
        for cut in range(1, len(journal), stride):
            seen.clear()
            resumed = Driver(body, journal[:cut], seed=seed + cut)
            assert seen == observed[: len(seen)], f"seed {seed}, prefix {cut}"
            resumed.run()
            paths = [str(e.path) for e in resumed.journal if type(e).__name__ == "StepCompleted"]
            assert len(paths) == len(set(paths)), f"seed {seed}, prefix {cut}: completed twice"
            assert resumed.program.divergence is None
            if style in (by_gather, by_task_group, by_semaphore, by_map):
                assert resumed.result == result
            else:
                assert resumed.result is not None
            resumed.close()
