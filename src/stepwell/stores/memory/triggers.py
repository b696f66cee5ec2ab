"""How do triggers stand in memory, and move on?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stepwell.stores.memory.content import MemoryData
from stepwell.stores.tables import Firing, TriggerRow


def put(data: MemoryData, trigger: TriggerRow) -> None:
    """Make a trigger, or replace one of its name."""
    known = data.triggers.get(trigger.name)
    if known is not None:
        trigger = msgspec.structs.replace(trigger, cursor=known.cursor, created_at=known.created_at)
    data.triggers[trigger.name] = trigger


def remove(data: MemoryData, name: str) -> bool:
    """Delete a trigger and its firings; whether there was one."""
    data.firings.pop(name, None)
    return data.triggers.pop(name, None) is not None


def is_at(data: MemoryData, name: str, cursor: int) -> bool:
    """Whether there is such a trigger, and it has been considered up to here."""
    trigger = data.triggers.get(name)
    return trigger is not None and trigger.cursor == cursor


def move(data: MemoryData, name: str, *, cursor: int, next_at: int | None, firings: Sequence[Firing]) -> None:
    """Move the cursor on and record firings whose keys are new."""
    data.triggers[name] = msgspec.structs.replace(data.triggers[name], cursor=cursor, next_at=next_at)
    known = data.firings.setdefault(name, {})
    for firing in firings:
        known.setdefault(firing.key, msgspec.structs.replace(firing, trigger=name))
