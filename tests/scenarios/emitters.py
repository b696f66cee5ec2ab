"""Tasks that emit, in a module of their own: child processes import it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from stepwell import ctx, task
from stepwell.errors import Unserialisable


@task
async def emits(*chunks: str) -> int:
    for chunk in chunks:
        await ctx.emit(chunk)
    return len(chunks)


@task
def emits_in_a_thread(count: int, size: int = 1) -> int:
    for number in range(count):
        ctx.emit(f"{number}".ljust(size, "."), tokens=1)
    return count


@task(executor="process")
def emits_in_a_process(count: int, size: int = 1) -> int:
    for number in range(count):
        ctx.emit(f"{number}".ljust(size, "."), tokens=1)
    return count


@task(executor="process")
async def emits_on_a_loop_of_its_own(count: int) -> int:
    for number in range(count):
        await ctx.emit(number)
        await asyncio.sleep(0)
    return count


@task(executor="process")
def emits_too_much() -> str:
    try:
        ctx.emit("x" * 100_000)
    except Unserialisable as error:
        return str(error)
    return "taken"


@task(executor="process")
def emits_what_is_no_json() -> None:
    ctx.emit(object())


@task(executor="process")
def emits_and_counts_wrongly() -> None:
    ctx.emit("x", tokens=1.5)  # type: ignore[arg-type]


@task(executor="process", retry=2)
def emits_and_tells_how_far(path: str, count: int, size: int) -> int:
    for number in range(count):
        ctx.emit("x" * size)
        Path(path).write_text(str(number + 1))
    return count


@task(executor="elsewhere")
def emits_elsewhere() -> None:
    ctx.emit("lost?")


@task(executor="process")
def emits_for_a_while(path: str) -> str:
    ctx.emit("begun")
    while not Path(path).exists():
        time.sleep(0.005)
    ctx.emit("ends")
    return "done"
