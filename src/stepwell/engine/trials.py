"""Which run ended its worker? Runs that were in the hands of several dead ones are taken up one after another.

When a process dies, every run that it held has been claimed without progress, and at most one of them is to blame. So
a run claimed more than `HARMLESS_CLAIMS` times is adopted alone among its like: the next one follows when it has
made progress, has left, or has done no harm for `PROBATION`. Claims come in the same order in every life, so
the first that has not cleared itself is the one that was on trial when the last worker died, and only that one is set
aside; those that waited behind it have not had their turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from stepwell.engine.clock import Clock
from stepwell.errors import StoreError
from stepwell.model.ids import SECOND
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Append, Claimed, Store

HARMLESS_CLAIMS = 2
"""A run claimed more often than this without progress is tried by itself."""

CLAIMS_WITHOUT_PROGRESS = 5
"""A run claimed more often than this without progress, and tried by itself, is set aside as stuck."""

PROBATION = SECOND
"""How long a run must be driven without harm until the next one is tried (microseconds)."""


class Trials:
    """Hands suspects to `adopt` one at a time; `is_held` says whether the run is in memory after that."""

    def __init__(
        self, clock: Clock, adopt: Callable[[Store, Claimed], Awaitable[None]], is_held: Callable[[str], bool]
    ) -> None:
        self._clock = clock
        self._adopt = adopt
        self._is_held = is_held
        self._waiting: deque[tuple[Store, Claimed]] = deque()
        self._came = asyncio.Event()
        self._on_trial = ""
        self._over = asyncio.Event()
        self._has_judged = False

    def takes(self, store: Store, claimed: Claimed) -> bool:
        """Whether the run is a suspect; it then waits here for its turn."""
        if claimed.row.claims <= HARMLESS_CLAIMS:
            return False
        self._waiting.append((store, claimed))
        self._came.set()
        return True

    def is_guilty(self, claimed: Claimed) -> bool:
        """Whether the run has to be set aside: claimed too often, and the first in its turn."""
        return claimed.row.claims > CLAIMS_WITHOUT_PROGRESS and not self._has_judged

    async def pardon(self) -> None:
        """The first is to be set aside: forget the claims of the others, who have not had their turn."""
        now = self._clock.now()
        pardons = [
            store.append(Append(row.run_id, row.epoch, row.next_seq, (), row.status, wake_at=None, at=now))
            for store, row in ((store, claimed.row) for store, claimed in tuple(self._waiting)[1:])
            if row.status not in TERMINAL
        ]
        await asyncio.gather(*pardons)

    def judged(self) -> None:
        """One was set aside: the others are taken up without delay, and tried again if that was the wrong one."""
        self._has_judged = True

    async def give_back(self) -> None:
        """Release those that have not had their turn: they are not held against them that this engine closes."""
        while self._waiting:
            store, claimed = self._waiting.popleft()
            row, now = claimed.row, self._clock.now()
            if row.status in TERMINAL:  # it waits for a retry, which a release of an ended run would not see
                continue
            back = Append(row.run_id, row.epoch, row.next_seq, (), row.status, wake_at=now, at=now, release=True)
            try:
                await store.append(back)
            except StoreError:  # no room, or another drives: whoever drives next frees them
                return

    def clear(self, run_id: str) -> None:
        """The run has made progress, or has left."""
        if run_id == self._on_trial:
            self._over.set()

    async def keep_trying(self) -> None:
        """Try one suspect after another, for ever."""
        while True:
            while not self._waiting:
                self._came.clear()
                await self._came.wait()
            await self._try(*self._waiting[0])

    async def _try(self, store: Store, claimed: Claimed) -> None:
        self._on_trial = claimed.row.run_id
        self._over.clear()
        await self._adopt(store, claimed)
        self._waiting.popleft()
        if self._is_held(self._on_trial) and not self._has_judged:
            alarm = self._clock.call_at(self._clock.now() + PROBATION, self._over.set)
            try:
                await self._over.wait()
            finally:
                alarm.cancel()
        self._on_trial = ""
