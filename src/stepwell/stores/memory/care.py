"""How is a store in memory kept well? Old trees deleted whole, all of it checked; and which rows a list shows."""

from __future__ import annotations

from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.digests import digests_of
from stepwell.stores.memory.content import MemoryData
from stepwell.stores.protocol import Filter, Finding, RunRow


def delete(data: MemoryData, *, finished_before: int, limit: int) -> int:
    """Delete ended trees, oldest first, up to `limit` runs; a tree larger than that goes alone. How many runs went."""
    trees: dict[str, list[RunRow]] = {}
    for row in data.runs.values():
        trees.setdefault(row.root, []).append(row)
    gone: list[str] = []
    for tree in sorted(trees.values(), key=lambda rows: min(row.finished_at or 0 for row in rows)):
        if all(_ended_before(row, finished_before) for row in tree) and (len(gone) + len(tree) <= limit or not gone):
            gone += [row.run_id for row in tree]
    for run_id in gone:
        data.remove_run(run_id)
    data.mailbox = {id: m for id, m in data.mailbox.items() if m.run_id in data.runs}
    data.posted = {identity: m for identity, m in data.posted.items() if m.run_id in data.runs}
    used = {d for journal in data.journals.values() for s in journal for d in digests_of(s.entry)}
    data.blobs = {digest: body for digest, body in data.blobs.items() if digest in used}
    return len(gone)


def check(data: MemoryData, url: str) -> list[Finding]:
    """Look everything over."""
    gaps = [
        row.run_id
        for row in data.runs.values()
        if [stored.seq for stored in data.journals[row.run_id]] != list(range(1, row.next_seq))
    ]
    over = [
        wait.id
        for wait in data.waits.values()
        if wait.run_id not in data.runs or data.runs[wait.run_id].status in TERMINAL
    ]
    return [
        Finding(True, "store", f"{url}: {len(data.runs)} runs"),
        Finding(not gaps, "journals", f"gaps in {', '.join(gaps)}" if gaps else "no gaps"),
        Finding(not over, "open waits", f"of runs that are over: {', '.join(over)}" if over else "all of live runs"),
    ]


def matches(row: RunRow, where: Filter) -> bool:
    """Whether a list shows the row."""
    search = _folded(where.search)
    return (
        (not where.status or row.status in where.status)
        and (not where.workflow or row.workflow == where.workflow)
        and (not where.root or row.root == where.root)
        and (not where.parent or row.parent == where.parent)
        and (not where.queue or row.queue == where.queue)
        and all(row.labels.get(key) == value for key, value in where.labels.items())
        and (search in _folded(row.run_id) or search in _folded(row.workflow))
        and (where.created_after is None or row.created_at > where.created_after)
        and (where.created_before is None or row.created_at < where.created_before)
    )


def _ended_before(row: RunRow, time: int) -> bool:
    # A retry that was posted has set wake_at: such a run is about to go on.
    ended = row.status in TERMINAL and row.wake_at is None
    return ended and row.finished_at is not None and row.finished_at < time


def _folded(text: str) -> bytes:
    """Without regard to the case of ASCII letters, which is all that SQLite can do."""
    return text.encode().lower()
