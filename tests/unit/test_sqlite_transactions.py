"""What may a transactional task do with the file, and what is refused before it does harm?"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stepwell.errors import DefinitionError, StoreFull
from stepwell.stores.guarded import OWN_TABLES, GuardedConnection
from stepwell.stores.memory import MemoryStore
from stepwell.stores.protocol import NewMessage, Store
from stepwell.stores.sqlite import SqliteStore
from stepwell.stores.sqlite.schema import write_connection
from stepwell.testing.conformance.kit import LEASE, appended, mail, new_run, notes

OUTCOME = mail("a", "step", kind="outcome")


def driven(store: Store, body: Callable[[Any], Awaitable[None]]) -> None:
    async def go() -> None:
        await store.open()
        try:
            await store.drive("w1", now=0, lease=LEASE)
            await store.create(new_run("a", owner="w1"))
            await body(store)
        finally:
            await store.close()

    asyncio.run(go())


def runs(*statements: str) -> Callable[[GuardedConnection], NewMessage]:
    def work(connection: GuardedConnection) -> NewMessage:
        for statement in statements:
            connection.execute(statement).fetchall()
        return OUTCOME

    return work


def stores(tmp_path: Path) -> list[Store]:
    return [SqliteStore(tmp_path / "runs.db"), MemoryStore()]


def test_every_table_of_the_file_is_known_as_its_own(tmp_path: Path) -> None:
    file = write_connection(tmp_path / "runs.db", create=True)
    tables = {row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    file.close()
    assert tables == OWN_TABLES


@pytest.mark.parametrize("table", sorted(OWN_TABLES))
def test_no_statement_touches_a_table_of_the_stores_own(tmp_path: Path, table: str) -> None:
    async def body(store: SqliteStore) -> None:
        ways = [
            f"SELECT * FROM {table}",
            f"SELECT count(*) FROM main.{table.upper()}",
            f'INSERT INTO "{table}" DEFAULT VALUES',
            f"DELETE FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} ADD COLUMN x",
            f"CREATE INDEX theirs ON {table} (rowid)",
            f"CREATE TRIGGER theirs AFTER INSERT ON {table} BEGIN SELECT 1; END",
            f"CREATE TEMP TRIGGER theirs AFTER INSERT ON main.{table} BEGIN SELECT 1; END",
            f"WITH x AS (SELECT 1 FROM {table}) SELECT * FROM x",
            f"CREATE TABLE theirs AS SELECT * FROM {table}",
        ]
        for statement in ways:
            with pytest.raises((DefinitionError, sqlite3.OperationalError)) as raised:
                await store.transact("a", 1, runs(statement))
            if isinstance(raised.value, sqlite3.OperationalError):  # what no statement may do anyway
                assert table == "sqlite_sequence" or "rowid" in statement or "syntax" in str(raised.value)
            else:
                assert "own table" in str(raised.value) or "temporary" in str(raised.value)
        assert await store.mailbox("a") == []

    driven(SqliteStore(tmp_path / "runs.db"), body)


def test_a_view_on_a_table_of_the_stores_own_is_of_no_use(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        with pytest.raises(DefinitionError, match="touches runs"):
            await store.transact("a", 1, runs("CREATE VIEW spy AS SELECT * FROM runs", "SELECT * FROM spy"))

    driven(SqliteStore(tmp_path / "runs.db"), body)


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT stepwell_work",
        "ROLLBACK TO stepwell_change",
        "RELEASE STEPWELL_work",
        "PRAGMA synchronous = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA table_info(theirs)",
        "SELECT * FROM pragma_database_list",
        "ATTACH 'other.db' AS other",
        "DETACH main",
        "ANALYZE",
        "CREATE TEMP TABLE x (y)",
        "CREATE TEMP VIEW x AS SELECT 1",
    ],
)
def test_what_would_reach_beyond_the_task_is_refused_by_every_store(tmp_path: Path, statement: str) -> None:
    for store in stores(tmp_path):

        async def body(store: Store) -> None:
            await store.transact("a", 1, runs("CREATE TABLE theirs (x)"))
            with pytest.raises(DefinitionError, match=r"may not run .*: it "):
                await store.transact("a", 1, runs("INSERT INTO theirs VALUES (1)", statement))
            seen: list[object] = []

            def look(connection: GuardedConnection) -> NewMessage:
                seen.extend(connection.execute("SELECT * FROM theirs"))
                return OUTCOME

            await store.transact("a", 1, look)
            assert seen == []
            await store.append(appended("a", 2, "x"))

        driven(store, body)


def test_savepoints_of_its_own_tables_triggers_and_views_are_the_tasks_affair(tmp_path: Path) -> None:
    for store in stores(tmp_path):

        async def body(store: Store) -> None:
            def work(connection: GuardedConnection) -> NewMessage:
                connection.execute("CREATE TABLE theirs (id INTEGER PRIMARY KEY AUTOINCREMENT, events TEXT)")
                connection.execute("CREATE TABLE log (x)")
                connection.execute("CREATE INDEX i ON theirs (events)")
                connection.execute("CREATE VIEW v AS SELECT events FROM theirs")
                connection.execute(
                    "CREATE TRIGGER t AFTER INSERT ON theirs BEGIN INSERT INTO log VALUES (new.events); END"
                )
                connection.execute("INSERT INTO theirs (events) VALUES ('kept')")
                connection.execute("SAVEPOINT mine")
                connection.execute("INSERT INTO theirs (events) VALUES ('not kept')")
                connection.execute("ROLLBACK TO mine")
                connection.execute("RELEASE mine")
                assert connection.in_transaction and connection.total_changes >= 2
                connection.row_factory = sqlite3.Row
                assert connection.execute("SELECT events FROM v").fetchone()["events"] == "kept"
                cursor = connection.execute("SELECT x FROM log")
                assert next(cursor)["x"] == "kept" and cursor.lastrowid is not None
                return OUTCOME

            await store.transact("a", 1, work)
            with pytest.raises(sqlite3.IntegrityError):
                await store.transact("a", 1, runs("INSERT INTO theirs (id) VALUES (1)"))
            with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
                await store.transact("a", 1, runs("SELECT * FROM nowhere"))

        driven(store, body)


@pytest.mark.parametrize("method", ["commit", "rollback", "close", "executescript"])
def test_methods_that_would_end_the_transaction_are_refused_with_what_to_do(tmp_path: Path, method: str) -> None:
    for store in stores(tmp_path):

        async def body(store: Store) -> None:
            def work(connection: GuardedConnection) -> NewMessage:
                getattr(connection, method)(*(["SELECT 1"] if method == "executescript" else []))
                return OUTCOME

            with pytest.raises(DefinitionError, match=method):
                await store.transact("a", 1, work)

            def by_cursor(connection: GuardedConnection) -> NewMessage:
                cursor: Any = connection.cursor()  # which a task does not know the type of
                cursor.executescript("SELECT 1")
                return OUTCOME

            with pytest.raises(DefinitionError, match="executescript"):
                await store.transact("a", 1, by_cursor)

            def in_a_block(connection: GuardedConnection) -> NewMessage:
                with connection:
                    pass
                return OUTCOME

            with pytest.raises(DefinitionError, match="with-statement"):
                await store.transact("a", 1, in_a_block)

        driven(store, body)


def test_a_statement_that_rolls_everything_back_fails_the_task_and_nobody_else(tmp_path: Path) -> None:
    for store in stores(tmp_path):

        async def body(store: Store) -> None:
            make = "CREATE TABLE theirs (x UNIQUE ON CONFLICT ROLLBACK)"
            await store.transact("a", 1, runs(make, "INSERT INTO theirs VALUES (1)"))

            def swallow(connection: GuardedConnection) -> NewMessage:
                try:
                    connection.execute("INSERT INTO theirs VALUES (1)")
                except sqlite3.IntegrityError:
                    pass
                return OUTCOME

            outcomes = await asyncio.gather(
                store.append(appended("a", 2, "x")),
                store.transact("a", 1, swallow),
                store.append(appended("a", 3, "y")),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [type(None), DefinitionError, type(None)]
            assert "ON CONFLICT ROLLBACK" in str(outcomes[1])
            assert notes(await store.read("a")) == ["x", "y"]
            assert len(await store.mailbox("a")) == 1

        driven(store, body)


def test_no_room_while_the_task_writes_is_the_stores_trouble_and_may_be_tried_again(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        connection = store._parts.writer.committer.session.connection  # type: ignore[union-attr]  # it is open
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")

        def work(connection: GuardedConnection) -> NewMessage:
            connection.execute("CREATE TABLE theirs (x)")
            connection.execute("INSERT INTO theirs VALUES (zeroblob(200000))")
            return OUTCOME

        with pytest.raises(StoreFull):
            await store.transact("a", 1, work)
        await store.append(appended("a", 2, "x"))
        connection.execute("PRAGMA max_page_count = 100000")
        assert await store.transact("a", 1, work) in await store.mailbox("a")

    driven(SqliteStore(tmp_path / "runs.db"), body)


def test_a_cursor_left_open_holds_nothing_up(tmp_path: Path) -> None:
    kept: list[Any] = []

    async def body(store: SqliteStore) -> None:
        def work(connection: GuardedConnection) -> NewMessage:
            connection.execute("CREATE TABLE IF NOT EXISTS theirs (x)")
            connection.execute("INSERT INTO theirs VALUES (1), (2), (3)")
            cursor = connection.execute("SELECT x FROM theirs")
            cursor.fetchone()
            kept.append(cursor)
            return OUTCOME

        await store.transact("a", 1, work)
        await store.transact("a", 1, work)
        await store.append(appended("a", 2, "x"))
        with pytest.raises(sqlite3.ProgrammingError):
            kept[0].fetchone()

    driven(SqliteStore(tmp_path / "runs.db"), body)


def test_the_loop_goes_on_while_a_task_writes(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        def work(connection: GuardedConnection) -> NewMessage:
            deadline = time.monotonic() + 5
            while not turns and time.monotonic() < deadline:
                time.sleep(0.001)
            return OUTCOME

        turns: list[int] = []
        done = store.transact("a", 1, work)
        await asyncio.sleep(0)
        await asyncio.sleep(0.005)
        assert not done.done()
        turns.append(1)
        await done

    driven(SqliteStore(tmp_path / "runs.db"), body)


def test_a_store_of_its_own_is_not_shared_and_one_with_others_is(tmp_path: Path) -> None:
    memory = MemoryStore()
    assert not memory.is_shared
    assert MemoryStore(memory.data).is_shared
    assert SqliteStore(tmp_path / "runs.db").is_shared
