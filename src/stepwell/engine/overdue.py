"""Which runs wait in a queue past their deadline? Nobody drives them, so nobody else would notice.

A run's deadline stands in the first entry of its journal. Those of runs that this engine puts into a queue are known;
those of others are read once, when the queue is looked at.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.verbs import VerbBody
from stepwell.errors import CorruptJournal, RequestRefused, RunNotFound
from stepwell.model.entries import RunCreated
from stepwell.stores.protocol import Filter, NewMessage, NewRun, Store

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine

PAGE = 200
"""Rows looked through at a time."""


class Overdue:
    """Ends runs that are held in a queue when their deadline passes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._deadlines: list[tuple[int, str, Store]] = []
        self._known: dict[int, set[str]] = {}

    @property
    def next_at(self) -> int | None:
        """When the next deadline passes."""
        return self._deadlines[0][0] if self._deadlines else None

    def joined(self, store: Store, run: NewRun) -> None:
        """A run was put into a queue by this engine."""
        self._note(store, run.run_id, run.entries[0])

    def let_in(self, store: Store, runs: tuple[str, ...]) -> None:
        """From now on these see to their deadlines themselves."""
        self._known.get(id(store), set()).difference_update(runs)

    async def read(self, store: Store, queue: str) -> None:
        """Look for runs that others have put into a queue."""
        known = self._known.setdefault(id(store), set())
        offset = 0
        while True:
            page = await store.find(Filter(queue=queue, status=("pending", "paused"), limit=PAGE, offset=offset))
            strangers = [row for row in page if row.held_until is not None and row.run_id not in known]
            for row in strangers:
                try:
                    (first,) = await store.read(row.run_id, limit=1)
                except (RunNotFound, CorruptJournal):  # deleted meanwhile; or whoever drives it will say so
                    continue
                self._note(store, row.run_id, first.entry)
            offset += len(page)
            if len(page) < PAGE or not strangers:  # newest first: what follows was there at the last look
                return

    def _note(self, store: Store, run_id: str, first: object) -> None:
        self._known.setdefault(id(store), set()).add(run_id)
        if isinstance(first, RunCreated) and first.deadline is not None:
            heapq.heappush(self._deadlines, (first.deadline, run_id, store))

    async def end_due(self) -> None:
        """Wake the runs whose deadline has passed and that are held still; they end when they are driven."""
        engine = self._engine
        while self._deadlines and self._deadlines[0][0] <= engine.clock.now():
            _, run_id, store = self._deadlines[0]
            row = await store.get(run_id)
            if row is not None and row.held_until is not None:
                body = msgspec.json.encode(VerbBody("its deadline has passed"))
                message = NewMessage(run_id, "cancel", "", body, engine.clock.now(), key="deadline", by="deadline")
                try:
                    posted = await store.post(message)
                except RequestRefused:  # it has ended meanwhile
                    posted = None
                if posted is not None:
                    engine.mailboxes.heard(posted)
            heapq.heappop(self._deadlines)
