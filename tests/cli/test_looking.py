"""Help, runs, show, state, journal, logs, tasks, doctor, backup, gc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from command_line import Cli, until


def test_help_lists_every_command_with_a_line_without_loading_the_engine(cli: Cli) -> None:
    done = cli("--help")
    assert done.returncode == 0
    names = "demo run runs show graph journal logs pause resume cancel retry signal state tasks doctor backup gc"
    for name in names.split():
        assert f"\n  {name} " in done.stdout
    code = "import sys, stepwell.cli.main as m; m.main(['--help']); sys.exit('stepwell.app' in sys.modules)"
    quick = subprocess.run([sys.executable, "-c", code], env=cli.environment, capture_output=True)
    assert quick.returncode == 0
    assert "Exit codes" in cli().stdout


def test_a_wrong_command_run_or_workflow_gets_a_suggestion(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "1", "--id", "shop-berlin")
    wrong = cli("shwo")
    assert wrong.returncode == 2
    assert "did you mean 'show'?" in wrong.stderr
    run = cli("show", "shop-merlin", "--json")
    assert run.returncode == 3
    assert json.loads(run.stderr)["error"]["code"] == "run_not_found"
    assert "did you mean 'shop-berlin'?" in run.stderr
    assert "did you mean 'adds'?" in cli("runs", "--workflow", "add").stderr


def test_the_beginning_of_an_id_is_enough_where_it_is_one_runs_only(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "1", "--id", "alpha-1")
    cli("run", "flows.py:adds", "-i", "1", "--id", "alpha-2")
    cli("run", "flows.py:adds", "-i", "1", "--id", "beta")
    assert cli.json("show", "b")["run"] == "beta"
    both = cli("show", "alpha")
    assert both.returncode == 4
    assert "alpha-1" in both.stderr
    assert cli.json("show", "alpha-1")["run"] == "alpha-1"


def test_a_store_that_is_not_there_is_not_made_by_looking(cli: Cli) -> None:
    done = cli("runs")
    assert done.returncode == 3
    assert "there is no such file" in done.stderr
    assert not cli.store.exists()


def test_runs_filters_and_aligns(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "1", "--id", "one", "--label", "shop=berlin")
    cli("run", "flows.py:unwritable", "--id", "a-longer-id")
    rows = cli("runs").stdout.splitlines()
    assert rows[0].split() == ["RUN", "WORKFLOW", "STATUS", "CREATED", "TOOK"]
    assert len({row.index(word) for row, word in zip(rows, ("WORKFLOW", "unwritable", "adds"), strict=True)}) == 1
    answer = cli.json("runs", "--status", "completed", "--label", "shop=berlin")
    assert [row["run"] for row in answer["runs"]] == ["one"]
    assert answer["counts"] == {"completed": 1, "failed": 1}
    assert [row["run"] for row in cli.json("runs", "--search", "longer")["runs"]] == ["a-longer-id"]


def test_show_tells_how_a_run_stands(cli: Cli) -> None:
    cli("run", "flows.py:parent", "-i", "4", "--id", "p")
    shown = cli("show", "p").stdout
    assert "p  parent  completed" in shown
    assert "└ " in shown
    assert "adds  completed" in shown
    answer = cli.json("show", "p")
    assert (answer["status"], answer["result"], answer["input"]) == ("completed", 12, {"number": 4})
    (child,) = answer["children"]
    child_shown = cli("show", child["run"]).stdout
    assert 'stage = "doubled"' in child_shown
    assert "5 done, 2 retries" in child_shown or "4 done, 2 retries" in child_shown


def test_show_tells_what_a_run_waits_for(cli: Cli) -> None:
    process = cli.begin("run", "flows.py:asks", "-i", '"why"', "--id", "q")
    until(lambda: cli.store.exists() and "'answer'" in cli("show", "q").stdout)
    (wait,) = cli.json("show", "q")["waits"]
    assert (wait["kind"], wait["name"], wait["due"]) == ("signal", "answer", None)
    os.killpg(process.pid, signal.SIGKILL)


def test_state_folds_the_journal_up_to_any_entry(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "2", "--id", "s")
    entries = cli.lines("journal", "s")
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert cli.json("state", "s")["state"] == {"stage": "doubled"}
    before = next(entry["seq"] for entry in entries if entry["kind"] == "state.set") - 1
    answer = cli.json("state", "s", "--at", before)
    assert (answer["state"], answer["status"], answer["steps"]["done"]) == ({}, "running", 2)
    assert "after entry" in cli("state", "s").stdout
    assert cli("state", "s", "--at", 10_000).returncode == 4


def test_journal_prints_entries_for_people_and_follows(cli: Cli) -> None:
    process = cli.holding("--id", "h", count=1)
    follower = cli.begin("journal", "h", "--follow", "--after", "1")
    cli.release()
    out, _ = follower.communicate(timeout=20)
    process.communicate(timeout=20)
    kinds = [line.split()[2] for line in out.splitlines()]
    assert kinds == ["run.started", "step.started", "step.completed", "run.completed"]
    assert "hold#1" in out


def test_logs_hold_what_code_said_and_what_went_wrong(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "4", "--id", "l")
    shown = cli("logs", "l").stdout
    assert "begins  count=4" in shown
    assert "doubling 3" in shown
    assert "colour=red" in shown
    assert "attempt 1 failed, next in" in shown
    assert "step.completed" not in shown
    lines = cli.lines("logs", "l", "--level", "debug")
    assert {line["run"] for line in lines} == {"l"}
    assert {line["workflow"] for line in lines} == {"adds"}
    record = next(line for line in lines if line.get("logger") == "flows" and line["message"] == "doubling 3")
    assert (record["step"], record["attempt"], record["colour"]) == ("double.map:1/double#4", 3, "red")
    assert lines[-1]["event"] == "run.completed"
    nothing = cli("logs", "l", "--store", "elsewhere.db")
    assert nothing.returncode == 3


def test_logs_are_followed_to_the_end_of_the_run(cli: Cli) -> None:
    process = cli.holding("--id", "h", count=1)
    follower = cli.begin("logs", "h", "--follow", "--level", "debug")
    cli.release()
    out, _ = follower.communicate(timeout=20)
    process.communicate(timeout=20)
    assert "run.completed" in out


def test_tasks_lists_what_a_script_has(cli: Cli) -> None:
    shown = cli("tasks", "flows.py").stdout
    assert "adds(count: int, note: str = '') -> Report" in shown
    assert "4 attempts (1 ms to 2 ms between), timeout 20.0 s" in shown
    answer = cli.json("tasks", "flows.py")
    assert {one["name"] for one in answer["workflows"]} >= {"adds", "holds", "asks"}
    double = next(one for one in answer["tasks"] if one["name"] == "double")
    assert (double["attempts"], double["timeout_seconds"]) == (4, 20)
    assert double["input_schema"]["required"] == ["number"]


def test_doctor_backup_and_gc_keep_a_store_well(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "1", "--id", "g")
    answer = cli.json("doctor")
    assert answer["ok"] is True
    assert answer["driver"] is None
    assert all(finding["ok"] for finding in answer["findings"])
    assert cli("backup", "copy.db").returncode == 0
    assert cli.json("runs", "--store", "copy.db")["counts"] == {"completed": 1}
    twice = cli("backup", "copy.db")
    assert twice.returncode == 2
    assert "exists already" in twice.stderr
    assert "no run ended" in cli("gc", "--older-than", "1d", "--yes").stdout
    asked = cli("gc", "--older-than", "0s")
    assert asked.returncode == 2
    assert "1 run would be deleted" in asked.stderr
    assert cli.json("gc", "--older-than", "0s", "--yes") == {"deleted": 1}
    assert cli.json("runs")["counts"] == {}
    assert not (cli.folder / "logs" / "g.jsonl").exists()
    wrong = cli("gc", "--older-than", "soon")
    assert wrong.returncode == 2
    assert "is not a duration" in wrong.stderr


def test_a_reader_that_has_seen_enough_is_no_error(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "40", "--id", "l")
    shell = f"{sys.executable} -m stepwell journal l | head -n 1"
    done = subprocess.run(shell, shell=True, cwd=cli.folder, env=cli.environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert "run.created" in done.stdout


def test_what_is_unexpected_is_told_shortly_with_the_details_in_a_file(cli: Cli) -> None:
    (cli.folder / "sitecustomize.py").write_text(
        "import stepwell.app\n\ndef counts(self):\n    raise ZeroDivisionError('unlikely')\n\n"
        "stepwell.app.Stepwell.counts = counts\n"
    )
    cli("run", "flows.py:adds", "-i", "1")
    cli.environment["PYTHONPATH"] += os.pathsep + str(cli.folder)
    done = cli("runs", "--json")
    assert done.returncode == 70
    error = json.loads(done.stderr)["error"]
    assert "ZeroDivisionError: unlikely" in error["message"]
    with open(error["details"]) as file:
        assert "Traceback" in file.read()
    assert "Traceback" not in cli("runs").stderr
