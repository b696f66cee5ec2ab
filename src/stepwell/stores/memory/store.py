"""A store that ends with the process: what every store promises, stated as readably as it can be.

`MemoryStore` objects that share one `MemoryData` are clients of one store, as processes share a file. `abandon` is
what a dying process does to its store object, so that a crash is: abandon it, and open another on the same data.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stepwell.errors import CorruptJournal, Fenced, StoreBusy, StoreUnusable
from stepwell.model.shelf import ShelfChange, Values
from stepwell.stores.definitions import Version
from stepwell.stores.memory import care, definitions, queues, shelf, triggers
from stepwell.stores.memory.changes import Changes, Hook
from stepwell.stores.memory.content import Driving, MemoryData
from stepwell.stores.protocol import (
    Append,
    Claimed,
    Filter,
    Finding,
    Message,
    NewMessage,
    NewRun,
    RunRow,
    Stored,
)
from stepwell.stores.rules import earliest
from stepwell.stores.shelves import Fence
from stepwell.stores.tables import (
    Admission,
    DefinitionRow,
    Event,
    Firing,
    NewDefinition,
    NewEvent,
    OpenKind,
    OpenWait,
    Queue,
    QueueRow,
    TriggerRow,
)

T = TypeVar("T")


def from_url(url: str) -> MemoryStore:
    """The store for `memory://`; each call gives an empty one of its own."""
    if url != "memory://":
        raise StoreUnusable(f"store {url!r}: a store in memory has no place; write memory://")
    return MemoryStore()


class MemoryStore(Changes):
    """A `Store` in memory. Its futures are done when they are returned."""

    def __init__(
        self, data: MemoryData | None = None, *, url: str = "memory://", is_shared: bool | None = None
    ) -> None:
        super().__init__(data if data is not None else MemoryData(), url)
        self.is_shared = data is not None if is_shared is None else is_shared
        self.inline_commits = True
        self._others_changes = 0

    # -- opening ------------------------------------------------------------------------------------------------
    async def open(self, *, create: bool = True) -> None:
        """Begin to be usable. There is always something here, so `create` does not matter."""
        if not self._open:
            self._open = True
            self._others_changes = self.data.changes - self._own_changes

    async def close(self) -> None:
        """Stop driving and being usable; the data stay for others."""
        self.abandon()

    def abandon(self) -> None:
        """End as a process that dies: owned runs keep their owner until another store object drives."""
        if self._mine is not None:
            self._mine.alive = False
        self._mine = None
        self._open = False

    def fault(self, hook: Hook | None) -> None:
        """Have `hook` called with the name of each point inside a transaction, which what it raises undoes."""
        self._hook = hook

    # -- driving ------------------------------------------------------------------------------------------------
    async def drive(self, worker: str, *, now: int, lease: int) -> None:
        """See `Store.drive`. One object drives at a time."""
        self._check()
        current = self.data.driving
        if current is not None and current is self._mine:
            current.lease_until = now + lease
            return
        if current is not None and current.alive and current.lease_until > now:
            raise StoreBusy(
                f"store {self.url} is driven by worker {current.worker} of this process: close that one first"
            )
        self.data.generations += 1
        self._mine = self.data.driving = Driving(worker, self.data.generations, now + lease)
        for row in list(self.data.runs.values()):
            if row.owner is not None:
                self.data.put(msgspec.structs.replace(row, owner=None, wake_at=earliest(row.wake_at, now)))
        self._changed()

    async def renew(self, worker: str, *, now: int, lease: int) -> bool:
        """See `Store.renew`."""
        self._check()
        if not self._drives(worker):
            self._mine = None
            return False
        assert self._mine is not None
        self._mine.lease_until = now + lease
        return True

    async def claim(self, worker: str, *, workflows: Sequence[str], now: int, limit: int) -> list[Claimed]:
        """See `Store.claim`."""
        self._check()
        if not self._drives(worker):
            raise Fenced(f"worker {worker} does not drive store {self.url}: claim nothing, drive it first")
        due = [row for row in self._wanted(workflows) if row.wake_at is not None and row.wake_at <= now]
        due.sort(key=lambda row: (-row.priority, row.wake_at or 0))
        claimed = []
        for row in due[: max(0, limit)]:
            taken = msgspec.structs.replace(row, owner=worker, epoch=row.epoch + 1, claims=row.claims + 1, wake_at=None)
            self.data.put(taken)
            claimed.append(Claimed(taken, tuple(self.data.mailbox_of(row.run_id))))
        if claimed:
            self._changed()
        return claimed

    async def next_wake(self, *, workflows: Sequence[str]) -> int | None:
        """See `Store.next_wake`."""
        self._check()
        return min((row.wake_at for row in self._wanted(workflows) if row.wake_at is not None), default=None)

    # -- journal ------------------------------------------------------------------------------------------------
    def create(self, run: NewRun) -> asyncio.Future[RunRow]:
        """See `Store.create`."""
        return self._done(lambda: self._create(run))

    def append(self, append: Append) -> asyncio.Future[None]:
        """See `Store.append`."""
        return self._done(lambda: self._append(append))

    async def read(self, run_id: str, *, after: int = 0, limit: int = 1_000_000) -> list[Stored]:
        """See `Store.read`."""
        self._check()
        self.data.row(run_id, self.url)
        return self.data.journals[run_id][after : after + max(0, limit)]

    async def read_many(self, run_ids: Sequence[str], *, limit: int) -> dict[str, list[Stored]]:
        """See `Store.read_many`."""
        self._check()
        journals = self.data.journals
        return {run_id: journals[run_id][: max(0, limit)] for run_id in run_ids if run_id in self.data.runs}

    async def blob(self, digest: str) -> bytes:
        """See `Store.blob`."""
        self._check()
        if digest not in self.data.blobs:
            raise CorruptJournal(f"store {self.url}: the payload {digest} is missing")
        return self.data.blobs[digest]

    # -- mailbox ------------------------------------------------------------------------------------------------
    def post(self, message: NewMessage) -> asyncio.Future[Message | None]:
        """See `Store.post`."""
        return self._done(lambda: self._post(message))

    def transact(
        self, run_id: str, epoch: int, work: Callable[[Any], NewMessage]
    ) -> asyncio.Future[Message]:  # Any: a sqlite3.Connection, guarded
        """See `Store.transact`. The database is one of SQLite, in memory, that lives as long as the data."""
        return self._done(lambda: self._transact(run_id, epoch, work), fails_with=Exception)

    async def messages(self, *, after: int, owner: str) -> list[Message]:
        """See `Store.messages`."""
        self._check()
        runs = self.data.runs
        return [m for m in self.data.mailbox.values() if m.id > after and runs[m.run_id].owner == owner]

    async def mailbox(self, run_id: str) -> list[Message]:
        """See `Store.mailbox`."""
        self._check()
        return self.data.mailbox_of(run_id)

    def changed(self) -> bool:
        """See `Store.changed`: whether another object on the same data committed."""
        self._check()
        others = self.data.changes - self._own_changes
        seen, self._others_changes = self._others_changes, others
        return others != seen

    # -- events and open waits ----------------------------------------------------------------------------------
    def publish(self, event: NewEvent) -> asyncio.Future[Event | None]:
        """See `Store.publish`."""
        return self._done(lambda: self._publish(event))

    async def events(
        self, *, after: int = 0, topic: str | None = None, since: int = 0, limit: int = 1000
    ) -> list[Event]:
        """See `Store.events`."""
        self._check()
        found = [
            event
            for event in self.data.events.values()
            if event.position > after and event.at >= since and topic in (None, event.topic)
        ]
        return found[: max(0, limit)]

    async def last_event(self) -> int:
        """See `Store.last_event`."""
        self._check()
        return self.data.last_event

    async def forget_events(self, *, before: int) -> int:
        """See `Store.forget_events`."""
        self._check()
        gone = [event for event in self.data.events.values() if event.at < before]
        for event in gone:
            del self.data.events[event.position]
            self.data.published.discard((event.source, event.id))
        if gone:
            self._changed()
        return len(gone)

    async def open_waits(
        self, kind: OpenKind, *, id: str = "", run_id: str = "", name: str = "", limit: int = 1000, offset: int = 0
    ) -> list[OpenWait]:
        """See `Store.open_waits`."""
        self._check()
        found = [
            wait
            for wait in self.data.waits.values()
            if wait.kind == kind and id in ("", wait.id) and run_id in ("", wait.run_id) and name in ("", wait.name)
        ]
        found.sort(key=lambda wait: wait.at)  # stable: opened first among equals
        return found[max(0, offset) :][: max(0, limit)]

    # -- queues -------------------------------------------------------------------------------------------------
    async def put_queue(self, queue: Queue) -> None:
        """See `Store.put_queue`."""
        self._check()
        self.data.queues[queue.name] = queue
        self._changed()

    async def queues(self) -> list[QueueRow]:
        """See `Store.queues`."""
        self._check()
        return queues.rows(self.data)

    async def admit(self, name: str, *, now: int, limit: int = 1000) -> Admission:
        """See `Store.admit`."""
        self._check()
        admission = queues.admit(self.data, name, now=now, limit=limit, at=self._at)
        if admission.admitted:
            self._changed()
        return admission

    # -- triggers -----------------------------------------------------------------------------------------------
    async def put_trigger(self, trigger: TriggerRow) -> None:
        """See `Store.put_trigger`."""
        self._check()
        triggers.put(self.data, trigger)
        self._changed()

    async def triggers(self) -> list[TriggerRow]:
        """See `Store.triggers`."""
        self._check()
        return [self.data.triggers[name] for name in sorted(self.data.triggers)]

    async def remove_trigger(self, name: str) -> bool:
        """See `Store.remove_trigger`."""
        self._check()
        removed = triggers.remove(self.data, name)
        if removed:
            self._changed()
        return removed

    async def advance(
        self,
        name: str,
        *,
        seen: int,
        cursor: int,
        next_at: int | None,
        firings: Sequence[Firing] = (),
        runs: Sequence[NewRun] = (),
    ) -> bool:
        """See `Store.advance`."""
        self._check()
        if not triggers.is_at(self.data, name, seen):
            return False
        for run in runs:
            self._check_owner(run)
        for point in ("rows", "commit"):
            self._at(point)
        triggers.move(self.data, name, cursor=cursor, next_at=next_at, firings=firings)
        for run in runs:
            self._add_if_free(run)
        self._changed()
        return True

    async def firings(self, name: str, *, limit: int = 100) -> list[Firing]:
        """See `Store.firings`."""
        self._check()
        return list(reversed(self.data.firings.get(name, {}).values()))[: max(0, limit)]

    # -- definitions and kept outputs ---------------------------------------------------------------------------
    async def put_definition(
        self, definition: NewDefinition, *, activate: bool = False, move_label: bool = False
    ) -> bool:
        """See `Store.put_definition`."""
        self._check()
        is_new = definitions.put(self.data, definition, activate=activate, move_label=move_label, at=self._at)
        self._changed()
        return is_new

    async def definition(self, name: str, version: str = "") -> DefinitionRow | None:
        """See `Store.definition`."""
        self._check()
        return definitions.find(self.data, name, version)

    async def definitions(self, name: str = "") -> list[DefinitionRow]:
        """See `Store.definitions`."""
        self._check()
        return definitions.rows(self.data, name)

    async def set_active(self, name: str, digest: str) -> bool:
        """See `Store.set_active`."""
        self._check()
        done = definitions.activate(self.data, name, digest)
        if done:
            self._changed()
        return done

    async def drop_definitions(self, versions: Sequence[Version], *, put_before: int) -> list[Version]:
        """See `Store.drop_definitions`."""
        self._check()
        gone = definitions.droppable(self.data, versions, put_before=put_before)
        if gone:
            for point in ("rows", "commit"):
                self._at(point)
            definitions.drop(self.data, gone)
            self._changed()
        return gone

    async def cached(self, key: str, *, now: int) -> bytes | None:
        """See `Store.cached`."""
        self._check()
        kept = self.data.cached.get(key)
        return None if kept is None or kept.expired(now) else kept.payload

    async def put_cached(self, key: str, payload: bytes, *, at: int, expires_at: int | None = None) -> None:
        """See `Store.put_cached`."""
        self._check()
        for point in ("rows", "commit"):
            self._at(point)
        definitions.put_cached(self.data, key, payload, at=at, expires_at=expires_at)
        self._changed()

    async def forget_cached(self, *, before: int) -> int:
        """See `Store.forget_cached`."""
        self._check()
        gone = definitions.forget_cached(self.data, before=before)
        if gone:
            self._changed()
        return gone

    # -- shelves ------------------------------------------------------------------------------------------------
    def shelve(self, changes: Sequence[ShelfChange], *, fence: Fence | None = None) -> asyncio.Future[None]:
        """See `Store.shelve`."""
        return self._done(lambda: self._shelve(changes, fence))

    async def shelved(self, owner: str, prefix: str, *, last_first: bool = False, limit: int = 1_000_000) -> Values:
        """See `Store.shelved`."""
        self._check()
        return shelf.find(self.data, owner, prefix, last_first, limit)

    async def shelved_at(self, owner: str, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Store.shelved_at`."""
        self._check()
        values = self.data.shelf.get(owner, {})
        return {key: values[key] for key in keys if key in values}

    async def shelf_owners(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store.shelf_owners`."""
        self._check()
        return sorted(owner for owner in self.data.shelf if owner > after)[: max(0, limit)]

    # -- index --------------------------------------------------------------------------------------------------
    async def get(self, run_id: str) -> RunRow | None:
        """See `Store.get`."""
        self._check()
        return self.data.runs.get(run_id)

    async def find(self, where: Filter) -> list[RunRow]:
        """See `Store.find`."""
        self._check()
        newest = list(reversed(self.data.runs.values()))
        newest.sort(key=lambda row: -row.created_at)  # stable: later created first among equals
        offset = max(0, where.offset)
        return [row for row in newest if care.matches(row, where)][offset : offset + max(0, where.limit)]

    async def count(self) -> dict[str, int]:
        """See `Store.count`."""
        self._check()
        return dict(Counter(row.status for row in self.data.runs.values()))

    # -- care ---------------------------------------------------------------------------------------------------
    async def delete(self, *, finished_before: int, limit: int = 500) -> int:
        """See `Store.delete`."""
        self._check()
        gone = care.delete(self.data, finished_before=finished_before, limit=limit)
        if gone:
            self._changed()
        return gone

    async def backup(self, to: Path) -> None:
        """Refused: there is no file to copy."""
        self._check()
        raise StoreUnusable(f"store {self.url} is in memory and cannot be written to {to}: use a SQLite file")

    async def check(self) -> list[Finding]:
        """See `Store.check`."""
        self._check()
        return care.check(self.data, self.url)
