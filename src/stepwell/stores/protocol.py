"""What every store promises. `memory` states it readably, `sqlite` keeps it on disk, the conformance suite checks both.

A store keeps, per run, one *row* (small, for lists and claims), one *journal* (entries by `seq` from 1, append
only) and one *mailbox* (what others want of the run). Rules that every method keeps:

* One call is one transaction: all of it or nothing, durable before the returned future is done.
* Only the owner of a run appends, under the `epoch` of its claim and at exactly the next `seq`.
* Everybody else posts to the mailbox; a message is consumed in the transaction that appends what it caused.
* An unknown outcome (the process cannot tell whether a commit reached the disk) is resolved inside the store by
  reading back; a caller only ever sees done, or an error after which nothing was written.
* Errors are those of `stepwell.errors`: `StoreFull` and other `retryable` ones may be offered again unchanged.

Times are `Micros`. Methods that return `asyncio.Future` may be called from loop callbacks; they must be called on
the loop that opened the store and complete on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from stepwell.model.entries import AnyEntry
from stepwell.model.lifecycle import Status

MessageKind: TypeAlias = Literal["signal", "pause", "resume", "cancel", "retry", "again", "child", "state"]
"""`child` tells a parent how its child ended; `again` asks a child for that, from a parent that is retried."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An entry as it stands in a journal. `epoch` tells which claim wrote it (0: before any claim)."""

    seq: int
    epoch: int
    entry: AnyEntry


class RunRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The row of a run: what lists and claims need, no payloads.

    `next_seq` is the seq of the next entry; `wake_at` is when the run wants to be driven (None: not before a
    message arrives); `owner` is the worker that drives it, under `epoch`; `claims` counts claims since the
    run last made progress or was given up in good order; `input_hash` is the hex content hash of the input, for
    idempotent starts.
    """

    run_id: str
    workflow: str
    version: str
    status: Status
    root: str
    parent: str | None
    priority: int
    labels: dict[str, str]
    created_at: int
    updated_at: int
    finished_at: int | None
    next_seq: int
    epoch: int
    owner: str | None
    wake_at: int | None
    claims: int
    input_hash: str


class NewRun(msgspec.Struct, frozen=True):
    """A run to create, with the entries that begin its journal (the first is `run.created`).

    With `owner` the run belongs to that worker at once (epoch 1, not claimable by others); without, it is
    claimable from `wake_at` on (epoch 0).
    """

    run_id: str
    workflow: str
    version: str
    root: str
    parent: str | None
    priority: int
    labels: dict[str, str]
    input_hash: str
    created_at: int
    wake_at: int
    entries: tuple[AnyEntry, ...]
    owner: str | None = None
    blobs: Mapping[str, bytes] = {}


class NewMessage(msgspec.Struct, frozen=True):
    """Something addressed to one run. `name` is the signal's name, or for `child` the readable step path.

    `key`, when not empty, makes the post idempotent: a second message of the same run, kind, name and key is not
    stored again, even after the first was consumed. `body` is JSON.
    """

    run_id: str
    kind: MessageKind
    name: str
    body: bytes
    at: int
    key: str = ""
    by: str = ""


class Message(msgspec.Struct, frozen=True):
    """A message in a mailbox; `id` grows with every post to this store."""

    id: int
    run_id: str
    kind: MessageKind
    name: str
    body: bytes
    at: int
    by: str = ""


class Append(msgspec.Struct, frozen=True):
    """The only way a journal grows: entries, and all that goes with them, in one transaction.

    Fenced by `(run_id, epoch, seq)`: the run must be owned by this worker under this epoch, and `seq` must be its
    `next_seq`; the entries take `seq`, `seq + 1`, …. `status`, `wake_at` and `finished_at` are the row's new values;
    `release` gives the run up (owner becomes None; it is claimable again at `wake_at` or when a message comes);
    when the mailbox then holds an unconsumed message with `id > seen`, `wake_at` becomes `at`: it came while the
    run was on its way out and its driver does not know of it.
    `progress` is False when the entries only start again what a crash cut off: the row's `claims` then stay as they
    are, so that a run that kills every worker which takes it is seen. True, also without entries, sets them to 0.
    `consumed` are ids of this run's messages; `children` are created (one whose id exists already is left alone);
    `posts` go to other runs' mailboxes, and are dropped when those runs are gone or have ended; `blobs` maps content
    hash to bytes. Entries may be empty.
    """

    run_id: str
    epoch: int
    seq: int
    entries: Sequence[AnyEntry]
    status: Status
    wake_at: int | None
    at: int
    finished_at: int | None = None
    release: bool = False
    progress: bool = True
    seen: int = 0
    consumed: tuple[int, ...] = ()
    children: tuple[NewRun, ...] = ()
    posts: tuple[NewMessage, ...] = ()
    blobs: Mapping[str, bytes] = {}


class Claimed(msgspec.Struct, frozen=True):
    """A run that now belongs to the claiming worker under `row.epoch`, with its unconsumed messages in order."""

    row: RunRow
    messages: tuple[Message, ...]


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which runs a list shows, newest first. Empty fields do not filter; `search` matches part of id or workflow."""

    status: tuple[str, ...] = ()
    workflow: str = ""
    root: str = ""
    parent: str = ""
    labels: dict[str, str] = {}
    search: str = ""
    created_after: int | None = None
    created_before: int | None = None
    limit: int = 100
    offset: int = 0


class Finding(msgspec.Struct, frozen=True):
    """One line of a check: `ok` says whether it holds, `what` names what was looked at, `detail` what was found."""

    ok: bool
    what: str
    detail: str


class Store(Protocol):
    """The store of one engine, and of any number of clients."""

    url: str
    inline_commits: bool
    """A hint that nothing else is going on in the process, so that `append` may commit before it returns."""

    # -- opening ------------------------------------------------------------------------------------------------
    async def open(self, *, create: bool = True) -> None:
        """Make the store usable on the running loop; migrate an older one under its lock.

        Idempotent. Raises `StoreUnusable` when the place holds something else (a folder, another program's file), a
        newer schema, cannot be read, or does not exist and `create` is false.
        """

    async def close(self) -> None:
        """Finish what was accepted, give up driving if this store object drives, free all. Idempotent."""

    # -- driving ------------------------------------------------------------------------------------------------
    async def drive(self, worker: str, *, now: int, lease: int) -> None:
        """Make this store object the one that may own runs, as `worker`, until `now + lease`.

        Runs owned by workers that are gone (their process ended, or their lease passed) become claimable at once:
        owner None, wake_at at most `now`, and their old epochs are refused from the next claim on. On a store that
        allows one driver, raises `StoreBusy` naming the live driver and changes nothing.
        """

    async def renew(self, worker: str, *, now: int, lease: int) -> bool:
        """Extend the lease of `drive` to `now + lease`; False when the right to drive is lost (another drives)."""

    async def claim(self, worker: str, *, workflows: Sequence[str], now: int, limit: int) -> list[Claimed]:
        """Take up to `limit` runs that want to be driven: owner None, workflow in `workflows`, `wake_at <= now`.

        Highest priority first, then earliest wake_at. Each gets owner = worker, epoch + 1, claims + 1, wake_at None.
        Runs `worker` owns in the store already are not returned again. Empty when there is nothing to do.
        """

    async def next_wake(self, *, workflows: Sequence[str]) -> int | None:
        """The earliest `wake_at` of an unowned run of these workflows; None when nothing is scheduled."""

    # -- journal ------------------------------------------------------------------------------------------------
    def create(self, run: NewRun) -> asyncio.Future[RunRow]:
        """Create a run; if its id exists, change nothing and return the row that is there (the caller compares)."""

    def append(self, append: Append) -> asyncio.Future[None]:
        """Commit an `Append`. Appends of one run commit in call order; calls may be made before earlier ones end.

        Raises `Fenced` (nothing written) when owner, epoch or seq do not match, `StoreFull` when there is no room.
        When a run's status becomes terminal its `wake_at` is None and it is unowned.
        """

    async def read(self, run_id: str, *, after: int = 0, limit: int = 1_000_000) -> list[Stored]:
        """Entries with `seq > after`, in order. Raises `RunNotFound`, and `CorruptJournal` naming the seq."""

    async def blob(self, digest: str) -> bytes:
        """The payload with this content hash. Raises `CorruptJournal` when it is missing or altered."""

    # -- mailbox ------------------------------------------------------------------------------------------------
    def post(self, message: NewMessage) -> asyncio.Future[Message | None]:
        """Put a message into a run's mailbox; None when `key` says that it was posted before.

        The run's row is locked first, so that no wake-up is lost: an unowned run's wake_at becomes at most
        `message.at`. Any client may post, driver or not. A `signal` is refused with `WrongStatus` when the run has
        ended, `retry` when it has not failed or been cancelled, `again` never, the other kinds when it has ended; a
        `resume` is refused unless the run is paused or stuck. Raises `RunNotFound`.
        """

    async def messages(self, *, after: int, owner: str) -> list[Message]:
        """Unconsumed messages with `id > after` of runs owned by `owner`, by id."""

    async def mailbox(self, run_id: str) -> list[Message]:
        """A run's unconsumed messages, by id."""

    def changed(self) -> bool:
        """Whether another process may have committed since the last call; cheap, for polling. May say yes too often."""

    # -- index --------------------------------------------------------------------------------------------------
    async def get(self, run_id: str) -> RunRow | None:
        """The run's row, or None."""

    async def find(self, where: Filter) -> list[RunRow]:
        """Rows that match, newest first (created_at, then creation order, descending)."""

    async def count(self) -> dict[str, int]:
        """How many runs have each status; statuses with none are absent."""

    # -- care ---------------------------------------------------------------------------------------------------
    async def delete(self, *, finished_before: int, limit: int = 500) -> int:
        """Delete up to `limit` ended runs whose tree has ended before this time, whole; returns how many.

        Blobs that no entry refers to any more go with them.
        """

    async def backup(self, to: Path) -> None:
        """Write a consistent copy while work goes on. Raises `StoreUnusable` when `to` exists or cannot be written."""

    async def check(self) -> list[Finding]:
        """Look the store over: file, schema, room, checksums, gaps. Never raises for what it finds."""
