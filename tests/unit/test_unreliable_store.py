"""Does the simulator's store carry out every operation as a store does: late, in order, or not at all?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from stepwell.errors import StoreFull
from stepwell.stores.protocol import NewMessage
from stepwell.stores.tables import Firing, NewDefinition, Queue, TriggerRow
from stepwell.testing.conformance.kit import appended, asked, happened, mail, new_run
from stepwell.testing.unreliable import Disk, Faults, UnreliableStore
from stepwell.testing.virtual import VirtualTime


class Book:
    """A witness that writes down what committed."""

    def __init__(self) -> None:
        self.committed_ones: list[str] = []

    def committing(self, _store: UnreliableStore, _name: str, _argument: object) -> bool:
        return True

    def committed(self, _store: UnreliableStore, name: str, _argument: object, _result: object) -> None:
        self.committed_ones.append(name)


def simulated(body: Callable[[UnreliableStore], Awaitable[None]], faults: Faults | None = None) -> list[str]:
    time, book = VirtualTime(3), Book()
    loop = time.loop()
    disk = Disk(time, Random(3), book, faults or Faults())
    store = UnreliableStore(disk, loop)

    async def go() -> None:
        await store.open()
        await store.drive("w1", now=0, lease=10**12)
        await store.create(new_run("a", owner="w1"))
        await body(store)
        await store.close()

    loop.run_until_complete(go())
    return book.committed_ones


def work(connection: Any) -> NewMessage:  # a connection of SQLite
    connection.execute("CREATE TABLE IF NOT EXISTS ledger (x)")
    connection.execute("INSERT INTO ledger VALUES (1)")
    return mail("a", "step", kind="outcome")


def test_every_operation_goes_through_to_the_data() -> None:
    async def body(store: UnreliableStore) -> None:
        event = await store.publish(happened("e1"))
        assert await store.events() == [event] and await store.last_event() == 1
        await store.append(appended("a", 2, "x", opened=(asked("q1"),)))
        assert len(await store.open_waits("input")) == 1
        await store.put_queue(Queue(name="q"))
        await store.create(new_run("b", queue="q", held=True))
        assert (await store.admit("q", now=5)).admitted == ("b",)
        assert [(row.waiting, row.active) for row in await store.queues()] == [(0, 1)]
        await store.put_trigger(TriggerRow(name="t", kind="schedule", workflow="shop", spec=b"{}"))
        firing = Firing(trigger="t", key="k", occasion=1, at=2)
        assert await store.advance("t", seen=0, cursor=1, next_at=None, firings=[firing], runs=[new_run("c")])
        assert await store.firings("t") == [firing] and len(await store.triggers()) == 1
        assert await store.remove_trigger("t")
        assert await store.forget_events(before=99) == 1
        version = NewDefinition(name="g", digest="d1", body=b"{}", at=1)
        assert await store.put_definition(version, activate=True)
        assert [row.digest for row in await store.definitions()] == ["d1"]
        assert await store.definition("g") == await store.definition("g", "d1")
        assert await store.set_active("g", "")
        assert await store.drop_definitions([("g", "d1")], put_before=9) == [("g", "d1")]
        await store.put_cached("k", b"1", at=1)
        assert await store.cached("k", now=2) == b"1"
        assert await store.forget_cached(before=9) == 1
        message = await store.transact("a", 1, work)
        assert await store.mailbox("a") == [message]

    committed = simulated(body)
    assert {"publish", "append", "put_queue", "admit", "put_trigger", "advance", "transact"} <= set(committed)


def test_a_work_done_again_leaves_its_writes_once() -> None:
    calls: list[int] = []

    async def body(store: UnreliableStore) -> None:
        def counted(connection: Any) -> NewMessage:  # a connection of SQLite
            calls.append(1)
            return work(connection)

        await store.transact("a", 1, counted)
        assert len(await store.mailbox("a")) == 1
        rows: list[object] = []

        def look(connection: Any) -> NewMessage:  # as above
            rows[:] = connection.execute("SELECT * FROM ledger")
            raise LookupError

        with pytest.raises(LookupError):
            await store.transact("a", 1, look)
        assert rows == [(1,)]

    assert simulated(body, Faults(again=1.0)).count("transact") == 1
    assert len(calls) == 2


def test_a_write_that_finds_no_room_changes_nothing() -> None:
    async def body(store: UnreliableStore) -> None:
        store.disk.faults.full = 1.0
        with pytest.raises(StoreFull):
            await store.publish(happened("e1"))
        with pytest.raises(StoreFull):
            await store.transact("a", 1, work)
        with pytest.raises(StoreFull):
            await store.admit("q", now=1)
        store.disk.faults.full = 0.0
        assert await store.events() == [] and await store.mailbox("a") == []

    simulated(body)


def test_a_transaction_and_an_append_of_one_run_commit_in_the_order_of_their_calls() -> None:
    async def body(store: UnreliableStore) -> None:
        append = store.append(appended("a", 2, "x"))
        done = store.transact("a", 1, work)
        ending = store.append(appended("a", 3, status="completed", finished_at=9, entries=[]))
        await asyncio.gather(append, done, ending)

    committed = simulated(body, Faults(late=0.5))
    assert committed[-3:] == ["append", "transact", "append"]
