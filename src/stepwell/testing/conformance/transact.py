"""Are the writes of a transactional task there exactly when its outcome is?"""

from __future__ import annotations

import asyncio
import threading
import unittest
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from stepwell.errors import DefinitionError, Fenced, StepwellError
from stepwell.stores.protocol import NewMessage, Store
from stepwell.testing.conformance.kit import (
    Broken,
    Kit,
    appended,
    break_at,
    claim_one,
    ended,
    happened,
    mail,
    new_run,
    notes,
    refused,
    row_of,
)


class TransactTests(Kit):
    """Writing to the store's database together with a message."""

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Store]:
        """A driver whose database has a table `ledger` and whose run `a` is owned under epoch 1."""
        if not self.transacts:
            raise unittest.SkipTest("this store's database does not take such SQL")
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))

            def make(connection: Any) -> NewMessage:  # a connection of the DB-API
                connection.execute("CREATE TABLE ledger (entry TEXT PRIMARY KEY)")
                return _outcome("made")

            await store.transact("a", 1, make)
            yield store

    async def test_the_writes_are_there_with_the_message(self) -> None:
        async with self.ledger() as store:
            message = await store.transact("a", 1, _writes("x"))
            assert (message.run_id, message.kind, message.name) == ("a", "outcome", "x")
            assert (await store.mailbox("a"))[-1] == message
            assert await _ledger(store) == ["x"]

    async def test_the_message_is_delivered_and_consumed_like_any_other(self) -> None:
        async with self.ledger() as store:
            message = await store.transact("a", 1, _writes("x"))
            assert message in await store.messages(after=0, owner="w1")
            mine = tuple(one.id for one in await store.mailbox("a"))
            await store.append(appended("a", 2, "done", consumed=mine))
            assert await store.mailbox("a") == []

    async def test_what_the_work_raises_rolls_back_and_is_raised(self) -> None:
        async with self.ledger() as store:
            before = await store.mailbox("a")
            for error in (ValueError("no"), StepwellError("neither"), KeyError("x")):
                with refused(type(error)):
                    await store.transact("a", 1, _writes("x", error))
            assert await _ledger(store) == []
            assert await store.mailbox("a") == before

    async def test_the_work_may_catch_its_own_errors_and_go_on(self) -> None:
        async with self.ledger() as store:

            def work(connection: Any) -> NewMessage:  # a connection of the DB-API
                connection.execute("INSERT INTO ledger VALUES ('x')")
                try:
                    connection.execute("INSERT INTO ledger VALUES ('x')")
                except Exception:
                    connection.execute("INSERT INTO ledger VALUES ('y')")
                return _outcome("x")

            await store.transact("a", 1, work)
            assert await _ledger(store) == ["x", "y"]

    async def test_even_an_exit_ends_the_work_only(self) -> None:
        async with self.ledger() as store:
            with refused(DefinitionError, "SystemExit"):
                await store.transact("a", 1, _writes("x", SystemExit(3)))
            with refused(DefinitionError, "StopIteration"):
                await store.transact("a", 1, _writes("x", StopIteration()))
            await store.transact("a", 1, _writes("y"))
            assert await _ledger(store) == ["y"]

    async def test_a_work_that_fails_does_not_harm_what_is_committed_with_it(self) -> None:
        async with self.ledger() as store:
            outcomes = await asyncio.gather(
                store.append(appended("a", 2, "x")),
                store.transact("a", 1, _writes("one")),
                store.transact("a", 1, _writes("two", ValueError("no"))),
                store.publish(happened("e1")),
                store.transact("a", 1, _writes("one")),
                store.append(appended("a", 3, "y")),
                return_exceptions=True,
            )
            assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, False, True, False, True, False]
            assert await _ledger(store) == ["one"]
            assert notes(await store.read("a")) == ["x", "y"]
            assert len(await store.events()) == 1

    async def test_only_the_owner_under_its_epoch_transacts(self) -> None:
        async with self.ledger() as store, self.client() as other:
            called: list[str] = []

            def work(_connection: Any) -> NewMessage:  # a connection of the DB-API
                called.append("x")
                return _outcome("x")

            await store.create(new_run("b"))
            for client, run_id, epoch in ((store, "a", 2), (store, "b", 0), (store, "none", 1), (other, "a", 1)):
                with refused(Fenced):
                    await client.transact(run_id, epoch, work)
            await ended(store, "a")
            with refused(Fenced):
                await store.transact("a", 1, work)
            assert called == []

    async def test_a_run_that_was_taken_over_is_not_written_for(self) -> None:
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=10)
        await dying.create(new_run("a", owner="w1"))
        async with self.client() as store:
            self.kill(dying)
            await store.drive("w2", now=20, lease=10)
            claimed = await claim_one(store, worker="w2", now=20)
            with refused(Fenced):
                await store.transact("a", 1, _writes("x"))
            if self.transacts:
                await store.transact("a", claimed.row.epoch, lambda _: _outcome("x"))

    async def test_a_message_whose_key_is_known_leaves_everything_as_it_is(self) -> None:
        async with self.ledger() as store:
            first = await store.transact("a", 1, _writes("x", key="k"))
            again = await store.transact("a", 1, _writes("y", name="x", key="k"))
            assert again == first
            assert await _ledger(store) == ["x"]

    async def test_a_message_to_another_run_is_refused(self) -> None:
        async with self.ledger() as store:
            await store.create(new_run("b", owner="w1"))
            with refused(DefinitionError, "b"):
                await store.transact("a", 1, lambda _: mail("b", kind="outcome"))
            assert await store.mailbox("b") == []

    async def test_the_work_is_not_called_on_the_loops_thread(self) -> None:
        async with self.ledger() as store:
            threads: list[threading.Thread] = []

            def work(_connection: Any) -> NewMessage:  # a connection of the DB-API
                threads.append(threading.current_thread())
                return _outcome("x")

            await store.transact("a", 1, work)
            assert threads and threads[0] is not threading.current_thread()

    async def test_nothing_of_a_broken_transaction_remains_and_it_may_be_done_again(self) -> None:
        async with self.ledger() as store:
            before = await store.mailbox("a")
            for point in ("posted", "commit"):
                self.fault(store, break_at(point))
                with refused(Broken):
                    await store.transact("a", 1, _writes("x"))
                self.fault(store, None)
                assert await _ledger(store) == []
                assert await store.mailbox("a") == before
            await store.transact("a", 1, _writes("x"))
            assert await _ledger(store) == ["x"]

    async def test_what_was_written_survives_the_process(self) -> None:
        if not self.transacts:
            raise unittest.SkipTest("this store's database does not take such SQL")
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=10)
        await dying.create(new_run("a", owner="w1"))

        def work(connection: Any) -> NewMessage:  # a connection of the DB-API
            connection.execute("CREATE TABLE ledger (entry TEXT)")
            connection.execute("INSERT INTO ledger VALUES ('x')")
            return _outcome("x")

        await dying.transact("a", 1, work)
        self.kill(dying)
        async with self.driver("w2", now=20) as store:
            claimed = await claim_one(store, worker="w2", now=20)
            assert [message.name for message in claimed.messages] == ["x"]
            await store.append(appended(claimed, 2, status="waiting", release=True, seen=claimed.messages[-1].id))
            await store.create(new_run("b", owner="w2"))
            assert await _ledger(store, "b") == ["x"]

    # -- the connection -----------------------------------------------------------------------------------------
    async def test_the_connection_reads_and_writes_as_one_of_the_db_api(self) -> None:
        async with self.ledger() as store:
            seen: list[object] = []

            def work(connection: Any) -> NewMessage:  # a connection of the DB-API
                cursor = connection.cursor()
                cursor.executemany("INSERT INTO ledger VALUES (?)", [("x",), ("y",), ("z",)])
                seen.append(cursor.rowcount)
                cursor.execute("SELECT entry FROM ledger WHERE entry > ? ORDER BY entry", ("w",))
                seen.append([column[0] for column in cursor.description])
                seen.append(cursor.fetchone())
                seen.append(cursor.fetchmany(1))
                seen.append(cursor.fetchall())
                seen.append([row[0] for row in connection.execute("SELECT entry FROM ledger ORDER BY entry")])
                cursor.close()
                return _outcome("x")

            await store.transact("a", 1, work)
            assert seen == [3, ["entry"], ("x",), [("y",)], [("z",)], ["x", "y", "z"]]

    async def test_the_transaction_cannot_be_ended_by_the_work(self) -> None:
        async with self.ledger() as store:
            ways: list[Callable[[Any], object]] = [
                lambda connection: connection.commit(),
                lambda connection: connection.rollback(),
                lambda connection: connection.close(),
                lambda connection: connection.execute("COMMIT"),
                lambda connection: connection.execute("ROLLBACK"),
                lambda connection: connection.execute("BEGIN"),
                lambda connection: connection.cursor().execute("/* now */ commit"),
            ]
            for way in ways:

                def work(connection: Any, way: Callable[[Any], object] = way) -> NewMessage:  # as above
                    connection.execute("INSERT INTO ledger VALUES ('x')")
                    way(connection)
                    return _outcome("x")

                with refused(DefinitionError, "transactional task"):
                    await store.transact("a", 1, work)
                assert await _ledger(store) == []

    async def test_the_connection_is_of_no_use_after_the_work(self) -> None:
        async with self.ledger() as store:
            kept: list[Any] = []

            def work(connection: Any) -> NewMessage:  # a connection of the DB-API
                kept.append(connection)
                return _outcome("x")

            await store.transact("a", 1, work)
            with refused(DefinitionError, "after the task had ended"):
                kept[0].execute("INSERT INTO ledger VALUES ('x')")

    async def test_the_stores_own_rows_are_out_of_reach(self) -> None:
        async with self.ledger() as store:
            before = await row_of(store, "a")
            for statement in ("UPDATE runs SET status = 'completed'", "DELETE FROM journal", "SELECT * FROM mailbox"):

                def work(connection: Any, statement: str = statement) -> NewMessage:  # as above
                    connection.execute(statement)
                    return _outcome("x")

                with refused(Exception):
                    await store.transact("a", 1, work)
            assert await row_of(store, "a") == before
            assert len(await store.read("a")) == 1


def _outcome(name: str, key: str = "") -> NewMessage:
    return mail("a", name, kind="outcome", key=key)


def _writes(
    entry: str, error: BaseException | None = None, *, name: str = "", key: str = ""
) -> Callable[[Any], NewMessage]:  # Any: a connection of the DB-API
    def work(connection: Any) -> NewMessage:  # as above
        connection.execute("INSERT INTO ledger VALUES (?)", (entry,))
        if error is not None:
            raise error
        return _outcome(name or entry, key)

    return work


async def _ledger(store: Store, run_id: str = "a") -> list[str]:
    """What stands in the table, read by a work that fails, so that nothing comes of it."""
    found: list[str] = []

    class Enough(Exception):
        pass

    def work(connection: Any) -> NewMessage:  # a connection of the DB-API
        found.extend(row[0] for row in connection.execute("SELECT entry FROM ledger ORDER BY entry"))
        raise Enough

    with refused(Enough):
        await store.transact(run_id, (await row_of(store, run_id)).epoch, work)
    return found
