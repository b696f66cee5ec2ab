"""A store that ends with the process: what every store promises, stated as readably as it can be.

`MemoryStore` objects that share one `MemoryData` are clients of one store, as processes share a file. `abandon` is
what a dying process does to its store object, so that a crash is: abandon it, and open another on the same data.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from stepwell.errors import (
    CorruptJournal,
    Fenced,
    RunNotFound,
    StepwellBug,
    StepwellError,
    StoreBusy,
    StoreUnusable,
)
from stepwell.model.entries import AnyEntry
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.digests import digests_of
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
from stepwell.stores.rules import earliest, first_row, gives_up, refusal, wake_after

T = TypeVar("T")

Hook = Callable[[str], None]


@dataclass
class Driving:
    """Who drives. `alive` turns false when that process is known to have ended."""

    worker: str
    generation: int
    lease_until: int
    alive: bool = True


@dataclass
class MemoryData:
    """What a file holds for other stores. Runs stand in the order of their creation."""

    runs: dict[str, RunRow] = field(default_factory=dict)
    journals: dict[str, list[Stored]] = field(default_factory=dict)
    mailbox: dict[int, Message] = field(default_factory=dict)
    posted: set[tuple[str, str, str, str]] = field(default_factory=set)
    last_message: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    driving: Driving | None = None
    generations: int = 0
    changes: int = 0


def from_url(url: str) -> MemoryStore:
    """The store for `memory://`; each call gives an empty one of its own."""
    if url != "memory://":
        raise StoreUnusable(f"store {url!r}: a store in memory has no place; write memory://")
    return MemoryStore()


class MemoryStore:
    """A `Store` in memory. Its futures are done when they are returned."""

    def __init__(self, data: MemoryData | None = None, *, url: str = "memory://") -> None:
        self.url = url
        self.data = data if data is not None else MemoryData()
        self.inline_commits = True
        self._open = False
        self._mine: Driving | None = None
        self._own_changes = 0
        self._others_changes = 0
        self._hook: Hook | None = None

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
                self._put(msgspec.structs.replace(row, owner=None, wake_at=earliest(row.wake_at, now)))
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
            self._put(taken)
            claimed.append(Claimed(taken, tuple(self._mailbox_of(row.run_id))))
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
        self._row(run_id)
        return self.data.journals[run_id][after : after + max(0, limit)]

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

    async def messages(self, *, after: int, owner: str) -> list[Message]:
        """See `Store.messages`."""
        self._check()
        runs = self.data.runs
        return [m for m in self.data.mailbox.values() if m.id > after and runs[m.run_id].owner == owner]

    async def mailbox(self, run_id: str) -> list[Message]:
        """See `Store.mailbox`."""
        self._check()
        return self._mailbox_of(run_id)

    def changed(self) -> bool:
        """See `Store.changed`: whether another object on the same data committed."""
        self._check()
        others = self.data.changes - self._own_changes
        seen, self._others_changes = self._others_changes, others
        return others != seen

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
        return [row for row in newest if _matches(row, where)][offset : offset + max(0, where.limit)]

    async def count(self) -> dict[str, int]:
        """See `Store.count`."""
        self._check()
        return dict(Counter(row.status for row in self.data.runs.values()))

    # -- care ---------------------------------------------------------------------------------------------------
    async def delete(self, *, finished_before: int, limit: int = 500) -> int:
        """See `Store.delete`."""
        self._check()
        trees: dict[str, list[RunRow]] = {}
        for row in self.data.runs.values():
            trees.setdefault(row.root, []).append(row)
        gone: list[str] = []
        for tree in sorted(trees.values(), key=lambda rows: min(row.finished_at or 0 for row in rows)):
            if all(_ended_before(row, finished_before) for row in tree) and (
                len(gone) + len(tree) <= limit or not gone
            ):
                gone += [row.run_id for row in tree]
        for run_id in gone:
            del self.data.runs[run_id], self.data.journals[run_id]
        self.data.mailbox = {id: m for id, m in self.data.mailbox.items() if m.run_id in self.data.runs}
        self.data.posted = {post for post in self.data.posted if post[0] in self.data.runs}
        used = {d for journal in self.data.journals.values() for s in journal for d in digests_of(s.entry)}
        self.data.blobs = {digest: body for digest, body in self.data.blobs.items() if digest in used}
        if gone:
            self._changed()
        return len(gone)

    async def backup(self, to: Path) -> None:
        """Refused: there is no file to copy."""
        self._check()
        raise StoreUnusable(f"store {self.url} is in memory and cannot be written to {to}: use a SQLite file")

    async def check(self) -> list[Finding]:
        """See `Store.check`."""
        self._check()
        gaps = [
            row.run_id
            for row in self.data.runs.values()
            if [stored.seq for stored in self.data.journals[row.run_id]] != list(range(1, row.next_seq))
        ]
        return [
            Finding(True, "store", f"{self.url}: {len(self.data.runs)} runs"),
            Finding(not gaps, "journals", f"gaps in {', '.join(gaps)}" if gaps else "no gaps"),
        ]

    # -- the changes --------------------------------------------------------------------------------------------
    def _create(self, run: NewRun) -> RunRow:
        known = self.data.runs.get(run.run_id)
        if known is not None:
            return known
        if run.owner is not None and not self._drives(run.owner):
            raise Fenced(f"run {run.run_id}: worker {run.owner} does not drive store {self.url}")
        self._at("rows")
        self._add(run)
        self._changed()
        return self.data.runs[run.run_id]

    def _append(self, append: Append) -> None:
        row = self.data.runs.get(append.run_id)
        fence = (append.epoch, append.seq, self._mine.worker if self._mine is not None else None)
        if row is None or row.owner is None or (row.epoch, row.next_seq, row.owner) != fence:
            found = "gone" if row is None else f"at epoch {row.epoch}, seq {row.next_seq}, owner {row.owner}"
            raise Fenced(f"run {append.run_id} is {found}; an append under {fence} is refused: drop the run")
        strange = [
            id for id in append.consumed if (m := self.data.mailbox.get(id)) is None or m.run_id != append.run_id
        ]
        if strange:
            raise StepwellBug(f"run {append.run_id} consumes messages that are not in its mailbox: {strange}")
        for point in ("rows", "entries", "commit"):
            self._at(point)
        # Nothing below can fail: this is the transaction.
        self._put(
            msgspec.structs.replace(
                row,
                status=append.status,
                next_seq=append.seq + len(append.entries),
                updated_at=append.at,
                finished_at=append.finished_at,
                wake_at=wake_after(append),
                owner=None if gives_up(append) else row.owner,
                claims=0 if append.progress or gives_up(append) else row.claims,
            )
        )
        self._write(append.run_id, append.epoch, append.seq, append.entries, append.blobs)
        for id in append.consumed:
            del self.data.mailbox[id]
        for child in append.children:
            if child.run_id not in self.data.runs:
                self._add(child)
        for message in append.posts:
            try:
                self._put_message(message)
            except StepwellError:  # the addressee has ended or is gone: that must not stop the sender
                pass
        self._wake_if_unseen(append)
        self._changed()

    def _post(self, message: NewMessage) -> Message | None:
        posted = self._put_message(message)
        self._changed()
        return posted

    def _put_message(self, message: NewMessage) -> Message | None:
        row = self._row(message.run_id)
        identity = (message.run_id, message.kind, message.name, message.key)
        if message.key and identity in self.data.posted:
            return None
        if (error := refusal(message.kind, row.run_id, row.status)) is not None:
            raise error
        self._at("posted")
        self.data.last_message += 1
        posted = Message(
            self.data.last_message,
            message.run_id,
            message.kind,
            message.name,
            message.body,
            message.at,
            message.by,
        )
        self.data.mailbox[posted.id] = posted
        if message.key:
            self.data.posted.add(identity)
        if row.owner is None:
            self._put(msgspec.structs.replace(row, wake_at=earliest(row.wake_at, message.at)))
        return posted

    def _wake_if_unseen(self, append: Append) -> None:
        """A run given up while it has a message that its owner has not seen is due again: no lost wake-up."""
        row = self.data.runs[append.run_id]
        if (
            row.owner is None
            and row.status not in TERMINAL
            and any(message.id > append.seen for message in self._mailbox_of(append.run_id))
        ):
            self._put(msgspec.structs.replace(row, wake_at=earliest(row.wake_at, append.at)))

    # -- small parts --------------------------------------------------------------------------------------------
    def _add(self, run: NewRun) -> None:
        row = first_row(run)
        self._put(row)
        self.data.journals[run.run_id] = []
        self._write(run.run_id, row.epoch, 1, run.entries, run.blobs)

    def _write(
        self, run_id: str, epoch: int, seq: int, entries: Sequence[AnyEntry], blobs: Mapping[str, bytes]
    ) -> None:
        self.data.journals[run_id] += [Stored(seq + n, epoch, entry) for n, entry in enumerate(entries)]
        for digest, body in blobs.items():
            self.data.blobs.setdefault(digest, body)

    def _put(self, row: RunRow) -> None:
        self.data.runs[row.run_id] = row

    def _row(self, run_id: str) -> RunRow:
        try:
            return self.data.runs[run_id]
        except KeyError:
            raise RunNotFound(f"no run {run_id} in {self.url}") from None

    def _mailbox_of(self, run_id: str) -> list[Message]:
        return [message for message in self.data.mailbox.values() if message.run_id == run_id]

    def _wanted(self, workflows: Sequence[str]) -> list[RunRow]:
        names = frozenset(workflows)
        return [row for row in self.data.runs.values() if row.owner is None and row.workflow in names]

    def _drives(self, worker: str) -> bool:
        mine = self._mine
        return mine is not None and mine is self.data.driving and mine.worker == worker

    def _changed(self) -> None:
        self.data.changes += 1
        self._own_changes += 1

    def _at(self, point: str) -> None:
        if self._hook is not None:
            self._hook(point)

    def _check(self) -> None:
        if not self._open:
            raise StoreUnusable(f"store {self.url} is closed: open it first")

    def _done(self, change: Callable[[], T]) -> asyncio.Future[T]:
        self._check()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(change())
        except StepwellError as error:
            future.set_exception(error)
        return future


def _ended_before(row: RunRow, time: int) -> bool:
    # A retry that was posted has set wake_at: such a run is about to go on.
    ended = row.status in TERMINAL and row.wake_at is None
    return ended and row.finished_at is not None and row.finished_at < time


def _matches(row: RunRow, where: Filter) -> bool:
    search = _folded(where.search)
    return (
        (not where.status or row.status in where.status)
        and (not where.workflow or row.workflow == where.workflow)
        and (not where.root or row.root == where.root)
        and (not where.parent or row.parent == where.parent)
        and all(row.labels.get(key) == value for key, value in where.labels.items())
        and (search in _folded(row.run_id) or search in _folded(row.workflow))
        and (where.created_after is None or row.created_at > where.created_after)
        and (where.created_before is None or row.created_at < where.created_before)
    )


def _folded(text: str) -> bytes:
    """Without regard to the case of ASCII letters, which is all that SQLite can do."""
    return text.encode().lower()
