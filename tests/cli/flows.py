"""What the command line is tried on."""

import asyncio
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stepwell import Retry, ctx, task, workflow

log = logging.getLogger("flows")


class Sold(Exception):
    pass


@dataclass
class Report:
    total: int
    note: str


@task(retry=Retry(attempts=4, first="1ms", max="2ms", retry_on=(Sold,)), timeout="20s")
async def double(number: int) -> int:
    """Twice the number."""
    if number % 5 == 3 and ctx.attempt < 3:
        raise Sold(f"number {number} is sold out")
    log.info("doubling %d", number, extra={"colour": "red"})
    print("a print in a task")
    return 2 * number


@workflow
async def adds(count: int, note: str = "") -> Report:
    """Adds doubles."""
    ctx.log("begins", count=count)
    doubles = await double.map(range(count), concurrency=2)
    ctx.state["stage"] = "doubled"
    return Report(sum(doubles), note)


@task
async def hold(folder: str, number: int) -> int:
    """Says that it has begun, and waits for a file."""
    with open(Path(folder) / "begun", "a") as file:
        file.write(f"{number} {ctx.attempt}\n")
    while not (Path(folder) / f"release-{number}").exists() and not (Path(folder) / "release").exists():
        await asyncio.sleep(0.01)
    return number


@workflow
async def holds(folder: str, count: int = 3) -> int:
    total = 0
    for number in range(count):
        total += await hold(folder, number)
    return total


@workflow
async def asks(question: str) -> dict:
    answer = await ctx.signal("answer")
    return {question: answer}


@task
async def breakable(folder: str) -> str:
    if (Path(folder) / "broken").exists():
        raise ValueError("it is broken")
    return "whole"


@workflow
async def breaks(folder: str) -> str:
    first = await double(1)
    return f"{first} {await breakable(folder)}"


@task
async def sells_out() -> None:
    raise Sold("gone")


@workflow
async def catches() -> str:
    try:
        await sells_out()
    except Sold as error:
        return f"caught {error}"
    return "nothing"


@task(timeout="100ms")
def never() -> int:
    """Does not look whether it is wanted."""
    time.sleep(600)
    return 1


@task(executor="process")
def dies() -> int:
    os._exit(7)


@task(executor="process")
def squares(number: int) -> int:
    return number * number


@workflow
async def is_stuck() -> int:
    return await never.aio()


@workflow
async def is_killed() -> int:
    return await dies.aio()


@workflow
async def apart(number: int) -> int:
    return await squares.aio(number)


@workflow
async def unwritable() -> object:
    return threading.Lock()


@workflow
async def parent(number: int) -> int:
    return (await adds(number)).total


def plain(number: int) -> int:
    return number


constant = 3
