"""The workflows that the tests of the testing kit run."""

from __future__ import annotations

import asyncio

from stepwell import Retry, ctx, task, workflow


@task(retry=Retry(attempts=3, first="1h", max="1h", jitter=False))
async def charge(order: str, cents: int) -> str:
    raise RuntimeError("no test may reach the bank")


@task
def mail(to: str, text: str = "") -> str:
    return f"mailed {to} in attempt {ctx.attempt}"


@task(timeout="10s")
async def fetch(number: int) -> int:
    await asyncio.sleep(1)
    return number * 10


@workflow
async def order_flow(order: str) -> str:
    reference = await charge(order, cents=500)
    try:
        await ctx.signal("approved", timeout="2d")
    except TimeoutError:
        return "expired"
    return f"{reference}, {await mail.aio(order)}"


@workflow
async def item(number: int) -> int:
    return await fetch(number)


@workflow
async def parent(numbers: list[int]) -> list[int]:
    return [await item(number) for number in numbers]


@workflow
def in_order(order: str) -> str:
    first = mail(order)
    ctx.sync.sleep("3d")
    return f"{first}; {mail(order, 'again')}"


@workflow
async def patient() -> str:
    await ctx.signal("go")
    return "gone"
