"""Care of the store: backup, check, deletion of what has ended."""

from __future__ import annotations

from pathlib import Path

from stepwell.model.durations import Duration, micros
from stepwell.stores.protocol import Finding
from stepwell.usecases.base import UseCases
from stepwell.usecases.graphs import forget_versions


class Care(UseCases):
    """What an operator does now and then."""

    async def backup(self, to: Path) -> None:
        """Write a consistent copy of the store while work goes on."""
        await self.store.backup(to)

    async def check(self) -> list[Finding]:
        """Look the store over."""
        return await self.store.check()

    async def gc(self, *, older_than: Duration) -> int:
        """Delete runs that ended longer ago than this, with all that belongs to them; returns how many.

        Events that were published longer ago than this go too, kept outputs, and versions of deployed workflows which
        nobody would miss: not active, without a label, not deployed since, and no run is of them.
        """
        before = self._clock.now() - micros(older_than, "older_than")
        await self.store.forget_events(before=before)
        await self.store.forget_cached(before=before)
        total = 0
        while True:
            deleted = await self.store.delete(finished_before=before)
            total += deleted
            if not deleted:
                await forget_versions(self.store, before=before)
                return total
