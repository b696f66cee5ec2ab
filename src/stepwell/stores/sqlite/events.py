"""How are events published and read? Each once by source and id, in the order of commits, waking who waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepwell.stores.sqlite.session import Row, Session
from stepwell.stores.tables import Event, NewEvent

if TYPE_CHECKING:
    from stepwell.stores.sqlite.group import Group


def store(session: Session, news: Sequence[NewEvent]) -> list[Event | None]:
    """Store events within the open transaction, and wake the unowned runs that wait for their topics."""
    known = set(session.matching("events_known", [(new.source, new.id) for new in news]))
    position = last(session)
    stored: list[Event | None] = []
    rows: list[tuple[object, ...]] = []
    wakes: dict[str, int] = {}
    for new in news:
        if (new.source, new.id) in known:
            stored.append(None)
            continue
        known.add((new.source, new.id))
        position += 1
        stored.append(Event(position, new.topic, new.source, new.id, new.body, new.at, new.transient))
        rows.append((position, new.topic, new.source, new.id, new.body, new.at, new.transient))
        wakes[new.topic] = min(new.at, wakes.get(new.topic, new.at))
    if rows:
        session.insert("insert_events", rows)
    for topic, at in wakes.items():
        session.run("wake_subscribers", (at, at, topic))
    return stored


def last(session: Session) -> int:
    """The position of the last event that was ever published."""
    row = session.one("last_event")
    assert row is not None
    return int(row[0])


def read(session: Session, *, after: int, topic: str | None, since: int, limit: int) -> list[Event]:
    """Events by position."""
    if topic is None:
        rows = session.all("events", (after, since, max(0, limit)))
    else:
        rows = session.all("events_of_topic", (topic, after, since, max(0, limit)))
    return [_event(row) for row in rows]


def forget(group: Group, *, before: int) -> int:
    """Delete events published before this time; how many."""
    count = group.session.run("forget_events", (before,))
    group.rows_written += count
    if count:
        group.prove(("any_event_before", (before,), (0,)))
    return count


def _event(row: Row) -> Event:
    position, topic, source, id, body, at, transient = row
    return Event(position, topic, source, id, body, at, bool(transient))
