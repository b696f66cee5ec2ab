"""When are triggers looked at? When a schedule is due, an event was published, or a trigger was changed.

What they then start is for `engine.occasions` to say, which is loaded when there is a trigger.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stepwell.errors import StoreError

if TYPE_CHECKING:
    from stepwell.engine.occasions import Occasions
    from stepwell.engine.worker import Engine


class Scheduling:
    """Lets the triggers of one engine's store fire."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._occasions: Occasions | None = None
        self._attention = asyncio.Event()

    def look(self) -> None:
        """A trigger may have been made or changed, or an event published."""
        self._attention.set()

    async def keep_firing(self) -> None:
        """Fire what is due, then sleep until something is, for ever."""
        while True:
            self._attention.clear()
            try:
                until = await self._round()
            except StoreError as error:
                if not error.retryable:
                    raise
                self._engine.degraded(error)
                self._engine.claims.look()  # what was to be started may have been, all the same
                self._engine.queueing.look_at_all()
                await self._engine.nap(self._engine.clock.now() + self._engine.store_retry)
                continue
            if until is None or until > self._engine.clock.now():
                await self._wait(until)

    async def _round(self) -> int | None:
        """Deal with every trigger once; when the next one is due."""
        triggers = [trigger for trigger in await self._engine.store.triggers() if not trigger.paused]
        if not triggers:
            return None
        if self._occasions is None:
            from stepwell.engine.occasions import Occasions  # with all that knows the calendar

            self._occasions = Occasions(self._engine)
        return await self._occasions.deal_with(triggers)

    async def _wait(self, until: int | None) -> None:
        alarm = None if until is None else self._engine.clock.call_at(until, self._attention.set)
        try:
            await self._attention.wait()
        finally:
            if alarm is not None:
                alarm.cancel()
