"""What scripts do with people, events, races, sagas, streams and transactions; the rest of their verbs is in `scripts`.

Importing this adds the verbs to those that `scripts.act` knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from stepwell.authoring.ctx import ctx
from stepwell.authoring.task import task
from stepwell.errors import InputWithdrawn
from stepwell.model.cloudevents import CloudEvent
from stepwell.model.retry import Retry
from stepwell.testing.scripts import BRISK, LATE, TASKS, VERBS, Script, Tripped, act, mix, work

GONE = 3
"""What stands in a result for a question that was taken back."""

PEOPLE = ("ann", "bob", "cid")
OTHERS = ("dan", "eve", "fay")

DIAL = "dial"
"""The key of `ctx.state` that people set from outside."""

RESIDUES = 3
"""Events carry whole numbers; a filter takes those with one remainder modulo this."""

TRIES = 3
"""Attempts of a compensation before it has failed for good."""

has_change: ContextVar[Callable[[str], bool]] = ContextVar("simulated_code", default=lambda _: True)
"""Whether the code that this process runs asks `ctx.patched` about a change."""

registered: ContextVar[list[int] | None] = ContextVar("simulated_registered", default=None)
"""Where a body that is replayed for its sake notes which tokens it said how to undo, in order."""


@dataclass
class Vote:
    """What people answer; each `number` is given once in a simulation."""

    ok: bool
    number: int


# -- tasks --------------------------------------------------------------------------------------------------------


@task
async def make(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """Do what may have to be undone."""
    return await work("make", token, milliseconds, failures)


@task(retry=Retry(attempts=TRIES, first="40ms", jitter=False))
async def undo(token: int, milliseconds: int = 0, failures: int = 0) -> int:
    """Undo it."""
    return await work("undo", token, milliseconds, failures)


@task(retry=BRISK)
async def talk(token: int, milliseconds: int = 0, failures: int = 0, chunks: int = 0, padding: int = 0) -> int:
    """Emit while working."""
    return await work("talk", token, milliseconds, failures, chunks=chunks, padding=padding)


@task(transactional=True, retry=BRISK)
def book(token: int, failures: int = 0) -> int:
    """Write a row with the step's outcome."""
    ctx.connection.execute("CREATE TABLE IF NOT EXISTS booked (key TEXT, attempt INTEGER, token INTEGER)")
    ctx.connection.execute("INSERT INTO booked VALUES (?, ?, ?)", (ctx.idempotency_key, ctx.attempt, token))
    if ctx.attempt <= failures:
        raise Tripped(f"book {token} trips on attempt {ctx.attempt}")
    return mix("book", token)


# -- people -------------------------------------------------------------------------------------------------------


async def _ask(token: int, mode: str, seconds: float | None, reminders: list[float]) -> int:
    try:
        if mode == "anybody":
            vote = await ctx.ask("Go on?", Vote, timeout=seconds, reminders=reminders)
            return mix(token, vote.ok, vote.number)
        if mode == "somebody":
            vote = await ctx.ask("Go on?", Vote, timeout=seconds, who=PEOPLE[:2], reminders=reminders, name="some")
            return mix(token, vote.ok, vote.number)
        agree = "ok" if mode == "agree" else ""
        votes = await ctx.ask(
            "Go on?", Vote, timeout=seconds, who=PEOPLE, quorum=2, agree=agree, reminders=reminders, name=mode
        )
        return mix(token, *((one.by, one.value.ok, one.value.number) for one in votes))
    except TimeoutError:
        return mix(token, LATE)
    except InputWithdrawn:
        return mix(token, GONE)


# -- events -------------------------------------------------------------------------------------------------------


def rule(residue: int | None) -> dict[str, Any] | None:  # Any: JSONLogic
    """The filter for numbers with this remainder; None: all."""
    return None if residue is None else {"==": [{"%": [{"var": "data"}, RESIDUES]}, residue]}


async def _event(token: int, topic: str, residue: int | None, seconds: float | None) -> int:
    try:
        event: CloudEvent[int] = await ctx.event(topic, int, where=rule(residue), timeout=seconds)
        return mix(token, event.data, event.id)
    except TimeoutError:
        return mix(token, LATE)


async def _events(token: int, topic: str, residue: int | None, count: int) -> int:
    """Several waits of one subscription at once."""
    calls = [ctx.event(topic, int, where=rule(residue)) for _ in range(count)]
    return mix("events", token, *(event.id for event in await asyncio.gather(*calls)))


async def _publish(token: int, topic: str, transient: bool) -> int:
    ctx.publish(topic, mix("publish", token), transient=transient)
    return token


# -- races --------------------------------------------------------------------------------------------------------


async def _select(token: int, *parts: Script) -> int:
    """The first of several scripts; the name of a branch says whether it is one wait and nothing else."""
    kinds = ["wait" if part[0] in ("ask", "event", "signal", "sleep") else "part" for part in parts]
    branches = {f"{kinds[n]}{n}": act(part, mix(token, n)) for n, part in enumerate(parts)}
    winner, value = await ctx.select(**branches)
    return mix("select", winner, value)


async def _pick(token: int, topic: str, milliseconds: int, name: str) -> int:
    """The first of bare awaitables, as users write them."""
    winner, value = await ctx.select(
        signal=ctx.signal("go", int),
        event=ctx.event(topic, int),
        timer=ctx.timer(milliseconds / 1000),
        step=TASKS[name](token, milliseconds, 0),
    )
    return mix("pick", winner, value.id if isinstance(value, CloudEvent) else value)


# -- sagas --------------------------------------------------------------------------------------------------------


async def _made(token: int, milliseconds: int, undo_milliseconds: int, undo_failures: int) -> int:
    token = await make(token, milliseconds)
    ctx.compensate(undo, token, undo_milliseconds, undo_failures)
    noted = registered.get()
    if noted is not None:
        noted.append(token)
    return token


async def _saga(token: int, part: Script) -> int:
    async with ctx.saga():
        return await act(part, token)


# -- the rest -----------------------------------------------------------------------------------------------------


async def _look(token: int) -> int:
    """What somebody has set from outside, if anybody has."""
    return mix(token, ctx.state.get(DIAL))


async def _talk(token: int, milliseconds: int, failures: int, chunks: int, padding: int) -> int:
    return await talk(token, milliseconds, failures, chunks, padding)


async def _book(token: int, failures: int) -> int:
    return await book.aio(token, failures)


async def _patched(token: int, id: str, part: Script) -> int:
    if has_change.get()(id) and ctx.patched(id):
        return await act(part, token)
    return token


VERBS |= {
    "ask": _ask,
    "event": _event,
    "events": _events,
    "publish": _publish,
    "select": _select,
    "pick": _pick,
    "made": _made,
    "saga": _saga,
    "look": _look,
    "talk": _talk,
    "book": _book,
    "patched": _patched,
}
