"""How much happens at once: slots for attempts, counted globally, per task and per key, given by priority."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable

import msgspec

Needs = tuple[tuple[str, int], ...]


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

    def __init__(self) -> None:
        self._used: dict[str, int] = {}
        self._queues: dict[Needs, list[tuple[int, int, Ticket]]] = {}
        self._asked = 0

    def used(self, name: str) -> int:
        """How many slots of this name are in use."""
        return self._used.get(name, 0)

    def ask(self, needs: Needs, priority: int, grant: Callable[[], None]) -> Ticket:
        """Ask for one slot of each `(name, limit)`; `ticket.granted` at once, or `grant` is called later."""
        ticket = Ticket(needs, grant)
        queue = self._queues.get(needs)
        if not queue and self._is_free(needs):
            self._take(ticket)
            return ticket
        if queue is None:
            queue = self._queues[needs] = []
        self._asked += 1
        heapq.heappush(queue, (-priority, self._asked, ticket))
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """Return the slots, or leave the queue; then serve those who wait. Idempotent."""
        if ticket.withdrawn:
            return
        ticket.withdrawn = True
        if ticket.granted:
            for name, _ in ticket.needs:
                left = self._used[name] - 1
                if left:
                    self._used[name] = left
                else:
                    del self._used[name]
            if self._queues:
                self._serve()

    def _is_free(self, needs: Needs) -> bool:
        used = self._used
        return all(used.get(name, 0) < limit for name, limit in needs)

    def _take(self, ticket: Ticket) -> None:
        ticket.granted = True
        for name, _ in ticket.needs:
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
                return
            heapq.heappop(self._queues[best[2].needs])
            self._take(best[2])
            best[2].grant()
