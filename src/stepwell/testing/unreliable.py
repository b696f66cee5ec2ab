"""A store whose answers come late, whose writes fail now and then, and that can be cut off in mid-operation.

`UnreliableStore` is the store object of one simulated process; all those on one `Disk` share its data. The data are
kept by `MemoryStore`, which passes the conformance suite; here stands only *when* things happen. An operation has two
moments, each after a drawn delay of virtual time:

* the **commit**, when the shared data change, and
* the **answer**, when the process learns of it.

Between the two everything else may happen, and that is how the faults are modelled:

* *Crash*: `kill` lets a drawn number of operations that were under way commit, in order, and drops the others; none is
  ever answered. So a process may die with its commit done and unknown.
* *It succeeded, but the caller was told of a time-out*: the protocol has stores resolve unknown outcomes themselves, by
  reading back, and never tell a caller "perhaps". Seen from the engine that is a commit at once and an answer much
  later (`late`), in which time leases pass, runs are taken over, and processes die. A store that raised an error after
  a commit would break the contract, so this one does not.
* *Refused before the commit*: `StoreFull` for writes, `StoreBusy` for anything; nothing was written.
* *Frozen process* (`hold`): its operations under way either still commit (they had reached the disk) or wait, and meet
  the fence when it thaws.

Operations on one run commit and are answered in the order of their calls; others overtake each other freely.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stepwell.errors import StepwellError
from stepwell.model.shelf import ShelfChange, Values
from stepwell.stores.definitions import Version
from stepwell.stores.memory import MemoryStore
from stepwell.stores.protocol import Append, Claimed, Filter, Finding, Message, NewMessage, NewRun, RunRow, Stored
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
from stepwell.testing.disk import MILLISECOND as MILLISECOND
from stepwell.testing.disk import Disk as Disk
from stepwell.testing.disk import Faults as Faults
from stepwell.testing.disk import Witness as Witness
from stepwell.testing.virtual import SimLoop

T = TypeVar("T")


class _Operation:
    __slots__ = ("argument", "future", "lane", "name", "settled", "work", "writes")

    def __init__(
        self,
        name: str,
        argument: object,
        lane: str,
        work: Callable[[], object],
        writes: bool,
        future: asyncio.Future[Any],  # Any: whatever the operation gives
    ) -> None:
        self.name = name
        self.argument = argument
        self.lane = lane
        self.work = work
        self.writes = writes
        self.future = future
        self.settled = False


class UnreliableStore:
    """A `Store` for one simulated process."""

    def __init__(self, disk: Disk, loop: SimLoop) -> None:
        self.url = f"simulated://{loop.name}"
        self.is_shared = True
        self.process = loop.name
        self.disk = disk
        self.inner = MemoryStore(disk.content, url=self.url)
        self.inline_commits = False
        self.dead = False
        self.calls = 0
        self._loop = loop
        self._under_way: list[_Operation] = []
        self._held: list[_Operation] | None = None
        self._unanswered = 0
        self._answering: Counter[str] = Counter()
        self._lanes: dict[str, list[int]] = {}

    # -- the process's fate -------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The process dies: some of what is under way still commits, nothing is answered."""
        if self.dead:
            return
        self.dead = True
        cut: set[str] = set()
        for operation in tuple(self._under_way):
            if operation.lane not in cut and self.disk.chance.random() < 0.5:
                self._carry_out(operation)
            else:
                cut.add(operation.lane)
                operation.settled = True
        self._under_way.clear()
        self._held = None
        self.inner.abandon()

    def hold(self) -> None:
        """The process is frozen with its operations not yet at the disk: they wait until `release`."""
        self._held = []

    def release(self) -> None:
        """The process thaws: what waited is carried out now, in order."""
        held, self._held = self._held, None
        for operation in held or ():
            if not operation.settled:
                self._commit(operation)

    @property
    def is_at_work(self) -> bool:
        """Whether something is under way that may still commit."""
        return bool(self._under_way)

    # -- operations ---------------------------------------------------------------------------------------------

    def _submit(
        self, name: str, argument: object, lane: str, work: Callable[[], T], *, writes: bool = True
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self.calls += 1
        if self.dead:
            return future
        operation = _Operation(name, argument, lane, work, writes, future)
        if lane and self._is_inline(lane):
            _answer(future, *self._carry_out(operation))
            return future
        self._under_way.append(operation)
        self._answering[lane] += 1
        at = self._in_order(lane, 0, self.disk.delay())
        self.disk.loop.call_at(at / 1_000_000, self._commit, operation)
        return future

    def _is_inline(self, lane: str) -> bool:
        """Whether an operation commits and is answered within its call, as a store may do when it is hinted to."""
        faults = self.disk.faults
        wanted = faults.inline or (self.inline_commits and self.disk.chance.random() < faults.inline_when_hinted)
        return wanted and not self._answering[lane]

    def _in_order(self, lane: str, moment: int, delay: int) -> int:
        at = self.disk.time.micros + delay
        if lane:
            last = self._lanes.setdefault(lane, [0, 0])
            last[moment] = at = max(at, last[moment] + 1)
        return at

    def _commit(self, operation: _Operation) -> None:
        if operation.settled:
            return
        if self._held is not None:
            self._held.append(operation)
            return
        if operation.writes and not self.disk.witness.committing(self, operation.name, operation.argument):
            return
        self._under_way.remove(operation)
        result, error = self._carry_out(operation)
        if self._loop.is_closed():  # the process was killed right after the commit
            return
        at = self._in_order(operation.lane, 1, self.disk.delay())
        self._unanswered += 1
        self._loop.call_at(at / 1_000_000, self._answer, operation, result, error)

    def _carry_out(self, operation: _Operation) -> tuple[object, Exception | None]:
        operation.settled = True
        error = self.disk.refusal(operation.writes)
        if error is not None:
            return None, error
        try:
            result = operation.work()
        except StepwellError as refused:
            return None, refused
        except Exception as raised:
            if operation.name != "transact":
                raise
            return None, raised  # by the work
        if operation.writes:
            self.disk.witness.committed(self, operation.name, operation.argument, result)
        return result, None

    def _answer(self, operation: _Operation, result: object, error: Exception | None) -> None:
        self._unanswered -= 1
        self._answering[operation.lane] -= 1
        _answer(operation.future, result, error)

    def _write(
        self, name: str, argument: object, lane: str, done: Callable[[], asyncio.Future[T]]
    ) -> asyncio.Future[T]:
        return self._submit(name, argument, lane, lambda: done().result())

    async def _call(
        self, name: str, work: Callable[[], Coroutine[Any, Any, T]], *, writes: bool = False, argument: object = None
    ) -> T:
        return await self._submit(name, argument, "", lambda: _at_once(work()), writes=writes)

    def _transact_unsurely(
        self,
        run_id: str,
        epoch: int,
        work: Callable[[Any], NewMessage],  # Any: as in `Store.transact`
    ) -> asyncio.Future[Message]:
        if self.disk.faults.again and self.disk.chance.random() < self.disk.faults.again:
            self.inner.fault(_cut_off)
            try:
                cut_off = self.inner.transact(run_id, epoch, work)
            finally:
                self.inner.fault(None)
            if not isinstance(cut_off.exception(), _CutOff):
                return cut_off
        return self.inner.transact(run_id, epoch, work)

    # -- the protocol -------------------------------------------------------------------------------------------

    async def open(self, *, create: bool = True) -> None:
        """See `Store.open`."""
        await self.inner.open(create=create)

    async def close(self) -> None:
        """See `Store.close`: what was accepted is finished first."""
        while self._under_way or self._unanswered:  # noqa: ASYNC110  # virtual time: it costs nothing
            await asyncio.sleep(0.001)
        await self.inner.close()

    async def drive(self, worker: str, *, now: int, lease: int) -> None:
        """See `Store.drive`."""
        await self._call("drive", lambda: self.inner.drive(worker, now=now, lease=lease), writes=True)

    async def renew(self, worker: str, *, now: int, lease: int) -> bool:
        """See `Store.renew`."""
        return await self._call("renew", lambda: self.inner.renew(worker, now=now, lease=lease), writes=True)

    async def claim(self, worker: str, *, workflows: Sequence[str], now: int, limit: int) -> list[Claimed]:
        """See `Store.claim`."""
        return await self._call(
            "claim", lambda: self.inner.claim(worker, workflows=workflows, now=now, limit=limit), writes=True
        )

    async def next_wake(self, *, workflows: Sequence[str]) -> int | None:
        """See `Store.next_wake`."""
        return await self._call("next_wake", lambda: self.inner.next_wake(workflows=workflows))

    def create(self, run: NewRun) -> asyncio.Future[RunRow]:
        """See `Store.create`."""
        return self._write("create", run, run.run_id, lambda: self.inner.create(run))

    def append(self, append: Append) -> asyncio.Future[None]:
        """See `Store.append`."""
        return self._write("append", append, append.run_id, lambda: self.inner.append(append))

    async def read(self, run_id: str, *, after: int = 0, limit: int = 1_000_000) -> list[Stored]:
        """See `Store.read`."""
        return await self._call("read", lambda: self.inner.read(run_id, after=after, limit=limit))

    async def read_many(self, run_ids: Sequence[str], *, limit: int) -> dict[str, list[Stored]]:
        """See `Store.read_many`."""
        return await self._call("read_many", lambda: self.inner.read_many(run_ids, limit=limit))

    async def blob(self, digest: str) -> bytes:
        """See `Store.blob`."""
        return await self._call("blob", lambda: self.inner.blob(digest))

    def post(self, message: NewMessage) -> asyncio.Future[Message | None]:
        """See `Store.post`."""
        return self._write("post", message, message.run_id, lambda: self.inner.post(message))

    def transact(
        self,
        run_id: str,
        epoch: int,
        work: Callable[[Any], NewMessage],  # Any: as in `Store.transact`
    ) -> asyncio.Future[Message]:
        """See `Store.transact`."""
        return self._write("transact", run_id, run_id, lambda: self._transact_unsurely(run_id, epoch, work))

    async def messages(self, *, after: int, owner: str) -> list[Message]:
        """See `Store.messages`."""
        return await self._call("messages", lambda: self.inner.messages(after=after, owner=owner))

    async def mailbox(self, run_id: str) -> list[Message]:
        """See `Store.mailbox`."""
        return await self._call("mailbox", lambda: self.inner.mailbox(run_id))

    def changed(self) -> bool:
        """See `Store.changed`."""
        return self.inner.changed()

    def publish(self, event: NewEvent) -> asyncio.Future[Event | None]:
        """See `Store.publish`."""
        return self._write("publish", event, "", lambda: self.inner.publish(event))

    async def events(
        self, *, after: int = 0, topic: str | None = None, since: int = 0, limit: int = 1000
    ) -> list[Event]:
        """See `Store.events`."""
        return await self._call("events", lambda: self.inner.events(after=after, topic=topic, since=since, limit=limit))

    async def last_event(self) -> int:
        """See `Store.last_event`."""
        return await self._call("last_event", self.inner.last_event)

    async def forget_events(self, *, before: int) -> int:
        """See `Store.forget_events`."""
        return await self._call("forget_events", lambda: self.inner.forget_events(before=before), writes=True)

    async def open_waits(
        self, kind: OpenKind, *, id: str = "", run_id: str = "", name: str = "", limit: int = 1000, offset: int = 0
    ) -> list[OpenWait]:
        """See `Store.open_waits`."""
        return await self._call(
            "open_waits",
            lambda: self.inner.open_waits(kind, id=id, run_id=run_id, name=name, limit=limit, offset=offset),
        )

    async def put_queue(self, queue: Queue) -> None:
        """See `Store.put_queue`."""
        await self._call("put_queue", lambda: self.inner.put_queue(queue), writes=True, argument=queue)

    async def queues(self) -> list[QueueRow]:
        """See `Store.queues`."""
        return await self._call("queues", self.inner.queues)

    async def admit(self, name: str, *, now: int, limit: int = 1000) -> Admission:
        """See `Store.admit`."""
        return await self._call(
            "admit", lambda: self.inner.admit(name, now=now, limit=limit), writes=True, argument=name
        )

    async def put_trigger(self, trigger: TriggerRow) -> None:
        """See `Store.put_trigger`."""
        await self._call("put_trigger", lambda: self.inner.put_trigger(trigger), writes=True, argument=trigger)

    async def triggers(self) -> list[TriggerRow]:
        """See `Store.triggers`."""
        return await self._call("triggers", self.inner.triggers)

    async def remove_trigger(self, name: str) -> bool:
        """See `Store.remove_trigger`."""
        return await self._call("remove_trigger", lambda: self.inner.remove_trigger(name), writes=True, argument=name)

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
        """See `Store.advance`. A witness is shown the runs."""
        return await self._call(
            "advance",
            lambda: self.inner.advance(name, seen=seen, cursor=cursor, next_at=next_at, firings=firings, runs=runs),
            writes=True,
            argument=tuple(runs),
        )

    async def firings(self, name: str, *, limit: int = 100) -> list[Firing]:
        """See `Store.firings`."""
        return await self._call("firings", lambda: self.inner.firings(name, limit=limit))

    async def put_definition(
        self, definition: NewDefinition, *, activate: bool = False, move_label: bool = False
    ) -> bool:
        """See `Store.put_definition`."""
        return await self._call(
            "put_definition",
            lambda: self.inner.put_definition(definition, activate=activate, move_label=move_label),
            writes=True,
            argument=definition,
        )

    async def definition(self, name: str, version: str = "") -> DefinitionRow | None:
        """See `Store.definition`."""
        return await self._call("definition", lambda: self.inner.definition(name, version))

    async def definitions(self, name: str = "") -> list[DefinitionRow]:
        """See `Store.definitions`."""
        return await self._call("definitions", lambda: self.inner.definitions(name))

    async def set_active(self, name: str, digest: str) -> bool:
        """See `Store.set_active`."""
        return await self._call("set_active", lambda: self.inner.set_active(name, digest), writes=True, argument=name)

    async def drop_definitions(self, versions: Sequence[Version], *, put_before: int) -> list[Version]:
        """See `Store.drop_definitions`."""
        return await self._call(
            "drop_definitions",
            lambda: self.inner.drop_definitions(versions, put_before=put_before),
            writes=True,
            argument=tuple(versions),
        )

    async def cached(self, key: str, *, now: int) -> bytes | None:
        """See `Store.cached`."""
        return await self._call("cached", lambda: self.inner.cached(key, now=now))

    async def put_cached(self, key: str, payload: bytes, *, at: int, expires_at: int | None = None) -> None:
        """See `Store.put_cached`."""
        await self._call(
            "put_cached",
            lambda: self.inner.put_cached(key, payload, at=at, expires_at=expires_at),
            writes=True,
            argument=key,
        )

    async def forget_cached(self, *, before: int) -> int:
        """See `Store.forget_cached`."""
        return await self._call("forget_cached", lambda: self.inner.forget_cached(before=before), writes=True)

    def shelve(self, changes: Sequence[ShelfChange], *, fence: Fence | None = None) -> asyncio.Future[None]:
        """See `Store.shelve`."""
        lane = "" if fence is None else fence[0]
        return self._write("shelve", tuple(changes), lane, lambda: self.inner.shelve(changes, fence=fence))

    async def shelved(self, owner: str, prefix: str, *, last_first: bool = False, limit: int = 1_000_000) -> Values:
        """See `Store.shelved`."""
        return await self._call(
            "shelved", lambda: self.inner.shelved(owner, prefix, last_first=last_first, limit=limit)
        )

    async def shelved_at(self, owner: str, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Store.shelved_at`."""
        return await self._call("shelved_at", lambda: self.inner.shelved_at(owner, keys))

    async def shelf_owners(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store.shelf_owners`."""
        return await self._call("shelf_owners", lambda: self.inner.shelf_owners(after=after, limit=limit))

    async def get(self, run_id: str) -> RunRow | None:
        """See `Store.get`."""
        return await self._call("get", lambda: self.inner.get(run_id))

    async def find(self, where: Filter) -> list[RunRow]:
        """See `Store.find`."""
        return await self._call("find", lambda: self.inner.find(where))

    async def count(self) -> dict[str, int]:
        """See `Store.count`."""
        return await self._call("count", self.inner.count)

    async def delete(self, *, finished_before: int, limit: int = 500) -> int:
        """See `Store.delete`."""
        return await self._call(
            "delete", lambda: self.inner.delete(finished_before=finished_before, limit=limit), writes=True
        )

    async def backup(self, to: Path) -> None:
        """See `Store.backup`."""
        await self._call("backup", lambda: self.inner.backup(to))

    async def check(self) -> list[Finding]:
        """See `Store.check`."""
        return await self._call("check", self.inner.check)


class _CutOff(Exception):
    pass


def _cut_off(point: str) -> None:
    if point == "commit":
        raise _CutOff


def _answer(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the memory store, which never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # StopIteration is not generic
    raise AssertionError("the memory store waits for something")
