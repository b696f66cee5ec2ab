"""`stepwell demo`: killed, resumed, paused, begun anew."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from command_line import Cli, until

pytest.importorskip("numpy")
pytest.importorskip("PIL")

ITEMS = 60


@pytest.fixture
def demo(cli: Cli) -> tuple[str | Path, ...]:
    return ("demo", "--items", str(ITEMS), "--dir", cli.folder / "demo")


def reported(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first event and the last."""
    events = [json.loads(line) for line in text.splitlines()]
    return events[0], events[-1]


def test_the_demo_killed_and_started_again_goes_on_and_fetches_nothing_finished_twice(
    cli: Cli, demo: tuple[str | Path, ...]
) -> None:
    store = cli.folder / "demo" / "demo.db"
    run = f"demo-{ITEMS}-s1-1"
    process = cli.begin(*demo)

    asked = cli.folder / "demo" / "shop-requests.log"
    until(lambda: asked.exists() and asked.read_bytes().count(b"p ") > 15)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = cli.json("state", run, "--store", store)["steps"]["done"]
    other = cli("demo", "--items", "30", "--dir", cli.folder / "demo")
    assert other.returncode == 4
    assert f"--items {ITEMS}" in other.stderr
    again = cli(*demo, "--json", seconds=60)
    assert again.returncode == 0, again.stderr
    begun, report = reported(again.stdout)
    assert begun["existed"] is True
    assert begun["steps_done"] == before
    assert report["finished_fetched_again"] == []
    assert report["report"]["listed"] == ITEMS
    assert all(Path(file).exists() for file in report["files"])
    assert report["recall"] > 0.5

    anew = cli(*demo, seconds=60)
    assert anew.returncode == 0, anew.stderr
    assert f"The earlier run {run} has completed" in anew.stderr
    assert "finished products fetched again: 0" in anew.stdout
    (cli.folder / "demo" / "mine.txt").touch()
    fresh = cli(*demo, "--fresh", "--json", seconds=60)
    assert reported(fresh.stdout)[1]["run"] == run
    assert (cli.folder / "demo" / "mine.txt").exists()


def test_without_its_dependencies_the_demo_says_what_to_install(cli: Cli) -> None:
    (cli.folder / "sitecustomize.py").write_text(
        "import sys\n\nfor name in ('numpy', 'PIL', 'httpx', 'httpx2'):\n    sys.modules[name] = None\n"
    )
    cli.environment["PYTHONPATH"] += os.pathsep + str(cli.folder)
    done = cli("demo", "--dir", cli.folder / "demo")
    assert done.returncode == 4
    assert "pip install 'stepwell[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.campaign
def test_the_demo_as_a_graph_killed_and_started_again_fetches_nothing_finished_twice(
    cli: Cli, demo: tuple[str | Path, ...]
) -> None:
    store = cli.folder / "demo" / "demo.db"
    run = f"demo-graph-{ITEMS}-s1-1"
    process = cli.begin(*demo, "--graph")
    asked = cli.folder / "demo" / "shop-requests.log"
    until(lambda: asked.exists() and asked.read_bytes().count(b"p ") > 15)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = cli.json("state", run, "--store", store)["steps"]["done"]
    again = cli(*demo, "--graph", "--json", seconds=60)
    assert again.returncode == 0, again.stderr
    begun, report = reported(again.stdout)
    assert (begun["workflow"], begun["existed"], begun["steps_done"]) == ("catalogue-graph", True, before)
    assert report["finished_fetched_again"] == []
    plain = cli(*demo, "--json", seconds=60)
    assert reported(plain.stdout)[1]["report"] == report["report"]
