"""Does virtual time behave as asyncio expects of a loop, only faster?"""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine.clock import LONGEST_ALARM
from stepwell.testing.virtual import BASE, NeverAtRest, OutOfTime, SimLoop, VirtualClock, VirtualTime

SECOND = 1_000_000


def test_a_long_sleep_takes_no_time() -> None:
    time = VirtualTime()
    loop = time.loop()

    async def sleep() -> str:
        await asyncio.sleep(86_400)
        return "rested"

    assert loop.run_until_complete(sleep()) == "rested"
    assert time.micros == 86_400 * SECOND


def test_callbacks_run_in_the_order_in_which_they_became_ready() -> None:
    time = VirtualTime(7, dawdle=0.5)
    loop = time.loop()
    seen: list[int] = []

    async def work() -> None:
        for n in range(20):
            loop.call_soon(seen.append, n)
        for n in range(20, 40):
            loop.call_later(0.001, seen.append, n)
        await asyncio.sleep(1)

    loop.run_until_complete(work())
    assert seen == list(range(40))


def test_time_outs_queues_and_groups_work_as_on_any_loop() -> None:
    loop = VirtualTime().loop()

    async def work() -> list[object]:
        results: list[object] = []
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(queue.put(5))
            results.append(await queue.get())
        try:
            async with asyncio.timeout(2):
                await asyncio.sleep(3)
        except TimeoutError:
            results.append(loop.time())
        return results

    assert loop.run_until_complete(work()) == [5, 2.0]


def test_loops_of_one_time_run_side_by_side_and_the_seed_decides_the_order() -> None:
    def history(seed: int) -> list[str]:
        time = VirtualTime(seed, dawdle=0.3)
        seen: list[str] = []

        async def work(name: str) -> None:
            for _ in range(10):
                seen.append(name)
                await asyncio.sleep(0.001)

        loops = [time.loop(name) for name in "ab"]
        tasks = [loop.create_task(work(loop.name)) for loop in loops]
        time.run(lambda: all(task.done() for task in tasks))
        return seen

    assert history(1) == history(1)
    assert len({tuple(history(seed)) for seed in range(10)}) > 1


def test_a_killed_loop_never_runs_again_and_its_finally_blocks_have_no_effect() -> None:
    time = VirtualTime()
    victim, other = time.loop("victim"), time.loop("other")
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
            seen.append("woke")
        finally:
            victim.call_soon(seen.append, "scheduled on the way out")

    async def watch() -> None:
        await asyncio.sleep(1)
        victim.kill()
        await asyncio.sleep(20)

    victim.create_task(work())
    other.run_until_complete(watch())
    assert seen == []
    assert victim.is_closed() and not victim.tasks


def test_a_frozen_loop_finds_everything_due_when_it_thaws() -> None:
    time = VirtualTime()
    frozen, other = time.loop("frozen"), time.loop("other")
    seen: list[float] = []

    async def tick() -> None:
        await asyncio.sleep(1)
        seen.append(frozen.time())

    async def freeze() -> None:
        await asyncio.sleep(0.5)
        frozen.frozen = True
        await asyncio.sleep(30)
        assert seen == []
        frozen.frozen = False
        await asyncio.sleep(1)

    frozen.create_task(tick())
    other.run_until_complete(freeze())
    assert seen == [30.5]


def test_a_loop_that_spins_is_found_out() -> None:
    loop = VirtualTime().loop()

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(NeverAtRest):
        loop.run_until_complete(spin())
    loop.kill()


def test_waiting_for_what_cannot_come_is_found_out() -> None:
    time = VirtualTime()
    loop = time.loop()
    with pytest.raises(OutOfTime):
        loop.run_until_complete(loop.create_future())
    task = loop.create_task(asyncio.sleep(10))
    with pytest.raises(OutOfTime):
        time.run(task.done, limit=5 * SECOND)
    loop.kill()


def test_what_needs_a_real_loop_is_refused_by_name() -> None:
    loop = VirtualTime().loop("p")
    with pytest.raises(NotImplementedError, match=r"p: run_in_executor needs a real event loop"):
        loop.run_in_executor(None, print)
    with pytest.raises(NotImplementedError, match="create_server"):
        loop.create_server(None)


def test_the_clock_follows_virtual_time_and_jumps_when_told() -> None:
    time = VirtualTime()
    loop = time.loop()
    clock = VirtualClock(loop)
    rings: list[int] = []

    async def work() -> None:
        clock.call_at(BASE + 2 * SECOND, lambda: rings.append(clock.now() - BASE))
        await asyncio.sleep(3)
        clock.jump(-SECOND)
        assert clock.now() == BASE + 2 * SECOND
        clock.call_at(BASE + 1, lambda: rings.append(clock.now() - BASE))  # past: at once
        await asyncio.sleep(0.001)

    loop.run_until_complete(work())
    assert rings == [2 * SECOND, 2 * SECOND]


def test_an_alarm_far_away_looks_at_the_clock_now_and_then_as_on_a_real_machine() -> None:
    loop = VirtualTime().loop()
    clock = VirtualClock(loop)
    rings: list[int] = []

    async def work() -> None:
        clock.call_at(BASE + 10 * LONGEST_ALARM, lambda: rings.append(clock.now() - BASE))
        await asyncio.sleep(2 * LONGEST_ALARM / SECOND)

    loop.run_until_complete(work())
    assert rings == [LONGEST_ALARM]


def test_lost_exceptions_are_kept_for_whoever_looks() -> None:
    loop: SimLoop = VirtualTime().loop()

    async def work() -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    loop.run_until_complete(work())
    assert len(loop.errors) == 1 and "ZeroDivisionError" in loop.errors[0]
