"""`stepwell lint`, and `STEPWELL_STRICT`."""

from __future__ import annotations

import pytest
from command_line import Cli

SHOP = """
import time
from datetime import datetime

from stepwell import task, workflow


@task
def price() -> float:
    return time.time()


def stamp() -> str:
    return datetime.now().isoformat()


@workflow
def opens() -> str:
    return stamp()


@workflow
async def closes() -> float:
    return time.time()


@workflow
async def rests() -> float:
    return await price.aio()
"""

FOUND = [
    "shop.py:14:12 clock datetime.now() — use ctx.now()",
    "shop.py:24:12 clock time.time() — use ctx.now()",
]


@pytest.fixture
def shop(cli: Cli) -> Cli:
    """The command line in a folder that has a script with two unclean workflows and a clean one."""
    (cli.folder / "shop.py").write_text(SHOP, "utf-8")
    return cli


@pytest.mark.parametrize("target", ["shop.py", "shop"])
def test_all_workflows_of_a_file_or_module_are_read(shop: Cli, target: str) -> None:
    done = shop("lint", target)
    assert done.stdout.splitlines() == FOUND
    assert done.stderr.splitlines() == ["3 workflows read: 2 findings"]
    assert done.returncode == 1


def test_one_workflow_is_read_with_what_it_calls_in_its_file(shop: Cli) -> None:
    assert shop("lint", "shop.py:opens").stdout.splitlines() == FOUND[:1]
    clean = shop("lint", "shop:rests")
    assert (clean.stdout, clean.returncode) == ("", 0)
    assert clean.stderr.splitlines() == ["1 workflow read: nothing found"]


def test_several_targets_are_read_and_a_finding_is_said_once(shop: Cli) -> None:
    done = shop("lint", "shop.py:opens", "shop.py", "flows.py:adds")
    assert done.stdout.splitlines() == FOUND
    assert done.returncode == 1


def test_json_has_every_field_and_nothing_else_is_printed(shop: Cli) -> None:
    said = shop.json("lint", "shop.py:closes", code=1)
    assert said == {
        "workflows": ["closes"],
        "findings": [
            {
                "file": "shop.py",
                "line": 24,
                "column": 12,
                "code": "clock",
                "call": "time.time()",
                "advice": "use ctx.now()",
            }
        ],
    }
    assert shop.json("lint", "shop.py:rests") == {"workflows": ["rests"], "findings": []}


def test_what_cannot_be_loaded_is_refused_with_a_reason(shop: Cli) -> None:
    missing = shop("lint", "shops.py")
    assert missing.returncode == 3
    assert "there is no file shops.py; did you mean 'shop.py'" in missing.stderr
    (shop.folder / "bad.py").write_text("import nothing_like_it\n", "utf-8")
    bad = shop("lint", "bad.py")
    assert bad.returncode == 2
    assert "bad.py:1: bad.py cannot be loaded" in bad.stderr
    assert shop("lint").returncode == 2


def test_a_run_warns_and_with_the_variable_set_it_is_refused(shop: Cli) -> None:
    warned = shop("run", "shop.py:opens")
    assert warned.returncode == 0, warned.stderr
    assert "shop.py:14: workflow opens: datetime.now() may differ on replay (clock): use ctx.now()" in warned.stderr
    shop.environment["STEPWELL_STRICT"] = "1"
    refused = shop("run", "shop.py:opens", "--input", "{}")
    assert refused.returncode == 2
    assert "strict=True refuses" in refused.stderr and "— use ctx.now()" in refused.stderr
    assert shop("run", "flows.py:adds", "--input", '{"count": 2}').returncode == 0


def test_with_the_variable_set_the_guard_watches_what_the_lint_does_not_read(shop: Cli) -> None:
    (shop.folder / "clocks.py").write_text("import time\ndef now():\n    return time.time()\n", "utf-8")
    (shop.folder / "late.py").write_text(
        "import clocks\nfrom stepwell import workflow\n\n@workflow\n"
        "async def late() -> float:\n    return clocks.now()\n",
        "utf-8",
    )
    assert shop("lint", "late.py").returncode == 0
    assert shop("run", "late.py").returncode == 0
    shop.environment["STEPWELL_STRICT"] = "1"
    failed = shop("run", "late.py", "--id", "late-2")
    assert failed.returncode == 1
    assert "clocks.py:3: time.time() in a workflow body may differ on replay: use ctx.now()" in failed.stderr
