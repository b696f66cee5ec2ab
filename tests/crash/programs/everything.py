"""Runs that do everything that runs can do, to be killed at any moment.

`python everything.py drive STORE SIDE RUNS` drives them: it says `driving` when the engine is open, `done` when all
have ended. `python everything.py people STORE RUNS` signals, answers and publishes from beside, until all have ended;
it says `accepted …` for each thing that was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mix import SIDE, await_ends, note, say

from stepwell import Limits, Queue, Retry, Stepwell, ctx, task, workflow
from stepwell.errors import RequestRefused, StepFailed, StoreError
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Filter

KIDS = Queue("kids", concurrency=2)
NUMBERS = 3
CHUNKS = 6
CREW = ("ann", "bob", "cid")


@dataclass
class Vote:
    ok: bool
    number: int


# -- tasks --------------------------------------------------------------------------------------------------------


@task
async def plus(left: int, right: int) -> int:
    note()
    await asyncio.sleep(0.003)
    return left + right


@task
async def book(what: str) -> str:
    note()
    await asyncio.sleep(0.002)
    return what


@task(retry=Retry(attempts=50, first="5ms", max="10ms"))
async def unbook(what: str) -> str:
    note()
    await asyncio.sleep(0.002)
    if ctx.attempt == 1:
        raise ConnectionError("once more")
    return what


@task
async def break_down() -> None:
    note()
    raise ValueError("broken")


@task
async def talk(n: int) -> int:
    note()
    for number in range(CHUNKS):
        await ctx.emit(f"{n}:{ctx.attempt}:{number + 1}", words=1)
        await asyncio.sleep(0.001)
    return n


@task
async def dawdle(seconds: float) -> str:
    note()
    await asyncio.sleep(seconds)
    return "done"


@task(transactional=True)
def credit(account: str, amount: int) -> int:
    ctx.connection.execute("CREATE TABLE IF NOT EXISTS account (step TEXT, name TEXT, amount INTEGER)")
    ctx.connection.execute("INSERT INTO account VALUES (?, ?, ?)", (ctx.idempotency_key, account, amount))
    total: int = ctx.connection.execute("SELECT sum(amount) FROM account WHERE name = ?", (account,)).fetchone()[0]
    return total


# -- child runs ---------------------------------------------------------------------------------------------------


@workflow(queue="kids")
async def kid(number: int) -> int:
    await ctx.sleep("2ms")
    return await plus(number, 1)


@workflow
async def patient(n: int) -> str:
    """Is cancelled, and undoes what it has done."""
    what = await book(f"room-{n}")
    ctx.compensate(unbook, what)
    await ctx.signal("never")
    return what


# -- everything ---------------------------------------------------------------------------------------------------


async def ask_people(n: int) -> list[Any]:
    one = await ctx.ask(f"Begin {n}?", Vote, who=CREW[:1], reminders=["20ms"])
    crew = await ctx.ask(f"Go on {n}?", Vote, who=CREW, quorum=2, agree="ok", name="crew")
    try:
        await ctx.ask(f"Anybody {n}?", Vote, who=["nobody"], timeout="30ms", name="nobody")
        silence = "answered"
    except TimeoutError:
        silence = "silent"
    return [one.ok, sorted(vote.by for vote in crew), silence]


async def hear(n: int) -> list[Any]:
    numbers = [await ctx.signal("number", int) for _ in range(NUMBERS)]
    mine = {"==": [{"var": "data.n"}, n]}
    orders = [(await ctx.event("order", where=mine)).data["number"] for _ in range(NUMBERS)]
    ctx.publish("echo", {"n": n})
    echo = await ctx.event("echo", where=mine)
    return [numbers, orders, echo.id]


async def race(n: int) -> list[Any]:
    first, _ = await ctx.select(never=ctx.signal("never"), step=dawdle(30.0), timer=ctx.timer("15ms"))
    second, value = await ctx.select(child=kid(n), event=ctx.event("never"), question=ctx.ask("Never?", name="never"))
    return [first, second, value]


async def family(n: int) -> list[Any]:
    sums = await kid.map(range(4))
    try:
        async with asyncio.timeout(0.03):
            await patient.with_options(on_cancel="wait")(n)
        end = "left"
    except TimeoutError:
        end = "late"
    return [sums, end]


async def pay(n: int) -> list[int]:
    return [await credit.aio(f"account-{n}", amount) for amount in (1, 10, 100)]


async def undo(n: int) -> str:
    try:
        async with ctx.saga():
            for what in ("flight", "hotel", "car"):
                booked = await book(f"{what}-{n}")
                ctx.compensate(unbook, booked)
            await break_down()
    except StepFailed as error:
        return str(error)
    return "in order"


@workflow
async def everything(n: int) -> dict[str, Any]:
    ctx.state["stage"] = "began"
    async with asyncio.TaskGroup() as group:
        parts = {
            name: group.create_task(part(n))
            for name, part in {
                "people": ask_people,
                "heard": hear,
                "races": race,
                "family": family,
                "paid": pay,
                "undone": undo,
                "talked": talk,
            }.items()
        }
    ctx.state["stage"] = "together"
    result = {name: part.result() for name, part in parts.items()}
    result["patched"] = ctx.patched("new")
    return result


ALL = [everything, kid, patient]


def expected(n: int) -> dict[str, Any]:
    """What the run of this number returns, but for who answered and the id of its own event."""
    return {
        "people": [True, 2, "silent"],
        "heard": [list(range(NUMBERS)), list(range(NUMBERS)), f"everything-{n}:"],
        "races": ["timer", "child", n + 1],
        "family": [[1, 2, 3, 4], "late"],
        "paid": [1, 11, 111],
        "undone": "broken",
        "talked": n,
        "patched": True,
    }


async def drive(store: Path, runs: int) -> None:
    limits = Limits(threads=4, processes=1)
    async with Stepwell(f"sqlite:///{store}", workflows=ALL, queues=[KIDS], warm_wait=0, limits=limits) as app:
        say("driving")
        names = [f"everything-{n}" for n in range(runs)]
        for n, name in enumerate(names):
            await app.start(everything, n, id=name)
            say("accepted start", name)
        waiting = asyncio.create_task(await_ends(app, names))
        while not (await asyncio.wait((waiting,), timeout=0.05))[0]:
            for row in await app.runs(Filter(status=("stuck",))):
                say("stuck", row.run_id)  # lives too short for any progress look like a crash loop: see `mix`
                with contextlib.suppress(RequestRefused):
                    await app.resume(row.run_id)
        say("done")


async def people(store: Path, runs: int) -> None:
    """All others: they say everything as often as it takes, under keys that make it count once."""
    answered = 0
    async with Stepwell(f"sqlite:///{store}", drive=False, create=False) as app:
        names = [f"everything-{n}" for n in range(runs)]
        while True:
            rows = {row.run_id: row for row in await app.runs(Filter(limit=10_000)) if row.run_id in names}
            if len(rows) == runs and all(row.status in TERMINAL for row in rows.values()):
                return
            for n, name in enumerate(names):
                if name not in rows:
                    continue
                for number in range(NUMBERS):
                    with contextlib.suppress(RequestRefused, StoreError):
                        if await app.signal(name, "number", number, key=str(number)):
                            say("accepted signal", name, number)
                    with contextlib.suppress(StoreError):
                        data = {"n": n, "number": number}
                        if await app.publish("order", data, id=f"{n}-{number}", source="people"):
                            say("accepted event", n, number)
            for question in await app.inbox():
                by = next((one for one in question.who if one not in {who for who, _ in question.answers}), "")
                if not by or by == "nobody":
                    continue
                answered += 1
                with contextlib.suppress(RequestRefused, StoreError):
                    await app.answer(question.id, Vote(True, answered), by=by)
                    say("accepted answer", question.run_id, answered)
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        os.environ[SIDE] = sys.argv[3]
        asyncio.run(drive(Path(sys.argv[2]), int(sys.argv[4])))
    else:
        asyncio.run(people(Path(sys.argv[2]), int(sys.argv[3])))
