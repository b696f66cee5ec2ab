"""Flow control: queues, and verbs for many runs at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from stepwell.authoring.queue import Queue
from stepwell.engine.queueing import put_queues
from stepwell.errors import RequestRefused, RunNotFound
from stepwell.model.entries import OnChange
from stepwell.model.lifecycle import MEANING, SET_ASIDE, TERMINAL, Status
from stepwell.stores import tables
from stepwell.stores.protocol import Filter, RunRow
from stepwell.stores.tables import QueueRow
from stepwell.usecases.steering import Steering

PAGE = 1000
"""Runs looked up at a time."""

AT_ONCE = 200
"""Verbs on their way to the store at once; it commits them together."""

ABLE: Final[dict[str, tuple[Status, ...]]] = {
    "pause": tuple(status for status in MEANING if status not in SET_ASIDE | TERMINAL),
    "resume": tuple(status for status in MEANING if status in SET_ASIDE),
    "cancel": tuple(status for status in MEANING if status not in TERMINAL),
    "retry": ("failed",),
    "upgrade": tuple(status for status in MEANING if status not in TERMINAL),
}
"""Which runs a verb for many means when its filter names no status."""


class BulkResult(msgspec.Struct, frozen=True):
    """What became of a verb for many runs: how many took it, and which refused it and why."""

    done: int
    refused: list[tuple[str, str]]


class FlowControl(Steering):
    """How much goes on at once, and what is done with many runs."""

    # -- queues -------------------------------------------------------------------------------------------------

    async def put_queue(self, queue: Queue) -> None:
        """Make a queue, or change its limits; runs that are under way stay so.

        Of a queue that is there already `paused` changes nothing: say `pause_queue` or `resume_queue`.
        """
        await self._put_queue(queue.row())

    async def queues(self) -> list[QueueRow]:
        """All queues by name, with how many runs wait in each and how many are under way."""
        return await self.store.queues()

    async def pause_queue(self, name: str) -> None:
        """Let nobody into a queue until it is resumed; runs that are under way go on.

        Raises:
            RequestRefused: there is no such queue.
        """
        await self._set_paused(name, paused=True)

    async def resume_queue(self, name: str) -> None:
        """Let runs into a queue again.

        Raises:
            RequestRefused: there is no such queue.
        """
        await self._set_paused(name, paused=False)

    async def _put_queue(self, queue: tables.Queue) -> None:
        for store in (self.store, self._volatile):
            await put_queues(store, (queue,))
        self._look_at_queue(queue.name)

    async def _set_paused(self, name: str, *, paused: bool) -> None:
        for store in (self.store, self._volatile):
            known = next((row.queue for row in await store.queues() if row.queue.name == name), None)
            if known is None and store is self.store:
                names = ", ".join(repr(row.queue.name) for row in await store.queues()) or "none"
                raise RequestRefused(f"there is no queue {name!r}; there are {names}")
            if known is not None and known.paused != paused:
                await store.put_queue(msgspec.structs.replace(known, paused=paused))
        self._look_at_queue(name)

    def _look_at_queue(self, name: str) -> None:
        if self._engine is not None:
            for store in (self.store, self._volatile):
                self._engine.queueing.look(store, name)

    # -- many runs ----------------------------------------------------------------------------------------------

    async def pause_all(self, where: Filter, *, by: str = "", reason: str = "") -> BulkResult:
        """Pause all runs that match.

        A filter without `status` means those that can be paused; its `limit` and `offset` do not count. Runs that are
        created meanwhile are left alone. Each run takes or refuses it for itself.
        """
        return await self._all(where, "pause", lambda id: self.pause(id, by=by, reason=reason))

    async def resume_all(
        self, where: Filter, *, by: str = "", reason: str = "", on_change: OnChange | None = None
    ) -> BulkResult:
        """Resume all runs that match; see `pause_all`. Without `status`: those that are paused or stuck."""
        return await self._all(where, "resume", lambda id: self.resume(id, by=by, reason=reason, on_change=on_change))

    async def cancel_all(self, where: Filter, *, by: str = "", reason: str = "") -> BulkResult:
        """Cancel all runs that match; see `pause_all`. Without `status`: those that have not ended."""
        return await self._all(where, "cancel", lambda id: self.cancel(id, by=by, reason=reason))

    async def retry_all(
        self, where: Filter, *, by: str = "", reason: str = "", on_change: OnChange | None = None
    ) -> BulkResult:
        """Retry all runs that match; see `pause_all`. Without `status`: those that failed, not those cancelled."""
        return await self._all(where, "retry", lambda id: self.retry(id, by=by, reason=reason, on_change=on_change))

    async def matching(self, where: Filter) -> list[RunRow]:
        """All rows that match, whatever the filter's `limit` and `offset`, of runs that exist now."""
        if where.created_before is None:
            where = msgspec.structs.replace(where, created_before=self._clock.now() + 1)
        found: dict[str, RunRow] = {}
        while True:  # again until nothing new is found: a run that stops matching meanwhile moves others up the list
            before, offset = len(found), 0
            while True:
                page = await self.store.find(msgspec.structs.replace(where, limit=PAGE, offset=offset))
                found.update((row.run_id, row) for row in page)
                offset += len(page)
                if len(page) < PAGE:
                    break
            if len(found) == before or offset < PAGE:
                return list(found.values())

    async def _all(self, where: Filter, name: str, verb: Callable[[str], Awaitable[object]]) -> BulkResult:
        rows = await self.matching(able_to(name, where))
        refused: list[tuple[str, str]] = []

        async def one(row: RunRow) -> None:
            try:
                await verb(row.run_id)
            except RunNotFound:  # deleted meanwhile
                refused.append((row.run_id, "it is there no more"))
            except RequestRefused as error:
                refused.append((row.run_id, str(error)))

        for start in range(0, len(rows), AT_ONCE):
            await asyncio.gather(*(one(row) for row in rows[start : start + AT_ONCE]))
        return BulkResult(len(rows) - len(refused), sorted(refused))


def able_to(verb: str, where: Filter) -> Filter:
    """The filter, with the statuses that the verb means when it names none."""
    return where if where.status else msgspec.structs.replace(where, status=ABLE[verb])
