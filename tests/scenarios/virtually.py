"""Scenarios in virtual time: nothing sleeps, and a month passes in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from stepwell.app import Stepwell
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.testing.virtual import BASE, SimLoop, VirtualClock, VirtualTime

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Virtual:
    """Makes Stepwells on one store in memory, all in one virtual time."""

    def __init__(self, base: int = BASE) -> None:
        self.time = VirtualTime(1)
        self.data = MemoryData()
        self.loop = self.time.loop()
        self.clock = VirtualClock(self.loop, base=base)
        self.opened: list[Stepwell] = []
        self._base = base

    @property
    def now(self) -> int:
        """Microseconds since virtual time began."""
        return self.clock.now() - self._base

    def make(self, **settings: Any) -> Stepwell:
        """A Stepwell in this time; `is_shared` as when other processes use the store too."""
        store = MemoryStore(self.data, is_shared=settings.pop("is_shared", False))
        settings.setdefault("grace", 0)
        clock = settings.pop("clock", self.clock)
        app = Stepwell(store, clock=clock, chance=Random(1), **settings)
        if clock is self.clock:
            self.opened.append(app)
        return app

    def process(self, name: str) -> tuple[SimLoop, Callable[..., Stepwell]]:
        """Another process: a loop of its own, and a maker of Stepwells that live on it."""
        loop = self.time.loop(name)
        clock = VirtualClock(loop, base=self._base)
        return loop, lambda **settings: self.make(clock=clock, is_shared=True, **settings)

    def play(self, scenario: Coroutine[Any, Any, Any]) -> Any:
        """Run a scenario to its end."""

        async def whole() -> Any:
            try:
                return await scenario
            finally:
                for app in self.opened:
                    await app.close()

        return self.loop.run_until_complete(whole())
