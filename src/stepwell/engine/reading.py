"""A journal, read once: folded into what the run is, and indexed for the rebuild of its body."""

from __future__ import annotations

from stepwell.model.entries import RunResumed
from stepwell.model.state import State, evolve, replay
from stepwell.programs.matching import Records
from stepwell.stores.protocol import Store

READ_PAGE = 2000
"""Entries of a journal read at a time."""


async def read_run(store: Store, run_id: str) -> tuple[State, Records]:
    """Fold and index a journal page by page; only one with a retry in it is ever in memory as a whole.

    Raises:
        RunNotFound, CorruptJournal, StoreError: see `Store.read`.
    """
    state, records, after = State(), Records(), 0
    while True:
        page = await store.read(run_id, after=after, limit=READ_PAGE)
        for one in page:
            if isinstance(one.entry, RunResumed) and one.entry.retry:
                entries = [stored.entry for stored in await store.read(run_id)]
                return replay(entries), Records(entries)
            evolve(state, one.entry)
            records.add(one.entry)
        if len(page) < READ_PAGE:
            return state, records
        after = page[-1].seq
