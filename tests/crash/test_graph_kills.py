"""`kill -9` at random moments of graphs: they do what the reference says, and nothing finished is done twice."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from crashing import Program, executions, journals, violations

from stepwell.authoring.graph import graph_workflow
from stepwell.graph.definition import Definition
from stepwell.graph.problems import InvalidDefinition

sys.path.insert(0, str(Path(__file__).parents[1] / "graph"))

from graph_strategies import drawn
from judging import check, check_end
from wfformat import INSTANCES, MISSING, instance, instances

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")

SHORTER = {"1s": "4ms", "2s": "6ms", "3s": "8ms", "1m": "20ms"}
"""Waits of drawn graphs as they are in real time."""

Play = tuple[str, dict[str, Any], dict[str, Any]]
"""A run's id, its definition, and its input."""


def play(folder: Path, plays: list[Play], *, seed: int, kills: int, longest: float) -> int:
    """Drive the runs, killing the driver up to so many times, and check what is left; how often it was killed."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    store, side, file = folder / "runs.db", folder / "side", folder / "plays.json"
    file.write_text(json.dumps(plays), encoding="utf-8")
    killed = 0
    while True:
        with Program("drawn_graphs.py", store, side, file) as program:
            if killed < kills:
                program.until("driving")
                time.sleep(chance.uniform(0, longest if killed else 0.01))  # the first before all has ended
                said = program.kill()
            else:
                said = program.rest()
        assert "Traceback" not in program.complaints, program.complaints
        if "done" in said:
            break
        assert killed < kills, program.complaints
        killed += 1
    found = journals(store)
    assert violations(found, executions(side)) == []
    for run, definition, input in plays:
        journal = [one.entry for one in found[run].stored]
        check(compiled(definition), input, journal, exact=False)
        check_end(compiled(definition), input, journal)
    return killed


def compiled(source: dict[str, Any]) -> Definition:
    return graph_workflow(source).plan.definition


def drawn_plays(seed: int, count: int) -> list[Play]:
    """Drawn graphs, with waits that are short."""
    plays: list[Play] = []
    while len(plays) < count:
        seed += 1
        source, input = drawn(seed)
        definition = _shorter({"stepwell": 1, "id": f"graph{len(plays)}", **source})
        try:
            compiled(definition)
        except InvalidDefinition:
            continue
        plays.append((f"run-{len(plays)}", definition, input))
    return plays


def _shorter(value: Any) -> Any:
    if isinstance(value, dict):
        changed = {key: _shorter(one) for key, one in value.items()}
        if "retry" in changed:
            changed["retry"] = {"attempts": changed["retry"], "first": "3ms"}
        return changed
    if isinstance(value, list):
        return [_shorter(one) for one in value]
    return SHORTER.get(value, value) if isinstance(value, str) else value


def instance_plays(paths: list[Path]) -> list[Play]:
    """Scientific workflows, whose tasks take milliseconds here."""
    return [(f"run-{number}", instance(path).definition(), {}) for number, path in enumerate(paths)]


def test_graphs_killed_at_random_do_what_the_reference_says(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    assert play(tmp_path, drawn_plays(seed, 6), seed=seed, kills=2, longest=0.1) > 0


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_minute_of_random_kills_of_graphs(tmp_path: Path) -> None:
    ends = time.monotonic() + 60
    seed = random.randrange(1 << 30)
    while time.monotonic() < ends:
        seed += 1
        folder = tmp_path / str(seed)
        folder.mkdir()
        longest = random.Random(seed).choice([0.05, 0.15, 0.4])
        play(folder, drawn_plays(seed, 25), seed=seed, kills=15, longest=longest)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.skipif(not INSTANCES.is_dir(), reason=MISSING)
def test_scientific_workflows_killed_at_random_run_every_task_once_and_its_parents_first(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    chosen = instances()[:40:4] + instances()[-3:]
    assert play(tmp_path, instance_plays(chosen), seed=seed, kills=12, longest=0.6) > 0
