"""`graph`, and the tree and timeline of `show`."""

from __future__ import annotations

import os
import signal

import pytest
from command_line import Cli, until

SCRIPT = """
import asyncio
from stepwell import Retry, ctx, task, workflow

@task(retry=Retry(attempts=3, first="1ms"))
async def fetch(page: str) -> str:
    if page == "p1" and ctx.attempt < 3:
        raise ConnectionError("busy")
    return page

@task
async def resize(page: str) -> str:
    return page

@workflow
async def label(page: str) -> str:
    return await resize(page)

@workflow
async def shop(pages: int) -> int:
    found = await fetch.map([f"p{n}" for n in range(pages)], concurrency=4)
    await asyncio.gather(resize("a"), label("b"))
    for page in found:
        await ctx.start(label, page)
    try:
        await ctx.signal("go", timeout="1ms")
    except TimeoutError:
        pass
    return len(found)

@workflow
async def waits() -> None:
    await resize("x")
    await ctx.signal("go")
"""


@pytest.fixture
def shop(cli: Cli) -> Cli:
    """A store in which the run `s` of 20 pages has ended."""
    (cli.folder / "shop.py").write_text(SCRIPT)
    done = cli("run", "shop.py:shop", "-i", "20", "--id", "s")
    assert done.returncode == 0, done.stderr
    return cli


def test_graph_draws_what_happened_in_order_with_forks_and_joins(shop: Cli) -> None:
    lines = [line.split() for line in shop("graph", "s").stdout.splitlines()]
    assert lines[0] == ["○", "shop", "run", "s"]
    assert lines[1][:7] == ["●", "fetch.map:1", "×20", "20", "completed", "·", "2"]
    assert lines[2] == ["├─╮"]
    assert {lines[3][0] + lines[3][1], lines[4][0] + lines[4][1]} == {"▣│", "│●"}
    assert lines[5] == ["├─╯"]
    assert lines[6][:3] == ["▷", "start:label#1…", "×20"]
    assert lines[7][:5] == ["◇", "signal:go#1", "timed", "out", "after"]
    assert lines[-1][:2] == ["◉", "completed"]


def test_graph_writes_mermaid_and_dot(shop: Cli) -> None:
    mermaid = shop("graph", "s", "--mermaid").stdout
    assert mermaid.startswith("flowchart TD\n")
    assert 'n1["fetch.map:1 ×20<br/>20 completed<br/>2 retries' in mermaid
    assert "first --> n1" in mermaid
    everything = shop("graph", "s", "--mermaid", "--all").stdout
    assert 'subgraph g1["fetch.map:1"]' in everything
    assert len(everything.splitlines()) > 60
    dot = shop("graph", "s", "--dot").stdout
    assert dot.startswith('digraph "shop s" {')
    assert "n1 -> n2;" in dot
    assert dot.endswith("}\n")


def test_graph_answers_as_data(shop: Cli) -> None:
    answer = shop.json("graph", "s")
    nodes = {node["label"]: node for node in answer["nodes"]}
    pages = nodes["fetch.map:1 ×20"]
    assert (pages["count"], pages["statuses"], pages["retries"]) == (20, {"completed": 20}, 2)
    child = next(node for node in answer["nodes"] if node["kind"] == "child")
    assert (child["step"], child["child"], child["status"]) == ("label#1", "s/label#1", "completed")
    assert {"from": pages["id"], "to": child["id"]} in answer["edges"]
    assert len(shop.json("graph", "s", "--all")["nodes"]) > len(answer["nodes"]) + 30


def test_graph_knows_terminals_without_boxes_and_runs_that_are_not_there(shop: Cli) -> None:
    shop.environment["PYTHONIOENCODING"] = "ascii"
    lines = shop("graph", "s").stdout.splitlines()
    assert lines[2] == "+-+"
    assert all(line.isascii() and "?" not in line for line in lines)
    missing = shop("graph", "t")
    assert missing.returncode == 3
    assert "no run has the id 't'" in missing.stderr
    assert shop("graph", "s", "--svg").returncode == 2


def test_show_has_a_tree_in_which_large_families_are_counted(shop: Cli) -> None:
    shown = shop("show", "s").stdout
    assert "└ … 16 more of label: " in shown
    whole = shop("show", "s", "--all").stdout
    assert "├ s/label#1  label  completed" in whole
    assert "more of label" not in whole
    assert whole.count("/start:label#") == 20
    answer = shop.json("show", "s")
    assert len(answer["children"]) == len(answer["descendants"]) == 21
    assert len(answer["tree"]) == 22


def test_show_has_a_timeline_that_fits_the_terminal(shop: Cli) -> None:
    for columns in (70, 120):
        shop.environment["COLUMNS"] = str(columns)
        _, _, bars = shop("show", "s").stdout.partition("timeline  ")
        assert max(len(line) for line in bars.splitlines()) <= columns
        assert "\x1b" not in bars
    fetched = next(line for line in bars.splitlines() if "fetch.map:1 ×20" in line)
    assert fetched.endswith("2 retries")
    assert next(line for line in bars.splitlines() if "signal:go#1" in line).endswith("timed out")
    rows = {row["label"]: row for row in shop.json("show", "s")["timeline"]}
    assert rows["fetch.map:1 ×20"]["retries"] == 2
    busy = {row["label"]: row for row in shop.json("show", "s", "--all")["timeline"]}["fetch.map:1/fetch#2"]
    assert [attempt["outcome"] for attempt in busy["attempts"]] == ["failed", "failed", "completed"]
    assert busy["attempts"][0]["error"] == "ConnectionError: busy"


def test_what_is_open_goes_up_to_now(shop: Cli) -> None:
    process = shop.begin("run", "shop.py:waits", "--id", "w")
    until(lambda: "w" in shop("runs").stdout and shop.status("w") == "waiting")
    os.killpg(process.pid, signal.SIGKILL)
    assert next(line for line in shop("show", "w").stdout.splitlines() if "signal:go#1" in line and "▶" in line)
    drawn = shop("graph", "w").stdout
    assert "◇  signal:go#1  waiting" in drawn
    assert "◉" not in drawn
