"""How is the file opened and brought up to date? With checks first, and settings that never lose a commit."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stepwell.errors import StoreUnusable
from stepwell.stores.queries import SQL
from stepwell.stores.sqlite.trouble import translated
from stepwell.version import VERSION

APPLICATION_ID: Final = 0x53574C31
"""`SWL1`, in the file's header: other programs' files are left alone."""

OLDEST_SQLITE: Final = (3, 35, 0)

CACHED_STATEMENTS: Final = 384

_EVERYWHERE: Final = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",
)
_WRITER: Final = (
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -8000",
    "PRAGMA fullfsync = ON",  # only F_FULLFSYNC is durable on macOS; elsewhere it changes nothing
    "PRAGMA checkpoint_fullfsync = ON",
)
_READER: Final = (
    "PRAGMA query_only = ON",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -4000",
)


def migrations() -> list[tuple[int, str, Path]]:
    """The migrations as (number, name, file), in order, from 1 without a gap."""
    files = sorted((SQL / "sqlite" / "migrations").glob("*.sql"))
    return [(int(file.stem[:4]), file.stem[5:], file) for file in files]


def write_connection(path: Path, *, create: bool) -> sqlite3.Connection:
    """The one connection that writes, on a file that is ours and of this schema. Call it under the turn lock.

    Its busy timeout is 0 from then on: SQLite's own waiting starves one writer for another, so the caller waits.

    Raises:
        StoreUnusable: a folder, not a database, another program's, damaged, newer, or not writable; or it does not
            exist and `create` is false.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise StoreUnusable(f"store {path}: needs SQLite {oldest} or newer; this Python has {sqlite3.sqlite_version}")
    _make_file(path, create=create)
    connection = sqlite3.connect(
        path, timeout=5, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
    )
    try:
        for pragma in _EVERYWHERE:
            connection.execute(pragma)
        _recognise(connection, path, create=create)
        _migrate(connection, path)
        for pragma in _WRITER:
            connection.execute(pragma)
        connection.execute("PRAGMA busy_timeout = 0")
    except sqlite3.Error as error:
        connection.close()
        raise translated(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def read_connection(path: Path) -> sqlite3.Connection:
    """A connection that can only read."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5, isolation_level=None, check_same_thread=False
    )
    for pragma in _EVERYWHERE + _READER:
        connection.execute(pragma)
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """The number of the last migration that this file has been through."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make_file(path: Path, *, create: bool) -> None:
    """Make an empty file that only its owner can read, so that it never exists with other rights."""
    if path.is_dir():
        raise StoreUnusable(f"store {path}: this is a folder; name a file in it, such as {path / 'stepwell.db'}")
    if path.exists():
        return
    if not create:
        raise StoreUnusable(f"store {path}: there is no such file; check the path, or start a run to make it")
    try:
        # The file is not yet a database that this process has open, so closing it drops no lock of SQLite's.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreUnusable(f"store {path}: cannot be made: {error.strerror}; use a folder you may write in") from error


def _recognise(connection: sqlite3.Connection, path: Path, *, create: bool) -> None:
    """Refuse what is not ours before anything is written to it."""
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    version, newest = version_of(connection), migrations()[-1][0]
    if application == APPLICATION_ID:
        if version > newest:
            raise StoreUnusable(
                f"store {path}: has schema {version}, this program knows schemas up to {newest}: "
                "use the newer Stepwell that wrote it"
            )
        _refuse_cut_short(connection, path)
    elif application or tables:
        raise StoreUnusable(f"store {path}: is another program's database ({tables} tables); name another file")
    elif not create:
        raise StoreUnusable(f"store {path}: the file is empty; check the path, or start a run to fill it")
    else:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
    if mode != "wal":
        raise StoreUnusable(
            f"store {path}: this place does not allow a write-ahead log (mode {mode}); use a file on a local disk"
        )


def _refuse_cut_short(connection: sqlite3.Connection, path: Path) -> None:
    """A copy that was cut short is told by its length, unless a log beside it holds the rest."""
    pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
    size = int(connection.execute("PRAGMA page_size").fetchone()[0])
    log = Path(f"{path}-wal")
    if path.stat().st_size < pages * size and not (log.exists() and log.stat().st_size):
        raise StoreUnusable(
            f"store {path}: is cut short: {path.stat().st_size} bytes of {pages * size}; restore a backup"
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, each migration in a transaction of its own."""
    for number, _name, file in migrations():
        if number <= version_of(connection):
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(file.read_text("utf-8")):
                connection.execute(statement)
            if number == 1:
                made = [("store_id", os.urandom(8).hex()), ("created_by", f"stepwell {VERSION}")]
                connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", made)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(text: str) -> list[str]:
    """The statements of a migration; `executescript` would commit between them."""
    found, lines = [], ""
    for line in text.splitlines():
        if not line.lstrip().startswith("--"):
            lines += line + "\n"
        if lines.strip() and sqlite3.complete_statement(lines):
            found.append(lines)
            lines = ""
    return found
