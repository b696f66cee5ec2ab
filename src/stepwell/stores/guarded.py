"""What may a transactional task do with the store's database? Read and write tables of its own, in our transaction.

The task gets a connection with the methods of the DB-API that read and write. What would end the transaction, or
leave something behind on the connection, is refused. SQLite itself asks for every table that a statement touches
(`sqlite3_set_authorizer`), so views, triggers and odd spellings get nowhere near Stepwell's own tables.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

from stepwell.errors import DefinitionError
from stepwell.stores.protocol import NewMessage

OWN_TABLES: Final = frozenset(
    {
        "meta",
        "workers",
        "runs",
        "journal",
        "mailbox",
        "blobs",
        "blob_uses",
        "waits",
        "events",
        "queues",
        "triggers",
        "firings",
        "definitions",
        "definition_labels",
        "cached",
        "shelf",
        "sqlite_sequence",
    }
)

_TABLE_FIRST: Final = frozenset(
    {
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_DROP_TABLE,
    }
)
"""Actions whose first argument is the name of a table."""

_TABLE_SECOND: Final = frozenset(
    {
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_DROP_TRIGGER,
        sqlite3.SQLITE_ALTER_TABLE,
    }
)

_NEVER: Final = {
    sqlite3.SQLITE_TRANSACTION: "begins or ends a transaction; the task's writes are committed with its outcome",
    sqlite3.SQLITE_ATTACH: "attaches another file, which no transaction would tie to the task's outcome",
    sqlite3.SQLITE_DETACH: "detaches a file",
    sqlite3.SQLITE_PRAGMA: "changes or asks for settings of the connection (PRAGMA)",
    sqlite3.SQLITE_ANALYZE: "changes how all queries of this database are run (ANALYZE)",
    sqlite3.SQLITE_CREATE_TEMP_TABLE: "makes a temporary table, which would outlive the task",
    sqlite3.SQLITE_CREATE_TEMP_VIEW: "makes a temporary view, which would outlive the task",
    sqlite3.SQLITE_CREATE_TEMP_INDEX: "makes a temporary index, which would outlive the task",
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: "makes a temporary trigger, which would outlive the task",
}

SAVEPOINTS: Final = "stepwell_"
"""Names of savepoints that begin so are the store's."""


def call_guarded(
    connection: sqlite3.Connection,
    run_id: str,
    work: Callable[[Any], NewMessage],  # Any: a `GuardedConnection`, which tasks know as a DB-API connection
) -> NewMessage:
    """Call `work` with a guarded view of `connection`, whose open transaction stays open.

    Raises:
        DefinitionError: `work` did something that a transactional task may not.
    """
    guard = GuardedConnection(connection)
    connection.set_authorizer(guard._authorize)
    try:
        message = work(guard)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        # It must end the task, not the thread that writes; and no future takes a StopIteration.
        raise DefinitionError(f"run {run_id}: a transactional task may not raise {error!r}") from error
    finally:
        guard._end()
        connection.set_authorizer(None)
    if not connection.in_transaction:
        raise DefinitionError(
            f"run {run_id}: a statement of the transactional task rolled the whole transaction back "
            "(ON CONFLICT ROLLBACK or RAISE(ROLLBACK)): use ABORT instead"
        )
    if message.run_id != run_id:
        raise DefinitionError(
            f"run {run_id}: the work returned a message to run {message.run_id}, which is not allowed"
        )
    return message


class GuardedConnection:
    """A `sqlite3.Connection` for the length of one task: `execute`, `executemany`, `cursor`, `row_factory`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.row_factory: Callable[[sqlite3.Cursor, tuple[Any, ...]], Any] | None = None  # Any: columns, and rows
        self._connection: sqlite3.Connection | None = connection
        self._cursors: weakref.WeakSet[GuardedCursor] = weakref.WeakSet()
        self._why = ""

    def execute(self, sql: str, parameters: Any = (), /) -> GuardedCursor:  # Any: a sequence or mapping of values
        """See `sqlite3.Connection.execute`."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> GuardedCursor:  # Any: as above
        """See `sqlite3.Connection.executemany`."""
        return self.cursor().executemany(sql, parameters)

    def cursor(self) -> GuardedCursor:
        """See `sqlite3.Connection.cursor`."""
        if self._connection is None:
            raise DefinitionError(
                "the connection of a transactional task was used after the task had ended: "
                "the next task gets one of its own"
            )
        cursor = self._connection.cursor()
        cursor.row_factory = self.row_factory
        guarded = GuardedCursor(cursor, self)
        self._cursors.add(guarded)
        return guarded

    @property
    def in_transaction(self) -> bool:
        """Always true."""
        return self._connection is not None

    @property
    def total_changes(self) -> int:
        """See `sqlite3.Connection.total_changes`."""
        return 0 if self._connection is None else self._connection.total_changes

    def commit(self) -> NoReturn:
        """Refused: the store commits, with the outcome."""
        _refuse("commit()", "return instead, and what was written is committed with the outcome")

    def rollback(self) -> NoReturn:
        """Refused: raise to roll back."""
        _refuse("rollback()", "raise an error instead, and what was written is rolled back")

    def close(self) -> NoReturn:
        """Refused: it is the store's connection."""
        _refuse("close()", "the connection is the store's")

    def executescript(self, _script: str) -> NoReturn:
        """Refused: it would commit first."""
        _refuse("executescript()", "it commits what was written before; call execute for each statement")

    def __enter__(self) -> GuardedConnection:
        _refuse("a with-statement", "it would commit at its end; just go on")

    def __exit__(self, *_: object) -> None: ...

    def _authorize(
        self, action: int, one: str | None, other: str | None, _database: str | None, _by: str | None
    ) -> int:
        why = _NEVER.get(action, "")
        table = one if action in _TABLE_FIRST else other if action in _TABLE_SECOND else None
        if table is not None and table.lower() in OWN_TABLES:
            why = f"touches {table}, which is Stepwell's own table; give tables of your own other names"
        elif action == sqlite3.SQLITE_SAVEPOINT and (other or "").lower().startswith(SAVEPOINTS):
            why = f"uses the savepoint {other}, which is Stepwell's own"
        if why:
            self._why = why
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _explain(self, error: sqlite3.Error, sql: str) -> Exception:
        why, self._why = self._why, ""
        if why and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_AUTH:
            return DefinitionError(f"a transactional task may not run {_shortened(sql)}: it {why}")
        return error

    def _end(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()
        self._connection = None


class GuardedCursor:
    """A `sqlite3.Cursor` of a `GuardedConnection`."""

    def __init__(self, cursor: sqlite3.Cursor, connection: GuardedConnection) -> None:
        self.connection = connection
        self._cursor = cursor

    def execute(self, sql: str, parameters: Any = (), /) -> GuardedCursor:  # Any: a sequence or mapping of values
        """See `sqlite3.Cursor.execute`."""
        try:
            self._cursor.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self.connection._explain(error, sql) from None
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> GuardedCursor:  # Any: as above
        """See `sqlite3.Cursor.executemany`."""
        try:
            self._cursor.executemany(sql, parameters)
        except sqlite3.Error as error:
            raise self.connection._explain(error, sql) from None
        return self

    def executescript(self, script: str) -> NoReturn:
        """Refused: it would commit first."""
        self.connection.executescript(script)

    def fetchone(self) -> Any:  # a row, as the row factory makes it
        """See `sqlite3.Cursor.fetchone`."""
        return self._cursor.fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:  # rows, as above
        """See `sqlite3.Cursor.fetchmany`."""
        return self._cursor.fetchmany(self._cursor.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:  # rows, as above
        """See `sqlite3.Cursor.fetchall`."""
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:  # rows, as above
        return iter(self._cursor)

    def __next__(self) -> Any:  # a row, as above
        return next(self._cursor)

    @property
    def description(self) -> Any:  # what the DB-API says: seven-tuples
        """See `sqlite3.Cursor.description`."""
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        """See `sqlite3.Cursor.rowcount`."""
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        """See `sqlite3.Cursor.lastrowid`."""
        return self._cursor.lastrowid

    def close(self) -> None:
        """See `sqlite3.Cursor.close`."""
        self._cursor.close()


def _refuse(what: str, instead: str) -> NoReturn:
    raise DefinitionError(f"a transactional task may not use {what} of its connection: {instead}")


def _shortened(sql: str) -> str:
    text = " ".join(sql.split())
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
