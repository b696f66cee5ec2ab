"""Queues on the command line, starts that wait in them, and verbs for many runs."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections import Counter

import pytest
from command_line import Cli, until

from stepwell.cli.parts.bulk import filter_of
from stepwell.stores.protocol import Filter

pytestmark = pytest.mark.campaign  # each command is a process; what the verbs do is tested in tests/scenarios


def statuses(cli: Cli) -> dict[str, int]:
    return dict(Counter(row["status"] for row in cli.json("runs")["runs"]))


def test_queues_are_made_changed_listed_paused_and_resumed(cli: Cli) -> None:
    made = cli("queues", "set", "mail", "--concurrency", 2, "--rate", "60/1m")
    assert (made.returncode, made.stdout) == (0, "queue mail lets runs in: 0 under way, 0 waiting\n")
    assert cli.json("queues", "set", "mail", "--concurrency", "none", "--concurrency-per-key", 1)["concurrency"] is None
    assert cli("queues", "pause", "mail").stdout.startswith("queue mail is paused")
    (row,) = cli.json("queues")["queues"]
    assert row == {
        "name": "mail",
        "concurrency": None,
        "concurrency_per_key": 1,
        "rate": 60,
        "rate_per_key": None,
        "period": 60_000_000,
        "paused": True,
        "waiting": 0,
        "under_way": 0,
    }
    table = cli("queues").stdout.splitlines()
    assert table[1].split() == ["mail", "any", "1", "60/1m", "any", "0", "0", "paused"]
    assert "lets runs in" in cli("queues", "resume", "mail").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("queues", "pause", "nothing"), 4, "there is no queue 'nothing'; there are 'mail'"),
        (
            ("queues", "set", "q", "--concurrency", "many"),
            2,
            "--concurrency many: give a whole number from 1, or 'none'",
        ),
        (("queues", "set", "q", "--rate", "often"), 2, "rate: 'often' is not a rate"),
        (("queues", "burn", "q"), 2, "No such command 'burn'"),
        (("pause",), 2, "name one RUN, or say which runs with --where or --all"),
        (("pause", "r", "--all"), 2, "name one RUN, or say which runs"),
        (("cancel", "--where", "colour=red"), 2, "colour is not known; write KEY=VALUE with status, workflow"),
        (("cancel", "--where", "status=lost"), 2, "there is no status 'lost'; there are pending, running"),
        (("cancel", "--where", "workflow"), 2, "write KEY=VALUE"),
        (("cancel", "--where", "workflow=a", "--where", "workflow=b"), 2, "workflow is given twice"),
        (("run", "flows.py:adds", "-i", "1", "--delay", "soon"), 2, "delay=: 'soon' is not a duration"),
        (("run", "flows.py:adds", "-i", "1", "--queue-key", "k"), 2, "queue_key='k': the run has no queue"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, words: tuple[str, ...], code: int, said: str) -> None:
    cli("queues", "set", "mail")
    done = cli(*words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_filters_are_read_from_where_options() -> None:
    assert filter_of(["status=failed,stuck", "status=paused", "label.a.b=c=d", "workflow=w", "queue=q"]) == Filter(
        status=("failed", "stuck", "paused"), labels={"a.b": "c=d"}, workflow="w", queue="q"
    )
    assert filter_of([]) == Filter()


def test_a_run_is_started_with_the_options_of_a_start(cli: Cli) -> None:
    cli("queues", "set", "mail", "--concurrency", 1)
    options = ["--queue", "mail", "--queue-key", "k", "--deadline", "1h", "--delay", "20ms", "--priority", 3]
    done = cli("run", "flows.py:adds", "-i", '{"count": 2}', "--id", "r", *options, "--label", "a=b")
    assert done.returncode == 0, done.stderr
    (row,) = cli.json("runs", "--label", "a=b")["runs"]
    assert (row["run"], row["status"], row["priority"]) == ("r", "completed", 3)
    (first, *_) = cli.lines("journal", "r")
    created = first.get("entry", first)
    assert (created["queue"], created["queue_key"]) == ("mail", "k")
    assert created["deadline"] == created["begin_at"] + 3_600_000_000


def test_a_run_that_begins_later_can_be_left_to_the_background_and_cancelled(cli: Cli) -> None:
    begun = cli.json("run", "flows.py:adds", "-i", '{"count": 2}', "--id", "later", "--delay", "1h", "--detach")
    cli.started.append(_Process(begun["pid"]))  # type: ignore[arg-type]  # it is only ended
    assert cli.status("later") == "pending"
    again = cli.json("run", "flows.py:asks", "-i", '"?"', "--singleton", "x", "--detach")
    same = cli.json("run", "flows.py:asks", "-i", '"?"', "--singleton", "x", "--detach")
    assert same["run"] == again["run"]
    refused = cli("run", "flows.py:asks", "-i", '"?"', "--singleton", "x", "--on-conflict", "refuse", "--detach")
    assert (refused.returncode, "has the same singleton key" in refused.stderr) == (4, True)
    done = cli("cancel", "--all", "--yes")
    assert done.stdout.strip() == "accepted: cancel 2 runs"
    until(lambda: cli.status("later") == "cancelled")


def test_many_runs_are_paused_resumed_retried_and_cancelled_by_another_process(cli: Cli) -> None:
    driver = cli.holding("--id", "h")
    cli("queues", "pause", "none")
    for n in range(3):
        cli.json("run", "flows.py:asks", "-i", '"?"', "--id", f"a{n}", "--detach", "--label", f"odd={n % 2}")
    until(lambda: statuses(cli) == {"running": 1, "waiting": 3})
    paused = cli("pause", "--where", "workflow=asks", "--where", "label.odd=0", "--yes")
    assert (paused.returncode, paused.stdout) == (0, "accepted: pause 2 runs\n")
    assert "acts on it" in paused.stderr
    until(lambda: statuses(cli) == {"running": 1, "waiting": 1, "paused": 2})
    assert cli.json("resume", "--all", "--yes")["done"] == 2
    until(lambda: statuses(cli) == {"running": 1, "waiting": 3})
    answer = cli.json("cancel", "--where", "search=a", "--where", "workflow=asks", "--yes")
    assert (answer["verb"], answer["done"], answer["refused"]) == ("cancel", 3, [])
    until(lambda: statuses(cli) == {"running": 1, "cancelled": 3})
    answer = cli.json("pause", "--where", "status=cancelled,running", "--yes")
    assert (answer["done"], len(answer["refused"])) == (1, 3)
    assert "cannot be paused" in answer["refused"][0]["why"]
    nothing = cli("retry", "--all", "--yes")
    assert (nothing.returncode, nothing.stderr) == (0, "no run matches that one could retry\n")
    cli.release()
    cli("resume", "h")
    driver.communicate(timeout=20)


def test_nobody_is_asked_where_nobody_can_answer(cli: Cli) -> None:
    cli.json("triggers", "add", "t", "flows.py:asks", "-i", '"?"', "--every", "1h")
    run = cli.json("triggers", "fire", "t")["runs"][0]
    done = cli("cancel", "--all")
    assert (done.returncode, "1 run would be meant: say --yes" in done.stderr) == (2, True)
    assert cli.status(run) == "pending"


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX systems")
@pytest.mark.parametrize(("typed", "code"), [(b"n\n", 130), (b"y\n", 0)])
def test_at_a_terminal_the_person_is_asked_first(cli: Cli, typed: bytes, code: int) -> None:
    cli.json("triggers", "add", "t", "flows.py:asks", "-i", '"?"', "--every", "1h")
    run = cli.json("triggers", "fire", "t")["runs"][0]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stepwell", "cancel", "--all"],
        cwd=cli.folder,
        env=cli.environment,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(master, typed)
    said = process.communicate(timeout=30)
    os.close(master)
    os.close(slave)
    assert "cancel 1 run?" in said[1]
    assert process.returncode == code
    assert said[0] == ("accepted: cancel 1 run\n" if code == 0 else "")
    assert cli.status(run) == "pending"  # nobody drives: it hears of it when somebody does


class _Process:
    """A background process that a test has to end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def communicate(self) -> None:
        """It has nothing to say."""
