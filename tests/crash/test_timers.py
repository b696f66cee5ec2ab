"""Timers fire at or after their time: while nobody drives, after kills, and when the clock is set."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from crashing import Program, executions, journals, soon, violations

from stepwell.model.entries import WaitSatisfied, WaitStarted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")

HOUR = 3600


def drive(folder: Path, *plan: list[object], ahead: float = 0) -> Program:
    return Program("drives.py", folder / "runs.db", folder / "side", json.dumps(plan), STEPWELL_TEST_CLOCK=str(ahead))


def is_asleep(folder: Path, run_id: str) -> bool:
    return journals(folder / "runs.db")[run_id].row.status == "waiting"


def test_a_timer_that_came_due_while_nobody_drove_fires_at_once_and_none_fires_early(tmp_path: Path) -> None:
    with drive(tmp_path, ["nap", "short", [0.6]], ["nap", "long", [HOUR]]) as driver:
        driver.until("accepted long")
        soon(lambda: is_asleep(tmp_path, "short") and is_asleep(tmp_path, "long"))
        driver.kill()
    (short,) = journals(tmp_path / "runs.db")["short"].of(WaitStarted)
    time.sleep(max(0, short.due / 1e6 - time.time()))
    with drive(tmp_path) as driver:
        assert driver.until("ended") == "short completed"
        driver.kill()
    assert is_asleep(tmp_path, "long")
    with drive(tmp_path, ahead=HOUR) as driver:
        driver.until("ended long completed")
    found = journals(tmp_path / "runs.db")
    assert violations(found, executions(tmp_path / "side")) == []
    for run in found.values():
        (begun,), (fired,) = run.of(WaitStarted), run.of(WaitSatisfied)
        assert fired.at >= begun.due


def test_a_clock_that_was_set_between_two_lives_moves_no_timer_early_and_loses_none(tmp_path: Path) -> None:
    with drive(tmp_path, ["nap", "r", [HOUR]], ["patient", "p", [HOUR]]) as driver:
        driver.until("accepted p")
        soon(lambda: is_asleep(tmp_path, "r") and is_asleep(tmp_path, "p"))
        driver.kill()
    for ahead in (HOUR - 60, -HOUR):  # nearly an hour later; and an hour before it all began
        with drive(tmp_path, ["nap", f"at{ahead}", [0.01]], ahead=ahead) as driver:
            assert driver.until(f"ended at{ahead}") == "completed"
            driver.kill()
        assert is_asleep(tmp_path, "r") and is_asleep(tmp_path, "p")
    with drive(tmp_path, ahead=HOUR + 1) as driver:
        assert {driver.until("ended").split()[0] for _ in range(4)} >= {"r", "p"}
    found = journals(tmp_path / "runs.db")
    assert violations(found, executions(tmp_path / "side")) == []
    assert (found["r"].result, found["p"].result) == (2, "nothing came")


def test_a_clock_that_is_set_while_the_engine_runs_is_noticed(tmp_path: Path) -> None:
    with drive(tmp_path, ["nap", "r", [HOUR]], ["nap", "far", [3 * HOUR]]) as driver:
        driver.until("accepted far")
        soon(lambda: is_asleep(tmp_path, "r") and is_asleep(tmp_path, "far"))
        driver.tell(f"clock {HOUR + 1}")
        assert driver.until("ended") == "r completed"
        driver.tell("clock 0")
        driver.kill()
    with drive(tmp_path, ["nap", "after", [0.01]]) as driver:  # the journal of `r` lies in the future now
        assert {driver.until("ended") for _ in range(2)} == {"r completed", "after completed"}
    assert is_asleep(tmp_path, "far")
    assert violations(journals(tmp_path / "runs.db"), executions(tmp_path / "side")) == []
