"""Does a file that an older version made go on with this one, with all that is in it?"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from stepwell.errors import StoreError
from stepwell.model.entries import RunCreated
from stepwell.stores.protocol import Filter
from stepwell.stores.sqlite import SqliteStore, schema
from stepwell.stores.sqlite.changes import encoded
from stepwell.stores.sqlite.schema import APPLICATION_ID, migrations, version_of
from stepwell.stores.tables import NewDefinition, Queue
from stepwell.testing.conformance.kit import LEASE, appended, asked, happened, mail, new_run, note, notes, row_of


def make_first_schema(path: Path) -> None:
    """A file as schema 1 has it: a run that sleeps, one that ended, one owned by a worker that died, and messages."""
    path.touch(0o600)
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("PRAGMA auto_vacuum = INCREMENTAL")
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("BEGIN")
    for statement in schema._statements(migrations()[0][2].read_text("utf-8")):
        file.execute(statement)
    file.execute("INSERT INTO meta VALUES ('store_id', 'old'), ('created_by', 'stepwell 0.1')")
    rows = (
        (1, "sleeping", "waiting", None, 3, 1, None, 50),
        (2, "ended", "completed", 9, 3, 1, None, None),
        (3, "owned", "running", None, 3, 4, "dead", None),
    )
    for id, run_id, status, finished_at, next_seq, epoch, owner, wake_at in rows:
        file.execute(
            "INSERT INTO runs (id, run_id, workflow, version, status, root, parent, priority, labels, created_at, "
            "updated_at, finished_at, next_seq, epoch, owner, wake_at, claims, input_hash) "
            "VALUES (?, ?, 'shop', 'v1', ?, ?, NULL, 0, '{\"team\":\"ops\"}', 1, 2, ?, ?, ?, ?, ?, 1, '00ff')",
            (id, run_id, status, run_id, finished_at, next_seq, epoch, owner, wake_at),
        )
        created = RunCreated(at=1, run_id=run_id, workflow="shop", version="v1", root=run_id)
        for row in encoded([created, note(f"of {run_id}")], 1, epoch)[0]:
            file.execute("INSERT INTO journal (run, seq, epoch, kind, body, crc) VALUES (?, ?, ?, ?, ?, ?)", (id, *row))
    for run, key, consumed in ((1, "k1", None), (1, "k2", 2), (3, "", None)):
        file.execute(
            "INSERT INTO mailbox (run, kind, name, key, body, at, sender, consumed_seq) "
            "VALUES (?, 'signal', 'go', ?, '1', 4, 'ann', ?)",
            (run, key, consumed),
        )
    file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    file.execute("PRAGMA user_version = 1")
    file.execute("COMMIT")
    file.close()


def test_a_file_of_the_first_schema_goes_on_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    make_first_schema(path)

    async def go() -> None:
        store = SqliteStore(path)
        await store.open(create=False)
        assert [finding for finding in await store.check() if not finding.ok] == []
        assert {row.run_id for row in await store.find(Filter())} == {"sleeping", "ended", "owned"}
        row = await row_of(store, "sleeping")
        assert (row.queue, row.queue_key, row.held_until, row.labels) == ("", "", None, {"team": "ops"})
        assert notes(await store.read("ended")) == ["of ended"]
        assert await store.post(mail("sleeping", key="k2")) is None
        await store.drive("w1", now=60, lease=LEASE)
        claimed = await store.claim("w1", workflows=["shop"], now=60, limit=9)
        assert [(one.row.run_id, one.row.epoch, len(one.messages)) for one in claimed] == [
            ("sleeping", 2, 1),
            ("owned", 5, 1),
        ]
        await store.append(appended(claimed[0], 3, "on", opened=(asked("q1", "sleeping"),), events=(happened("e"),)))
        assert await store.post(mail("sleeping", "q1", kind="answer")) is not None
        await store.put_queue(Queue(name="q", concurrency=1))
        await store.create(new_run("new", queue="q", held=True, unique="k"))
        assert (await store.create(new_run("newer", unique="k"))).run_id == "new"
        assert (await store.admit("q", now=61)).admitted == ("new",)
        version = NewDefinition(name="shop", digest="v1", body=b"{}", at=61)
        assert await store.put_definition(version, activate=True)
        assert await store.drop_definitions([("shop", "v1")], put_before=99) == []
        assert await store.delete(finished_before=99) == 1
        assert [finding for finding in await store.check() if not finding.ok] == []
        await store.close()

    asyncio.run(go())
    file = sqlite3.connect(path)
    assert version_of(file) == migrations()[-1][0]
    assert file.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone() == ("old",)
    file.close()


def test_a_migrated_file_has_the_schema_of_a_new_one(tmp_path: Path) -> None:
    make_first_schema(tmp_path / "old.db")
    schemas = []
    for name in ("old.db", "new.db"):
        schema.write_connection(tmp_path / name, create=True).close()
        file = sqlite3.connect(tmp_path / name)
        schemas.append(sorted(file.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")))
        file.close()
    assert schemas[0] == schemas[1]


def test_a_migration_that_breaks_off_leaves_the_old_schema_which_is_migrated_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    make_first_schema(path)
    broken = tmp_path / "0002_broken.sql"
    broken.write_text(migrations()[1][2].read_text("utf-8") + "\nINSERT INTO nowhere VALUES (1);\n", "utf-8")
    first = migrations()[0]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: [first, (2, "broken", broken)])
        with pytest.raises(StoreError, match="nowhere"):
            schema.write_connection(path, create=False)
    file = sqlite3.connect(path)
    assert version_of(file) == 1
    assert file.execute("SELECT count(*) FROM sqlite_master WHERE name = 'waits'").fetchone() == (0,)
    file.close()
    schema.write_connection(path, create=False).close()


def test_runs_that_use_nothing_of_it_stand_in_no_index_of_the_second_schema(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def go() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.drive("w1", now=0, lease=LEASE)
        for n in range(20):
            await store.create(new_run(f"r{n}", owner="w1" if n % 2 else None))
        await store.append(appended("r1", 2, "x", status="completed", finished_at=3))
        await store.append(appended("r3", 2, "x", status="waiting", release=True))
        await store.close()

    asyncio.run(go())
    file = sqlite3.connect(path)
    first = migrations()[0][2].read_text("utf-8")
    partial = [
        (name, sql.split(" WHERE ", 1)[-1])
        for name, sql in file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'runs'")
        if sql and name not in first
    ]
    assert len(partial) > 5
    for name, condition in partial:
        assert "WHERE" in file.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0], name
        where = condition.split("WHERE", 1)[-1]
        assert file.execute(f"SELECT count(*) FROM runs WHERE {where}").fetchone() == (0,), name
    file.close()
