"""Time and chance, as the engine sees them: the only module that reads a clock or makes randomness."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Wall time in microseconds, and alarms on the running loop."""

    def now(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z. May jump; callers never assume that it only grows."""

    def call_at(self, when: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back once `now()` has reached `when`, or soon after; at once when it already has."""


LONGEST_ALARM = 60_000_000
"""An alarm looks at the clock again after this long, so that a clock set forward is noticed (microseconds)."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def call_at(self, when: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        delay = max(0, min(when - self.now(), LONGEST_ALARM))
        return asyncio.get_running_loop().call_later(delay / 1_000_000, callback)


def system_chance() -> random.Random:
    """A source of chance seeded by the operating system."""
    return random.Random()
