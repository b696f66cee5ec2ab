"""A journal, read once: folded into what the run is, and indexed for the rebuild of its body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepwell.errors import StoreError
from stepwell.model.entries import RunResumed
from stepwell.model.state import State, evolve, replay
from stepwell.programs.matching import Records
from stepwell.stores.protocol import Store, Stored

READ_PAGE = 2000
"""Entries of a journal read at a time."""

HEAD = 50
"""Entries up to which the journals of several runs are read together."""


async def read_heads(store: Store, run_ids: Sequence[str]) -> Mapping[str, Sequence[Stored]]:
    """The beginnings of some journals by one read: of most runs it is all. Empty when that read fails.

    What is not there is then read by itself, and meets its error where it can be told and waited for.
    """
    try:
        return await store.read_many(run_ids, limit=HEAD)
    except StoreError:
        return {}


def read_whole(head: Sequence[Stored] | None) -> tuple[State, Records] | None:
    """What `read_run` gives for a journal whose `head` is all of it; None when there is more to read."""
    if head is None or len(head) >= HEAD:
        return None
    state, records = State(), Records()
    for one in head:
        if isinstance(one.entry, RunResumed) and one.entry.retry:
            return None
        evolve(state, one.entry)
        records.add(one.entry)
    return state, records


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


def payloads_of(state: State, records: Records) -> set[str]:
    """The content hashes of the payloads that stand outside the journal and are needed to drive the run."""
    return (records.blobs | {state.input_blob} | {edit.input_blob for edit in state.edits.values()}) - {""}
