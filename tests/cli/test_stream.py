"""`stepwell stream` prints what tasks emit: text as one text, as it comes, and JSON when asked for."""

from __future__ import annotations

import json

import pytest
from command_line import Cli

FLOWS = """
import asyncio
from pathlib import Path

from stepwell import Retry, ctx, task, workflow


@task
async def writes(text: str, folder: str = "") -> int:
    for word in text.split(" "):
        await ctx.emit(word + " ", tokens=1)
    while folder and not (Path(folder) / "go").exists():
        await asyncio.sleep(0.01)
    await ctx.emit("end")
    return len(text)


@task
async def measures() -> None:
    await ctx.emit("before")
    await ctx.emit({"done": 0.5})
    await ctx.emit([1, None])
    await ctx.emit("line\\n")


@task(retry=Retry(attempts=2, first="1ms"))
async def stumbles() -> None:
    await ctx.emit(f"attempt {ctx.attempt}")
    if ctx.attempt == 1:
        raise ValueError("again")


@task
async def breaks() -> None:
    await ctx.emit("half a sen")
    raise ValueError("broken")


@workflow
async def write(text: str, folder: str = "") -> int:
    return await writes(text, folder)


@workflow
async def both() -> None:
    await measures()
    await stumbles()


@workflow
async def broken() -> None:
    await breaks()
"""


@pytest.fixture(autouse=True)
def _flows(cli: Cli) -> None:
    (cli.folder / "emitting.py").write_text(FLOWS)


def run(cli: Cli, name: str, given: object = None) -> None:
    words = [] if given is None else ["--input", json.dumps(given)]
    cli("run", f"emitting.py:{name}", "--id", "r", *words)


def test_chunks_of_text_are_printed_as_one_text(cli: Cli) -> None:
    run(cli, "write", {"text": "it was a dark night"})
    done = cli("stream", "r")
    assert (done.returncode, done.stdout, done.stderr) == (0, "it was a dark night end\n", "")


def test_what_comes_is_printed_as_it_comes_and_the_command_ends_with_the_run(cli: Cli) -> None:
    given = json.dumps({"text": "one two", "folder": str(cli.folder)})
    writing = cli.begin("run", "emitting.py:write", "--id", "r", "--input", given)
    while cli("show", "r").returncode:
        pass
    reading = cli.begin("stream", "r")
    assert reading.stdout is not None
    assert reading.stdout.read(8) == "one two "
    assert reading.poll() is None
    (cli.folder / "go").touch()
    assert reading.communicate(timeout=30)[0] == "end\n"
    assert reading.returncode == 0
    assert writing.wait(30) == 0


def test_what_is_no_text_has_a_line_of_its_own_and_each_attempt_is_told_apart(cli: Cli) -> None:
    run(cli, "both")
    done = cli("stream", "r")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["before", '{"done":0.5}', "[1,null]", "line", "attempt 1", "attempt 2"]
    assert done.stderr.splitlines() == ["-- stumbles#1, attempt 1", "-- stumbles#1, attempt 2"]


def test_one_step_can_be_read_by_itself(cli: Cli) -> None:
    run(cli, "both")
    assert cli("stream", "r", "--step", "measures#1").stdout.splitlines()[0] == "before"
    assert "attempt" not in cli("stream", "r", "--step", "measures#1").stdout


def test_in_json_each_chunk_is_a_line(cli: Cli) -> None:
    run(cli, "write", {"text": "a b"})
    lines = cli.lines("stream", "r")
    assert [(line["step"], line["attempt"], line["number"], line["value"]) for line in lines] == [
        ("writes#1", 1, 1, "a "),
        ("writes#1", 1, 2, "b "),
        ("writes#1", 1, 3, "end"),
    ]


def test_the_exit_code_says_whether_the_run_has_completed(cli: Cli) -> None:
    run(cli, "broken")
    done = cli("stream", "r")
    assert done.returncode == 1
    assert done.stdout == "half a sen\n"
    assert "run r is failed:  stepwell show r" in done.stderr
    assert cli("stream", "other").returncode == 3


def test_usage_is_shown_with_the_run(cli: Cli) -> None:
    run(cli, "write", {"text": "a b c"})
    assert cli.json("show", "r")["usage"] == {"tokens": 3}
    assert "3 tokens" in cli("show", "r").stdout


def test_help_lists_it(cli: Cli) -> None:
    assert "\n  stream " in cli("--help").stdout
