"""Which places does the SQLite store accept, and what does it leave on the disk?"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from stepwell.errors import StoreUnusable
from stepwell.stores import open_store
from stepwell.stores.memory import MemoryStore
from stepwell.stores.opening import known_stores
from stepwell.stores.sqlite import SqliteStore
from stepwell.stores.sqlite.schema import migrations
from stepwell.testing.conformance.kit import LEASE, mail, new_run


def open_and_close(path: Path, *, create: bool = True) -> SqliteStore:
    store = SqliteStore(path)

    async def go() -> None:
        await store.open(create=create)
        await store.close()

    asyncio.run(go())
    return store


def refuse(path: Path, *mentions: str, create: bool = True) -> None:
    with pytest.raises(StoreUnusable) as raised:
        open_and_close(path, create=create)
    for mention in (str(path), *mentions):
        assert mention in str(raised.value)


def test_a_url_finds_its_store_by_the_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = {
        "sqlite:///shop.db": tmp_path / "shop.db",
        f"sqlite:///{tmp_path}/abs.db": tmp_path / "abs.db",
        "sqlite:///my%20shop.db": tmp_path / "my shop.db",
        "plain.db": tmp_path / "plain.db",
        str(tmp_path / "abs.db"): tmp_path / "abs.db",
    }
    for url, path in places.items():
        store = open_store(url)
        assert isinstance(store, SqliteStore) and store.path == path
        assert store.url == url
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize("url", ["mongo://x/y", "sqlite_x://y", "protocol://", "queries:///x", "sql:///x"])
def test_an_unknown_scheme_is_refused_with_the_list_of_known_ones(url: str) -> None:
    with pytest.raises(StoreUnusable, match=r"memory://, .*sqlite://"):
        open_store(url)


@pytest.mark.parametrize("url", ["", "sqlite:", "sqlite://", "sqlite:///", "sqlite://host/x.db", "memory://x", "a\0b"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable):
        open_store(url)


def test_only_stores_are_among_the_known_ones() -> None:
    assert {"memory", "sqlite"} <= set(known_stores())
    assert {"protocol", "queries", "rules", "opening"}.isdisjoint(known_stores())


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_all_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def go() -> set[str]:
        store = SqliteStore(path)
        await store.open()
        await store.create(new_run("a"))
        await store.read("a")
        await store.backup(tmp_path / "copy.db")
        files = list(tmp_path.iterdir())
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        await store.close()
        return {file.name for file in files}

    before = os.umask(0)
    try:
        assert asyncio.run(go()) >= {"runs.db", "runs.db-wal", "runs.db-shm", "copy.db"}
    finally:
        os.umask(before)


def test_closing_leaves_no_log_behind(tmp_path: Path) -> None:
    async def go() -> None:
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
        await store.create(new_run("a"))
        assert await store.count() == {"pending": 1}
        assert (tmp_path / "runs.db-wal").exists()
        await store.close()

    asyncio.run(go())
    assert not (tmp_path / "runs.db-wal").exists()


def test_a_missing_folder_is_made_one_level_deep(tmp_path: Path) -> None:
    open_and_close(tmp_path / "new" / "runs.db")
    refuse(tmp_path / "a" / "b" / "runs.db", "folder")


def test_a_link_leads_to_the_file_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "there" / "runs.db")
    open_and_close(tmp_path / "link.db")
    assert (tmp_path / "there" / "runs.db").exists()
    assert not (tmp_path / "link.db.turn").exists()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "folder", "stepwell.db")


def test_a_missing_file_is_refused_unless_it_may_be_made(tmp_path: Path) -> None:
    refuse(tmp_path / "none.db", "no such file", create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_refused_unless_it_may_be_filled(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    refuse(path, "empty", create=False)
    open_and_close(path)
    open_and_close(path, create=False)


def test_what_is_not_a_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"dear diary, " * 500)
    refuse(path, "not a SQLite database")
    assert path.read_bytes() == b"dear diary, " * 500


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    content = path.read_bytes()
    refuse(path, "another program")
    assert path.read_bytes() == content


def test_a_newer_schema_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    open_and_close(path)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 77")
    newer.close()
    refuse(path, "schema 77", f"up to {migrations()[-1][0]}")


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    open_and_close(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    refuse(path)
    path.write_bytes(whole[:50])
    refuse(path)
    path.write_bytes(whole)
    open_and_close(path, create=False)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which nobody may write")
def test_a_place_that_cannot_be_written_is_refused() -> None:
    refuse(Path("/proc/runs.db"))


def test_a_file_is_ours_by_its_header_and_has_every_migration(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    open_and_close(path)
    file = sqlite3.connect(path)
    assert file.execute("PRAGMA application_id").fetchone() == (0x53574C31,)
    assert file.execute("PRAGMA user_version").fetchone() == (migrations()[-1][0],)
    assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert {key for (key,) in file.execute("SELECT key FROM meta")} == {"store_id", "created_by"}
    file.close()


def test_migrations_are_numbered_from_1_without_a_gap() -> None:
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_two_objects_that_make_the_same_file_at_once_make_one_store(tmp_path: Path) -> None:
    async def go() -> None:
        stores = [SqliteStore(tmp_path / "runs.db") for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.create(new_run(f"r{n}")) for n, store in enumerate(stores)))
        assert await stores[0].count() == {"pending": 4}
        for store in stores:
            await store.close()

    asyncio.run(go())


def test_a_large_file_finds_what_is_due_and_open_without_looking_at_everything(tmp_path: Path) -> None:
    """The plans of the queries that run all the time go through an index, whatever is in the tables."""
    open_and_close(tmp_path / "runs.db")
    from stepwell.stores.sqlite.session import named

    queries = named()
    file = sqlite3.connect(tmp_path / "runs.db")
    hot = {
        "lanes": 2, "due": 4, "open_messages_after": 2, "open_messages": 1, "entries": 3, "run": 1, "runs_named": 2,
        "advance": 21, "advance_going": 13, "advance_one": 7, "consume": 6, "wake": 4, "wake_unseen": 6,
        "posted_before": 8, "free_runs": 2, "open_messages_of": 2, "delete_entries": 2, "delete_messages": 2,
        "uses_of_runs": 2, "count": 0,
    }  # fmt: skip
    for name, values in hot.items():
        plan = file.execute(f"EXPLAIN QUERY PLAN {queries.repeated(name, 2)}", [1] * values).fetchall()
        scans = [row[3] for row in plan if row[3].startswith("SCAN") and "CONSTANT" not in row[3]]
        whole = [scan for scan in scans if scan.split()[1] in {"runs", "journal", "mailbox", "blob_uses", "blobs"}]
        assert all("COVERING INDEX" in scan or "mailbox_open" in scan for scan in whole), (name, plan)
    file.close()


def test_a_message_from_a_program_that_locks_the_file_by_other_means_waits_for_it(tmp_path: Path) -> None:
    async def go() -> None:
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
        await store.drive("w1", now=0, lease=LEASE)
        await store.create(new_run("a", owner="w1"))
        other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.05, other.execute, "ROLLBACK")
        assert await store.post(mail("a")) is not None
        other.close()
        await store.close()

    asyncio.run(go())
