"""Signals, pause, resume and cancel from a process that does not drive: kept, in order, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from crashing import Program, executions, journals, soon, violations

from stepwell.app import Stepwell
from stepwell.errors import WrongStatus
from stepwell.model.entries import RunPaused, RunResumed, StepCompleted, WaitSatisfied

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")


class Place:
    """A store in a folder, its drivers, and a client beside them."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "runs.db"
        self.side = folder / "side"

    def driver(self, *plan: list[object]) -> Program:
        return Program("drives.py", self.store, self.side, json.dumps(plan))

    def ask(self, request: Callable[[Stepwell], Awaitable[object]]) -> object:
        """Do one thing as a process that only asks."""

        async def once() -> object:
            async with Stepwell(f"sqlite:///{self.store}", drive=False, create=False) as app:
                return await request(app)

        return asyncio.run(once())

    def status(self, run_id: str) -> str:
        async def look(app: Stepwell) -> str:
            return (await app.get(run_id)).status

        return str(self.ask(look))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_signals_sent_before_anybody_waits_or_drives_are_taken_once_and_in_order(place: Place) -> None:
    with place.driver(["late", "r", [60, 6]]) as driver:
        driver.until("accepted r")
        soon(lambda: "r:held#1" in executions(place.side))
        assert place.ask(lambda app: app.signal("r", "number", 0, key="zero"))
        assert place.ask(lambda app: app.signal("r", "number", 1))
        driver.kill()
    assert not place.ask(lambda app: app.signal("r", "number", 0, key="zero"))
    assert place.ask(lambda app: app.signal("r", "number", 2))
    assert place.ask(lambda app: app.signal("r", "number", 3))
    with place.driver() as driver:
        driver.until("driving")
        soon(lambda: len(journals(place.store)["r"].of(WaitSatisfied)) == 4)
        driver.kill()
    assert place.ask(lambda app: app.signal("r", "number", 4))
    with place.driver() as driver:
        driver.until("driving")
        assert place.ask(lambda app: app.signal("r", "number", 5))
        assert driver.until("ended") == "r completed"
        with pytest.raises(WrongStatus):
            place.ask(lambda app: app.signal("r", "number", 6))
    found = journals(place.store)
    assert violations(found, executions(place.side)) == []
    assert found["r"].result == [0, 1, 2, 3, 4, 5]


def test_pause_and_resume_from_elsewhere_work_with_and_without_a_driver(place: Place) -> None:
    with place.driver(["hold", "r", [60]], ["nap", "n", [0.1]]) as driver:
        driver.until("accepted n")
        place.ask(lambda app: app.pause("n", by="ann", reason="lunch"))
        soon(lambda: place.status("n") == "paused")
        soon(lambda: "r:held#1" in executions(place.side))
        driver.kill()
    place.ask(lambda app: app.pause("r", by="ann"))
    with place.driver() as driver:  # it finds `r` cut off in the middle of a step, and a wish to pause it
        driver.until("driving")
        soon(lambda: place.status("r") == "paused")
        driver.kill()
    ran = executions(place.side)
    assert ran["r:held#1"] == [1]
    place.ask(lambda app: app.resume("r"))
    assert place.status("r") == "paused"
    with place.driver() as driver:
        driver.until("driving")
        assert driver.until("ended") == "r completed"
        assert place.status("n") == "paused"
        place.ask(lambda app: app.resume("n"))
        assert driver.until("ended") == "n completed"
    found = journals(place.store)
    assert violations(found, executions(place.side)) == []
    assert found["r"].result == [1, 2, 3]
    assert [type(entry) for entry in found["n"].of(RunPaused, RunResumed)] == [RunPaused, RunResumed]


def test_a_cancel_from_elsewhere_reaches_the_body_with_and_without_a_driver(place: Place) -> None:
    with place.driver(["tidy", "seen", [60]], ["tidy", "unseen", [60]]) as driver:
        driver.until("accepted unseen")
        soon(lambda: {"seen:held#1", "unseen:held#1"} <= set(executions(place.side)))
        place.ask(lambda app: app.cancel("seen"))
        assert driver.until("ended") == "seen cancelled"
        driver.kill()
    place.ask(lambda app: app.cancel("unseen"))
    assert place.status("unseen") == "running"
    with place.driver() as driver:
        driver.until("ended unseen")
    found = journals(place.store)
    ran = executions(place.side)
    assert violations(found, ran) == []
    for name in ("seen", "unseen"):
        assert found[name].row.status == "cancelled"
        assert [str(entry.path) for entry in found[name].of(StepCompleted)] == ["plus#1"]
        assert ran[f"{name}:held#1"] == [1], "what was asked to end is not begun again"
