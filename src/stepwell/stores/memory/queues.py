"""Who stands in a queue in memory, and what becomes of those who are let in?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.admission import Held, choose
from stepwell.stores.memory.content import MemoryData
from stepwell.stores.protocol import RunRow
from stepwell.stores.tables import Admission, Queue, QueueRow


def admit(data: MemoryData, name: str, *, now: int, limit: int, at: Callable[[str], None]) -> Admission:
    """Let runs of a queue in, as its limits allow. `at` is called before the first one is."""
    queue = data.queues.get(name) or Queue(name=name)
    choice = choose(queue, MemoryLine(data, name, now), now=now, limit=limit)
    by_number = {data.terms[row.run_id].number: row for row in data.runs.values() if is_held(row)}
    if choice.numbers:
        at("rows")
    for number in choice.numbers:
        row = by_number[number]
        data.terms[row.run_id].let_in_at = now
        data.put(msgspec.structs.replace(row, held_until=None, wake_at=now))
    return Admission(tuple(by_number[number].run_id for number in choice.numbers), choice.again_at)


def rows(data: MemoryData) -> list[QueueRow]:
    """All queues that were put or have runs, by name."""
    waiting = Counter(row.queue for row in data.runs.values() if is_held(row))
    active = Counter(row.queue for row in data.runs.values() if is_under_way(row))
    names = sorted(set(data.queues) | {row.queue for row in data.runs.values() if row.queue})
    return [QueueRow(data.queues.get(name) or Queue(name=name), waiting[name], active[name]) for name in names]


def is_held(row: RunRow) -> bool:
    """Whether the run waits in its queue, and is not about to be cancelled."""
    return row.held_until is not None and row.owner is None and row.wake_at is None


def is_under_way(row: RunRow) -> bool:
    """Whether the run was let into its queue and has not ended."""
    return bool(row.queue) and row.held_until is None and row.status not in TERMINAL


class MemoryLine:
    """The `Line` of one queue."""

    def __init__(self, data: MemoryData, name: str, now: int) -> None:
        self._data = data
        self._name = name
        self._now = now

    def under_way(self, key: str | None) -> int:
        return len(self._under_way(key))

    def newest(self, key: str | None, *, since: int, limit: int) -> list[int]:
        times = [
            terms.let_in_at
            for row in self._data.runs.values()
            if row.queue == self._name and key in (None, row.queue_key)
            if (terms := self._data.terms[row.run_id]).let_in_at is not None and terms.let_in_at > since
        ]
        return sorted(times, reverse=True)[:limit]

    def due(self, closed: Callable[[str], bool]) -> Iterator[Held]:
        return iter(self._due())

    def awaited(self) -> Iterator[Held]:
        return iter([run for run in self._due() if run.awaited])

    def stands_still(self, key: str | None) -> bool:
        parents = {
            row.parent
            for row in self._data.runs.values()
            if row.parent and row.status not in TERMINAL and self._data.terms[row.run_id].awaited
        }
        under_way = self._under_way(key)
        return bool(under_way) and all(row.status == "waiting" and row.run_id in parents for row in under_way)

    def next_due(self) -> int | None:
        return min((at for row in self._held() if (at := row.held_until or 0) > self._now), default=None)

    def _held(self) -> list[RunRow]:
        return [row for row in self._data.runs.values() if row.queue == self._name and is_held(row)]

    def _due(self) -> list[Held]:
        held = [row for row in self._held() if (row.held_until or 0) <= self._now]
        terms = self._data.terms
        return sorted(
            Held(-row.priority, row.held_until or 0, terms[row.run_id].number, row.queue_key, terms[row.run_id].awaited)
            for row in held
        )

    def _under_way(self, key: str | None) -> list[RunRow]:
        return [
            row
            for row in self._data.runs.values()
            if row.queue == self._name and is_under_way(row) and key in (None, row.queue_key)
        ]
