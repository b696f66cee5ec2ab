"""Who stands in a queue of this file, and who is let in? Looked up lane by lane, so that nobody hides others."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, Final

from stepwell.stores.admission import Held, choose
from stepwell.stores.sqlite.group import Group
from stepwell.stores.sqlite.session import Row, Session
from stepwell.stores.tables import Admission, Queue, QueueRow

PAGE: Final = 128

PATIENCE: Final = 256
"""After so many runs of closed keys the line is looked through key by key, however long it is."""

_BEFORE_ALL: Final = -(1 << 62)


def put(group: Group, queue: Queue) -> None:
    """Make a queue, or change its limits."""
    values = (
        queue.name,
        queue.concurrency,
        queue.concurrency_per_key,
        queue.rate,
        queue.rate_per_key,
        queue.period,
        int(queue.paused),
    )
    group.session.run("put_queue", values)
    group.prove(("queue", (queue.name,), values), sure=False)


def rows(session: Session) -> list[QueueRow]:
    """All queues that were put or have runs, by name."""
    put = {row[0]: _queue(row) for row in session.all("queues")}
    names = sorted(put.keys() | {row[0] for row in session.all("queues_of_runs")})
    return [
        QueueRow(
            put.get(name) or Queue(name=name),
            _number(session, "count_held", (name,)),
            _number(session, "count_under_way", (name,)),
        )
        for name in names
    ]


def admit(group: Group, name: str, *, now: int, limit: int) -> Admission:
    """Let runs of a queue in, as its limits allow."""
    session = group.session
    row = session.one("queue", (name,))
    queue = _queue(row) if row is not None else Queue(name=name)
    choice = choose(queue, _Line(session, queue, now), now=now, limit=limit)
    if not choice.numbers:
        return Admission((), choice.again_at)
    session.among("let_in", choice.numbers, head=(now, now))
    group.at("rows")
    group.rows_written += len(choice.numbers)
    group.prove(("let_in_at", (choice.numbers[0],), (now,)))
    ids: dict[int, str] = dict(session.among("run_ids", choice.numbers))
    return Admission(tuple(ids[number] for number in choice.numbers), choice.again_at)


class _Line:
    """The `Line` of one queue, in the open transaction."""

    def __init__(self, session: Session, queue: Queue, now: int) -> None:
        self._session = session
        self._name = queue.name
        self._has_keys = queue.concurrency_per_key is not None or queue.rate_per_key is not None
        self._now = now
        self._counts: dict[str, int] | None = None
        lanes = session.all("held_lanes", (queue.name, now))
        self._priorities = [priority for priority, first, _ in sorted(lanes, reverse=True) if first <= now]
        self._next_due = min((later for _, _, later in lanes if later is not None), default=None)

    def under_way(self, key: str | None) -> int:
        if key is None:
            return _number(self._session, "count_under_way", (self._name,))
        if self._counts is not None:
            return self._counts.get(key, 0)
        return _number(self._session, "count_under_way_of_key", (self._name, key))

    def newest(self, key: str | None, *, since: int, limit: int) -> list[int]:
        if key is None:
            rows = self._session.all("newest_let_in", (self._name, since, limit))
        else:
            rows = self._session.all("newest_let_in_of_key", (self._name, key, since, limit))
        return [row[0] for row in rows]

    def due(self, closed: Callable[[str], bool]) -> Iterator[Held]:
        """In order; when closed keys stand in front in numbers, key by key from there on."""
        in_vain = 0
        for run in self._in_lanes("held_in_lane"):
            yield run
            in_vain += self._has_keys and closed(run.key)
            if in_vain >= PATIENCE:
                yield from self._key_by_key(closed, run)
                return

    def awaited(self) -> Iterator[Held]:
        return self._in_lanes("awaited_in_lane")

    def stands_still(self, key: str | None) -> bool:
        if not self.under_way(key):
            return False
        if key is None:
            return self._session.one("moves", (self._name,)) is None
        return self._session.one("moves_of_key", (self._name, key)) is None

    def next_due(self) -> int | None:
        return self._next_due

    def _in_lanes(self, query: str) -> Iterator[Held]:
        for priority in self._priorities:
            yield from self._pages(query, (self._name, priority), -priority)

    def _key_by_key(self, closed: Callable[[str], bool], after: Held) -> Iterator[Held]:
        """What stands behind `after`, without the rest of closed keys."""
        self._counts = dict(self._session.all("counts_under_way", (self._name,)))
        heads: list[Held] = []
        lanes: dict[tuple[str, int], Iterator[Held]] = {}
        for priority, *values in self._session.all("held_lanes_of_keys", (self._name,)):
            first = _held(-priority, values)
            if first.held_until > self._now or first.behind < after.behind:
                continue
            if first > after:
                heads.append(first)
            elif not closed(first.key):
                lane = lanes[first.key, priority] = self._behind(after, first.key, priority)
                heads += [following for following in [next(lane, None)] if following is not None]
        heapq.heapify(heads)
        while heads:
            run = heapq.heappop(heads)
            yield run
            if not closed(run.key):
                lane = lanes.get((run.key, -run.behind)) or self._behind(run, run.key, -run.behind)
                lanes[run.key, -run.behind] = lane
                if (following := next(lane, None)) is not None:
                    heapq.heappush(heads, following)

    def _behind(self, run: Held, key: str, priority: int) -> Iterator[Held]:
        place = (run.held_until, run.number)
        return self._pages("held_in_lane_of_key", (self._name, key, priority), -priority, place)

    def _pages(
        self, query: str, lane: tuple[object, ...], behind: int, place: tuple[int, int] | None = None
    ) -> Iterator[Held]:
        """Who stands in a lane, or behind a place in it, given by time and number."""
        session = self._session
        while True:
            page = [] if place is None else session.all(f"{query}_at", (*lane, *place, PAGE))
            if len(page) < PAGE:
                after = _BEFORE_ALL if place is None else place[0]
                page += session.all(f"{query}_after", (*lane, after, self._now, PAGE - len(page)))
            if not page:
                return
            for values in page:
                yield _held(behind, values)
            place = page[-1][:2]


def _held(behind: int, values: Any) -> Held:  # columns as SQLite hands them over
    held_until, number, key, awaited = values
    return Held(behind, held_until, number, key, bool(awaited))


def _queue(row: Row) -> Queue:
    name, concurrency, concurrency_per_key, rate, rate_per_key, period, paused = row
    return Queue(
        name=name,
        concurrency=concurrency,
        concurrency_per_key=concurrency_per_key,
        rate=rate,
        rate_per_key=rate_per_key,
        period=period,
        paused=bool(paused),
    )


def _number(session: Session, query: str, values: tuple[object, ...]) -> int:
    row = session.one(query, values)
    assert row is not None
    return int(row[0])
