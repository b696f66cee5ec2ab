"""The SQLite store among real processes: killed, frozen, short of room, several at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stepwell.errors import StoreBusy
from stepwell.stores.sqlite import SqliteStore
from stepwell.testing.conformance.kit import LEASE, appended, asked, claim_one, happened, new_run, notes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX systems")

WORKER = Path(__file__).with_name("sqlite_worker.py")


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.parametrize("way", ["thread", "inline"])
def test_every_acknowledged_append_survives_kill_9(tmp_path: Path, way: str) -> None:
    path = tmp_path / "runs.db"
    acknowledged: dict[str, int] = {}
    for turn in range(5):
        with process("write", path, f"w{turn}", way) as child:
            assert line(child) == "driving"
            ends = time.monotonic() + 0.12 + 0.03 * turn
            assert child.stdout is not None
            for text in child.stdout:
                if time.monotonic() > ends:
                    child.kill()
                    break
                _, name, seq = text.split()
                acknowledged[name] = int(seq)
            for text in child.stdout:  # acknowledged before the kill, read after it
                if len(words := text.split()) == 3 and text.endswith("\n"):
                    acknowledged[words[1]] = int(words[2])
            child.wait()

    async def look() -> None:
        store = SqliteStore(path)
        await store.open(create=False)
        for name, seq in acknowledged.items():
            stored = await store.read(name)
            assert len(stored) >= seq
            assert [text.split(".")[1] for text in notes(stored)] == [str(one.seq) for one in stored[1:]]
        assert [finding for finding in await store.check() if not finding.ok] == []
        await store.close()

    assert acknowledged and max(acknowledged.values()) > 20
    asyncio.run(look())


def test_no_room_is_refused_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with process("fill", path) as child:
        word, full = line(child).split()
        assert word == "full" and int(full) > 10
        word, last = line(child).split()
        assert word == "ack" and int(last) == int(full) + 10
        child.wait(10)

    async def look() -> None:
        store = SqliteStore(path)
        await store.open(create=False)
        assert len(await store.read("a")) == int(last)
        assert [finding for finding in await store.check() if not finding.ok] == []
        await store.close()

    asyncio.run(look())


def test_a_driver_in_another_process_is_named_and_followed_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def drive() -> None:
        store = SqliteStore(path)
        with process("hold", path, "other") as child:
            assert line(child) == "driving"
            await store.open()
            with pytest.raises(StoreBusy, match=rf"process {child.pid} on .* \(worker other"):
                await store.drive("w1", now=1, lease=LEASE)
            child.send_signal(signal.SIGKILL)
            child.wait()
            await store.drive("w1", now=1, lease=LEASE)
        assert (await claim_one(store)).row.run_id == "held"
        with process("hold", path, "third") as child:
            assert line(child).startswith("busy")
        await store.close()

    asyncio.run(drive())


def test_a_frozen_process_is_taken_over_from_after_its_lease_and_learns_of_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def drive() -> None:
        store = SqliteStore(path)
        with process("hold", path, "frozen") as child:
            assert line(child) == "driving"
            child.send_signal(signal.SIGSTOP)
            await store.open()
            with pytest.raises(StoreBusy):
                await store.drive("w1", now=LEASE - 1, lease=LEASE)
            await store.drive("w1", now=LEASE + 1, lease=LEASE)
            claimed = await claim_one(store, now=LEASE + 1)
            with process("hold", path, "third") as third:  # at time 0, when the lease of w1 has not passed
                assert line(third).startswith("busy")
            child.send_signal(signal.SIGCONT)
            assert child.stdin is not None
            child.stdin.close()
            assert line(child) == "renewed False"
            child.wait(10)
            child.stdin = None
            # Its lock is free now, which does not mean that the driver is dead: w1 took over without it.
            with process("hold", path, "third") as third:
                assert line(third).startswith("busy")
            assert await store.renew("w1", now=LEASE + 2, lease=LEASE)
            await store.append(appended(claimed, 2, "x"))
        await store.close()

    asyncio.run(drive())


def test_posts_of_several_processes_and_of_the_driver_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    posts = 25

    async def drive() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.drive("w1", now=0, lease=LEASE)
        await store.create(new_run("a", owner="w1"))
        with process("post", path, "p", posts) as one, process("post", path, "q", posts) as two:
            seq = 2
            noticed = 0
            while one.poll() is None or two.poll() is None:
                await store.append(appended("a", seq, "x"))
                noticed += store.changed()
                seq += 1
            assert (one.returncode, two.returncode) == (0, 0)
        assert noticed
        messages = await store.messages(after=0, owner="w1")
        assert sorted(m.name for m in messages) == sorted(f"{p}.{n}" for p in "pq" for n in range(posts))
        assert len(await store.read("a")) == seq - 1
        await store.close()

    asyncio.run(drive())


def test_events_that_two_processes_publish_at_once_are_stored_once_in_one_order(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    count = 20

    async def go() -> None:
        store = SqliteStore(path)
        await store.open()
        with process("publish", path, "p", count) as one, process("publish", path, "q", count) as two:
            for n in range(1, count, 2):
                await store.publish(happened(f"{n}", source="both"))
            stored = [int(line(child).split()[1]) for child in (one, two)]
            assert (one.wait(10), two.wait(10)) == (0, 0)
        events = await store.events()
        assert len(events) == 3 * count // 2
        assert len({(event.source, event.id) for event in events}) == len(events)
        positions = [event.position for event in events]
        assert positions == sorted(set(positions)) and await store.last_event() == positions[-1]
        assert count <= sum(stored) <= 3 * count // 2
        await store.close()

    asyncio.run(go())


def test_answers_of_two_processes_are_taken_as_long_as_the_request_is_open(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def go() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.drive("w1", now=0, lease=LEASE)
        await store.create(new_run("a", owner="w1"))
        seq = 2
        with process("answer", path, "p") as one, process("answer", path, "q") as two:
            for request in (*(f"q{n}" for n in range(12)), "last"):
                await store.append(appended("a", seq, "asked", opened=(asked(request),)))
                senders = 2 if request == "last" else 1
                while sum(message.name == request for message in await store.mailbox("a")) < senders:
                    assert one.poll() in (None, 0) and two.poll() in (None, 0)
                seq += 1
                await store.append(appended("a", seq, "answered", closed=(request,)))
                seq += 1
            taken = [int(line(child).split()[1]) for child in (one, two)]
            assert (one.wait(10), two.wait(10)) == (0, 0)
        answers = Counter(message.name for message in await store.mailbox("a"))
        assert len(answers) == 13 and set(answers.values()) <= {1, 2}
        assert sum(taken) >= answers.total()  # an answer that is posted again under its key counts as taken
        await store.close()

    asyncio.run(go())


def test_a_killed_transaction_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    acknowledged = -1
    for turn in range(4):
        with process("transact", path, 10**6) as child:
            assert child.stdout is not None
            ends = None
            for text in child.stdout:
                ends = ends or time.monotonic() + 0.05 + 0.03 * turn
                if time.monotonic() > ends:
                    child.kill()
                    break
                acknowledged = int(text.split()[1])
            for text in child.stdout:
                if len(words := text.split()) == 2 and text.endswith("\n"):
                    acknowledged = int(words[1])
            child.wait()

    async def look() -> None:
        store = SqliteStore(path)
        await store.open(create=False)
        outcomes = [int(message.name) for message in await store.mailbox("a")]
        await store.close()
        file = sqlite3.connect(path)
        entries = [row[0] for row in file.execute("SELECT entry FROM ledger ORDER BY entry")]
        file.close()
        assert entries == outcomes == list(range(len(entries)))
        assert len(entries) > acknowledged > 10

    asyncio.run(look())


def test_a_forked_child_does_not_keep_its_dead_parents_right_to_drive(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def drive() -> None:
        store = SqliteStore(path)
        with process("orphan", path) as child:
            orphan = int(line(child).split()[1])
            child.kill()
            child.wait()
            try:
                await store.open()
                await store.drive("w1", now=1, lease=LEASE)
                await store.close()
            finally:
                os.kill(orphan, signal.SIGKILL)

    asyncio.run(drive())


def test_a_forked_child_may_not_use_the_store_and_does_not_hurt_the_parents(tmp_path: Path) -> None:
    with process("forked", tmp_path / "runs.db") as child:
        assert line(child).startswith("child StoreUnusable")
        assert line(child) == "parent went on"
        assert child.wait(10) == 0
