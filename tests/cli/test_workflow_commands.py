"""`validate`, `deploy`, `workflows`, `schema`, and `graph` of definitions."""

from __future__ import annotations

import asyncio
import json

import pytest
from command_line import Cli

from stepwell import Stepwell
from stepwell.authoring.graph import graph_workflow

FLOW = """\
stepwell: 1
id: shop
label: "1"
nodes:
  list: {noop: {}}
  check: {condition: {">": [{var: input.count}, 3]}, needs: list}
  many: {log: "many", needs: "check:true"}
  few: {log: "few", needs: "check:false"}
"""
WRONG = """\
stepwell: 1
id: shop
nodes:
  list: {noop: {}}
  done: {log: "x", needs: lst}
  more: {task: fetsh, inputs: {url: "a"}}
"""
TASKS = """
from stepwell import task

@task
async def fetch(url: str) -> str:
    return url
"""


@pytest.fixture
def files(cli: Cli) -> Cli:
    """A folder with a good definition, a wrong one, and tasks."""
    (cli.folder / "flow.yaml").write_text(FLOW)
    (cli.folder / "wrong.yaml").write_text(WRONG)
    (cli.folder / "tasks.py").write_text(TASKS)
    return cli


def test_validate_shows_each_problem_with_its_place_its_line_and_a_hint(files: Cli) -> None:
    done = files("validate", "flow.yaml", "wrong.yaml", "--tasks", "tasks.py")
    assert done.returncode == 4
    assert done.stdout.splitlines() == ["flow.yaml: valid", "wrong.yaml: refused (2 problems)"]
    shown = done.stderr.splitlines()
    first = next(number for number, line in enumerate(shown) if line.startswith("wrong.yaml:5:20: error: "))
    assert "'lst'" in shown[first]
    assert shown[first + 1] == "    at $.nodes.done.needs"
    assert shown[first + 2] == '     5 |   done: {log: "x", needs: lst}'
    assert shown[first + 3] == "       |                    ^"
    assert shown[first + 4] == "    hint: did you mean 'list'?"
    assert "wrong.yaml:6:10: error: " in done.stderr and "did you mean 'fetch'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_answers_in_json_and_reads_standard_input(files: Cli) -> None:
    done = files("validate", "-", "--json", stdin=WRONG)
    assert done.returncode == 4 and done.stderr == ""
    [checked] = json.loads(done.stdout)["files"]
    assert (checked["file"], checked["valid"]) == ("-", False)
    [unknown] = [one for one in checked["problems"] if one["code"] == "unknown-node"]
    assert (unknown["line"], unknown["column"], unknown["path"]) == (5, 20, "$.nodes.done.needs")
    assert (unknown["hint"], unknown["warning"]) == ("did you mean 'list'?", False)
    [unchecked] = [one for one in checked["problems"] if one["code"] == "unknown-task"]
    assert unchecked["warning"]


def test_files_and_tasks_that_are_not_there_are_told(files: Cli) -> None:
    done = files("validate", "flo.yaml")
    assert done.returncode == 3 and "did you mean 'flow.yaml'" in done.stderr
    done = files("validate", "flow.yaml", "--tasks", "tasks.py:fetsh")
    assert done.returncode == 3 and "did you mean 'fetch'?" in done.stderr


def test_deploying_makes_versions_of_which_one_serves_new_runs(files: Cli) -> None:
    first = files.json("deploy", "flow.yaml")["deployed"][0]
    assert (first["workflow"], first["new"], first["active"]) == ("shop", True, True)
    (files.folder / "flow.yaml").write_text(FLOW.replace('"few"', '"not many"').replace('"1"', '"2"'))
    done = files("deploy", "flow.yaml", "--no-activate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shop 2+") and "is new and does not serve new runs" in done.stdout
    listed = files("workflows").stdout.splitlines()
    assert listed[1].split()[:6] == ["shop", "1", f"({first['digest']})", "2", "1,", "2"]
    versions = files.json("workflows", "shop")["versions"]
    assert [(row["labels"], row["active"]) for row in versions] == [(["2"], False), (["1"], True)]
    assert (
        '~ node few: $.nodes.few.with.message: "few" → "not many"' in files("workflows", "shop", "--diff", 1, 2).stdout
    )
    assert files.json("workflows", "shop", "--activate", "2")["active"]
    assert files("workflows", "shop", "--definition", "1").stdout.startswith("stepwell: 1\nid: shop\n")
    assert len(files.json("workflows", "shop", "--remove")["removed"]) == 2


def test_a_definition_with_problems_is_not_deployed_nor_is_what_comes_with_it(files: Cli) -> None:
    done = files("deploy", "flow.yaml", "wrong.yaml")
    assert (done.returncode, done.stdout) == (4, "")
    assert "error: wrong.yaml: 1 problem" in done.stderr and "wrong.yaml:5:20" in done.stderr
    kept = files.json("deploy", "wrong.yaml", "--draft")["deployed"][0]
    assert (kept["version"], kept["active"]) == ("draft", False)
    [row] = files.json("workflows", "--versions")["versions"]
    assert (row["draft"], row["active"]) == (True, False)
    done = files("deploy", "wrong.yaml", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"], error["source"]) == (4, "definition", "wrong.yaml")
    assert "unknown-node" in [one["code"] for one in error["problems"]]


def test_what_is_not_deployed_and_what_cannot_go_together_is_told(files: Cli) -> None:
    files("deploy", "flow.yaml")
    for words, code, said in (
        (("workflows", "shp"), 3, "did you mean 'shop'?"),
        (("workflows", "--remove", "1"), 2, "stepwell workflows NAME"),
        (("deploy", "flow.yaml", "--draft", "--label", "2"), 2, "a draft is no version"),
        (("graph", "shp"), 3, "did you mean 'shop'?"),
    ):
        done = files(*words)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_definitions_are_drawn_from_files_and_from_the_store(files: Cli) -> None:
    drawn = files("graph", "flow.yaml", "--format", "ascii")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.isascii()
    assert "on check:false" in drawn.stdout
    files("deploy", "flow.yaml")
    mermaid = files("graph", "shop", "--version", "1", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart TD\n") and '-->|"true"|' in mermaid
    document = files.json("graph", "flow.yaml")
    assert document["workflow"] == "shop"
    assert [edge["label"] for edge in document["edges"] if edge["label"]] == ["true", "false"]


def test_a_run_of_a_graph_is_drawn_as_the_way_that_it_took(files: Cli) -> None:
    async def walk() -> None:
        async with Stepwell(files.store) as app:
            run = await app.start(graph_workflow(files.folder / "flow.yaml"), count=5, id="w1")
            await run.wait(timeout="20s")

    asyncio.run(walk())
    shown = files("graph", "w1").stdout.splitlines()
    document = files.json("graph", "w1")["graph"]
    names = {node["id"]: node["label"] for node in document["nodes"]}
    taken = {(names[edge["from"]], names[edge["to"]]) for edge in document["edges"] if edge["taken"]}
    assert taken == {("shop", "list"), ("list", "check"), ("check", "many"), ("many", "completed")}
    status = {node["label"]: node["status"] for node in document["nodes"]}
    assert (status["many"], status["few"], status["completed"]) == ("completed", "skipped", "completed")
    assert [line for line in shown if "few" in line and "skipped" in line]


def test_the_schemas_are_printed(files: Cli) -> None:
    schema = files.json("schema", "--tasks", "tasks.py")
    assert {"stepwell", "id", "nodes"} <= set(schema["properties"])
    assert json.loads(files("schema", "--dialect", "events").stdout)["required"] == ["workflow_id", "tasks"]
