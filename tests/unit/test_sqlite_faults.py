"""What does the SQLite store say and keep when the disk, the file or a commit goes wrong?"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stepwell.errors import CorruptJournal, StoreBusy, StoreError, StoreFull, StoreUnusable
from stepwell.model.entries import RunCompleted
from stepwell.stores.protocol import Append, NewMessage
from stepwell.stores.sqlite import SqliteStore, committer
from stepwell.stores.sqlite.trouble import translated
from stepwell.stores.tables import Firing, NewDefinition, Queue, TriggerRow
from stepwell.testing.conformance.kit import (
    LEASE,
    Broken,
    appended,
    asked,
    claim_one,
    happened,
    mail,
    new_run,
    notes,
)

Body = Callable[[SqliteStore], Awaitable[None]]


def driven(tmp_path: Path, body: Body) -> None:
    async def go() -> None:
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
        try:
            await store.drive("w1", now=0, lease=LEASE)
            for name in "abc":
                await store.create(new_run(name, owner="w1"))
            await body(store)
        finally:
            store.fault(None)
            await store.close()

    asyncio.run(go())


def trouble(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("made for a test")
    error.sqlite_errorcode = code
    return error


def edit(tmp_path: Path, *statements: str) -> None:
    """Change the file behind the store's back, as a defect of the disk would."""
    file = sqlite3.connect(tmp_path / "runs.db", timeout=5)
    for statement in statements:
        assert file.execute(statement).rowcount == 1
    file.commit()
    file.close()


def fail_once(store: SqliteStore, point: str, error: Exception) -> None:
    def hook(here: str) -> None:
        if here == point:
            store.fault(None)
            raise error

    store.fault(hook)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE])
@pytest.mark.parametrize("point", ["rows", "entries", "commit"])
def test_no_room_refuses_the_append_which_may_be_offered_again(tmp_path: Path, code: int, point: str) -> None:
    async def body(store: SqliteStore) -> None:
        fail_once(store, point, trouble(code))
        append = appended("a", 2, "x")
        with pytest.raises(StoreFull, match="make room"):
            await store.append(append)
        await store.append(append)
        assert notes(await store.read("a")) == ["x"]

    driven(tmp_path, body)


def test_a_file_that_may_not_grow_refuses_what_is_too_large_and_takes_the_rest(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        connection = store._parts.writer.committer.session.connection  # type: ignore[union-attr]  # it is open
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        outcomes = await asyncio.gather(
            store.append(appended("a", 2, "x")),
            store.append(appended("b", 2, "y" * 200_000)),
            store.append(appended("c", 2, "z")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), StoreFull, type(None)]
        connection.execute("PRAGMA max_page_count = 100000")
        await store.append(appended("b", 2, "y" * 200_000))
        assert [len(await store.read(name)) for name in "abc"] == [2, 2, 2]

    driven(tmp_path, body)


def test_when_there_is_no_room_for_anything_everybody_is_told(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        def hook(here: str) -> None:
            if here == "rows":
                raise trouble(sqlite3.SQLITE_FULL)

        store.fault(hook)
        appends = [appended(name, 2, "x") for name in "abc"] + [appended("a", 9, "x")]
        outcomes = await asyncio.gather(*map(store.append, appends), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreFull}
        store.fault(None)
        await asyncio.gather(*map(store.append, appends[:3]))

    driven(tmp_path, body)


@pytest.mark.parametrize("inline", [False, True])
def test_a_failed_fsync_stops_the_store_for_good(tmp_path: Path, inline: bool) -> None:
    async def body(store: SqliteStore) -> None:
        store.inline_commits = inline
        fail_once(store, "commit", trouble(sqlite3.SQLITE_IOERR_FSYNC))
        for name in "ab":
            with pytest.raises(StoreError, match="stops for good") as raised:
                await store.append(appended(name, 2, "x"))
            assert not raised.value.retryable
        assert notes(await store.read("a")) == []

    driven(tmp_path, body)


@pytest.mark.parametrize("inline", [False, True])
def test_a_commit_that_succeeds_but_reports_an_error_counts_as_done(tmp_path: Path, inline: bool) -> None:
    async def body(store: SqliteStore) -> None:
        store.inline_commits = inline
        fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
        await store.append(appended("a", 2, "x"))
        fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
        await store.append(appended("a", 3, status="waiting", wake_at=7, release=True))
        fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
        claimed = await claim_one(store)
        fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
        assert await store.post(mail("a")) is not None
        fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
        await store.create(new_run("d", owner="w1"))
        fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
        await store.drive("w1", now=1, lease=LEASE)
        await store.append(appended("d", 2, "y"))
        await store.append(appended(claimed, 3, "z"))
        assert notes(await store.read("a")) == ["x", "z"]
        assert len(await store.mailbox("a")) == 1

    driven(tmp_path, body)


@pytest.mark.parametrize("landed", [True, False])
def test_the_unknown_outcome_of_a_commit_is_found_out_whatever_it_was(tmp_path: Path, landed: bool) -> None:
    calls: list[str] = []

    async def body(store: SqliteStore) -> None:
        connection = store._parts.writer.committer.session.connection  # type: ignore[union-attr]  # it is open

        def lose(here: str) -> None:
            if here == "commit":
                store.fault(None)
                connection.execute("ROLLBACK")

        def work(database: Any) -> NewMessage:  # a connection of SQLite
            calls.append("work")
            database.execute("CREATE TABLE theirs (x)")
            return mail("a", "step", kind="outcome")

        await store.put_trigger(TriggerRow(name="t", kind="schedule", workflow="shop", spec=b"{}"))
        await store.create(new_run("held", queue="q", held=True, unique="k"))
        changes: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append(appended("a", 2, opened=(asked("q1"),))),
            lambda: store.append(appended("a", 2, events=(happened("e1"),))),
            lambda: store.transact("a", 1, work),
            lambda: store.publish(happened("e2")),
            lambda: store.put_queue(Queue(name="q", concurrency=4)),
            lambda: store.admit("q", now=9),
            lambda: store.advance(
                "t", seen=0, cursor=3, next_at=9, firings=[Firing(trigger="t", key="k", occasion=1, at=2)]
            ),
            lambda: store.put_trigger(TriggerRow(name="t2", kind="schedule", workflow="shop", spec=b"{}")),
            lambda: store.remove_trigger("t2"),
            lambda: store.create(new_run("new", unique="k", takes_over=True)),
            lambda: store.forget_events(before=99),
            lambda: store.put_definition(_version("d1", label="1"), activate=True),
            lambda: store.put_definition(_version("d1", label="1", at=6)),
            lambda: store.put_definition(_version("d2", label="1"), move_label=True),
            lambda: store.set_active("g", "d2"),
            lambda: store.set_active("g", ""),
            lambda: store.drop_definitions([("g", "d1")], put_before=9),
            lambda: store.put_cached("k", b"1", at=5),
            lambda: store.put_cached("k", b"2", at=5),
            lambda: store.forget_cached(before=9),
            lambda: store.append(appended("a", 2, closed=("q1",), at=77)),
        ]
        for change in changes:
            if landed:
                fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
                await change()
                continue
            before = await _all_of_it(store)
            store.fault(lose)
            with pytest.raises(StoreError):
                await change()
            assert await _all_of_it(store) == before
            await change()
            assert await _all_of_it(store) != before

    driven(tmp_path, body)
    assert len(calls) == (1 if landed else 2)


def _version(digest: str, *, label: str = "", at: int = 5) -> NewDefinition:
    return NewDefinition(name="g", digest=digest, body=b"{}", at=at, label=label)


async def _all_of_it(store: SqliteStore) -> list[list[object]]:
    parts = store._parts
    assert parts is not None
    with parts.readers.moment() as session:
        tables = session.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        names = [row[0] for row in tables]
        return [[name, *session.connection.execute(f"SELECT * FROM {name}")] for name in names]


def test_an_open_wait_may_be_proven_by_what_was_appended_before_it(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        fail_once(store, "committed", trouble(sqlite3.SQLITE_IOERR))
        outcomes = await asyncio.gather(
            store.append(appended("a", 2, "x")),
            store.post(mail("a")),
            store.append(appended("a", 3, status="waiting", wake_at=7, release=True)),
            store.append(appended("b", 2, opened=(asked("q1", "b"),))),
            store.publish(happened("e1")),
            store.append(appended("b", 2, closed=("q1",))),
            return_exceptions=True,
        )
        assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
        assert notes(await store.read("a")) == ["x"]

    driven(tmp_path, body)


def test_a_commit_that_fails_counts_as_not_done(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        for change in (
            lambda: store.append(appended("a", 2, "x")),
            lambda: store.append(appended("a", 2, status="waiting", release=True)),
            lambda: store.post(mail("a", key="k")),
        ):
            fail_once(store, "commit", trouble(sqlite3.SQLITE_IOERR))
            with pytest.raises(StoreError):
                await change()
        row = await store.get("a")
        assert row is not None and (row.next_seq, row.owner, row.status) == (2, "w1", "pending")
        await store.append(appended("a", 2, "x"))
        assert await store.post(mail("a", key="k")) is not None

    driven(tmp_path, body)


@pytest.mark.parametrize("inline", [False, True])
def test_a_commit_that_was_rolled_back_unasked_counts_as_not_done(tmp_path: Path, inline: bool) -> None:
    async def body(store: SqliteStore) -> None:
        store.inline_commits = inline
        connection = store._parts.writer.committer.session.connection  # type: ignore[union-attr]  # it is open

        def hook(here: str) -> None:
            if here == "commit":
                store.fault(None)
                connection.execute("ROLLBACK")

        for change in (
            lambda: store.append(appended("a", 2, "x")),
            lambda: store.append(appended("a", 2, status="waiting", release=True)),
            lambda: store.post(mail("a", key="k")),
            lambda: store.create(new_run("d")),
            lambda: store.drive("w2", now=LEASE + 1, lease=LEASE),
        ):
            store.fault(hook)
            with pytest.raises(StoreError):
                await change()
        store.fault(None)
        await store.append(appended("a", 2, "x"))
        assert await store.post(mail("a", key="k")) is not None
        assert await store.get("d") is None

    driven(tmp_path, body)


def test_a_group_in_which_one_change_is_broken_commits_the_others(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        calls = 0

        def hook(here: str) -> None:
            nonlocal calls
            calls += here == "entries"
            if here == "entries" and calls in (1, 3):  # the group, then the second of them by itself
                raise Broken("made for a test")

        store.fault(hook)
        outcomes = await asyncio.gather(*(store.append(appended(n, 2, "x")) for n in "abc"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), Broken, type(None)]
        store.fault(None)
        assert [notes(await store.read(name)) for name in "abc"] == [["x"], [], ["x"]]
        await store.append(appended("b", 2, "y"))

    driven(tmp_path, body)


def test_an_error_that_is_no_errors_of_ours_reaches_the_caller_and_leaves_nothing(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        fail_once(store, "rows", ZeroDivisionError("made for a test"))
        with pytest.raises(ZeroDivisionError):
            await store.append(appended("a", 2, "x"))
        await store.append(appended("a", 2, "x"))

    driven(tmp_path, body)


def test_a_file_locked_by_another_program_for_too_long_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "BUSY_SECONDS", 0.01)

    async def body(store: SqliteStore) -> None:
        other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="nothing was written") as raised:
            await store.append(appended("a", 2, "x"))
        assert raised.value.retryable
        other.execute("ROLLBACK")
        other.close()
        await store.append(appended("a", 2, "x"))

    driven(tmp_path, body)


def test_changes_of_one_run_keep_their_order_within_a_group(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        message = NewMessage(run_id="d", kind="signal", name="go", body=b"1", at=3)
        done = RunCompleted(at=4)
        created = store.create(new_run("d", owner="w1"))
        first = store.append(appended("d", 2, "x"))
        posted = store.post(message)
        second = store.append(appended("d", 3, "y", children=(new_run("e", owner="w1", root="d"),)))
        child = store.append(appended("e", 2, "z"))
        third = store.append(appended("d", 4, status="completed", entries=[done], finished_at=4))
        late = store.post(message)
        outcomes = await asyncio.gather(created, first, posted, second, child, third, late, return_exceptions=True)
        kinds = [type(outcome).__name__ for outcome in outcomes]
        assert kinds == ["RunRow", "NoneType", "Message", "NoneType", "NoneType", "NoneType", "WrongStatus"]

    driven(tmp_path, body)


def test_a_signal_before_the_end_is_taken_and_one_after_it_refused_within_a_group(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        early = store.post(mail("a"))
        end = store.append(appended("a", 2, status="completed", finished_at=4))
        late = store.post(mail("a"))
        outcomes = await asyncio.gather(early, end, late, return_exceptions=True)
        assert [type(outcome).__name__ for outcome in outcomes] == ["Message", "NoneType", "WrongStatus"]

    driven(tmp_path, body)


def test_a_wrong_checksum_stops_that_run_only_and_is_named(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await asyncio.gather(*(store.append(appended(name, 2, "one", "two", "three")) for name in "abc"))
        edit(tmp_path, "UPDATE journal SET body = replace(body, 'two', 'too') WHERE seq = 3 AND run = 2")
        with pytest.raises(CorruptJournal, match=r"run b: entry 3"):
            await store.read("b")
        assert len(await store.read("b", after=3)) == 1
        assert len(await store.read("a")) == 4
        await store.append(appended("c", 5, "four"))
        wrong = [finding for finding in await store.check() if not finding.ok]
        assert [finding.what for finding in wrong] == ["checksums"]
        assert "run b: entry 3" in wrong[0].detail

    driven(tmp_path, body)


@pytest.mark.parametrize("seq", [1, 3, 4])
def test_a_missing_entry_is_named(tmp_path: Path, seq: int) -> None:
    async def body(store: SqliteStore) -> None:
        await store.append(appended("a", 2, "one", "two", "three"))
        edit(tmp_path, f"DELETE FROM journal WHERE seq = {seq} AND run = 1")
        with pytest.raises(CorruptJournal, match=r"run a: .*entry"):
            await store.read("a")
        wrong = [finding for finding in await store.check() if not finding.ok]
        assert [finding.what for finding in wrong] == ["journals"] and "a: 3 entries" in wrong[0].detail

    driven(tmp_path, body)


@pytest.mark.parametrize("change", ["seq = 40", "epoch = 7", "kind = 'run.paused'", "crc = 0", "body = 'text'"])
def test_an_entry_that_was_moved_or_relabelled_is_noticed(tmp_path: Path, change: str) -> None:
    async def body(store: SqliteStore) -> None:
        await store.append(appended("a", 2, "one", "two"))
        edit(tmp_path, f"UPDATE journal SET {change} WHERE seq = 2 AND run = 1")
        if change == "epoch = 7":  # who wrote it is no part of what was written
            assert (await store.read("a"))[1].epoch == 7
        else:
            with pytest.raises(CorruptJournal, match="run a"):
                await store.read("a")

    driven(tmp_path, body)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE journal SET crc = 0 WHERE seq = 2 AND run = 2",
        "UPDATE journal SET body = 'text' WHERE seq = 2 AND run = 2",
        "DELETE FROM journal WHERE seq = 2 AND run = 2",
        "DELETE FROM journal WHERE seq = 3 AND run = 2",
        "DELETE FROM runs WHERE id = 2",
    ],
)
def test_a_journal_that_is_not_in_order_is_left_out_where_many_are_read(tmp_path: Path, damage: str) -> None:
    async def body(store: SqliteStore) -> None:
        for name in "abc":
            await store.append(appended(name, 2, "one", "two"))
        edit(tmp_path, damage)
        found = await store.read_many(["a", "b", "c"], limit=10)
        assert found == {name: await store.read(name) for name in "ac"}

    driven(tmp_path, body)


def test_what_stands_beyond_the_end_of_a_journal_is_no_part_of_its_beginning(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await store.append(appended("a", 2, "one", "two"))
        edit(tmp_path, "UPDATE runs SET next_seq = 3 WHERE run_id = 'a'")
        assert (await store.read_many(["a"], limit=10))["a"] == await store.read("a")

    driven(tmp_path, body)


def test_an_entry_beyond_the_end_is_a_corrupt_journal_and_not_overwritten(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await store.append(appended("a", 2, "one"))
        edit(tmp_path, "UPDATE runs SET next_seq = 2 WHERE run_id = 'a'")
        outcomes = await asyncio.gather(
            store.append(appended("a", 2, "other")), store.append(appended("b", 2, "x")), return_exceptions=True
        )
        assert isinstance(outcomes[0], CorruptJournal) and "run a" in str(outcomes[0])
        assert outcomes[1] is None

    driven(tmp_path, body)


def test_an_altered_payload_is_noticed(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        done = RunCompleted(at=4, output_blob="d1")
        append = Append("a", 1, 2, [done], "completed", None, 4, finished_at=4, blobs={"d1": b"large"})
        await store.append(append)
        edit(tmp_path, "UPDATE blobs SET data = x'00'")
        with pytest.raises(CorruptJournal, match="d1"):
            await store.blob("d1")
        edit(tmp_path, "DELETE FROM blobs")
        wrong = [finding for finding in await store.check() if not finding.ok]
        assert [finding.what for finding in wrong] == ["blobs"] and "run a needs d1" in wrong[0].detail

    driven(tmp_path, body)


def test_waits_and_firings_that_belong_to_nothing_are_found_by_a_check(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await store.append(appended("a", 2, opened=(asked("q1"),)))
        assert [finding for finding in await store.check() if not finding.ok] == []
        edit(
            tmp_path,
            "UPDATE waits SET run = 99",
            "INSERT INTO firings (trigger_name, key, occasion, at, run_id, note) VALUES ('none', 'k', 1, 2, '', '')",
        )
        [wrong] = [finding for finding in await store.check() if not finding.ok]
        assert (wrong.what, wrong.detail) == ("orphans", "1 open waits, 1 firings")

    driven(tmp_path, body)


def test_a_damaged_page_is_reported_and_never_raised_by_a_check(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def fill(store: SqliteStore) -> None:
        await store.append(appended("a", 2, *("x" * 500 for _ in range(2000))))

    driven(tmp_path, fill)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2 // 4096 * 4096
    whole[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(whole)

    async def look() -> None:
        store = SqliteStore(path)
        await store.open()
        assert any(not finding.ok for finding in await store.check())
        with pytest.raises((CorruptJournal, StoreUnusable)):
            await store.read("a")
        assert await store.get("b") is not None
        await store.close()

    asyncio.run(look())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR_WRITE, StoreFull),
        (sqlite3.SQLITE_BUSY, StoreBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy),
        (sqlite3.SQLITE_NOTADB, StoreUnusable),
        (sqlite3.SQLITE_CORRUPT_VTAB, StoreUnusable),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreUnusable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnusable),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreError),
        (sqlite3.SQLITE_NOMEM, StoreError),
        (0, StoreError),
    ],
)
def test_each_trouble_of_sqlite_has_its_error_with_the_place(code: int, kind: type[StoreError]) -> None:
    error = translated(trouble(code), Path("/x/runs.db"))
    assert type(error) is kind
    assert "/x/runs.db" in str(error)
