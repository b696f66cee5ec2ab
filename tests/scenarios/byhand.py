"""A clock that a test moves by hand, on the machine's own loop: for stores whose threads virtual time cannot hold."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

BASE = 1_800_000_000 * SECOND


class HandClock:
    """The engine's clock: it stands still until it is told to go on."""

    def __init__(self) -> None:
        self._now = BASE
        self._set = 0
        self._alarms: list[tuple[int, int, asyncio.TimerHandle]] = []

    @property
    def passed(self) -> int:
        """Microseconds since the test began."""
        return self._now - BASE

    def now(self) -> int:
        """See `engine.clock.Clock`."""
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """See `engine.clock.Clock`."""
        loop = asyncio.get_running_loop()
        handle = asyncio.TimerHandle(when / SECOND, callback, (), loop)
        if when <= self._now:
            loop.call_soon(_ring, handle)
        else:
            self._set += 1
            heapq.heappush(self._alarms, (when, self._set, handle))
        return handle

    async def advance(self, by: int) -> None:
        """Let `by` microseconds pass at once, as for a machine that was asleep; what came due meanwhile rings."""
        self._now += by
        while self._alarms and self._alarms[0][0] <= self._now:
            _ring(heapq.heappop(self._alarms)[2])
        await asyncio.sleep(0)


def _ring(handle: asyncio.TimerHandle) -> None:
    if not handle.cancelled():
        handle._run()
