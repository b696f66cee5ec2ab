"""The facade for synchronous callers."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stepwell import ctx, task, workflow
from stepwell.blocking import Stepwell
from stepwell.errors import RequestRefused, RunFailed


@task
def double(number: int) -> int:
    return number * 2


@workflow
def body(number: int) -> int:
    return double(number) + ctx.sync.signal("more", int)


@workflow
def failing() -> None:
    raise ValueError("no luck")


def test_a_script_needs_no_await(tmp_path: Path) -> None:
    before = threading.active_count()
    with Stepwell(tmp_path / "runs.db") as app:
        run = app.start(body, 4, id="r")
        run.signal("more", 1)
        assert run.result("10s") == 9
        assert app.run(double, 3) == 6
        assert [row.run_id for row in app.runs()][-1] == "r"
        assert [stored.seq for stored in app.follow("r")] == [stored.seq for stored in app.entries("r")]
        assert app.handle("r").state().status == "completed"
        with pytest.raises(RunFailed, match="no luck"):
            app.run(failing)
    assert threading.active_count() <= before + 1
    with pytest.raises(RequestRefused, match="not open"):
        app.runs()
