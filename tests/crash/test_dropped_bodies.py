"""A body that waits is dropped and rebuilt: nothing of it stays, nothing is done by dropping it, nothing is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from crashing import Program, executions, journals, violations

EXPECTED = {
    "with_finally": ["go", "tidied"],
    "with_context": ["reserve a", "go"],
    "with_group": ["go", "left", "right"],
    "with_timeout": ["go"],
    "with_generator": ["1go", "2left"],
    "with_generator_left_early": ["go"],
    "stubborn": ["go"],
    "in_a_thread": ["go"],
}


def test_dropping_a_body_starts_nothing_leaves_nothing_and_says_nothing(tmp_path: Path) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("dropped.py", store, side, "clean", strict=True) as program:
        said = program.rest()
        assert program.wait() == 0, program.complaints
    assert program.complaints == ""
    ran = [line.removeprefix("ran").strip() for line in said if line.startswith("ran")]
    early = "with_generator_left_early:generator:1/noted#1 1"  # as asyncio does it: when nobody iterates any more
    assert ran == ["", "with_context:noted#1 1 with_context:noted#2 1", "", "", "", early, "", ""]
    assert [line for line in said if line.startswith("left") and line != "left"] == []
    results = [line.split(" ", 2)[1:] for line in said if line.startswith("result")]
    assert {name: json.loads(result) for name, result in results} == EXPECTED
    seen = executions(side)
    assert violations(journals(store), seen) == []
    assert {tuple(attempts) for attempts in seen.values()} == {(1,)}
    assert len(seen) == 11, "each clean-up runs once, when its body really ends"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_thousand_drops_and_rebuilds_leave_the_process_as_it_was(tmp_path: Path) -> None:
    with Program("dropped.py", tmp_path / "runs.db", tmp_path / "side", "memory") as program:
        grew = int(program.until("grew"))
        program.until("done")
        assert program.wait() == 0, program.complaints
    assert grew < 16 * 1024 * 1024
