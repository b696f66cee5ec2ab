"""Code that changes under a run: what is found again, what runs fresh, and what stops and asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import Driver

from stepwell import task, workflow
from stepwell.model.entries import StepStarted

items: list[str] = []


@task
async def fetch(item: str) -> str:
    return f"got {item}"


@task
async def other(item: str) -> str:
    return f"other {item}"


@task(aliases=("fetch",))
async def renamed(item: str) -> str:
    return f"renamed {item}"


@workflow
async def loop() -> list[str]:
    return [await fetch(item) for item in items]


@workflow
async def fan() -> list[str]:
    return list(await asyncio.gather(*[fetch(item) for item in items]))


@workflow
async def scoped() -> list[str]:
    async def one(item: str) -> str:
        return await fetch(item)

    return list(await asyncio.gather(*[one(item) for item in items]))


@workflow
async def keyed() -> list[str]:
    return [await fetch.with_options(key=item)(item) for item in items]


@workflow
async def keyed_map() -> list[str]:
    return list(await fetch.map(items, key=str, concurrency=2))


@workflow
async def inserted() -> list[str]:
    first = await other("new")
    return [first, *[await fetch(item) for item in items]]


@workflow
async def with_alias() -> list[str]:
    return [await renamed(item) for item in items]


def crashed(body: Any, what: list[str], steps: int) -> list[Any]:
    """The journal of `body` over `what`, cut off after so many completed steps."""
    items[:] = what
    driver = Driver(body)
    for _ in range(steps):
        driver.step()
    return list(driver.journal)


def resumed(body: Any, journal: list[Any], what: list[str], **settings: Any) -> Driver:
    items[:] = what
    return Driver(body, journal, **settings).run()


@pytest.mark.parametrize("body", [loop, fan, scoped], ids=lambda body: body.name)
def test_an_item_inserted_in_front_stops_the_run_with_a_readable_difference(body: Any) -> None:
    journal = crashed(body, ["A", "B", "C"], 2)
    driver = resumed(body, journal, ["X", "A", "B", "C"])
    assert driver.program.divergence is not None
    text = driver.program.divergence.explain()
    assert '{"item":"A"}' in text and '{"item":"X"}' in text and "test_changes.py:" in text
    assert driver.started == []


@pytest.mark.parametrize("body", [loop, scoped], ids=lambda body: body.name)
def test_rerun_runs_only_what_is_new(body: Any) -> None:
    journal = crashed(body, ["A", "B", "C"], 2)
    driver = resumed(body, journal, ["X", "A", "B", "C"], on_change="rerun")
    assert driver.result == ["got X", "got A", "got B", "got C"]
    begun = [bytes(e.input) for e in driver.journal[len(journal) :] if isinstance(e, StepStarted) and e.attempt == 1]
    assert begun == [b'{"item":"X"}']


def test_reuse_takes_the_recorded_results_in_place() -> None:
    journal = crashed(loop, ["A", "B"], 2)
    journal = [entry for entry in journal if type(entry).__name__ != "RunCompleted"]
    assert resumed(loop, journal, ["X", "B"], on_change="reuse").result == ["got A", "got B"]


def test_fail_fails_the_run_and_says_why() -> None:
    driver = resumed(loop, crashed(loop, ["A", "B"], 1), ["X", "B"], on_change="fail")
    assert driver.state.error is not None
    assert "was recorded with the input" in driver.state.error.message


@pytest.mark.parametrize("what", [["C", "B", "A"], ["B", "C"], ["A", "C"], ["A", "B", "C", "D"]])
def test_reordered_shortened_and_appended_lists_reuse_what_is_recorded(what: list[str]) -> None:
    journal = crashed(loop, ["A", "B", "C"], 2)
    driver = resumed(loop, journal, what)
    assert driver.result == [f"got {item}" for item in what]
    recorded = {"A", "B"}
    begun = [bytes(e.input)[9:-2].decode() for e in driver.journal[len(journal) :] if isinstance(e, StepStarted)]
    assert recorded.isdisjoint(begun)


def test_an_inserted_step_of_another_name_is_fine() -> None:
    journal = crashed(loop, ["A", "B"], 1)
    driver = resumed(inserted, journal, ["A", "B"])
    assert driver.result == ["other new", "got A", "got B"]
    assert "fetch#1" not in driver.started


@pytest.mark.parametrize("body", [keyed, keyed_map], ids=lambda body: body.name)
def test_keys_pin_identity_wherever_an_item_moves(body: Any) -> None:
    journal = crashed(body, ["A", "B", "C"], 2)
    done = {str(e.path) for e in journal if type(e).__name__ == "StepCompleted"}
    driver = resumed(body, journal, ["X", "C", "B", "A"])
    assert driver.program.divergence is None
    assert driver.result == ["got X", "got C", "got B", "got A"]
    assert done.isdisjoint(driver.started)


def test_aliases_find_records_under_the_old_name() -> None:
    journal = crashed(loop, ["A", "B", "C"], 2)
    driver = resumed(with_alias, journal, ["A", "B", "C"])
    assert driver.result == ["got A", "got B", "renamed C"]
    assert driver.started == ["fetch#3"]


def test_records_that_no_call_takes_are_listed_as_orphans() -> None:
    journal = crashed(loop, ["A", "B", "C"], 2)
    driver = resumed(loop, journal, ["B"])
    assert [str(path) for path in driver.program.orphans()] == ["fetch#1", "fetch#3"]
