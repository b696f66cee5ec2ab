"""Killed right before and right after every commit of a run that is undone: all of it is undone, once and in order."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from crashing import PROGRAMS, Journal, Program, executions, journals, violations

from stepwell.model.entries import RunCancelled, RunFailed, StepCompleted, StepStarted

sys.path.insert(0, str(PROGRAMS))

import undoes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="fork and kill -9")


def undone(run: Journal) -> list[str]:
    """What the run's compensations undid, in the order in which they began."""
    begun: dict[object, str] = {}
    for entry in run.of(StepStarted):
        if entry.step == "compensation" and entry.path not in begun:
            begun[entry.path] = msgspec.json.decode(entry.input)["what"]
    done = Counter(entry.path for entry in run.of(StepCompleted))
    assert all(done[path] == 1 for path in begun), "each was completed once"
    return list(begun.values())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_a_crash_at_any_commit_leaves_nothing_that_is_not_undone(tmp_path: Path, when: str, how: str) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("undoes.py", store, side, when, how) as program:
        said = program.rest()
        assert program.wait() == 0, program.complaints
    killed = [int(line.split()[1]) for line in said if line.startswith("killed")]
    assert killed == list(range(1, len(killed) + 1))
    assert len(killed) >= 12
    found, ran = journals(store), executions(side)
    # A second request to cancel may be accepted while the run comes to its end: there it is used up by a retry.
    assert [fault for fault in violations(found, ran) if not fault.endswith("messages in its mailbox")] == []
    assert set(found) == {line.split()[1] for line in said if line.startswith("accepted")}
    keys = Counter(key.partition(":")[0] for key in ran if "/undo#" in key)
    for name, run in found.items():
        assert run.row.status == ("failed" if how == "fails" else "cancelled"), name
        assert undone(run) == undoes.UNDONE, name
        assert keys[name] == len(undoes.UNDONE), "one idempotency key each, however often it ran"
        end = run.stored[-1].entry
        assert isinstance(end, RunFailed | RunCancelled)
        assert end.undone
