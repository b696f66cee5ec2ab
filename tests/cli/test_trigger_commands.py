"""Triggers on the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from command_line import Cli, until

pytestmark = pytest.mark.campaign  # each command is a process; what the verbs do is tested in tests/scenarios

DRIVER = """
import asyncio, sys
from flows import adds, asks
from stepwell import Stepwell

async def main():
    async with Stepwell(sys.argv[1], workflows=[adds, asks]):
        print("open", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def drive(cli: Cli) -> subprocess.Popen[str]:
    """A program that drives the store until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(cli.store)],
        cwd=cli.folder,
        env=cli.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    cli.started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_schedule_is_made_listed_changed_paused_resumed_and_removed(cli: Cli) -> None:
    words = ["triggers", "add", "nightly", "flows.py:adds", "-i", '{"count": 2}', "--timezone", "Europe/Berlin"]
    made = cli(*words, "--cron", "0 6 * * *", "--label", "kind=night")
    assert made.returncode == 0, made.stderr
    assert "trigger nightly starts runs of adds, at 06:00 every day, Europe/Berlin (0 6 * * *); next at" in made.stdout
    (row,) = cli.json("triggers")["triggers"]
    assert (row["trigger"], row["kind"], row["workflow"], row["paused"]) == ("nightly", "schedule", "adds", False)
    assert row["input"] == {"count": 2}
    assert row["options"]["labels"]["kind"] == "night"
    assert row["options"]["labels"]["target"].endswith("flows.py:adds")
    assert cli.json(*words, "--cron", "0 7 * * *")["next_at"] != row["next_at"]
    assert "; it is paused" in cli("triggers", "pause", "nightly").stdout
    assert cli("triggers").stdout.splitlines()[1].split()[-1] == "paused"
    assert "next at" in cli("triggers", "resume", "nightly").stdout
    assert cli.json("triggers", "remove", "nightly") == {"trigger": "nightly", "removed": True}
    gone = cli("triggers", "firings", "nightly")
    assert (gone.returncode, gone.stderr) == (3, "error: there is no trigger 'nightly'; there are none\n")
    assert "no triggers yet" in cli("triggers").stderr


def test_a_schedule_is_fired_by_hand_and_filled_in_and_its_runs_are_driven_by_who_knows_them(cli: Cli) -> None:
    cli.json("triggers", "add", "daily", "flows.py:adds", "-i", '{"count": 1}', "--every", "1d", "--paused")
    (by_hand,) = cli.json("triggers", "fire", "daily")["runs"]
    days = cli.json("triggers", "backfill", "daily", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z")["runs"]
    assert days == ["daily@2026-01-01T00:00:00Z", "daily@2026-01-02T00:00:00Z"]
    drive(cli)
    until(lambda: all(cli.status(run) == "completed" for run in (by_hand, *days)))
    firings = cli.json("triggers", "firings", "daily")["firings"]
    assert [(one["note"], one["status"]) for one in firings] == [
        ("backfill", "completed"),
        ("backfill", "completed"),
        ("by hand", "completed"),
    ]
    assert "daily@2026-01-02T00:00:00Z" in cli("triggers", "firings", "daily").stdout


def test_a_schedule_made_beside_a_process_that_drives_is_fired_by_it(cli: Cli) -> None:
    drive_seen = drive(cli)
    cli.json("triggers", "add", "often", "flows.py:adds", "-i", '{"count": 1}', "--every", "1s")
    until(lambda: any(one["status"] == "completed" for one in cli.json("triggers", "firings", "often")["firings"]))
    assert drive_seen.poll() is None


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_no_occasion_is_lost_or_fired_twice_when_the_process_that_drives_is_killed_again_and_again(cli: Cli) -> None:
    words = ["triggers", "add", "often", "flows.py:adds", "-i", '{"count": 1}', "--every", "1s", "--catch-up", "all"]
    cli.json(*words)

    def fired() -> list[dict[str, Any]]:
        return list(reversed(cli.json("triggers", "firings", "often", "--limit", 1000)["firings"]))

    for life in range(3):
        process = drive(cli)
        before = len(fired())
        until(lambda before=before: len(fired()) > before)
        if life < 2:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    cli.json("triggers", "pause", "often")
    firings = fired()
    first = firings[0]["occasion"]
    assert [one["occasion"] for one in firings] == [first + n * 1_000_000 for n in range(len(firings))]
    assert [one["run_id"] for one in firings] == [one["key"] for one in firings]
    until(lambda: {one["status"] for one in fired()} == {"completed"})


def test_events_start_runs(cli: Cli) -> None:
    rule, rules = '{"var": "data.ok"}', '{"question": {"var": "data.what"}}'
    made = cli("triggers", "add", "asked", "flows.py:asks", "--on", "question", "--where", rule, "--map", rules)
    assert made.stdout == 'trigger asked starts runs of asks, on events of topic question where {"var":"data.ok"}\n'
    (row,) = cli.json("triggers")["triggers"]
    assert (row["kind"], row["spec"]["topic"], row["next_at"]) == ("event", "question", None)
    assert "when it is published" in cli("triggers").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "t", "flows.py:adds", "-i", "1"), 2, "found 0 of cron=, every= and at=; give exactly one"),
        (("add", "t", "flows.py:adds", "-i", "1", "--cron", "61 * * * *"), 2, "minute is '61'"),
        (("add", "t", "flows.py:adds", "--every", "1h"), 2, "count"),
        (("add", "t", "flows.py:nothing", "--every", "1h"), 3, "flows.py has no 'nothing'"),
        (("add", "t", "flows.py:asks", "--on", "x", "--every", "1h"), 2, "leave the clock and --input out"),
        (("add", "t", "flows.py:asks", "-i", '"?"', "--every", "1h", "--data"), 2, "--data is for events"),
        (("add", "t", "flows.py:asks", "--on", "x", "--where", "{"), 2, "--where is not JSON"),
        (("add", "t", "flows.py:asks", "--on", "x", "--map", "[]"), 2, "write a JSON object with a rule for each"),
        (("fire", "t"), 3, "there is no trigger 't'"),
        (("backfill", "t", "a", "b"), 3, "there is no trigger 't'"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, words: tuple[str, ...], code: int, said: str) -> None:
    cli("queues", "set", "any")
    done = cli("triggers", *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
