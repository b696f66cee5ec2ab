"""`kill -9` at random moments of runs that do everything at once, while people answer, signal and publish."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crashing import PROGRAMS, Journal, Program, executions, journals, violations

from stepwell.model.entries import (
    InputAnswered,
    RunCancelled,
    StepCompleted,
    StepFailed,
    StepStarted,
    StreamBlock,
    WaitSatisfied,
)

sys.path.insert(0, str(PROGRAMS))

import everything

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")


def play(folder: Path, *, seed: int, kills: int, runs: int, longest: float) -> int:
    """Drive the runs, killing the driver up to so many times, and check what is left; how often it was killed."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    store, side = folder / "runs.db", folder / "side"
    accepted: list[str] = []
    killed = 0
    with Program("everything.py", "drive", store, side, runs) as first:
        first.until("driving")
        first.kill()
    with Program("everything.py", "people", store, runs) as people:
        while True:
            with Program("everything.py", "drive", store, side, runs) as driver:
                if killed < kills:
                    driver.until("driving")
                    time.sleep(chance.uniform(0, longest))
                    said = driver.kill()
                else:
                    said = driver.rest()
            accepted += [line for line in said if line.startswith("accepted")]
            assert "Traceback" not in driver.complaints, driver.complaints
            if "done" in said:
                break
            assert killed < kills, driver.complaints
            killed += 1
        accepted += [line for line in people.rest() if line.startswith("accepted")]
        assert people.wait() == 0, people.complaints
    check(journals(store), executions(side), accepted, store, runs)
    return killed


def check(found: dict[str, Journal], ran: dict[str, list[int]], accepted: list[str], store: Path, runs: int) -> None:
    assert violations(found, ran) == []
    for n in range(runs):
        run = found[f"everything-{n}"]
        assert run.row.status == "completed", run.stored[-1].entry
        result = run.result
        result["people"][1] = len(set(result["people"][1]))
        result["heard"][2] = result["heard"][2].partition("task")[0]
        assert result == everything.expected(n)
        check_people(run, accepted)
        check_undoing(run, ["car", "hotel", "flight"], n)
        check_stream(run)
        check_family(run, found, n)
    check_rows(found, store)


def check_people(run: Journal, accepted: list[str]) -> None:
    """Each accepted answer is journaled once, and each signal and event taken once, in order."""
    answers = Counter(msgspec.json.decode(entry.payload)["number"] for entry in run.of(InputAnswered))
    said = [int(line.split()[-1]) for line in accepted if line.startswith(f"accepted answer {run.row.run_id} ")]
    assert set(said) <= set(answers) and all(count == 1 for count in answers.values())
    by_name: dict[str, list[Any]] = {}
    for entry in run.of(WaitSatisfied):
        by_name.setdefault(entry.path.name, []).append(entry)
    numbers = [int(bytes(entry.payload)) for entry in by_name["signal:number"]]
    assert numbers == list(range(everything.NUMBERS))
    positions = [entry.position for entry in by_name["event:order"]]
    assert positions == sorted(set(positions)) and len(positions) == everything.NUMBERS


def check_undoing(run: Journal, whats: list[str], n: int) -> None:
    """All is undone once, one after the other, the last first."""
    starts = [entry for entry in run.of(StepStarted) if entry.step == "compensation" and entry.input]
    assert [msgspec.json.decode(entry.input)["what"] for entry in starts] == [f"{what}-{n}" for what in whats]
    ends = [entry for entry in run.of(StepCompleted) if entry.path.name == "unbook"]
    assert [entry.path for entry in ends] == [entry.path for entry in starts]
    order = [one.entry for one in run.stored if one.entry in starts or one.entry in ends]
    assert order == [entry for pair in zip(starts, ends, strict=True) for entry in pair]


def check_stream(run: Journal) -> None:
    """What an attempt emitted is journaled without a gap, and wholly where the attempt is the one that counts."""
    chunks: dict[int, list[str]] = {}
    for entry in run.of(StreamBlock):
        heard = chunks.setdefault(entry.attempt, [])
        assert entry.first == len(heard) + 1
        heard += msgspec.json.decode(entry.chunks)
    (done,) = (entry for entry in run.of(StepCompleted) if entry.path.name == "talk")
    n = run.row.run_id.removeprefix("everything-")
    for attempt, heard in chunks.items():
        assert heard == [f"{n}:{attempt}:{number + 1}" for number in range(len(heard))]
    assert len(chunks[done.attempt]) == everything.CHUNKS
    assert done.usage == {"words": everything.CHUNKS}


def check_family(run: Journal, found: dict[str, Journal], n: int) -> None:
    """The cancelled child has undone its work and ended before its parent heard of it."""
    kids = [journal for journal in found.values() if journal.row.parent == run.row.run_id]
    assert Counter(journal.row.workflow for journal in kids) == {"kid": 5, "patient": 1}
    (patient,) = (journal for journal in kids if journal.row.workflow == "patient")
    (started,) = (entry for entry in run.of(StepStarted) if entry.child == patient.row.run_id)
    (heard,) = (entry for entry in run.of(StepFailed) if entry.path == started.path)
    (ended,) = patient.of(RunCancelled)
    assert ended.at <= heard.at
    booked = [entry for entry in patient.of(StepCompleted) if entry.path.name == "book"]
    check_undoing(patient, ["room"] if booked else [], n)


def check_rows(found: dict[str, Journal], store: Path) -> None:
    """What transactional steps wrote is there once for each that is completed, and for no other."""
    completed = [
        f"{run_id}:{entry.path}"
        for run_id, run in found.items()
        for entry in run.of(StepCompleted)
        if entry.path.name == "credit"
    ]
    connection = sqlite3.connect(store)
    try:
        written = [step for (step,) in connection.execute("SELECT step FROM account")]
        waits = connection.execute("SELECT count(*) FROM waits").fetchone()[0]
        events = Counter(connection.execute("SELECT source, event_id FROM events").fetchall())
    finally:
        connection.close()
    assert sorted(written) == sorted(completed)
    assert waits == 0
    assert set(events.values()) == {1}


def test_runs_that_do_everything_killed_at_random_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    assert play(tmp_path, seed=random.randrange(1 << 30), kills=8, runs=3, longest=0.12) > 0


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_forty_seconds_of_random_kills_of_everything(tmp_path: Path) -> None:
    ends = time.monotonic() + 40
    seed = random.randrange(1 << 30)
    while time.monotonic() < ends:
        seed += 1
        folder = tmp_path / str(seed)
        folder.mkdir()
        play(folder, seed=seed, kills=20, runs=6, longest=random.Random(seed).choice([0.05, 0.15, 0.4]))
