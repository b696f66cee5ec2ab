"""`kill -9` at random moments: everything ends as if nothing had happened, and nothing finished is done twice."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest
from crashing import PROGRAMS, Journal, Program, executions, journals, violations

from stepwell.model.entries import StateSet, WaitSatisfied

sys.path.insert(0, str(PROGRAMS))

import mix

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")


def play(folder: Path, *, seed: int, kills: int, runs: int, size: int, longest: float) -> int:
    """Run the mix, killing it up to so many times, and check what it leaves; how often it was killed."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    store, side = folder / "runs.db", folder / "side"
    accepted: set[str] = set()
    killed = 0
    while True:
        with Program("mix.py", store, side, runs, size) as program:
            if killed < kills:
                program.until("driving")
                time.sleep(chance.uniform(0, longest))
                said = program.kill()
            else:
                said = program.rest()
        accepted.update(line.removeprefix("accepted ") for line in said if line.startswith("accepted"))
        assert "Traceback" not in program.complaints, program.complaints
        if "done" in said:
            break
        assert killed < kills, program.complaints
        killed += 1
    check(journals(store), executions(side), accepted, runs, size)
    return killed


def check(found: dict[str, Journal], ran: dict[str, list[int]], accepted: set[str], runs: int, size: int) -> None:
    assert violations(found, ran) == []
    assert {line.split()[0] for line in accepted} <= set(found)
    results = mix.expected(runs, size)
    assert {name: run.stored[-1].entry for name, run in found.items() if run.row.status != "completed"} == {}
    assert {name: found[name].result for name in results} == results
    assert {name for name in found if "/" not in name} == set(results)
    for n in range(runs):
        children = {name for name in found if name.startswith(f"family-{n}/")}
        assert len(children) == 5, children
        taken = [int(bytes(entry.payload)) for entry in found[f"heard-{n}"].of(WaitSatisfied)]
        assert taken == list(range(mix.SIGNALS))
        states = [int(bytes(entry.payload)) for entry in found[f"chain-{n}"].of(StateSet)]
        assert states == [sum(range(number + 1)) for number in range(3 * size)]
    assert len(ran) > 30 * runs


def test_a_mix_of_runs_killed_at_random_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    killed = play(tmp_path, seed=random.randrange(1 << 30), kills=15, runs=4, size=10, longest=0.2)
    assert killed == 15


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_two_minutes_of_random_kills(tmp_path: Path) -> None:
    ends = time.monotonic() + 120
    seed = random.randrange(1 << 30)
    while time.monotonic() < ends:
        seed += 1
        folder = tmp_path / str(seed)
        folder.mkdir()
        play(folder, seed=seed, kills=60, runs=10, size=15, longest=random.Random(seed).choice([0.05, 0.2, 0.6]))
