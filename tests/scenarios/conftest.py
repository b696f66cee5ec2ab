"""Whole runs on both stores, on the machine's own loop; anything about time uses the virtual clock elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from stepwell.app import Stepwell
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.stores.protocol import Store

Scenario = Callable[[Callable[..., Stepwell]], Coroutine[Any, Any, Any]]


@pytest.fixture(params=["memory", "sqlite"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], Any]:
    """Run a scenario; it gets a maker of Stepwells that all open one and the same store."""
    data = MemoryData()
    opened: list[Stepwell] = []

    def let_go() -> None:
        if data.database is not None:
            data.database.close()

    request.addfinalizer(let_go)

    def make(**settings: Any) -> Stepwell:
        store: str | Store = MemoryStore(data) if request.param == "memory" else f"sqlite:///{tmp_path / 'runs.db'}"
        settings.setdefault("grace", "50ms")
        app = Stepwell(store, **settings)
        opened.append(app)
        return app

    def run(scenario: Scenario) -> Any:
        async def bounded() -> Any:
            try:
                async with asyncio.timeout(10):
                    return await scenario(make)
            finally:
                for app in opened:
                    await app.close(grace=0)

        return asyncio.run(bounded())

    return run
