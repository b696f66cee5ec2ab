"""A connection that runs queries by name, and many rows with few statements.

Python lets go of the interpreter around every step of a statement and may wait 5 ms to get it back while another
thread computes. A thousand rows are therefore a handful of statements with many rows each, not `executemany`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

from stepwell.stores import queries

Row: TypeAlias = tuple[Any, ...]  # columns as SQLite hands them over; the readers below give them types

LARGEST: Final = 1024
"""Rows in one statement: 1,024 rows of 18 columns stay below SQLite's 32,766 parameters."""

_QUERIES: queries.Queries | None = None


def named() -> queries.Queries:
    """The queries of this store, read from their files once."""
    global _QUERIES
    if _QUERIES is None:
        _QUERIES = queries.load(queries.SQL / "sqlite")
    return _QUERIES


class Session:
    """One connection. Not for two threads at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        self.queries = named()
        self._execute = connection.execute

    def run(self, name: str, values: Sequence[object] = ()) -> int:
        """Run a query once; the number of rows it changed."""
        return self._execute(self.queries[name], values).rowcount

    def one(self, name: str, values: Sequence[object] = ()) -> Row | None:
        """The first row of the answer, or None."""
        cursor = self._execute(self.queries[name], values)
        row: Row | None = cursor.fetchone()
        if row is not None:
            cursor.close()  # an open cursor would keep its read transaction
        return row

    def all(self, name: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of the answer."""
        return self._execute(self.queries[name], values).fetchall()

    def insert(self, name: str, rows: Sequence[Sequence[object]]) -> int:
        """Insert rows with an `INSERT … VALUES […]*`; how many were inserted."""
        count = 0
        for part in exact(rows):
            count += self._execute(self.queries.repeated(name, len(part)), list(chain(*part))).rowcount
        return count

    def update(self, name: str, rows: Sequence[Sequence[object]], tail: Sequence[object] = ()) -> int:
        """Run a query whose `VALUES […]*` are joined with a table; how many rows changed.

        The values are filled up with rows of NULLs, which equal nothing, so that few texts are ever prepared.
        """
        count = 0
        for part in filled(rows):
            count += self._execute(self.queries.repeated(name, len(part)), [*chain(*part), *tail]).rowcount
        return count

    def among(
        self, name: str, values: Sequence[object], head: Sequence[object] = (), tail: Sequence[object] = ()
    ) -> list[Row]:
        """All rows of a query with `[…]*` for these values, each one parameter."""
        return self.matching(name, [(value,) for value in values], head, tail)

    def matching(
        self,
        name: str,
        rows: Sequence[Sequence[object]],
        head: Sequence[object] = (),
        tail: Sequence[object] = (),
    ) -> list[Row]:
        """All rows of a query with `[…]*` for these rows."""
        found: list[Row] = []
        for part in filled(rows):
            text = self.queries.repeated(name, len(part))
            found += self._execute(text, [*head, *chain(*part), *tail]).fetchall()
        return found


def exact(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    """The rows in parts whose sizes are powers of two."""
    start, left = 0, len(rows)
    while left:
        size = min(LARGEST, 1 << (left.bit_length() - 1))
        yield rows[start : start + size] if size < len(rows) else rows
        start, left = start + size, left - size


def filled(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    """The rows in parts of up to `LARGEST`, each filled up with NULLs to a power of two."""
    for start in range(0, len(rows), LARGEST):
        part = rows[start : start + LARGEST]
        size = 1 << (len(part) - 1).bit_length()
        if size > len(part):
            part = [*part, *([(None,) * len(part[0])] * (size - len(part)))]
        yield part
