"""Waiting for something to become true, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
    """Wait for a condition, looking again as soon as anything else has had its turn."""
    for turn in itertools.count():
        found = condition()
        if found is True or (found is not False and await found):
            return
        await asyncio.sleep(0 if turn < 50 else 0.005)
