"""How much happens at once, and how fast: slots for attempts, counted globally, per task and per key.

A slot with a period is one of a rate: it is free again a period after it was taken, whatever becomes of the attempt.
Free slots go to the highest priority, then to who asked first. Who waits for one slot of several holds none.
"""

from __future__ import annotations

import asyncio
import heapq
import os
from collections import deque
from collections.abc import Callable

import msgspec

from stepwell.engine.clock import Clock

Needs = tuple[tuple[str, int, int], ...]
"""What an attempt takes, one of each: `(name, limit, period)`; period 0 counts those in use, else those within it."""

FEW_WINDOWS = 1000
"""So many names of rates are remembered before those of which nothing counts any more are forgotten."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one engine.

    `attempts` in flight at once in all; `threads` and `processes` of these in threads and child processes; `runs`
    held in memory at once (waiting ones are dropped to make room, further ones stay in the store); `bodies` of
    synchronous workflows that hold a thread at once.
    """

    attempts: int = 1000
    threads: int = min(32, (os.cpu_count() or 1) + 4)
    processes: int = os.cpu_count() or 1
    runs: int = 2000
    bodies: int = 64


class Ticket:
    """A place in the queue for slots, and then the slots themselves."""

    __slots__ = ("grant", "granted", "needs", "withdrawn")

    def __init__(self, needs: Needs, grant: Callable[[], None]) -> None:
        self.needs = needs
        self.grant = grant
        self.granted = False
        self.withdrawn = False


class Slots:
    """Counts what is in use by name and hands free slots to the highest priority, then to who asked first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: dict[str, int] = {}
        self._windows = Windows()
        self._queues: dict[Needs, list[tuple[int, int, Ticket]]] = {}
        self._asked = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0

    def used(self, name: str) -> int:
        """How many slots of this name are in use."""
        return self._used.get(name, 0)

    def ask(self, needs: Needs, priority: int, grant: Callable[[], None]) -> Ticket:
        """Ask for one slot of each `(name, limit, period)`; `ticket.granted` at once, or `grant` is called later."""
        ticket = Ticket(needs, grant)
        queue = self._queues.get(needs)
        if not queue and self._is_free(needs):
            self._take(ticket)
            return ticket
        if queue is None:
            queue = self._queues[needs] = []
        self._asked += 1
        heapq.heappush(queue, (-priority, self._asked, ticket))
        opens_at = self._opens_at(needs)
        if opens_at is not None:
            self._look_at(opens_at)
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """Return the slots, or leave the queue; then serve those who wait. Idempotent."""
        if ticket.withdrawn:
            return
        ticket.withdrawn = True
        if ticket.granted:
            for name, _, period in ticket.needs:
                if period:
                    continue
                left = self._used[name] - 1
                if left:
                    self._used[name] = left
                else:
                    del self._used[name]
            if self._queues:
                self._serve()

    def close(self) -> None:
        """Grant nothing more by itself."""
        self._look_at(None)

    def _is_free(self, needs: Needs) -> bool:
        used = self._used
        for name, limit, period in needs:
            if period:
                if self._windows.opens_at(name, limit, period, self._clock.now()) is not None:
                    return False
            elif used.get(name, 0) >= limit:
                return False
        return True

    def _opens_at(self, needs: Needs) -> int | None:
        """When a rate lets these through, if nothing else keeps them; None when that is no question of time."""
        now = self._clock.now()
        times = [self._windows.opens_at(name, limit, period, now) for name, limit, period in needs if period]
        if any(self._used.get(name, 0) >= limit for name, limit, period in needs if not period):
            return None  # they are looked at again when a slot is given back
        return max((time for time in times if time is not None), default=None)

    def _take(self, ticket: Ticket) -> None:
        ticket.granted = True
        for name, _, period in ticket.needs:
            if period:
                self._windows.take(name, period, self._clock.now())
            else:
                self._used[name] = self._used.get(name, 0) + 1

    def _serve(self) -> None:
        while True:
            best: tuple[int, int, Ticket] | None = None
            for needs, queue in list(self._queues.items()):
                while queue and queue[0][2].withdrawn:
                    heapq.heappop(queue)
                if not queue:
                    del self._queues[needs]
                elif self._is_free(needs) and (best is None or queue[0] < best):
                    best = queue[0]
            if best is None:
                break
            heapq.heappop(self._queues[best[2].needs])
            self._take(best[2])
            best[2].grant()
        self._look_at(min((at for needs in self._queues if (at := self._opens_at(needs)) is not None), default=None))

    def _look_at(self, time: int | None) -> None:
        """Serve at that time, if not earlier anyway; None: only when a slot is given back."""
        if self._alarm is not None:
            if time is not None and self._alarm_at <= time:
                return
            self._alarm.cancel()
            self._alarm = None
        if time is not None:
            self._alarm_at = time
            self._alarm = self._clock.call_at(time, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._serve()


class Windows:
    """When slots of rates were taken: no more than a limit within any period."""

    def __init__(self) -> None:
        self._taken: dict[str, deque[int]] = {}
        self._periods: dict[str, int] = {}

    def opens_at(self, name: str, limit: int, period: int, now: int) -> int | None:
        """When the next slot of this name may be taken; None: now."""
        taken = self._taken.get(name)
        if taken is None:
            return None
        self._expire(taken, period, now)
        return taken[-limit] + period if len(taken) >= limit else None

    def take(self, name: str, period: int, now: int) -> None:
        """A slot is taken now."""
        if len(self._taken) > FEW_WINDOWS and name not in self._taken:
            self._forget(now)
        self._taken.setdefault(name, deque()).append(now)
        self._periods[name] = period

    def _expire(self, taken: deque[int], period: int, now: int) -> None:
        while taken and taken[0] + period <= now:
            taken.popleft()
        while taken and taken[-1] > now:  # the clock was set back: what it showed then counts no more
            taken.pop()

    def _forget(self, now: int) -> None:
        for name, taken in list(self._taken.items()):
            self._expire(taken, self._periods[name], now)
            if not taken:
                del self._taken[name], self._periods[name]
