"""The workflows that are measured. Their steps do nothing and return a small dictionary."""

from __future__ import annotations

import asyncio

from stepwell import ctx, task, workflow

WINDOW = 100
"""How many items of a map are in flight at once."""


@task
async def noop(number: int) -> dict[str, int]:
    """Do nothing."""
    return {"number": number}


@workflow
async def chain(steps: int) -> int:
    """One step after the other."""
    for number in range(steps):
        await noop(number)
    return steps


@workflow
async def fan(steps: int) -> int:
    """All steps at once, by ordinary asyncio."""
    await asyncio.gather(*(noop(number) for number in range(steps)))
    return steps


async def _four(number: int) -> int:
    for _ in range(4):
        await noop(number)
    return number


@workflow
async def pipeline(items: int) -> int:
    """Four steps for each item, a coroutine per item."""
    await ctx.map(_four, range(items), concurrency=WINDOW)
    return items


@workflow
async def four_maps(items: int) -> int:
    """Four maps over all items, one after the other."""
    for _ in range(4):
        await noop.map(range(items), concurrency=WINDOW)
    return items


@workflow
async def one_map(items: int) -> int:
    """A step for each item."""
    await noop.map(range(items), concurrency=WINDOW)
    return items


arrived: asyncio.Event | None = None
"""Set by the step that follows a signal."""


@task
async def arrive(number: int) -> int:
    """Tell the sender of the signal that the step is running."""
    assert arrived is not None, "the sender makes it"
    arrived.set()
    return number


@workflow
async def listener(signals: int) -> int:
    """A step after every signal."""
    for _ in range(signals):
        number: int = await ctx.signal("go", int)
        await arrive(number)
    return signals


holding = True
"""Whether `hold` never returns: so in the process that is killed."""

held = 0
"""How many attempts of `hold` have begun in this process."""

all_held: asyncio.Event | None = None
wanted = 0


def _count() -> None:
    global held
    held += 1
    if held == wanted and all_held is not None:
        all_held.set()


@task
async def hold(number: int) -> dict[str, int]:
    """Be in flight until the process is killed; return at once in the next one."""
    _count()
    if holding:
        await asyncio.Event().wait()
    return {"number": number}


@workflow
async def interrupted(number: int) -> int:
    """One step done, one in flight when the process dies, one after it."""
    await noop(number)
    await hold(number)
    await noop(number)
    return number


@workflow
async def sleeper(seconds: int) -> int:
    """Sleep, then begin a step."""
    await ctx.sleep(seconds)
    await hold(seconds)
    return seconds
