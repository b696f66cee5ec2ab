"""How do shelves stand in memory? As dictionaries by owner and key."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.errors import Fenced
from stepwell.model.shelf import Clear, ShelfChange, Values
from stepwell.stores.memory.content import MemoryData
from stepwell.stores.shelves import Fence


def refuse_fenced(data: MemoryData, fence: Fence | None, worker: str | None) -> None:
    """Do nothing when `worker` owns the run of the fence under its epoch.

    Raises:
        Fenced: it does not.
    """
    if fence is None:
        return
    run_id, epoch = fence
    row = data.runs.get(run_id)
    if row is None or worker is None or (row.owner, row.epoch) != (worker, epoch):
        raise Fenced(f"run {run_id} is not owned under epoch {epoch}: nothing was put on its shelf; drop the run")


def change(data: MemoryData, changes: Sequence[ShelfChange]) -> None:
    """Carry the changes out, in order."""
    for one in changes:
        values = data.shelf.setdefault(one.owner, {})
        if isinstance(one, Clear):
            for key in [key for key in values if key.startswith(one.prefix)]:
                del values[key]
        elif not (one.if_new and one.key in values):
            values[one.key] = one.value
        if not values:
            del data.shelf[one.owner]


def find(data: MemoryData, owner: str, prefix: str, last_first: bool, limit: int) -> Values:
    """Keys that begin with `prefix`, with their values."""
    values = data.shelf.get(owner, {})
    keys = sorted((key for key in values if key.startswith(prefix)), reverse=last_first)
    return [(key, values[key]) for key in keys[: max(0, limit)]]
