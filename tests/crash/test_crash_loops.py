"""A run that ends every process which takes it is set aside, kept and resumable; the others go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from crashing import Program, executions, journals, violations

from stepwell.engine.trials import CLAIMS_WITHOUT_PROGRESS
from stepwell.model.entries import RunPaused

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the way in which the process ends")


@pytest.mark.parametrize("how", ["task", "body"])
def test_a_run_that_kills_its_worker_is_set_aside_and_the_others_go_on(tmp_path: Path, how: str) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("loops.py", store, side, how) as program:
        assert program.wait() == 0, program.complaints
    deaths = 0
    while True:
        with Program("loops.py", store, side, "drive") as program:
            program.tell("leave")
            if "at rest stuck" in program.rest():
                assert program.wait() == 0, program.complaints
                break
            assert program.wait() == 7, program.complaints
        deaths += 1
        assert deaths <= CLAIMS_WITHOUT_PROGRESS + 1, "the run kills one worker after another"
    # The first death of the task comes after a step that was progress.
    assert deaths == CLAIMS_WITHOUT_PROGRESS + (how == "task")
    found = journals(store)
    assert found["bad"].row.status == "stuck"
    (pause,) = found["bad"].of(RunPaused)
    assert pause.cause == "crash_loop"
    assert [name for name, run in found.items() if run.row.status == "stuck"] == ["bad"]

    with Program("loops.py", store, side, "drive", STEPWELL_TEST_HARMLESS="yes") as program:
        assert program.until("at rest") == "stuck"
        program.tell("resume")
        assert program.until("result") == "5"
        assert program.until("others") == "hello"
        program.until("all ended")
        assert program.wait() == 0
    found = journals(store)
    assert violations(found, executions(side)) == []
    assert {run.row.status for run in found.values()} == {"completed"}
