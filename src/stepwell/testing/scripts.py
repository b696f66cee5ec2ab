"""What simulated runs do: a workflow that plays a drawn script, and the tasks that it calls.

A *script* is a nested JSON list, the input of the workflow `play`. A whole number, the *token*, is threaded through
it: every task and every combination gives a new token that depends on what went in (`mix`), so a lost, doubled or
permuted outcome changes the result, and a step's input shows whose outcome it depends on. Here are tasks, asyncio and
child runs; people, events, races, sagas and streams are in `scenes`; what a script must come to in `expecting`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Protocol, TypeAlias

from stepwell.authoring.ctx import ctx
from stepwell.authoring.task import task
from stepwell.authoring.workflow import workflow
from stepwell.errors import StepFailed
from stepwell.model.entries import OnCancel
from stepwell.model.retry import Retry

Script: TypeAlias = list[Any]
"""`[kind, …]`; Any: what follows the kind depends on it, see `VERBS`."""

LATE, BROKEN = 1, 2
"""What stands in a result for a time that passed, and for an error."""

BULK = 70_000
"""Characters of a result that is too large for an entry."""

ALWAYS = 99
"""As a number of failures: every attempt, whatever crashes do to their number."""


class Tripped(Exception):
    """What a simulated task raises when its script says so."""


class Observer(Protocol):
    """Sees the world's side of attempts."""

    def attempt_began(self, process: str, run_id: str, key: str, attempt: int, name: str, token: int) -> int:
        """Code of an attempt runs now; gives its number."""

    def attempt_ended(self, number: int, value: int | None, how: str) -> None:
        """It has returned `value`, or ended without one."""


def mix(*values: object) -> int:
    """A whole number that stands for these values in this order."""
    return int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=6).digest(), "big")


def chunk(token: int, attempt: int, number: int, padding: int) -> str:
    """What an attempt emits as its `number`th chunk."""
    return f"{token}:{attempt}:{number}" + "." * padding


# -- tasks --------------------------------------------------------------------------------------------------------


async def work(name: str, token: int, milliseconds: int, failures: int, *, chunks: int = 0, padding: int = 0) -> int:
    """Take a while, emit, fail on the first `failures` attempts, return a new token; the world sees all of it."""
    loop = asyncio.get_running_loop()
    world: Observer = loop.observer  # type: ignore[attr-defined]  # set by the simulated process
    chance: Random = loop.chance  # type: ignore[attr-defined]  # likewise
    attempt = ctx.attempt
    number = world.attempt_began(
        loop.name,  # type: ignore[attr-defined]  # a SimLoop's
        ctx.run_id,
        ctx.idempotency_key,
        attempt,
        name,
        token,
    )
    try:
        if milliseconds:
            await asyncio.sleep(milliseconds * chance.uniform(0.1, 2.0) / 1000)
        for n in range(chunks):
            await ctx.emit(chunk(token, attempt, n + 1, padding), tokens=2)
            if milliseconds:
                await asyncio.sleep(milliseconds * chance.uniform(0.0, 1.0) / 1000)
    except asyncio.CancelledError:
        world.attempt_ended(number, None, "cancelled")
        raise
    if attempt <= failures:
        world.attempt_ended(number, None, "failed")
        raise Tripped(f"{name} {token} trips on attempt {attempt}")
    value = mix(name, token)
    world.attempt_ended(number, value, "returned")
    return value


BRISK = Retry(attempts=4, first="80ms", max="600ms")


@task
async def steady(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """One attempt."""
    return await work("steady", token, milliseconds, failures)


@task(retry=BRISK)
async def flaky(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """Four attempts."""
    return await work("flaky", token, milliseconds, failures)


@task(retry=Retry(attempts=3, first="50ms", jitter=False), timeout="60ms", total_timeout="2s")
async def hasty(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """Attempts that may pass their time limit."""
    return await work("hasty", token, milliseconds, failures)


@task(concurrency=1, retry=BRISK)
async def narrow(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """One at a time in the whole engine."""
    return await work("narrow", token, milliseconds, failures)


@task(concurrency=1, concurrency_key=lambda token, *_: str(token % 3), retry=BRISK)
async def keyed(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """One at a time per key: calls start out of order."""
    return await work("keyed", token, milliseconds, failures)


@task(retry=BRISK, priority=5)
async def urgent(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """Goes first when slots are short."""
    return await work("urgent", token, milliseconds, failures)


@task(retry=BRISK)
async def blend(tokens: list[Any], milliseconds: int = 0, failures: int = 0) -> int:
    """Make one token of several values, as nodes of graphs have them."""
    return await work("blend", mix("tokens", *tokens), milliseconds, failures)


TASKS = {each.name: each for each in (steady, flaky, hasty, narrow, keyed, urgent)}
RETRIED = ("flaky", "narrow", "keyed", "urgent")


@task
async def bulky(token: int) -> str:
    """Returns more than an entry holds."""
    return f"{await work('bulky', token, 1, 0)}:" + "x" * BULK


# -- the workflow -------------------------------------------------------------------------------------------------


@workflow
async def play(script: Script, token: int) -> int:
    """Play a script."""
    return await act(script, token)


@workflow
async def kid(token: int, script: Script) -> int:
    """Play a script as one of many child runs that share it."""
    return await act(script, token)


@workflow
async def echo(number: int) -> int:
    """What an event starts."""
    return await steady(mix("echo", number), 1)


@workflow
async def bulky_child(token: int) -> str:
    """A child whose result is a blob."""
    return await bulky(token)


async def act(script: Script, token: int) -> int:
    """Play one node of a script."""
    verb = VERBS[script[0]]
    return await verb(token, *script[1:])


async def _task(token: int, name: str, milliseconds: int, failures: int) -> int:
    return await TASKS[name](token, milliseconds, failures)


async def _seq(token: int, *parts: Script) -> int:
    for part in parts:
        token = await act(part, token)
    return token


async def _gather(token: int, *parts: Script) -> int:
    return mix("gather", *await asyncio.gather(*(act(part, mix(token, n)) for n, part in enumerate(parts))))


async def _calls(token: int, name: str, *times: int) -> int:
    """Calls made in one scope, awaited together."""
    calls = [TASKS[name](mix(token, n), time, 0) for n, time in enumerate(times)]
    return mix("calls", *await asyncio.gather(*calls))


async def _same(token: int, name: str, *times: int) -> int:
    """The same call with the same token in branches of their own, each with something after it."""

    async def branch(time: int) -> int:
        return await steady(await TASKS[name](token, 5, 0), time, 0)

    return mix("same", *await asyncio.gather(*(branch(time) for time in times)))


async def _group(token: int, *parts: Script) -> int:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(act(part, mix(token, n))) for n, part in enumerate(parts)]
    return mix("group", *(each.result() for each in tasks))


async def _map(token: int, name: str, items: int, window: int | None, time: int, failures: int, collect: bool) -> int:
    tokens = [mix(token, n) for n in range(items)]
    common = {"milliseconds": time, "failures": failures}
    if not collect:
        return mix("map", *await TASKS[name].map(tokens, concurrency=window, common=common))
    results = await TASKS[name].map(tokens, concurrency=window, on_error="collect", common=common)
    return mix("map", *(BROKEN if isinstance(each, StepFailed) else each for each in results))


async def _each(token: int, window: int | None, collect: bool, *parts: Script) -> int:
    async def one(item: tuple[int, Script]) -> int:
        return await act(item[1], mix(token, item[0]))

    items = list(enumerate(parts))
    if not collect:
        return mix("each", *await ctx.map(one, items, concurrency=window))
    results = await ctx.map(one, items, concurrency=window, on_error="collect")
    return mix("each", *(BROKEN if isinstance(each, Exception) else each for each in results))


async def _sleep(token: int, milliseconds: int) -> int:
    await ctx.sleep(milliseconds / 1000)
    return token


async def _signal(token: int, name: str, seconds: float | None) -> int:
    try:
        return mix(token, await ctx.signal(name, int, timeout=seconds))
    except TimeoutError:
        return mix(token, LATE)


async def _child(
    token: int, script: Script, on_cancel: OnCancel = "cancel", deadline: int | None = None, queue: str = ""
) -> int:
    limit = None if deadline is None else deadline / 1000
    child = play.with_options(on_cancel=on_cancel, deadline=limit, queue=queue or None, queue_key="c")
    return await child(script, token)


async def _children(token: int, script: Script, count: int, window: int | None, collect: bool) -> int:
    tokens = [mix(token, n) for n in range(count)]
    common = {"script": script}
    if not collect:
        return mix("children", *await kid.map(tokens, concurrency=window, common=common))
    results = await kid.map(tokens, concurrency=window, on_error="collect", common=common)
    return mix("children", *(BROKEN if isinstance(each, StepFailed) else each for each in results))


async def _start(token: int, script: Script) -> int:
    return mix(token, await ctx.start(play, script, token))


async def _bulk(token: int) -> int:
    return mix(token, len(await bulky_child(token)), await bulky(token) != "")


async def _state(token: int, key: str) -> int:
    ctx.state[key] = mix(token, ctx.state.get(key))
    return mix(token, ctx.state[key])


async def _value(token: int, kind: str) -> int:
    return mix(token, {"now": ctx.now, "random": ctx.random, "uuid": ctx.uuid}[kind]())


async def _timeout(token: int, seconds: float, part: Script) -> int:
    try:
        async with asyncio.timeout(seconds):
            return await act(part, token)
    except TimeoutError:
        return mix(token, LATE)


async def _race(token: int, *parts: Script) -> int:
    tasks = [asyncio.ensure_future(act(part, mix(token, n))) for n, part in enumerate(parts)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in tasks:
        if each in pending:
            each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    first = next(each for each in tasks if each in done)
    return mix("race", first.result())


async def _attempt(token: int, part: Script, fallback: Script) -> int:
    try:
        return await act(part, token)
    except Exception:
        return await act(fallback, mix(token, BROKEN))


async def _finally(token: int, part: Script, cleanup: Script) -> int:
    try:
        token = await act(part, token)
    finally:
        token = await act(cleanup, token)
    return token


async def _queue(token: int, workers: int, *times: int) -> int:
    queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    for item in enumerate(times):
        queue.put_nowait(item)
    results: list[int] = []

    async def worker() -> None:
        while not queue.empty():
            number, time = queue.get_nowait()
            results.append(await flaky(mix(token, number), time))

    await asyncio.gather(*(worker() for _ in range(workers)))
    return mix("queue", sum(results))


async def _limited(token: int, limit: int, *parts: Script) -> int:
    semaphore = asyncio.Semaphore(limit)

    async def one(number: int, part: Script) -> int:
        async with semaphore:
            return await act(part, mix(token, number))

    return mix("limited", *await asyncio.gather(*(one(n, part) for n, part in enumerate(parts))))


VERBS: dict[str, Callable[..., Coroutine[Any, Any, int]]] = {
    "task": _task,
    "seq": _seq,
    "gather": _gather,
    "calls": _calls,
    "same": _same,
    "group": _group,
    "map": _map,
    "each": _each,
    "sleep": _sleep,
    "signal": _signal,
    "child": _child,
    "children": _children,
    "start": _start,
    "bulk": _bulk,
    "state": _state,
    "value": _value,
    "timeout": _timeout,
    "race": _race,
    "try": _attempt,
    "finally": _finally,
    "queue": _queue,
    "limited": _limited,
}
