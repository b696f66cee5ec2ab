"""Trips that are booked and undone: what the scenarios of sagas are about."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import Retry, Stepwell, ctx, task, workflow
from stepwell.engine.clock import SystemClock
from stepwell.errors import RunFailed
from stepwell.model.entries import RunFailed as Failed
from stepwell.model.entries import StepCompleted, StepStarted
from stepwell.model.ids import SECOND

ran: list[str] = []
keys: list[tuple[str, str]] = []


class World:
    """What tasks touch outside the engine."""

    gate: asyncio.Event
    broken: set[str]


def fresh_world() -> None:
    """Forget what happened; nothing is broken."""
    ran.clear()
    keys.clear()
    World.gate = asyncio.Event()
    World.broken = set()


class LaterClock(SystemClock):
    """The machine's clock, two hours ahead."""

    def now(self) -> int:
        return super().now() + 7200 * SECOND


class Sold(Exception):
    pass


@task
async def book(what: str) -> str:
    ran.append(f"book {what}")
    if what in World.broken:
        raise Sold(f"{what} is sold out")
    return what


@task(retry=Retry(attempts=3, first="1ms", jitter=False))
async def drop(what: str) -> None:
    ran.append(f"drop {what}")
    keys.append((what, ctx.idempotency_key))
    if f"drop {what}" in World.broken:
        raise OSError(f"cannot drop {what}")
    if f"drop {what} once" in World.broken and ctx.attempt == 1:
        raise OSError(f"cannot drop {what} yet")


@task
def drop_in_a_thread(what: str) -> None:
    ran.append(f"drop {what}")


@task
async def held(what: str) -> str:
    ran.append(f"begin {what}")
    await World.gate.wait()
    ran.append(f"end {what}")
    return what


@task
async def drop_held(what: str) -> None:
    ran.append(f"begin drop {what}")
    await World.gate.wait()
    ran.append(f"drop {what}")


async def booked(what: str) -> None:
    await book(what)
    ctx.compensate(drop, what)


@workflow
async def trip(*stops: str) -> str:
    async with ctx.saga():
        for stop in stops:
            await booked(stop)
    return "booked"


@workflow
async def trip_without_block(*stops: str) -> str:
    for stop in stops:
        await booked(stop)
    return "booked"


@workflow
async def held_trip(*stops: str) -> str:
    async with ctx.saga():
        for stop in stops:
            await booked(stop)
        await held("payment")
    return "paid"


@workflow
async def branches() -> None:
    """Two branches, each with a block of its own; one fails when it is told to, the other is held."""

    async def fails() -> None:
        async with ctx.saga():
            await booked("a")
            await ctx.signal("fail")
            raise ValueError("no")

    async def goes_on() -> None:
        async with ctx.saga():
            await booked("b")
            await held("b")

    await asyncio.gather(fails(), goes_on())


def undone() -> list[str]:
    return [line for line in ran if line.startswith(("drop", "undo"))]


async def compensations(app: Stepwell, id: str) -> dict[str, int]:
    """The compensations of a run by readable path, with how often each was completed."""
    entries = [stored.entry for stored in await app.entries(id)]
    paths = [str(e.path) for e in entries if isinstance(e, StepStarted) and e.step == "compensation"]
    done = Counter(str(entry.path) for entry in entries if isinstance(entry, StepCompleted))
    return {path: done[path] for path in paths}


async def replays(app: Stepwell, id: str, flow: Any) -> None:
    """The run's journal is what today's code makes of it."""
    found = await app.replay(id, flow)
    assert (found.outcome, found.detail, found.new_calls, found.orphans, found.note) == ("ok", "", (), (), ""), found


async def failing(app: Stepwell, flow: Any, *args: Any, id: str = "r") -> Failed:
    """Run a workflow that fails; how its journal says so."""
    run = await app.start(flow, *args, id=id)
    with pytest.raises(RunFailed):
        await run.result()
    await replays(app, id, flow)
    last = (await app.entries(id))[-1].entry
    assert isinstance(last, Failed)
    return last


def play_on(play: Callable[..., Any], story: Callable[[Stepwell], Any], **settings: Any) -> None:
    """A scenario on one engine."""

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(**settings) as app:
            await story(app)

    play(scenario)


async def is_read(app: Stepwell, id: str) -> bool:
    """Whether the run has taken all that was sent to it."""
    return not await app.store.mailbox(id)


async def has_entry(app: Stepwell, id: str, tag: str) -> bool:
    """Whether the run's journal has an entry of this kind."""
    return any(stored.entry.__struct_config__.tag == tag for stored in await app.entries(id))
