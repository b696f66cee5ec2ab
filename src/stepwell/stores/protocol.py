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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from stepwell.model.entries import AnyEntry
from stepwell.model.lifecycle import Status
from stepwell.stores.definitions import Definitions
from stepwell.stores.shelves import Shelves
from stepwell.stores.tables import (
    Admission,
    Event,
    Firing,
    NewEvent,
    OpenKind,
    OpenWait,
    Queue,
    QueueRow,
    TriggerRow,
)

MessageKind: TypeAlias = Literal[
    "signal",
    "pause",
    "resume",
    "cancel",
    "retry",
    "again",
    "child",
    "state",
    "answer",
    "withdraw",
    "reassign",
    "upgrade",
    "patch",
    "outcome",
    "input",
]
"""What a message is. `child` tells a parent how its child ended; `again` asks a child for that, from a parent that is
retried. `answer`, `withdraw` and `reassign` are about the open wait whose id is the message's name. `outcome` is how
a transactional step ended. `input` replaces the input of a run that has not begun."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An entry as it stands in a journal. `epoch` tells which claim wrote it (0: before any claim)."""

    seq: int
    epoch: int
    entry: AnyEntry


class RunRow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The row of a run: what lists and claims need, no payloads.

    `next_seq` is the seq of the next entry; `wake_at` is when the run wants to be driven (None: not before a
    message arrives); `owner` is the worker that drives it, under `epoch`; `claims` counts claims since the
    run last made progress or was given up in good order; `input_hash` is the hex content hash of the input, for
    idempotent starts. `held_until` is set while the run waits in its queue to be let in, not before that time; such a
    run is not claimable (except to be cancelled).
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
    queue: str = ""
    queue_key: str = ""
    held_until: int | None = None


class NewRun(msgspec.Struct, frozen=True, gc=False):
    """A run to create, with the entries that begin its journal (the first is `run.created`).

    With `owner` the run belongs to that worker at once (epoch 1, not claimable by others); without, it is
    claimable from `wake_at` on (epoch 0; None: not by itself). With `held` it waits in its `queue` from `wake_at` on
    until it is let in.

    `unique`, when not empty, is a key of which only one run may be under way: while another run of that key has not
    ended (`unique_until="ended"`) or not begun (`"begun"`: its status is pending), none is created and that run's row
    is returned, unless this one `takes_over`, which frees the key for it. What the other run was created with says how
    long it keeps the key. `awaited` says that a parent waits for it. A run of a queue that is not `held` is let in as
    it is created.

    A run whose journal has begun elsewhere (a fork, a snapshot) may come with `opened`, the waits in it that are to be
    found from outside, and with `messages` for its own mailbox, in order; one that no longer fits is dropped.
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
    wake_at: int | None
    entries: tuple[AnyEntry, ...]
    owner: str | None = None
    blobs: Mapping[str, bytes] = {}
    status: Status = "pending"
    finished_at: int | None = None
    queue: str = ""
    queue_key: str = ""
    held: bool = False
    unique: str = ""
    unique_until: Literal["begun", "ended"] = "ended"
    takes_over: bool = False
    awaited: bool = False
    opened: tuple[OpenWait, ...] = ()
    messages: tuple[NewMessage, ...] = ()


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """Something addressed to one run. `name` is the signal's name, or for `child` the readable step path.

    `key`, when not empty, makes the post idempotent: a second message of the same run, kind, name and key is not
    stored again, even after the first was consumed. `body` is JSON. `wake_at` is for kind `input` only: the unowned
    run then wants to be driven (or, held in its queue, to be let in) at that time, be it later than before (None, and
    others: at `at`, if that is earlier).
    """

    run_id: str
    kind: MessageKind
    name: str
    body: bytes
    at: int
    key: str = ""
    by: str = ""
    wake_at: int | None = None


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message in a mailbox; `id` grows with every post to this store."""

    id: int
    run_id: str
    kind: MessageKind
    name: str
    body: bytes
    at: int
    by: str = ""


class Append(msgspec.Struct, frozen=True, gc=False):
    """The only way a journal grows: entries, and all that goes with them, in one transaction.

    Fenced by `(run_id, epoch, seq)`: the run must be owned by this worker under this epoch, and `seq` must be its
    `next_seq`; the entries take `seq`, `seq + 1`, …. `status`, `wake_at` and `finished_at` are the row's new values;
    `release` gives the run up (owner becomes None; it is claimable again at `wake_at` or when a message comes);
    when the mailbox then holds an unconsumed message with `id > seen`, `wake_at` becomes `at`: it came while the
    run was on its way out and its driver does not know of it. The same when an event was published on a topic of
    `heard` after the position that stands there: up to it the driver has looked at the topic for the run's waits.
    `progress` is False when the entries only start again what a crash cut off: the row's `claims` then stay as they
    are, so that a run that kills every worker which takes it is seen. True, also without entries, sets them to 0.
    `consumed` are ids of this run's messages; `children` are created (one whose id or unique key is taken is left
    alone); `posts` go to other runs' mailboxes, and are dropped when those refuse them; `blobs` maps content hash to
    bytes. Entries may be empty. `opened` are open waits to be found from outside (an id that is known is
    replaced), `closed` ids of such that are no more, also of ones opened with it; a run that ends has none. `events`
    are published with it.
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
    heard: Mapping[str, int] = {}
    consumed: tuple[int, ...] = ()
    children: tuple[NewRun, ...] = ()
    posts: tuple[NewMessage, ...] = ()
    blobs: Mapping[str, bytes] = {}
    opened: tuple[OpenWait, ...] = ()
    closed: tuple[str, ...] = ()
    events: tuple[NewEvent, ...] = ()


class Claimed(msgspec.Struct, frozen=True, gc=False):
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
    queue: str = ""
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


class Store(Definitions, Shelves, Protocol):
    """The store of one engine, and of any number of clients.

    Deployed definitions and kept outputs: `Definitions`; what stands beside journals: `Shelves`.
    """

    url: str
    is_shared: bool
    """Whether other processes may write to it: if not, nobody needs to look for what they did."""

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

    async def read_many(self, run_ids: Sequence[str], *, limit: int) -> dict[str, list[Stored]]:
        """The first `limit` entries of each of these runs, in order, by one read of the store.

        A run that `read` would refuse is left out and harms none of the others: whoever needs it reads it and is told
        why. Raises `StoreError` when nothing can be read, of a damaged file for one.
        """

    async def blob(self, digest: str) -> bytes:
        """The payload with this content hash. Raises `CorruptJournal` when it is missing or altered."""

    # -- mailbox ------------------------------------------------------------------------------------------------
    def post(self, message: NewMessage) -> asyncio.Future[Message | None]:
        """Put a message into a run's mailbox; None when `key` says that it was posted before.

        The run's row is locked first, so that no wake-up is lost: an unowned run's wake_at becomes at most
        `message.at`, except that a run which is held in its queue is woken by `cancel` only. Any client may post,
        driver or not. A `signal` is refused with `WrongStatus` when the run has ended, `retry` when it has not failed
        or been cancelled, `again` never, the other kinds when it has ended; a `resume` is refused unless the run is
        paused or stuck, or a `pause` waits in its mailbox; an `input` unless it is pending and unowned. `answer`,
        `withdraw` and `reassign` are refused with `RequestNotFound` unless the run has an open wait with the id
        `message.name`. Raises `RunNotFound`.
        """

    def transact(
        self,
        run_id: str,
        epoch: int,
        work: Callable[[Any], NewMessage],  # Any: a connection of the database's own kind
    ) -> asyncio.Future[Message]:
        """Let `work` write to the database, and post the message that it returns to the same run, in one transaction.

        `work` is called where the store writes (not on the loop), with an open connection in that transaction, and
        must neither commit nor roll back. Raises `Fenced` without calling it when this store object does not own the
        run under `epoch`; what `work` raises rolls back and is raised. It may be called again when the
        transaction could not be committed, never after one that was.
        """

    async def messages(self, *, after: int, owner: str) -> list[Message]:
        """Unconsumed messages with `id > after` of runs owned by `owner`, by id."""

    async def mailbox(self, run_id: str) -> list[Message]:
        """A run's unconsumed messages, by id."""

    def changed(self) -> bool:
        """Whether another process may have committed since the last call; cheap, for polling. May say yes too often."""

    # -- events and open waits ----------------------------------------------------------------------------------
    def publish(self, event: NewEvent) -> asyncio.Future[Event | None]:
        """Store an event; None when one of that source and id is there already.

        Unowned runs with an open wait for its topic want to be driven at `event.at`, if not earlier anyway.
        """

    async def events(
        self, *, after: int = 0, topic: str | None = None, since: int = 0, limit: int = 1000
    ) -> list[Event]:
        """Events with `position > after` and `at >= since`, of one topic or all, by position."""

    async def last_event(self) -> int:
        """The position of the last event that was published; 0 when there was none."""

    async def forget_events(self, *, before: int) -> int:
        """Delete events published before this time; returns how many. Their positions are not used again."""

    async def open_waits(
        self, kind: OpenKind, *, id: str = "", run_id: str = "", name: str = "", limit: int = 1000, offset: int = 0
    ) -> list[OpenWait]:
        """Open waits of a kind, oldest first; empty arguments do not filter."""

    # -- queues -------------------------------------------------------------------------------------------------
    async def put_queue(self, queue: Queue) -> None:
        """Make a queue, or change its limits."""

    async def queues(self) -> list[QueueRow]:
        """All queues that were put, and those that only have runs, by name."""

    async def admit(self, name: str, *, now: int, limit: int = 1000) -> Admission:
        """Let runs held in a queue in, as its limits allow: highest priority first, then `held_until`, then creation.

        Each gets `held_until` None and `wake_at` `now`, and counts as under way until it ends. Runs of a key at its
        limit do not keep those of others waiting. A queue that was never put has no limits. When the queue or a key is
        full and every run under way in it is `waiting` and has an awaited child run that has not ended, one held run
        that is itself awaited goes in over the limit (not over a rate): no limit ever keeps a parent waiting for its
        own children. A held run that was posted a `cancel` is not let in.
        """

    # -- triggers -----------------------------------------------------------------------------------------------
    async def put_trigger(self, trigger: TriggerRow) -> None:
        """Make a trigger, or replace one of its name (its `created_at` and firings stay)."""

    async def triggers(self) -> list[TriggerRow]:
        """All triggers, by name."""

    async def remove_trigger(self, name: str) -> bool:
        """Delete a trigger and its firings; False when there is none."""

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
        """Move a trigger's cursor from `seen` to `cursor`, record firings and create their runs, in one transaction.

        False, and nothing is changed, when the cursor is not at `seen` (another process was first) or there is no such
        trigger. A run whose id or unique key is taken is left alone, as is a firing whose key is recorded.
        """

    async def firings(self, name: str, *, limit: int = 100) -> list[Firing]:
        """A trigger's firings, the last recorded first."""

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

        Blobs that no entry refers to any more go with them, and their messages and open waits.
        """

    async def backup(self, to: Path) -> None:
        """Write a consistent copy while work goes on. Raises `StoreUnusable` when `to` exists or cannot be written."""

    async def check(self) -> list[Finding]:
        """Look the store over: file, schema, room, checksums, gaps. Never raises for what it finds."""
