"""How is a file kept well? Old trees deleted whole, copies made while work goes on, everything in it checked."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stepwell.errors import CorruptJournal, StoreUnusable
from stepwell.stores.protocol import Finding
from stepwell.stores.sqlite import definitions, reading, shelf
from stepwell.stores.sqlite.group import Group
from stepwell.stores.sqlite.locks import FileLock
from stepwell.stores.sqlite.rows import checked
from stepwell.stores.sqlite.schema import migrations, version_of
from stepwell.stores.sqlite.session import Session
from stepwell.stores.sqlite.trouble import translated

LOG_ALARM_BYTES: Final = 256 * 1024 * 1024
ROOM_ALARM_BYTES: Final = 256 * 1024 * 1024
CHECK_PAGE: Final = 2000
SHOWN: Final = 20


def delete(group: Group, *, finished_before: int, limit: int) -> int:
    """Delete ended trees, oldest first, up to `limit` runs; a tree larger than that goes alone. How many runs went."""
    session = group.session
    roots: list[str] = []
    count = 0
    for root, members in session.all("ended_trees", (finished_before, finished_before, max(0, limit))):
        if roots and count + members > limit:
            break
        roots.append(root)
        count += members
    if not roots:
        return 0
    runs = [row[0] for row in session.among("runs_of_trees", roots)]
    digests = [row[0] for row in session.among("uses_of_runs", runs)]
    for name in ("delete_shelves", "delete_entries", "delete_messages", "delete_waits", "delete_uses", "delete_runs"):
        session.among(name, runs)
        group.at("rows")
    if digests:
        session.among("delete_blobs", digests)
    group.rows_written += count
    group.prove(("run_position", (runs[0],), None))
    return len(runs)


def backup(path: Path, to: Path, session: Session) -> None:
    """Write a consistent copy to `to`, which only its owner can read."""
    try:
        # VACUUM INTO accepts an empty file; made here so that it is new, and never readable by others.
        os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        raise StoreUnusable(f"backup of {path}: {to} exists already; name a new file") from None
    except OSError as error:
        raise StoreUnusable(f"backup of {path}: {to} cannot be made: {error.strerror}; name another place") from error
    try:
        session.connection.execute("VACUUM INTO ?", (str(to),))
    except sqlite3.Error as error:
        to.unlink(missing_ok=True)
        raise translated(error, path) from error
    # The copy is nobody's open database yet, so opening it by other means is safe.
    descriptor = os.open(to, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(session: Session, lock: Path) -> Iterator[Finding]:
    """Look everything over, one finding at a time. `lock` is the side file that the driver holds."""
    path = session.path
    connection = session.connection
    runs, entries = session.one("sizes") or (0, 0)
    mode = path.stat().st_mode & 0o077 if os.name == "posix" else 0
    yield Finding(True, "file", f"{path}: {path.stat().st_size} bytes, {runs} runs, {entries} entries")
    yield Finding(
        not mode, "rights", f"others may use the file (mode {path.stat().st_mode & 0o777:o})" if mode else "owner only"
    )
    newest = migrations()[-1][0]
    yield Finding(version_of(connection) == newest, "schema", f"{version_of(connection)} of {newest}")
    answers = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
    yield Finding(answers == ["ok"], "structure", "; ".join(answers))
    yield _checksums(session)
    gaps = [
        f"{run_id}: {count} entries up to {last}, row says {following - 1}"
        for run_id, following, count, last in session.all("gaps")
    ]
    yield Finding(not gaps, "journals", "; ".join(gaps) or "no gaps")
    yield _blobs(session)
    wrong = definitions.wrong_bodies(session)
    yield Finding(not wrong, "definitions", "; ".join(wrong[:SHOWN]) or "as deployed")
    wrong = shelf.wrong_values(session)
    yield Finding(not wrong, "shelves", "; ".join(wrong[:SHOWN]) or "as put")
    homeless = session.one("homeless") or (0, 0, 0, 0, 0, 0, 0)
    names = ("entries", "messages", "blob uses", "blobs", "open waits", "firings", "version labels")
    lost = [f"{number} {name}" for number, name in zip(homeless, names, strict=True) if number]
    yield Finding(not lost, "orphans", ", ".join(lost) or "none")
    yield from _surroundings(session, lock)


def _checksums(session: Session) -> Finding:
    wrong: list[str] = []
    last, seen = 0, 0
    while page := session.all("entry_page", (last, CHECK_PAGE)):
        for _, run, seq, kind, body, crc in page:
            try:
                checked(f"number {run}", seq, kind, body, crc)
            except CorruptJournal as error:
                named = session.one("run_named_by_number", (run,))
                wrong.append(str(error).replace(f"number {run}", str(named[0]) if named else f"number {run}"))
        last, seen = page[-1][0], seen + len(page)
    return Finding(not wrong, "checksums", "; ".join(wrong[:SHOWN]) or f"{seen} entries as written")


def _blobs(session: Session) -> Finding:
    wrong = [f"run {run_id} needs {digest}, which is missing" for run_id, digest in session.all("missing_blobs")]
    last, seen = "", 0
    while page := session.all("blob_hashes", (last,)):
        for (digest,) in page:
            try:
                reading.blob(session, digest)
            except CorruptJournal as error:
                wrong.append(str(error))
        last, seen = page[-1][0], seen + len(page)
    return Finding(not wrong, "blobs", "; ".join(wrong[:SHOWN]) or f"{seen} payloads as written")


def _surroundings(session: Session, lock: Path) -> Iterator[Finding]:
    path = session.path
    log = Path(f"{path}-wal")
    size = log.stat().st_size if log.exists() else 0
    yield Finding(
        size < LOG_ALARM_BYTES,
        "log",
        f"{size} bytes" + ("; a reader may hold on to it" if size >= LOG_ALARM_BYTES else ""),
    )
    free = shutil.disk_usage(path.parent).free
    yield Finding(free >= ROOM_ALARM_BYTES, "room", f"{free // 1_000_000} MB free in {path.parent}")
    driver = session.one("driver")
    if driver is None:
        yield Finding(True, "driver", "nobody drives")
        return
    _, worker, pid, host, _, _, locked = driver
    probe = FileLock(lock)  # of its own, so that it never touches the lock that this process may hold
    dead = bool(locked) and probe.try_acquire()
    probe.close()
    state = "has ended without giving up; the next one takes over at once" if dead else "alive"
    yield Finding(True, "driver", f"worker {worker}, process {pid} on {host}: {state}")
