"""Rerun, fork, retry with another input, edited state, snapshots, replay and upgrade, from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import Cli, until

pytestmark = pytest.mark.campaign  # each command is a process; what the verbs do is tested in tests/scenarios

SHOP = """
from pathlib import Path

from stepwell import ctx, task, workflow

HERE = Path(__file__).parent


def note(line: str) -> None:
    with open(HERE / "done", "a") as file:
        file.write(line + "\\n")


@task
async def price(item: str) -> int:
    note(f"price {item}")
    return len(item)


@task
async def charge(cents: int) -> str:
    note(f"charge {cents}")
    if cents > 50:
        raise ValueError(f"{cents} is too much")
    return f"paid {cents}"


@workflow
async def order(item: str, factor: int = 1) -> list:
    print("the body runs")
    cents = await price(item)
    paid = await charge(CENTS)
    ctx.state["stage"] = "paid"
    return [paid, item]


@workflow
async def waits(item: str) -> list:
    cents = await price(item)
    return [cents, await ctx.signal("go"), dict(ctx.state)]
"""

VERSIONS = """
from stepwell import ctx, task, workflow


@workflow(name="order", version="1")
async def order_1() -> str:
    await ctx.signal("go")
    return "one"


@workflow(name="order", version="2")
async def order_2() -> str:
    await ctx.signal("go")
    return "two"
"""


def write(cli: Cli, cents: str = "cents * factor") -> None:
    (cli.folder / "shop.py").write_text(SHOP.replace("CENTS", cents))


def done(cli: Cli) -> list[str]:
    path = Path(cli.folder / "done")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.fixture
def shop(cli: Cli) -> Cli:
    write(cli)
    return cli


def ran(cli: Cli, factor: int = 1, code: int = 0) -> None:
    given = json.dumps({"item": "lamp", "factor": factor})
    finished = cli("run", "shop.py:order", "-i", given, "--id", "one")
    assert finished.returncode == code, finished.stderr
    done(cli)


def test_rerun_starts_another_run_with_the_same_input_and_drives_it(shop: Cli) -> None:
    ran(shop, 2)
    again = shop("rerun", "one", "--id", "two", "--reason", "once more")
    assert (again.returncode, json.loads(again.stdout)) == (0, ["paid 8", "lamp"]), again.stderr
    assert "new run two of one" in again.stderr
    assert done(shop) == ["price lamp", "charge 8"]
    left = shop.json("rerun", "one", "--id", "three", "--no-drive")
    assert (left["run"], left["origin"], left["status"], left["driver"]) == ("three", "one", "pending", None)
    created = shop.lines("journal", "two")[0]
    assert (created["origin"], created["reason"]) == ("one", "once more")


def test_fork_goes_on_from_a_step_with_other_state_and_input(shop: Cli) -> None:
    ran(shop)
    forked = shop("fork", "one", "--from", "charge#1", "--input", '{"cents": 7}', "--set", "who=Ada", "--id", "two")
    assert (forked.returncode, json.loads(forked.stdout)) == (0, ["paid 7", "lamp"]), forked.stderr
    assert done(shop) == ["charge 7"]
    assert shop.json("state", "two")["state"] == {"who": "Ada", "stage": "paid"}
    assert shop.json("state", "one")["state"] == {"stage": "paid"}
    for words, code, text in (
        (("--from", "chrge"), 4, "there is charge#1"),
        (("--at", "99"), 4, "there is no entry 99"),
        ((), 2, "--from STEP or --at SEQ"),
        (("--at", "3", "--input", "{}"), 2, "--from"),
        (("--from", "charge", "--set", "x"), 2, "KEY=VALUE"),
        (("--from", "charge", "--id", "one"), 4, "is taken"),
    ):
        refused = shop("fork", "one", *words)
        assert refused.returncode == code and text in refused.stderr, refused.stderr


def test_a_failed_step_is_retried_with_another_input(shop: Cli) -> None:
    ran(shop, 99, code=1)
    wrong = shop("retry", "one", "--step", "price", "--input", "{}")
    assert wrong.returncode == 4 and "these are: charge#1" in wrong.stderr
    unpaired = shop("retry", "one", "--step", "charge#1")
    assert unpaired.returncode == 2
    retried = shop("retry", "one", "--input", '{"cents": 9}', "--reason", "a rebate")
    assert (retried.returncode, json.loads(retried.stdout)) == (0, ["paid 9", "lamp"]), retried.stderr
    assert done(shop) == ["charge 9"]
    (edit,) = [entry for entry in shop.lines("journal", "one") if entry["kind"] == "step.edited"]
    assert (edit["reason"], edit["input"]) == ("a rebate", {"cents": 9})


def test_state_is_edited_beside_a_process_that_drives_and_looked_at_in_the_past(shop: Cli) -> None:
    process = shop.begin("run", "shop.py:waits", "-i", '"lamp"', "--id", "one")
    until(lambda: (shop.folder / "done").exists() and shop.status("one") == "waiting")
    edited = shop("state", "one", "--set", "rate=7", "--set", "who=Ada", "--unset", "who", "--reason", "a new list")
    assert edited.returncode == 0, edited.stderr
    until(lambda: shop.json("state", "one")["state"] == {"rate": 7})
    assert shop.json("state", "one", "--at", "2")["state"] == {}
    assert shop("signal", "one", "go").returncode == 0
    out, _ = process.communicate(timeout=20)
    assert json.loads(out) == [4, None, {"rate": 7}]
    edits = [entry for entry in shop.lines("journal", "one") if entry["kind"] == "state.set"]
    assert {entry["reason"] for entry in edits} == {"a new list"}
    assert shop("state", "one", "--set", "rate=8").returncode == 4
    assert shop("state", "one", "--set", "rate=8", "--at", "2").returncode == 2


def test_a_snapshot_is_taken_to_another_store_and_goes_on_there(shop: Cli) -> None:
    process = shop.begin("run", "shop.py:waits", "-i", '"lamp"', "--id", "one")
    until(lambda: (shop.folder / "done").exists() and shop.status("one") == "waiting")
    written = shop("snapshot", "export", "one", "-o", "one.json")
    assert written.returncode == 0 and "one.json" in written.stdout, written.stderr
    document = json.loads(shop("snapshot", "export", "one").stdout)
    assert document["content"]["runs"] == json.loads((shop.folder / "one.json").read_text())["content"]["runs"]
    process.kill()
    process.wait()
    there = ("--store", "other.db")
    assert shop.json("snapshot", "import", "one.json", *there) == {"run": "one", "status": "waiting"}
    assert [entry["kind"] for entry in shop.lines("journal", "one", *there)] == [
        entry["kind"] for entry in shop.lines("journal", "one")
    ]
    taken = shop("snapshot", "import", "one.json", *there)
    assert taken.returncode == 4 and "is taken" in taken.stderr
    assert shop("snapshot", "import", "one.json", "--id", "two", *there).returncode == 0
    shop("signal", "one", "go", *there)
    ended = shop("resume", "one", *there)
    assert (ended.returncode, json.loads(ended.stdout)) == (0, [4, None, {}]), ended.stderr
    text = (shop.folder / "one.json").read_text()
    (shop.folder / "one.json").write_text(text.replace("lamp", "lump"))
    altered = shop("snapshot", "import", "one.json", "--store", "third.db")
    assert altered.returncode == 4 and "was altered" in altered.stderr
    assert shop("snapshot", "import", "nothing.json").returncode == 2
    assert shop("snapshot").returncode == 2


def test_replay_says_ok_or_names_both_calls_and_the_line(shop: Cli) -> None:
    ran(shop)
    same = shop("replay", "one")
    assert (same.returncode, done(shop)) == (0, []), same.stderr
    assert "ok" in same.stdout and "the body runs" not in same.stdout
    write(shop, "cents + 1")
    other = shop("replay", "one")
    assert other.returncode == 1
    assert re.search(r"diverged.*charge#1.*\{\"cents\":4\}.*\{\"cents\":5\}.*shop.py:\d+", other.stdout, re.DOTALL)
    document = shop.json("replay", "one", code=1)
    assert (document["outcome"], document["step"], document["called"]) == ("diverged", "charge#1", '{"cents":5}')
    assert done(shop) == []


def test_replay_of_all_runs_tells_what_it_found_and_ends_with_one_when_any_diverged(shop: Cli) -> None:
    ran(shop)
    shop("rerun", "one", "--id", "two")
    given = json.dumps({"folder": str(shop.folder), "count": 0})
    shop("run", "flows.py:holds", "-i", given, "--id", "three")
    fine = shop("replay", "--all")
    assert (fine.returncode, fine.stdout) == (0, "")
    assert "3 runs replayed: 3 ok" in fine.stderr
    text = (shop.folder / "shop.py").read_text()
    inserted = text.replace("cents = await price(item)", "await charge(1)\n    cents = await price(item)")
    (shop.folder / "shop.py").write_text(
        inserted.replace("async def charge(", "async def bill(", 1).replace("await charge(1)", "await bill(1)")
    )
    lines = {line["run_id"]: line for line in shop.lines("replay", "--all", "shop.py", "flows.py")}
    assert lines["three"]["outcome"] == "ok"
    assert "bill#1" in lines["one"]["new_calls"]
    write(shop, "cents + 1")
    wrong = shop("replay", "--workflow", "order", "shop.py:order")
    assert wrong.returncode == 1 and "2 diverged" in wrong.stderr
    (shop.folder / "shop.py").unlink()
    lost = shop("replay", "--all")
    assert lost.returncode == 3 and "2 without code" in lost.stderr
    assert shop("replay").returncode == 2
    assert shop("replay", "nobody").returncode == 3


def test_a_run_stays_with_its_version_until_it_is_upgraded(cli: Cli) -> None:
    (cli.folder / "shop.py").write_text(VERSIONS)
    for id in ("a", "b", "c"):
        process = cli.begin("run", "shop.py:order_1", "--id", id)
        until(lambda id=id: cli("show", id).returncode == 0 and cli.status(id) == "waiting")
        process.kill()
        process.wait()
    cli("signal", "a", "go")
    assert json.loads(cli("resume", "a").stdout) == "one"
    cli("signal", "b", "go")
    upgraded = cli("upgrade", "b", "--to", "2", "--reason", "for all")
    assert (upgraded.returncode, json.loads(upgraded.stdout)) == (0, "two"), upgraded.stderr
    many = cli.json("upgrade", "--workflow", "order", "--to", "2", "--yes")
    assert (many["done"], many["refused"]) == (1, [])
    cli("signal", "c", "go")
    assert json.loads(cli("resume", "c").stdout) == "two"
    (entry,) = [entry for entry in cli.lines("journal", "b") if entry["kind"] == "run.upgraded"]
    assert entry["version"].startswith("2+") and entry["reason"] == "for all"
    assert cli("upgrade", "--to", "2").returncode == 2
    assert cli("upgrade", "a", "--to", "2").returncode == 4
