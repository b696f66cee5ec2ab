"""What do readers see? A consistent moment of the file, through connections that cannot write."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

from stepwell.errors import CorruptJournal, RunNotFound
from stepwell.stores.protocol import Filter, Message, RunRow, Stored
from stepwell.stores.sqlite.rows import message, run_row, stored
from stepwell.stores.sqlite.schema import read_connection
from stepwell.stores.sqlite.session import Session
from stepwell.stores.sqlite.trouble import is_damage, translated

PAGE: Final = 4096
"""Entries fetched at a time, so that a long journal is never in memory twice."""


class Readers:
    """Connections for reading, made when they are needed and kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free: queue.SimpleQueue[Session] = queue.SimpleQueue()

    @contextmanager
    def moment(self) -> Iterator[Session]:
        """A session in one read transaction: all that is asked in it is from the same moment.

        Raises:
            StoreError: of the kind that fits, for errors of SQLite.
        """
        session: Session | None = None
        try:
            session = self._get()
            session.connection.execute("BEGIN")
            yield session
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        finally:
            if session is not None:
                if session.connection.in_transaction:
                    session.connection.execute("ROLLBACK")
                self._free.put(session)

    def fresh(self) -> Session:
        """A session that sees what is committed now; the caller's alone until it is dropped."""
        return Session(read_connection(self._path), self._path)

    def close(self) -> None:
        """Close what is not in use."""
        while not self._free.empty():
            self._free.get().connection.close()

    def _get(self) -> Session:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return self.fresh()


def entries(session: Session, run_id: str, *, after: int, limit: int) -> list[Stored]:
    """Entries with `seq > after`, up to the row's `next_seq`, each checked."""
    position = session.one("position", (run_id,))
    if position is None:
        raise RunNotFound(f"no run {run_id} in {session.path}")
    run, next_seq = position
    after = max(0, after)
    last = min(next_seq - 1, after + max(0, limit))
    found: list[Stored] = []
    while after < last:
        try:
            page = session.all("entries", (run, after, min(PAGE, last - after)))
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            raise CorruptJournal(
                f"run {run_id}: the file is damaged after entry {after}: {error}; check the store"
            ) from error
        for columns in page:
            found.append(stored(run_id, after + 1, columns))
            after += 1
        if not page:
            raise CorruptJournal(
                f"run {run_id}: the journal ends at entry {after}, its row says {next_seq - 1}; check the store"
            )
    return found


def heads(session: Session, run_ids: Sequence[str], *, limit: int) -> dict[str, list[Stored]]:
    """The first entries of several runs, each checked; those whose journals are not in order are left out."""
    found: dict[str, list[Stored]] = {}
    missing: dict[str, int] = {}
    for run_id, next_seq, *columns in session.among("heads", run_ids, tail=(limit,)):
        head = found.setdefault(run_id, [])
        missing[run_id] = min(limit, next_seq - 1) - len(head)
        if missing[run_id] > 0:
            try:
                head.append(stored(run_id, len(head) + 1, columns))
                missing[run_id] -= 1
            except CorruptJournal:  # whatever follows is out of order too
                continue
    return {run_id: head for run_id, head in found.items() if not missing[run_id]}


def blob(session: Session, digest: str) -> bytes:
    """The payload with this content hash, checked."""
    row = session.one("blob", (digest,))
    if row is None:
        raise CorruptJournal(f"store {session.path}: the payload {digest} is missing")
    size, crc, body = row
    if not isinstance(body, bytes) or len(body) != size or crc32(body) != crc:
        raise CorruptJournal(
            f"store {session.path}: the payload {digest} is not what was written: its checksum differs"
        )
    return body


def run(session: Session, run_id: str) -> RunRow | None:
    """The run's row, or None."""
    row = session.one("run", (run_id,))
    return None if row is None else run_row(row)


def mailbox(session: Session, run_id: str) -> list[Message]:
    """A run's unconsumed messages."""
    return [message(row) for row in session.all("open_messages", (run_id,))]


def messages(session: Session, *, after: int, owner: str) -> list[Message]:
    """Unconsumed messages of the owner's runs."""
    return [message(row) for row in session.all("open_messages_after", (after, owner))]


def count(session: Session) -> dict[str, int]:
    """How many runs have each status."""
    return {str(status): int(runs) for status, runs in session.all("count")}


def find(session: Session, where: Filter) -> list[RunRow]:
    """Rows that match, newest first."""
    text, values = [session.queries["find"]], list[object]()

    def narrow(name: str, *of: object, times: int = 1) -> None:
        text.append(session.queries.repeated(name, times))
        values.extend(of)

    if where.status:
        narrow("find_status", *where.status, times=len(where.status))
    simple: list[tuple[str, str | int | None]] = [
        ("find_workflow", where.workflow or None),
        ("find_root", where.root or None),
        ("find_parent", where.parent or None),
        ("find_queue", where.queue or None),
        ("find_created_after", where.created_after),
        ("find_created_before", where.created_before),
    ]
    for name, value in simple:
        if value is not None:
            narrow(name, value)
    for key, label in where.labels.items():
        narrow("find_label", key, label)
    if where.search:
        lowered = where.search.encode().lower().decode()  # of ASCII letters only, as SQLite's lower()
        narrow("find_search", lowered, lowered)
    narrow("find_page", max(0, where.limit), max(0, where.offset))
    return [run_row(row) for row in session.connection.execute(" ".join(text), values)]
