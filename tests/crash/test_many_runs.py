"""Many short runs and a kill in the middle of them: each one that was accepted ends, once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from crashing import Program, executions, journals, soon, violations

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")

COUNT = 300


@pytest.mark.parametrize("when", ["while they are accepted", "while they run"])
def test_of_three_hundred_runs_none_is_lost_and_none_runs_twice(tmp_path: Path, when: str) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("many.py", store, side, COUNT) as program:
        if when == "while they are accepted":
            said = [program.line()]
        else:
            said = [program.line() for _ in range(COUNT)]
            soon(lambda: len(executions(side)) > COUNT // 2)
        said += program.kill()
    assert "done" not in said
    accepted = {line.split()[1] for line in said}
    assert accepted <= set(journals(store))
    with Program("many.py", store, side, 0) as program:
        assert program.rest() == ["done"], program.complaints
    found = journals(store)
    assert accepted <= set(found)
    assert violations(found, executions(side)) == []
    assert {name: run.result for name, run in found.items()} == {name: int(name.split("-")[1]) + 2 for name in found}
