"""What a process of its own does in the tests of the SQLite store; run as `python sqlite_worker.py ROLE FILE …`."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from stepwell.errors import RequestNotFound, StoreBusy, StoreFull
from stepwell.stores.protocol import NewMessage
from stepwell.stores.sqlite import SqliteStore
from stepwell.testing.conformance.kit import LEASE, appended, happened, mail, new_run

LIMIT = 400_000


def say(*words: object) -> None:
    print(*words, flush=True)


async def write(path: Path, worker: str, inline: str) -> None:
    """Drive, claim what is there, append for ever; say what was acknowledged, line by line."""
    store = SqliteStore(path)
    await store.open()
    await store.drive(worker, now=0, lease=LEASE)
    store.inline_commits = inline == "inline"
    names = [f"r{n}" for n in range(8)]
    await asyncio.gather(*(store.create(new_run(name)) for name in names))
    claimed = {one.row.run_id: one.row for one in await store.claim(worker, workflows=["shop"], now=1, limit=99)}
    say("driving")

    async def go(name: str) -> None:
        row = claimed[name]
        seq = row.next_seq
        while True:
            await store.append(appended(name, seq, f"{worker}.{seq}", f"{worker}.{seq + 1}", epoch=row.epoch))
            seq += 2
            say("ack", name, seq - 1)

    await asyncio.gather(*map(go, names if inline != "inline" else names[:1]))


async def hold(path: Path, worker: str) -> None:
    """Drive until the standard input ends."""
    store = SqliteStore(path)
    await store.open()
    try:
        await store.drive(worker, now=0, lease=LEASE)
    except StoreBusy as error:
        say("busy", error)
        return
    await store.create(new_run("held", owner=worker))
    say("driving")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    say("renewed", await store.renew(worker, now=1, lease=LEASE))
    await store.close()


async def post(path: Path, sender: str, count: str) -> None:
    """Post messages, each by itself, to the run `a`."""
    store = SqliteStore(path)
    await store.open(create=False)
    for n in range(int(count)):
        await store.post(mail("a", f"{sender}.{n}", key=f"{sender}.{n}"))
    await store.close()


async def publish(path: Path, sender: str, count: str) -> None:
    """Publish events, each by itself, and every second one under an id that others publish too."""
    store = SqliteStore(path)
    await store.open(create=False)
    stored = 0
    for n in range(int(count)):
        event = await store.publish(happened(f"{n}", source="both" if n % 2 else sender))
        stored += event is not None
    say("stored", stored)
    await store.close()


async def answer(path: Path, sender: str) -> None:
    """Answer every request that is open until one is called `last`; say how many answers were taken."""
    store = SqliteStore(path)
    await store.open(create=False)
    taken, ended = 0, False
    while not ended:
        for wait in await store.open_waits("input"):
            try:
                await store.post(mail(wait.run_id, wait.id, kind="answer", key=sender))
            except RequestNotFound:
                continue
            taken += 1
            ended = ended or wait.id == "last"
    say("taken", taken)
    await store.close()


async def transact(path: Path, count: str) -> None:
    """Write to a table together with outcomes, for ever; say which were acknowledged."""
    store = SqliteStore(path)
    await store.open()
    await store.drive(f"w{os.getpid()}", now=0, lease=LEASE)
    await store.create(new_run("a", wake_at=0))
    [claimed] = await store.claim(f"w{os.getpid()}", workflows=["shop"], now=1, limit=1)
    done = len(claimed.messages)

    def work(connection: Any) -> NewMessage:  # a connection of SQLite
        connection.execute("CREATE TABLE IF NOT EXISTS ledger (entry INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO ledger VALUES (?)", (done,))
        return mail("a", str(done), kind="outcome", key=str(done))

    while done < int(count):
        await store.transact("a", claimed.row.epoch, work)
        say("ack", done)
        done += 1
    await store.close()


async def fill(path: Path) -> None:
    """Append under a limit on file sizes until there is no room, then without it; say what was acknowledged."""
    store = SqliteStore(path)
    await store.open()
    await store.drive("w1", now=0, lease=LEASE)
    await store.create(new_run("a", owner="w1"))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    seq, refusals = 2, 0
    while refusals < 20:
        try:
            await store.append(appended("a", seq, "x" * 9000))
        except StoreFull:
            refusals += 1
        else:
            seq += 1
    say("full", seq - 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for _ in range(10):
        await store.append(appended("a", seq, "y"))
        seq += 1
    say("ack", seq - 1)
    await store.close()


async def forked(path: Path) -> None:
    """Use the store in a forked child; the parent's goes on."""
    store = SqliteStore(path)
    await store.open()
    await store.drive("w1", now=0, lease=LEASE)
    await store.create(new_run("a", owner="w1"))
    child = os.fork()
    if child == 0:
        try:
            store.changed()
        except Exception as error:
            say("child", type(error).__name__, error)
        os._exit(0)
    os.waitpid(child, 0)
    await store.append(appended("a", 2, "x"))
    say("parent went on")
    await store.close()


async def orphan(path: Path) -> None:
    """Drive, and leave a forked child behind that lives longer."""
    store = SqliteStore(path)
    await store.open()
    await store.drive("parent", now=0, lease=LEASE)
    if os.fork() == 0:
        say("child", os.getpid())
        time.sleep(60)
        os._exit(0)
    await asyncio.sleep(60)


if __name__ == "__main__":
    role, file, *more = sys.argv[1:]
    asyncio.run(globals()[role](Path(file), *more))
