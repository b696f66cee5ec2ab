"""`stepwell run`: what it prints, when it refuses, and what it exits with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Cli, until


def test_run_prints_the_result_alone_on_standard_output_and_progress_on_standard_error(cli: Cli) -> None:
    done = cli("run", "flows.py:adds", "--input", '{"count": 5}', "--id", "sum-1")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"total": 20, "note": ""}
    assert "run sum-1 of adds" in done.stderr
    assert "completed in" in done.stderr
    assert "a print in a task" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_errors_of_a_scripts_own_classes_are_retried_as_the_policy_says(cli: Cli) -> None:
    events = cli.lines("run", "flows.py:adds", "--input", '{"count": 5}')
    assert events[-1]["status"] == "completed"
    assert events[-1]["steps"]["retries"] == 2


def test_a_workflow_catches_errors_of_its_scripts_own_classes(cli: Cli) -> None:
    assert cli("run", "flows.py:catches").stdout.strip() == '"caught gone"'


def test_json_events_parse_and_tell_begin_log_progress_and_end(cli: Cli) -> None:
    events = cli.lines("run", "flows.py:adds", "--input", "4", "--id", "sum-2")
    assert [event["event"] for event in events] == ["started", "log", "progress", "ended"]
    assert events[2]["maps"] == {"double": {"done": 4, "total": 4, "failed": 0}}
    assert events[-1]["result"] == {"total": 12, "note": ""}


def test_the_same_id_and_input_again_prints_the_recorded_result_and_runs_nothing(cli: Cli) -> None:
    first = cli("run", "flows.py:adds", "-i", '{"count": 2}', "--id", "once")
    again = cli("run", "flows.py:adds", "-i", '{"count": 2}', "--id", "once")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "had completed before" in again.stderr
    assert "a print in a task" not in again.stderr
    (event,) = cli.lines("run", "flows.py:adds", "-i", '{"count": 2}', "--id", "once")
    assert event["before"] is True
    other = cli("run", "flows.py:adds", "-i", '{"count": 3}', "--id", "once")
    assert other.returncode == 4
    assert "another input" in other.stderr


def test_a_failed_run_shows_where_it_failed_and_how_to_retry_and_is_not_run_again_by_run(cli: Cli) -> None:
    (cli.folder / "broken").touch()
    words = ("run", "flows.py:breaks", "-i", json.dumps(str(cli.folder)), "--id", "b-1")
    failed = cli(*words)
    assert failed.returncode == 1
    assert "run b-1 failed" in failed.stderr
    assert "ValueError: it is broken" in failed.stderr
    assert 'raise ValueError("it is broken")' in failed.stderr
    assert "stepwell retry b-1" in failed.stderr
    (cli.folder / "broken").unlink()
    again = cli(*words)
    assert again.returncode == 1
    assert "ended before" in again.stderr
    assert "stepwell retry b-1" in again.stderr
    retried = cli("retry", "b-1", "--reason", "mended")
    assert (retried.returncode, json.loads(retried.stdout)) == (0, "2 whole")
    kinds = [entry["kind"] for entry in cli.lines("journal", "b-1")]
    assert kinds.count("step.completed") == 2


def test_input_comes_from_a_file_or_from_standard_input_too(cli: Cli) -> None:
    (cli.folder / "input.json").write_text('{"count": 1, "note": "from a file"}')
    done = cli("run", "flows.py:adds", "--input", "@input.json")
    assert json.loads(done.stdout)["note"] == "from a file"
    done = cli("run", "flows.py:adds", "--input", "-", stdin='{"count": 1, "note": "piped"}')
    assert json.loads(done.stdout)["note"] == "piped"


def test_tasks_modules_and_files_with_one_workflow_are_targets(cli: Cli) -> None:
    assert cli("run", "flows.py:double", "-i", "4").stdout.strip() == "8"
    assert json.loads(cli("run", "flows:adds", "-i", "2").stdout)["total"] == 2
    (cli.folder / "one.py").write_text(
        "from flows import adds\nfrom stepwell import workflow\n\n@workflow\nasync def only() -> int:\n    return 7\n"
    )
    assert cli("run", "one.py").stdout.strip() == "7"


def test_functions_of_a_script_are_found_in_child_processes(cli: Cli) -> None:
    assert cli("run", "flows.py:apart", "-i", "9").stdout.strip() == "81"


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("nosuch.py:adds", 3, "there is no file nosuch.py"),
        ("flow.py:adds", 3, "did you mean 'flows.py'?"),
        ("nomodule:adds", 3, "there is no module 'nomodule' here"),
        ("flows.py:add", 3, "flows.py has no 'add': it has the workflows adds, holds"),
        ("flows.py:add", 3, "did you mean 'adds'"),
        ("flows.py", 2, "workflows: write flows.py:{adds,"),
        ("flows.py:plain", 2, "plain is a plain function: put @workflow"),
        ("flows.py:constant", 2, "constant is of type int, not a workflow or a task"),
        ("syntax.py", 2, "syntax.py:3: syntax error: "),
        ("syntax.py", 2, "def broken(:"),
        ("imports.py:x", 2, "imports.py:2: imports.py cannot be loaded: ModuleNotFoundError"),
        ("exits.py:x", 2, 'under `if __name__ == "__main__":`'),
        (".", 3, "is no target"),
    ],
)
def test_a_target_that_cannot_be_run_is_refused_with_the_place(cli: Cli, target: str, code: int, message: str) -> None:
    (cli.folder / "syntax.py").write_text("import os\n\ndef broken(:\n    pass\n")
    (cli.folder / "imports.py").write_text("import os\nimport nothing_of_this_name\n")
    (cli.folder / "exits.py").write_text("import sys\nsys.exit(1)\n")
    done = cli("run", target)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not cli.store.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"count": "many"}', "argument 'count' of adds: expected `int`, found `str`"),
        ('{"cuont": 3}', "adds() has no parameter 'cuont' (did you mean 'count'?)"),
        ("[1, 2", "input of adds is not JSON"),
        ("@nofile.json", "--input @nofile.json: the file cannot be read"),
    ],
)
def test_input_that_does_not_fit_is_refused_and_the_field_named(cli: Cli, given: str, message: str) -> None:
    done = cli("run", "flows.py:adds", "--input", given)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_missing_input_names_the_parameter(cli: Cli) -> None:
    done = cli("run", "flows.py:asks")
    assert done.returncode == 2
    assert "misses 'question' (str)" in done.stderr


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        ("is_stuck", "attempt 1 of step never#1 passed its timeout of 100 ms"),
        ("is_killed", "ended with exit code 7"),
        ("unwritable", "result of unwritable is a _thread.lock"),
    ],
)
def test_what_goes_wrong_in_tasks_fails_the_run_and_nothing_hangs(cli: Cli, workflow: str, message: str) -> None:
    done = cli("run", f"flows.py:{workflow}", "--id", "r")
    assert done.returncode == 1
    assert message in done.stderr
    assert message in cli.json("show", "r")["error"]["message"]


def test_wrong_options_are_usage_errors(cli: Cli) -> None:
    for words, message in (
        (("--label", "novalue"), "write KEY=VALUE"),
        (("--label", "target=x"), "is written by this command itself"),
        (("--id", "a b"), "run id 'a b' is not usable"),
        (("--durability", "memory", "--detach"), "lives in the process that runs it"),
    ):
        done = cli("run", "flows.py:adds", "-i", "1", *words)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_store_that_cannot_be_one_is_refused(cli: Cli) -> None:
    folder = cli("--store", str(cli.folder), "run", "flows.py:adds", "-i", "1")
    assert folder.returncode == 2
    assert "this is a folder" in folder.stderr
    text = cli("run", "flows.py:adds", "-i", "1", "--store", str(cli.folder / "flows.py"))
    assert text.returncode == 2
    assert "flows.py" in text.stderr
    unknown = cli("--json", "runs", "--store", "nonsense://x")
    assert unknown.returncode == 2
    assert json.loads(unknown.stderr)["error"]["code"] == "store_unusable"


def test_without_settings_the_store_is_in_the_home_folder(cli: Cli) -> None:
    del cli.environment["STEPWELL_STORE"]
    assert cli("run", "flows.py:adds", "-i", "1", "--id", "home").returncode == 0
    assert (cli.folder / ".stepwell" / "stepwell.db").exists()
    assert (cli.folder / ".stepwell" / "logs" / "home.jsonl").exists()


def test_a_detached_run_goes_on_in_the_background(cli: Cli) -> None:
    given = json.dumps({"folder": str(cli.folder), "count": 1})
    answer = cli.json("run", "flows.py:holds", "-i", given, "--id", "far", "--detach")
    assert answer["run"] == "far"
    until(lambda: cli.begun() == ["0 1"])
    busy = cli("run", "flows.py:adds", "-i", "1")
    assert busy.returncode == 4
    assert f"process {answer['pid']}" in busy.stderr
    assert "--detach" in busy.stderr
    handed = cli.json("run", "flows.py:adds", "-i", "2", "--id", "handed", "--detach")
    assert handed["driver"] == f"process {answer['pid']}"
    until(lambda: cli.status("handed") == "completed")
    cli.release()
    until(lambda: cli.status("far") == "completed")
    until(lambda: "completed in" in Path(answer["output"]).read_text())


def test_memory_only_runs_leave_nothing_behind(cli: Cli) -> None:
    done = cli("run", "flows.py:adds", "-i", "3", "--durability", "memory")
    assert json.loads(done.stdout)["total"] == 6
    assert cli.json("runs")["runs"] == []
