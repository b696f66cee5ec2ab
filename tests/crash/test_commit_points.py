"""Killed right before and right after every single commit of a run: what follows is always the same."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from crashing import PROGRAMS, Journal, Program, executions, journals, violations

from stepwell.model.entries import StepCompleted, WaitSatisfied

sys.path.insert(0, str(PROGRAMS))

import commits

pytestmark = pytest.mark.skipif(os.name != "posix", reason="fork and kill -9")


def outcome(run: Journal) -> object:
    """What a run has to show whatever happened to it: its result, what was completed, what was consumed."""
    completed = Counter(str(entry.path) for entry in run.of(StepCompleted))
    satisfied = Counter(str(entry.path) for entry in run.of(WaitSatisfied))
    return run.result, completed, satisfied


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", ["start", "recover"])
def test_a_crash_at_any_commit_changes_nothing_in_the_end(tmp_path: Path, when: str, way: str) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("commits.py", store, side, when, way) as program:
        said = program.rest()
        assert program.wait() == 0, program.complaints
    killed = [int(line.split()[1]) for line in said if line.startswith("killed")]
    assert killed == list(range(1, len(killed) + 1))
    assert len(killed) >= (20 if way == "start" else 8)
    found = journals(store)
    assert violations(found, executions(side)) == []
    accepted = {line.split()[1] for line in said if line.startswith("accepted")}
    tops = {name: run for name, run in found.items() if "/" not in name}
    assert accepted == set(tops)
    assert all(run.row.status == "completed" for run in found.values())
    assert {name for name in found if "/" in name} == {f"{name}/chain#1" for name in tops}
    outcomes = [outcome(run) for run in tops.values()]
    assert outcomes == [outcomes[0]] * len(outcomes)
    assert outcomes[0][0] == commits.RESULT  # type: ignore[index]  # of a tuple
