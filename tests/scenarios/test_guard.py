"""With `strict=True` the call that cannot be replayed fails the run, with its name and place; ordinary code passes."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import importlib
import itertools
import json
import logging
import os
import random
import re
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import offences
import pytest
from offences import OFFENCES, line_of
from patience import until

from stepwell import Stepwell, ctx, task, workflow
from stepwell.errors import DefinitionError, RunFailed
from stepwell.model.ids import SECOND
from stepwell.stores.protocol import Filter


@task
async def plus(left: int, right: int = 1) -> int:
    assert time.time() > 0 and sys.getprofile() is None, "a task may do as it likes"
    return left + right


@task
def where() -> str:
    assert sys.getprofile() is None
    return os.getcwd()


def failing(play: Callable[..., Any], flow: Any, *args: object, **settings: Any) -> str:
    """What the failure of a strict run says."""

    async def scenario(make: Callable[..., Stepwell]) -> str:
        async with make(strict=True, **settings) as app:
            with pytest.raises(RunFailed) as failed:
                await app.run(flow, *args)
            assert failed.value.failure.type.endswith("WorkflowBodyError"), failed.value.failure
            assert sys.getprofile() is None
            return failed.value.failure.message

    return str(play(scenario))


def passing(play: Callable[..., Any], flow: Any, *args: object, **settings: Any) -> Any:
    """The result of a strict run."""

    async def scenario(make: Callable[..., Stepwell]) -> Any:
        async with make(**{"strict": True, **settings}) as app:
            result = await app.run(flow, *args)
            assert sys.getprofile() is None
            return result

    return play(scenario)


# -- what is refused ---------------------------------------------------------------------------------------------------


@workflow
async def offends(name: str) -> str:
    await plus(1)
    return str(OFFENCES[name]())


@workflow
def offends_too(name: str) -> str:
    plus.sync(1)
    return str(OFFENCES[name]())


@pytest.mark.parametrize("name", OFFENCES)
@pytest.mark.parametrize("flow", [offends, offends_too], ids=["async", "sync"])
def test_a_call_that_cannot_be_replayed_fails_the_run_and_is_named_with_its_place(
    play: Callable[..., Any], flow: Any, name: str
) -> None:
    said = failing(play, flow, name)
    assert said.startswith(f"{line_of(name)}: {name}() in a workflow body may differ on replay: "), said


def test_the_failure_says_what_to_do_instead(play: Callable[..., Any]) -> None:
    assert "use ctx.now()" in failing(play, offends, "datetime.datetime.now")
    assert "put this in a task" in failing(play, offends, "io.open")
    assert "ctx.sync.sleep" in failing(play, offends_too, "time.sleep")


@workflow
async def offends_in_the_first_turn() -> str:
    return str(OFFENCES["uuid.uuid4"]())


@workflow
async def offends_in_a_branch() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(plus(1))
        group.create_task(offends_late())


async def offends_late() -> object:
    await plus(2)
    return OFFENCES["time.time"]()


@workflow
async def offends_in_a_map() -> list[object]:
    return await ctx.map(branch, [1, 2], on_error="collect")


async def branch(number: int) -> object:
    await plus(number)
    return OFFENCES["random.random"]()


@workflow
async def offends_in_a_context() -> None:
    with offences.timed():
        await plus(1)


@workflow
async def catches() -> str:
    with contextlib.suppress(Exception):
        return str(OFFENCES["time.time"]())
    await plus(1)
    return "went on"


@workflow
def catches_too() -> str:
    try:
        return str(OFFENCES["time.time"]())
    except Exception:
        return "went on"


@workflow
async def goes_to_a_thread() -> None:
    await offences.in_a_thread()


@pytest.mark.parametrize(
    ("flow", "name"),
    [
        (offends_in_the_first_turn, "uuid.uuid4"),
        (offends_in_a_branch, "time.time"),
        (offends_in_a_map, "random.random"),
        (catches, "time.time"),
        (catches_too, "time.time"),
    ],
    ids=lambda given: getattr(given, "name", given),
)
def test_it_is_seen_wherever_in_the_body_it_is_and_whoever_catches_it(
    play: Callable[..., Any], flow: Any, name: str
) -> None:
    assert failing(play, flow).startswith(f"{line_of(name)}: {name}() in a workflow body")


def test_it_is_seen_through_the_standard_library_s_wrappers(play: Callable[..., Any]) -> None:
    assert f"{offences.__file__}:" in failing(play, offends_in_a_context)
    assert "asyncio.to_thread() in a workflow body" in failing(play, goes_to_a_thread)


def test_a_run_that_goes_on_in_a_strict_engine_is_watched(play: Callable[..., Any]) -> None:
    @workflow
    async def waits() -> str:
        await ctx.signal("go")
        return str(OFFENCES["time.time"]())

    async def scenario(make: Callable[..., Stepwell]) -> None:
        app = make()
        await app.open()
        run = await app.start(waits, id="w")
        await until(lambda: bool(app.engine.runners))
        await app.close(grace=0)
        async with make(strict=True, workflows=[waits]) as again:
            await again.signal(run.id, "go")
            with pytest.raises(RunFailed, match=r"time\.time\(\) in a workflow body"):
                await again.handle(run.id).result(timeout="5s")

    play(scenario)


# -- what passes -------------------------------------------------------------------------------------------------------


@workflow
async def uses_ctx() -> bool:
    now, chance, name = ctx.now(), ctx.random(), ctx.uuid()
    ctx.state["at"] = now.isoformat()
    ctx.log("at", chance=chance)
    ctx.progress(1, 2)
    await ctx.sleep("1ms")
    return isinstance(name, uuid.UUID) and bool(ctx.run_id) and 0 <= chance < 1


@workflow
async def uses_asyncio() -> list[int]:
    both = await asyncio.gather(plus(1), plus(2))
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        third = group.create_task(plus(3))
    done, _ = await asyncio.wait([asyncio.create_task(plus(4))], return_when=asyncio.FIRST_COMPLETED)
    queue: asyncio.Queue[int] = asyncio.Queue()
    for one in asyncio.as_completed([plus(5), plus(6)]):
        await queue.put(await one)
    async with asyncio.Semaphore(1), asyncio.Lock():
        await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() > 0
    return sorted([*both, third.result(), *(one.result() for one in done), queue.get_nowait(), queue.get_nowait()])


@workflow
async def uses_tasks_of_both_kinds() -> list[Any]:
    return [await where.aio(), *await plus.map([1, 2], concurrency=1), await ctx.map(twice, [1, 2])]


async def twice(number: int) -> int:
    return await plus(await plus(number))


@workflow
def is_synchronous() -> list[Any]:
    ctx.sync.sleep("1ms")
    ctx.state["at"] = ctx.now()
    return [where(), plus.sync(2), str(ctx.uuid()), ctx.random()]


@dataclass
class Basket:
    items: dict[str, decimal.Decimal] = field(default_factory=dict)

    def get(self, name: str) -> decimal.Decimal:
        return self.items.get(name, decimal.Decimal(0))

    def open(self) -> int:
        return len(self.items)


@workflow
async def uses_plain_python() -> str:
    basket = Basket({"a": decimal.Decimal("1.10")})
    basket.get("a")
    basket.open()
    known = set(range(10)) | {1, 2}
    rng = random.Random(7)
    dice = [rng.randint(1, 6), rng.random(), rng.choice("ab")]
    at = datetime.fromtimestamp(0, UTC) + timedelta(days=1)
    name = uuid.uuid5(uuid.NAMESPACE_URL, "x")
    folder = Path("a") / f"{name}.txt"
    with contextlib.suppress(ValueError):
        raise ValueError(re.sub("a", "b", "aaa"))
    logging.getLogger("somebody").warning("at %s", at)
    pairs = list(itertools.pairwise(sorted(known)))
    return json.dumps([len(pairs), at.isoformat(), folder.suffix, str(basket.items), len(dice)])


@workflow
async def imports_a_module() -> bool:
    sys.modules.pop("lazily", None)
    return bool(importlib.import_module("lazily").LOADED)


@workflow
async def is_allowed() -> bool:
    return offences.allowed() > 0 and isinstance(offences.allowed_in_many_lines(), str)


@pytest.mark.parametrize(
    "flow",
    [
        uses_ctx,
        uses_asyncio,
        uses_tasks_of_both_kinds,
        is_synchronous,
        uses_plain_python,
        imports_a_module,
        is_allowed,
    ],
    ids=lambda flow: flow.name,
)
def test_ordinary_code_passes(play: Callable[..., Any], flow: Any) -> None:
    assert passing(play, flow)


def test_a_logging_handler_may_look_at_the_clock(play: Callable[..., Any]) -> None:
    seen: list[float] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(time.time())

    handler = Handler()
    logging.getLogger("somebody").addHandler(handler)
    try:
        assert passing(play, uses_plain_python)
    finally:
        logging.getLogger("somebody").removeHandler(handler)
    assert seen


def test_a_clock_that_was_given_to_the_engine_may_look_at_the_clock(play: Callable[..., Any]) -> None:
    from stepwell.engine.clock import SystemClock

    class Late(SystemClock):
        def now(self) -> int:
            return round(time.time() * SECOND)

    assert passing(play, uses_ctx, clock=Late())


def test_nothing_is_watched_when_the_engine_is_not_strict(play: Callable[..., Any]) -> None:
    @workflow
    async def looks() -> bool:
        return sys.getprofile() is None and bool(OFFENCES["time.time"]())

    assert passing(play, looks, strict=False)


def test_a_profiler_that_is_at_work_is_left_alone(play: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    def profiler(frame: object, event: str, arg: object) -> None:
        return None

    async def scenario(make: Callable[..., Stepwell]) -> str:
        async with make(strict=True) as app:
            sys.setprofile(profiler)
            try:
                return await app.run(offends_in_the_first_turn)
            finally:
                assert sys.getprofile() is profiler
                sys.setprofile(None)

    assert uuid.UUID(play(scenario))
    assert [record.getMessage().partition(" (")[0] for record in caplog.records if record.name == "stepwell.lint"] == [
        "strict: a profiler is at work"
    ]


# -- at registration ---------------------------------------------------------------------------------------------------


@workflow
async def tells_the_time() -> float:
    return time.time()


@workflow
async def asks_for_the_time() -> float:
    return await tells_the_time()


PLACE = f"{__file__}:{tells_the_time.function.__code__.co_firstlineno + 2}"  # type: ignore[attr-defined]  # a function


def test_a_strict_engine_refuses_to_start_what_the_lint_finds_and_stores_nothing(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(strict=True) as app:
            for flow in (tells_the_time, asks_for_the_time, asks_for_the_time):
                with pytest.raises(DefinitionError, match=re.escape(f"{PLACE}:12 clock time.time() — use ctx.now()")):
                    await app.start(flow)
            assert await app.runs(Filter()) == []
            assert await app.run(uses_ctx)

    play(scenario)


def test_a_strict_engine_refuses_to_open_with_what_the_lint_finds_and_lets_go_of_the_store(
    play: Callable[..., Any],
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        with pytest.raises(DefinitionError, match="strict=True refuses"):
            await make(strict=True, workflows=[asks_for_the_time]).open()
        async with make(workflows=[asks_for_the_time]) as app:
            assert await app.run(asks_for_the_time) > 0

    play(scenario)


def test_other_engines_log_what_the_lint_finds_once(play: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    async def tells() -> float:
        return time.time()

    async def scenario(make: Callable[..., Stepwell]) -> None:
        for _ in range(2):
            async with make(workflows=[tells]) as app:
                assert await app.run(tells) > 0

    play(scenario)
    said = [record.getMessage() for record in caplog.records if record.name == "stepwell.lint"]
    line = tells.function.__code__.co_firstlineno + 2  # type: ignore[attr-defined]  # a function
    assert said == [f"{__file__}:{line}: workflow tells: time.time() may differ on replay (clock): use ctx.now()"]
