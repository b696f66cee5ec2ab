"""How does a transactional task work without a file? In a SQLite database in memory, with real rollback."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stepwell.stores.guarded import call_guarded
from stepwell.stores.memory.content import MemoryData
from stepwell.stores.protocol import NewMessage


@dataclass
class Done:
    """What the work did: the message that it returned, and whether what it wrote is to be kept."""

    message: NewMessage
    keeps: bool = True


@contextmanager
def transaction(
    data: MemoryData,
    run_id: str,
    work: Callable[[Any], NewMessage],  # Any: a sqlite3.Connection, guarded
) -> Iterator[Done]:
    """Call `work` and give what it did to the block; what it wrote stays if the block ends well and keeps it."""
    connection = data.database
    if connection is None:
        connection = data.database = _new_database()
        weakref.finalize(data, connection.close)  # it lives as long as the data, and Python wants it closed
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = Done(_beside_the_loop(lambda: call_guarded(connection, run_id, work)))
        yield done
        if done.keeps:
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _new_database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    # The table behind AUTOINCREMENT is there from the start, as in a file: tasks may not make it.
    connection.execute("CREATE TABLE first (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    connection.execute("DROP TABLE first")
    return connection


def _beside_the_loop(work: Callable[[], NewMessage]) -> NewMessage:
    """Call `work` on a thread of its own, as other stores do, and wait for it."""
    messages: list[NewMessage] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            messages.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="stepwell-transaction")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return messages[0]
