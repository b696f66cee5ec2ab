"""How rows become few statements, and how changes become transactions."""

from __future__ import annotations

import asyncio
import sqlite3
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import StepwellBug
from stepwell.stores.queries import Queries, parse
from stepwell.stores.sqlite import SqliteStore, writer
from stepwell.stores.sqlite.changes import Posting
from stepwell.stores.sqlite.checkpoints import DUE_PAGES, Checkpoints
from stepwell.stores.sqlite.session import LARGEST, Session, exact, filled
from stepwell.testing.conformance.kit import LEASE, appended, mail, new_run


@given(st.integers(0, 5000))
def test_rows_are_cut_into_parts_whose_sizes_are_powers_of_two(count: int) -> None:
    rows = [(n,) for n in range(count)]
    parts = list(exact(rows))
    assert list(chain(*parts)) == rows
    assert all(len(part) & (len(part) - 1) == 0 and len(part) <= LARGEST for part in parts)


@given(st.integers(0, 5000))
def test_rows_are_filled_up_to_powers_of_two(count: int) -> None:
    rows = [(n, "x") for n in range(count)]
    parts = list(filled(rows))
    assert [row for part in parts for row in part if row[0] is not None] == rows
    assert all(len(part) & (len(part) - 1) == 0 and len(part) <= LARGEST for part in parts)


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60))
def test_changes_are_cut_into_transactions_that_are_not_too_large(sizes: list[int]) -> None:
    changes = [Posting(mail("a"), None) for _ in sizes]
    for change, size in zip(changes, sizes, strict=True):
        change.size = size
    cut = list(writer.parts(changes))
    assert list(chain(*cut)) == changes
    assert all(len(part) == 1 or sum(change.size for change in part) <= writer.GROUP_BYTES for part in cut)


def test_more_changes_than_a_transaction_takes_are_all_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GROUP_CHANGES", 7)

    async def go() -> None:
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
        await asyncio.gather(*(store.create(new_run(f"r{n}")) for n in range(30)))
        assert await store.count() == {"pending": 30}
        await store.close()

    asyncio.run(go())


def test_queries_have_names_and_comments_and_parts() -> None:
    texts = parse("-- about\n-- name: one\n-- why\nSELECT  1,\n  2\n-- name: two\nSELECT [(?)]*\n")
    assert texts == {"one": "SELECT  1, 2", "two": "SELECT [(?)]*"}
    queries = Queries(texts)
    assert queries.repeated("two", 3) == "SELECT (?), (?), (?)"
    with pytest.raises(StepwellBug, match="three"):
        queries["three"]


def test_the_estimate_of_the_logs_length_is_mended_by_each_checkpoint() -> None:
    connection = sqlite3.connect(":memory:")
    checkpoints = Checkpoints(Session(connection, Path("x")))
    answers = iter([(0, 4000, 4000), (0, 100, 100), (0, 100, 40)])
    checkpoints._checkpoint = lambda mode: next(answers)[1:]  # type: ignore[method-assign]  # no file to ask

    def commits_until_due() -> int:
        count = 0
        while not checkpoints.due:
            checkpoints.wrote(2, 300)
            count += 1
        return count

    first = commits_until_due()
    assert first * 4 <= DUE_PAGES * 1.2
    checkpoints.run()
    assert commits_until_due() < first / 2  # they wrote more than was thought
    checkpoints.run()
    assert commits_until_due() > first
    checkpoints.hurry()
    assert checkpoints.due
    connection.close()


def test_the_log_is_kept_short_while_appends_go_on(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def go() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.drive("w1", now=0, lease=LEASE)
        await store.create(new_run("a", owner="w1"))
        for n in range(60):
            await store.append(appended("a", 2 + 50 * n, *("x" * 4000 for _ in range(50))))
        assert path.stat().st_size > 6_000_000
        assert Path(f"{path}-wal").stat().st_size < 12_000_000
        await store.close()

    asyncio.run(go())
