"""What a type checker must refuse: were one of these calls accepted, mypy would say that its `ignore` is unused.

This file is never run: `test_types.py` gives it to mypy.
"""

from __future__ import annotations

from stepwell import Stepwell, ctx, task, workflow


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def shrink(page: bytes) -> bytes:
    return page


@workflow
async def select(shop: str) -> int:
    await fetch(1)  # type: ignore[arg-type]  # it must be refused
    await fetch()  # type: ignore[call-arg]  # it must be refused
    await fetch.aio(shop, 2)  # type: ignore[call-arg]  # it must be refused
    await shrink(b"")  # type: ignore[misc]  # it must be refused
    await shrink.aio("text")  # type: ignore[arg-type]  # it must be refused
    await fetch.map([shop], on_error="ignore")  # type: ignore[call-overload]  # it must be refused
    await ctx.start(select, 1)  # type: ignore[arg-type]  # it must be refused
    return await fetch(shop)  # type: ignore[return-value]  # it must be refused


@task(retry="often")  # type: ignore[call-overload, untyped-decorator]  # it must be refused
def often() -> None: ...


async def main() -> None:
    async with Stepwell("memory://") as app:
        await app.run(select, 1)  # type: ignore[call-overload]  # it must be refused
        await app.run(select, shop="a", limit=2)  # type: ignore[call-overload]  # it must be refused
        await app.start(select, "a", priority="high")  # type: ignore[call-overload]  # it must be refused
        await app.start(select, "a", singleton=1)  # type: ignore[call-overload]  # it must be refused
        await app.start(select, "a", singleton="s", on_conflict="fight")  # type: ignore[call-overload]  # it must be refused
        await app.schedule("n", select, "a", every="1h", overlap="fight")  # type: ignore[arg-type]  # it must be refused
        number: str = await app.run(select, "a")  # type: ignore[call-overload]  # it must be refused
        use(number)


def use(value: object) -> None:
    """Nothing."""
