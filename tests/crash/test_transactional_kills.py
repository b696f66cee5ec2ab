"""Killed at every point inside the store's transactions: what transactional tasks write is there, and there once."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest
from crashing import PROGRAMS, Program, executions, journals, violations

from stepwell.model.entries import StepCompleted

sys.path.insert(0, str(PROGRAMS))

import transacts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="fork and kill -9")


@pytest.mark.parametrize("point", ["rows", "entries", "posted", "commit", "committed"])
def test_a_crash_at_any_point_leaves_each_write_once_beside_its_outcome(tmp_path: Path, point: str) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("transacts.py", store, side, point) as program:
        said = program.rest()
        assert program.wait() == 0, program.complaints
    killed = [int(line.split()[1]) for line in said if line.startswith("killed")]
    assert killed == list(range(1, len(killed) + 1))
    assert len(killed) >= (3 if point == "posted" else 8)
    found = journals(store)
    ran = executions(side)
    assert violations(found, ran) == []
    assert set(found) == {line.split()[1] for line in said if line.startswith("accepted")}
    for run in found.values():
        assert run.row.status == "completed"
        assert run.result == transacts.RESULT
        assert set(Counter(entry.path for entry in run.of(StepCompleted)).values()) == {1}
    expected = sorted((name, what, cents) for name in found for what, cents in (("fee", 2), ("from", -5), ("to", 3)))
    connection = sqlite3.connect(store)
    assert sorted(connection.execute("SELECT run, what, cents FROM ledger")) == expected
    connection.close()
    if point in ("posted", "commit"):
        assert any(len(attempts) > 1 for key, attempts in ran.items() if "book#1" in key), "some were rolled back"
