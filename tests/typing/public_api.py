"""What a type checker sees of the public interface; each `reveal_type` is followed by what it must say.

This file is never run: `test_types.py` gives it to mypy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, reveal_type

from stepwell import Queue, Retry, Stepwell, ctx, task, workflow


@dataclass
class Page:
    text: str


@task
async def fetch(url: str) -> Page:
    return Page(url)


@task
def shrink(page: Page, by: int = 2) -> bytes:
    return page.text.encode()[::by]


@task(retry=Retry(attempts=3), timeout="30s")
async def careful(url: str) -> Page:
    return Page(url)


@task(executor="process")
def heavy(numbers: list[int]) -> int:
    return sum(numbers)


@workflow
async def select(shop: str, limit: int = 10) -> list[Page]:
    reveal_type(await fetch(shop))  # Page
    reveal_type(await fetch.aio(shop))  # Page
    reveal_type(await shrink.aio(Page(shop), by=3))  # bytes
    reveal_type(await careful(shop))  # Page
    reveal_type(await fetch.map([shop]))  # list[Page]
    reveal_type(await fetch.map([shop], on_error="raise", concurrency=2))  # list[Page]
    reveal_type(await fetch.map([shop], on_error="collect"))  # list[Page | StepFailed]
    reveal_type(await careful.with_options(key="a")(shop))  # Page
    reveal_type(await ctx.signal("answer", Page))  # Page
    reveal_type(await ctx.signal("answer", Page, timeout="2d"))  # Page
    reveal_type(await ctx.signal("answer"))  # Any
    reveal_type(ctx.now())  # datetime
    reveal_type(ctx.random())  # float
    reveal_type(ctx.uuid())  # UUID
    reveal_type(ctx.run_id)  # str
    reveal_type(ctx.attempt)  # int
    reveal_type(await child.aio(1))  # str
    reveal_type(await other(1))  # float
    reveal_type(await ctx.start(other, 1))  # str

    async def one(name: str) -> int:
        return len((await fetch(name)).text)

    reveal_type(await ctx.map(one, [shop]))  # list[int]
    reveal_type(await ctx.map(one, [shop], on_error="collect"))  # list[int | Exception]
    return [await fetch(shop)]


@workflow
def child(number: int) -> str:
    reveal_type(fetch.sync("a"))  # Page
    reveal_type(shrink(Page("a")))  # bytes
    reveal_type(shrink.sync(Page("a")))  # bytes
    reveal_type(ctx.sync.signal("answer", Page))  # Page
    return str(number)


@workflow(name="other-name", version="2", concurrency=4)
async def other(number: int) -> float:
    return float(number)


reveal_type(fetch)  # AsyncTask[[url: str], Page]
reveal_type(shrink)  # SyncTask[[page: Page, by: int =], bytes]
reveal_type(heavy)  # SyncTask[[numbers: list[int]], int]
reveal_type(select)  # AsyncWorkflow[[shop: str, limit: int =], list[Page]]
reveal_type(child)  # SyncWorkflow[[number: int], str]
reveal_type(other)  # AsyncWorkflow[[number: int], float]
reveal_type(shrink(Page("a")))  # bytes
reveal_type(fetch.sync("a"))  # Page


async def main() -> None:
    async with Stepwell("memory://", workflows=[select, fetch]) as app:
        reveal_type(app)  # Stepwell
        run = await app.start(select, "shop", id="a", labels={"who": "me"})
        reveal_type(run)  # Run[list[Page]]
        reveal_type(await run.result())  # list[Page]
        reveal_type(await run.result(timeout="1s"))  # list[Page]
        reveal_type(await (await app.start(fetch, "a")).result())  # Page
        later = await app.start(select, "shop", delay="1h", deadline="1d", queue="q", queue_key="k", singleton="s")
        reveal_type(await later.result())  # list[Page]
        reveal_type(await app.start(child, 1, at=ctx.now(), debounce="5s", on_conflict="replace"))  # Run[str]
        reveal_type(await app.schedule("nightly", select, "shop", cron="0 6 * * *", overlap="queue"))  # TriggerRow
        reveal_type(await app.on("order.paid", child, where={"var": "data.ok"}))  # TriggerRow
        await app.put_queue(Queue("q", concurrency=2, rate="50/1m"))
        reveal_type(await (await app.start(shrink, Page("a"))).result())  # bytes
        reveal_type(await (await app.start(child, 1)).result())  # str
        # `start` has options of its own beside the workflow's arguments, which no ParamSpec can say: it takes any
        # arguments here and checks them when it is called. `run` has none, and a type checker checks it.
        reveal_type(await app.start(select, 1, no_such=2))  # Run[list[Page]]
        reveal_type(await app.run(select, "shop", limit=3))  # list[Page]
        reveal_type(app.handle("a"))  # Run[Any]
        reveal_type((await run.row()).next_seq)  # int
        reveal_type(await run.signal("answer", Page("a")))  # bool
        use(run)


def use(value: Any) -> None:  # Any: whatever is to be kept alive
    """Nothing."""
