"""One file, two processes that want to drive it: one does, the other follows when the first is dead or frozen."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from crashing import Program, executions, journals, soon, violations

from stepwell.engine.worker import LEASE
from stepwell.model.entries import StepCompleted
from stepwell.model.ids import SECOND

if sys.platform == "win32":
    pytest.skip("signals of POSIX systems", allow_module_level=True)

import fcntl

PLAN = json.dumps([["hold", "r", [60]]])
NO_PLAN = "[]"


def freeze(program: Program, store: Path) -> None:
    """Stop it between two commits: in the middle of one it would keep SQLite's own lock, and nobody could write."""
    while True:
        program.send(signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED)
        with Path(f"{store}.turn").open() as turn:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                program.send(signal.SIGCONT)
        time.sleep(0.01)


def test_a_second_engine_is_refused_and_follows_at_once_when_the_first_is_killed(tmp_path: Path) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("drives.py", store, side, PLAN) as first:
        first.until("accepted r")
        soon(lambda: "r:held#1" in executions(side))
        with Program("drives.py", store, side, NO_PLAN) as second:
            refusal = second.until("busy")
            assert f"is driven by process {first.pid} on" in refusal
            assert second.wait() == 0, second.complaints
        first.kill()
        begun = time.monotonic()
        with Program("drives.py", store, side, NO_PLAN) as third:
            third.until("driving")
            assert third.until("ended") == "r completed"
            assert time.monotonic() - begun < LEASE / SECOND / 2
            third.tell("stop")
            third.until("stopped")
    found = journals(store)
    assert violations(found, executions(side)) == []
    assert found["r"].result == [1, 2, 3]


def test_an_engine_that_was_frozen_past_its_lease_writes_nothing_more_says_so_and_stops(tmp_path: Path) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    plan = json.dumps([["hold", "r", [0.4]], ["late", "s", [0.3, 1]]])
    with Program("drives.py", store, side, plan, STEPWELL_TEST_LEASE="1") as frozen:
        frozen.until("accepted s")
        soon(lambda: {"r:held#1", "s:held#1"} <= set(executions(side)))
        freeze(frozen, store)
        environment = {"STEPWELL_TEST_LEASE": "1", "STEPWELL_TEST_PATIENCE": "20"}
        with Program("drives.py", store, side, NO_PLAN, **environment) as other:
            other.until("driving")
            assert other.until("ended") == "r completed"
            before = journals(store)
            frozen.send(signal.SIGCONT)
            frozen.until("lost")
            frozen.tell("stop")
            frozen.until("stopped")
            assert frozen.wait() == 0
            assert "lost the right to drive" in frozen.complaints
            assert "Traceback" not in frozen.complaints, frozen.complaints
            after = journals(store)
            assert [run.stored for run in after.values()] == [run.stored for run in before.values()]
            other.tell("stop")
            other.until("stopped")
    assert violations(after, executions(side)) == []
    assert after["r"].result == [1, 2, 3]
    completed = [(one.epoch, str(one.entry.path)) for one in after["r"].stored if isinstance(one.entry, StepCompleted)]
    assert completed == [(1, "plus#1"), (2, "held#1"), (2, "plus#2")]
    assert after["s"].row.status == "waiting"
