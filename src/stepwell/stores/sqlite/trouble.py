"""What does an error of SQLite mean for the caller? One of the store's errors, with the place and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from stepwell.errors import StoreBusy, StoreError, StoreFull, StoreUnusable

_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
"""A full disk says FULL; a limit on file size or a quota makes the write fail. Both are rolled back already."""

_FSYNC: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_FORBIDDEN: Final = frozenset(
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)

_SERIOUS: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY})


def code_of(error: sqlite3.Error) -> int:
    """SQLite's extended result code; 0 when the error did not come from SQLite."""
    return getattr(error, "sqlite_errorcode", 0)


def is_busy(error: sqlite3.Error) -> bool:
    """Another connection holds a lock; trying again is right."""
    return code_of(error) & 0xFF in _BUSY


def is_full(error: sqlite3.Error) -> bool:
    """There is no room to write."""
    return code_of(error) in _FULL


def is_fsync(error: sqlite3.Error) -> bool:
    """The disk could not promise that what was written is there: a second try may only seem to succeed."""
    return code_of(error) in _FSYNC


def is_damage(error: sqlite3.Error) -> bool:
    """The file is not a database, or not a whole one."""
    return code_of(error) & 0xFF in _DAMAGED


def is_of_the_file(error: Exception) -> bool:
    """Whether it is trouble with the file, and not with what a statement asked for."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = code_of(error)
    return is_full(error) or is_damage(error) or is_busy(error) or code & 0xFF in _SERIOUS


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """The store's error for an error of SQLite."""
    code = code_of(error)
    what = f"{error} (SQLite code {code})"
    if is_full(error):
        return StoreFull(f"store {path}: no room to write: {what}; make room, and it goes on with nothing lost")
    if is_fsync(error):
        return StoreError(
            f"store {path}: the disk failed to make a write durable: {what}; this store object stops for good: "
            "end the process and look at the disk before starting it again"
        )
    if is_busy(error):
        return StoreBusy(f"store {path}: another process keeps it locked: {what}; see who has the file open")
    if is_damage(error):
        return StoreUnusable(
            f"store {path}: the file is damaged or not a SQLite database: {what}; run a check, or restore a backup"
        )
    if code & 0xFF in _FORBIDDEN:
        return StoreUnusable(
            f"store {path}: cannot be opened for writing: {what}; "
            "give this user the right to write the file and its folder"
        )
    return StoreError(f"store {path}: {what}")
