"""What does bare SQLite take on this machine, at this minute? `python -m benchmarks.reference FOLDER` prints it.

One thread, one connection, WAL, `synchronous=FULL`, one table with an integer key and a body of 200 bytes: the least
that anybody could do who wants a row to be on disk.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

BODY = b"x" * 200
WARM_UP = 20


def commit_seconds(connection: sqlite3.Connection, rows: int) -> float:
    """The time of one insert and its commit, mean of `rows` in a row."""
    started = time.perf_counter()
    for _ in range(rows):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO bare (body) VALUES (?)", (BODY,))
        connection.execute("COMMIT")
    return (time.perf_counter() - started) / rows


def grouped_rows_per_second(connection: sqlite3.Connection, rows: int, group: int) -> float:
    """Rows a second with `group` rows in a transaction."""
    values = [(BODY,)] * group
    groups = max(1, rows // group)
    started = time.perf_counter()
    for _ in range(groups):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO bare (body) VALUES (?)", values)
        connection.execute("COMMIT")
    return groups * group / (time.perf_counter() - started)


def measure(folder: Path, scale: float = 1.0) -> dict[str, float]:
    """The three figures that rows are compared with, in a fresh file in `folder`."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, body BLOB)")
    commit_seconds(connection, WARM_UP)
    figures = {
        "commit_seconds": commit_seconds(connection, max(20, round(500 * scale))),
        "rows_by_100": grouped_rows_per_second(connection, max(1000, round(20_000 * scale)), 100),
        "rows_by_1000": grouped_rows_per_second(connection, max(1000, round(20_000 * scale)), 1000),
    }
    connection.close()
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), float(sys.argv[2]))))
