"""What does a store in memory hold? The tables of a file, as dictionaries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from stepwell.errors import RunNotFound
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Message, NewRun, RunRow, Stored
from stepwell.stores.rules import earliest, keeps_key
from stepwell.stores.tables import DefinitionRow, Event, Firing, NewEvent, OpenWait, Queue, TriggerRow

Identity: TypeAlias = tuple[str, str, str, str]
"""Run, kind, name and key of a message that is posted once."""


@dataclass
class Driving:
    """Who drives. `alive` turns false when that process is known to have ended."""

    worker: str
    generation: int
    lease_until: int
    alive: bool = True


@dataclass
class Terms:
    """What a run was started under, beyond its row. `number` is the order of creation."""

    number: int
    awaited: bool
    unique: str
    unique_until: str
    let_in_at: int | None


@dataclass
class Kept:
    """An output that is kept for other runs."""

    payload: bytes
    at: int
    expires_at: int | None

    def expired(self, now: int) -> bool:
        """Whether it has expired by now."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass
class MemoryData:
    """What a file holds for other stores. Runs stand in the order of their creation."""

    runs: dict[str, RunRow] = field(default_factory=dict)
    terms: dict[str, Terms] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    last_run: int = 0
    journals: dict[str, list[Stored]] = field(default_factory=dict)
    mailbox: dict[int, Message] = field(default_factory=dict)
    posted: dict[Identity, Message] = field(default_factory=dict)
    last_message: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    waits: dict[str, OpenWait] = field(default_factory=dict)
    events: dict[int, Event] = field(default_factory=dict)
    published: set[tuple[str, str]] = field(default_factory=set)
    last_event: int = 0
    queues: dict[str, Queue] = field(default_factory=dict)
    triggers: dict[str, TriggerRow] = field(default_factory=dict)
    firings: dict[str, dict[str, Firing]] = field(default_factory=dict)
    definitions: dict[tuple[str, str], DefinitionRow] = field(default_factory=dict)
    labels: dict[tuple[str, str], str] = field(default_factory=dict)
    active: dict[str, str] = field(default_factory=dict)
    cached: dict[str, Kept] = field(default_factory=dict)
    shelf: dict[str, dict[str, bytes]] = field(default_factory=dict)
    driving: Driving | None = None
    generations: int = 0
    changes: int = 0
    database: sqlite3.Connection | None = None
    """What transactional tasks write to; made when the first one runs."""

    def put(self, row: RunRow) -> None:
        """Replace a run's row."""
        self.runs[row.run_id] = row

    def row(self, run_id: str, url: str) -> RunRow:
        """A run's row. Raises `RunNotFound`."""
        try:
            return self.runs[run_id]
        except KeyError:
            raise RunNotFound(f"no run {run_id} in {url}") from None

    def mailbox_of(self, run_id: str) -> list[Message]:
        """A run's unconsumed messages, by id."""
        return [message for message in self.mailbox.values() if message.run_id == run_id]

    def wake(self, row: RunRow, at: int) -> None:
        """Let a run want to be driven at this time, if not earlier anyway."""
        self.put(msgspec.structs.replace(row, wake_at=earliest(row.wake_at, at)))

    # -- unique keys --------------------------------------------------------------------------------------------
    def holder(self, new: NewRun) -> RunRow | None:
        """The run that keeps the new one's unique key from it."""
        if not new.unique:
            return None
        return next((row for row in self._holders(new.unique) if row.run_id != new.run_id), None)

    def free_key(self, unique: str) -> None:
        """Take a unique key from whoever has it."""
        for run_id in self.keys.pop(unique, ()):
            self.terms[run_id].unique = ""

    def _holders(self, unique: str) -> Iterator[RunRow]:
        for run_id in self.keys.get(unique, ()):
            row = self.runs[run_id]
            if keeps_key(row.status, self.terms[run_id].unique_until):
                yield row

    # -- open waits and events ----------------------------------------------------------------------------------
    def publish(self, new: NewEvent) -> Event | None:
        """Store an event, and wake who waits for its topic; None when it is there already."""
        if (new.source, new.id) in self.published:
            return None
        self.last_event += 1
        event = Event(self.last_event, new.topic, new.source, new.id, new.body, new.at, new.transient)
        self.events[event.position] = event
        self.published.add((new.source, new.id))
        for run_id in {wait.run_id for wait in self.waits.values() if wait.kind == "event" and wait.name == new.topic}:
            row = self.runs[run_id]
            if row.owner is None and row.held_until is None and row.status not in TERMINAL:
                self.wake(row, new.at)
        return event

    def close_waits_of(self, run_id: str) -> None:
        """A run that has ended, or is gone, has no open waits."""
        for wait in [wait for wait in self.waits.values() if wait.run_id == run_id]:
            del self.waits[wait.id]

    def remove_run(self, run_id: str) -> None:
        """Forget a run whole, all but its blobs."""
        terms = self.terms.pop(run_id)
        if terms.unique and terms.unique in self.keys:
            self.keys[terms.unique].remove(run_id)
        self.close_waits_of(run_id)
        self.shelf.pop(run_id, None)
        del self.runs[run_id], self.journals[run_id]
