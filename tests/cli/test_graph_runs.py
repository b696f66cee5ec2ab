"""`stepwell run flow.yaml`, and the other verbs for runs of graphs."""

from __future__ import annotations

import json
import os
import signal

import pytest
from command_line import Cli, until

TASKS = """
import time
from pathlib import Path

from stepwell import task

HERE = Path(__file__).parent

@task
async def double(n: int) -> int:
    with open(HERE / "doubled", "a") as file:
        file.write(f"{n}\\n")
    if n == 3:
        raise ValueError("three is refused")
    return n * 2

@task
def hold(n: int) -> int:
    (HERE / "held").touch()
    while not (HERE / "release").exists():
        time.sleep(0.01)
    return n
"""
FLOW = """\
stepwell: 1
id: numbers
input: {type: object, required: [count], properties: {count: {type: integer}}}
nodes:
  each:
    map: {count: "{{ input.count }}", tolerate: 1}
    do:
      nodes:
        twice: {task: double, inputs: {n: "{{ map.index }}"}}
        large: {condition: {">": [{var: twice}, 2]}}
        said: {log: "{{ twice }} is large", needs: "large:true"}
      result: "{{ twice }}"
  many: {condition: {">": [{var: each.total}, 100]}}
  aloud: {log: {message: many, level: warning}, needs: "many:true"}
  few: {log: {message: few, level: warning, fields: {total: "{{ each.total }}"}}, needs: "many:false"}
result: "{{ each.results }}"
"""
HOLDING = """\
stepwell: 1
id: holding
nodes:
  first: {task: double, inputs: {n: 1}}
  middle: {task: hold, inputs: {n: 5}, needs: first}
  last: {task: double, inputs: {n: "{{ middle }}"}}
"""
CODE = ("--tasks", "tasks.py")


@pytest.fixture
def files(cli: Cli) -> Cli:
    """A folder with definitions, and tasks for them."""
    (cli.folder / "tasks.py").write_text(TASKS)
    (cli.folder / "flow.yaml").write_text(FLOW)
    (cli.folder / "holding.yaml").write_text(HOLDING)
    return cli


def doubled(cli: Cli) -> list[str]:
    return (cli.folder / "doubled").read_text().split()


def killed(cli: Cli, *words: object) -> None:
    """Start a command that holds, and kill it when it does."""
    process = cli.begin(*words)
    until((cli.folder / "held").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_run_drives_a_definition_and_show_draws_what_became_of_its_nodes(files: Cli) -> None:
    done = files("run", "flow.yaml", *CODE, "-i", '{"count": 5}', "--id", "r")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 2, 4, None, 8]
    assert "warning few  total=5" in done.stderr
    assert "is large" not in done.stderr  # what items say is left to the log
    shown = files("show", "r").stdout
    assert f"target={files.folder / 'flow.yaml'} --tasks {files.folder / 'tasks.py'}" in shown
    tree = [line.strip() for line in shown[shown.index("  nodes ") :].splitlines()]
    assert tree[0].startswith("nodes    each  map of 5, 1 failed")
    assert "├ 4  failed" in tree
    assert any("└ twice  failed: ValueError: three is refused" in line for line in tree)
    assert [line for line in tree if line in ("many  → false", "aloud  skipped", "few")] == [
        "many  → false",
        "aloud  skipped",
        "few",
    ]
    log = files("logs", "r").stdout
    assert "info     each:5/said#1  8 is large" in log
    assert "warning  few#1  few  total=5" in log


def test_a_run_that_was_killed_is_driven_on_from_any_folder_with_the_tasks_that_it_had(files: Cli) -> None:
    killed(files, "run", "holding.yaml", *CODE, "--id", "k")
    files.release()
    (files.folder / "holding.yaml").unlink()  # its definition is in the store
    away = files.folder / "away"
    away.mkdir()
    files.folder = away
    done = files("resume", "k", "--json")
    files.folder = away.parent
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["result"] == 10
    assert events[-2]["nodes"] == {"total": 3, "done": 3, "skipped": 0, "failed": [], "running": []}
    assert doubled(files) == ["1", "5"]


def test_calls_of_tasks_that_are_not_known_are_refused_with_their_places(files: Cli) -> None:
    refused = files("run", "flow.yaml", "-i", '{"count": 5}')
    assert refused.returncode == 4
    assert "flow.yaml:9:17: error:" in refused.stderr and "--tasks" in refused.stderr
    files.environment["STEPWELL_TASKS"] = "tasks.py"
    wrong = files("run", "flow.yaml", "-i", '{"count": "x"}')
    assert wrong.returncode == 2 and "count must be a whole number" in wrong.stderr


def test_a_deployed_graph_is_run_by_its_name_and_up_to_a_node(files: Cli) -> None:
    files.environment["STEPWELL_TASKS"] = "tasks.py"
    assert files("deploy", "flow.yaml", "--label", "1").returncode == 0
    done = files("run", "numbers", "--version", "1", "-i", '{"count": 2}', "--until", "many", "--id", "u")
    assert (done.returncode, done.stdout.strip()) == (0, "false"), done.stderr
    missing = files("run", "nubmers")
    assert missing.returncode == 3 and "no workflow 'nubmers' is deployed" in missing.stderr


def test_rerun_from_a_node_does_only_that_node_and_what_follows(files: Cli) -> None:
    files.release()
    assert files("run", "holding.yaml", *CODE, "--id", "a").returncode == 0
    again = files("rerun", "a", "--from", "last", "--id", "b")
    assert (again.returncode, again.stdout.strip()) == (0, "10"), again.stderr
    assert doubled(files) == ["1", "5", "5"]


@pytest.mark.campaign
def test_rerun_takes_todays_file_and_upgrade_leads_a_run_to_a_deployed_version(files: Cli) -> None:
    killed(files, "run", "holding.yaml", *CODE, "--id", "a")
    files.release()
    text = HOLDING.replace('last: {task: double, inputs: {n: "{{ middle }}"}}', "last: {noop: {}, needs: middle}")
    (files.folder / "holding.yaml").write_text(text)
    assert files("deploy", "holding.yaml", "--label", "3").returncode == 0
    moved = files("upgrade", "a", "--to", "3")
    assert (moved.returncode, moved.stdout.strip()) == (0, "null"), moved.stderr
    (files.folder / "holding.yaml").write_text(HOLDING.replace("n: 5}", "n: 6}"))
    again = files("rerun", "a", "--id", "b")
    assert (again.returncode, again.stdout.strip()) == (0, "12"), again.stderr
    by = files("rerun", "a", "--version", "3", "--id", "c")
    assert (by.returncode, by.stdout.strip()) == (0, "null"), by.stderr


@pytest.mark.campaign
def test_patch_adds_nodes_to_a_run_and_replay_goes_through_them(files: Cli) -> None:
    killed(files, "run", "holding.yaml", *CODE, "--id", "p")
    files.release()
    (files.folder / "more.yaml").write_text("nodes:\n  more: {task: double, inputs: {n: '{{ last }}'}}\n")
    done = files("patch", "p", "more.yaml")
    assert (done.returncode, done.stdout.strip()) == (0, "20"), done.stderr
    assert "nodes and edges added by" in files("journal", "p").stdout
    other = files("patch", "p", "more.yaml")
    assert other.returncode == 4 and "there is a node 'more' already" in other.stderr
    (files.folder / "more.yaml").write_text("node: {}\n")
    wrong = files("patch", "p", "more.yaml")
    assert wrong.returncode == 4 and "a patch is a mapping with nodes; found node" in wrong.stderr
    assert files("replay", "--all").returncode == 0
    (files.folder / "holding.yaml").write_text(HOLDING.replace("n: 1}", "n: 2}"))
    assert files("replay", "p", "holding.yaml").returncode == 1


@pytest.mark.campaign
def test_a_detached_graph_is_driven_in_the_background_with_its_tasks(files: Cli) -> None:
    begun = files.json("run", "holding.yaml", *CODE, "--id", "d", "--detach")
    until((files.folder / "held").exists)
    assert files.status("d") == "running"
    files.release()
    until(lambda: files.status("d") == "completed")
    until(lambda: not _lives(begun["pid"]))


@pytest.mark.campaign
def test_ctrl_c_pauses_a_graph_and_the_same_command_goes_on_with_it(files: Cli) -> None:
    words = ("run", "holding.yaml", *CODE, "--id", "c")
    process = files.begin(*words)
    until((files.folder / "held").exists)
    process.send_signal(signal.SIGINT)
    files.release()
    process.communicate(timeout=20)
    assert process.returncode == 130
    again = files(*words)
    assert (again.returncode, again.stdout.strip()) == (0, "10")
    assert doubled(files) == ["1", "5"]


@pytest.mark.campaign
def test_without_its_tasks_a_run_is_left_for_later_with_the_names_that_are_missing(files: Cli) -> None:
    killed(files, "run", "holding.yaml", *CODE, "--id", "k")
    files.release()
    (files.folder / "tasks.py").rename(files.folder / "moved.py")
    left = files("resume", "k")
    assert left.returncode == 0 and "tasks.py" in left.stderr
    (files.folder / "other.py").write_text("from stepwell import task\n\n@task\nasync def other() -> None: ...\n")
    left = files("resume", "k", "--tasks", "other.py")
    assert "calls tasks double, hold" in left.stderr
    done = files("resume", "k", "--tasks", "moved.py")
    assert (done.returncode, done.stdout.strip()) == (0, "10"), done.stderr


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
