"""A `Store` in one SQLite file: the protocol's methods, each handed to the writer or to a reader."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from stepwell.errors import StepwellError, StoreError, StoreUnusable
from stepwell.model.shelf import Put, ShelfChange, Values
from stepwell.stores.definitions import Version
from stepwell.stores.protocol import Append, Claimed, Filter, Finding, Message, NewMessage, NewRun, RunRow, Stored
from stepwell.stores.shelves import Fence
from stepwell.stores.sqlite import (
    care,
    definitions,
    driving,
    events,
    queues,
    reading,
    shelf,
    transact,
    triggers,
    waits,
)
from stepwell.stores.sqlite.changes import Appending, Call, Creation, Posting
from stepwell.stores.sqlite.committer import Committer
from stepwell.stores.sqlite.group import Group, Hook
from stepwell.stores.sqlite.locks import FileLock
from stepwell.stores.sqlite.reading import Readers
from stepwell.stores.sqlite.schema import write_connection
from stepwell.stores.sqlite.session import Session
from stepwell.stores.sqlite.writer import Writer
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

READER_THREADS: Final = 3
OPEN_SECONDS: Final = 10.0
"""How long `open` waits for another process that is just making or migrating the file."""


def from_url(url: str) -> SqliteStore:
    """The store for `sqlite:///relative.db`, `sqlite:////absolute.db` or a plain path.

    Raises:
        StoreUnusable: the URL names no file.
    """
    place = url
    if url.lower().startswith("sqlite:"):
        if not url.lower().startswith("sqlite:///") or not url[len("sqlite:///") :]:
            raise StoreUnusable(f"store {url!r}: write sqlite:///relative.db or sqlite:////absolute/path.db")
        place = unquote(url[len("sqlite:///") :])
    if not place or "\0" in place:
        raise StoreUnusable(f"store {url!r}: names no file")
    return SqliteStore(Path(place), url=url)


class _Parts:
    """What an open store is made of."""

    def __init__(self, writer: Writer, readers: Readers, pool: ThreadPoolExecutor) -> None:
        self.writer = writer
        self.readers = readers
        self.pool = pool
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self.data_version = writer.changed_elsewhere()


class SqliteStore:
    """A `Store` in the file at `path`.

    `inline_commits` may be set while nothing else is going on in the process: `create`, `append` and `post` then
    commit on the caller's thread, as long as commits are quick, and return futures that are done.
    """

    is_shared = True

    def __init__(self, path: Path, *, url: str = "") -> None:
        self.url = url or f"sqlite:///{path}"
        self.path = Path(os.path.realpath(path))  # the log and the locks stand beside the file, not beside a link
        self._lock = FileLock(Path(f"{self.path}.lock"))
        self._turn = FileLock(Path(f"{self.path}.turn"))
        self._parts: _Parts | None = None
        self._inline = False
        self._hook: Hook | None = None
        self._opening = asyncio.Lock()

    # -- opening ------------------------------------------------------------------------------------------------
    async def open(self, *, create: bool = True) -> None:
        """See `Store.open`. A missing folder is made, one level deep."""
        async with self._opening:
            if self._parts is not None:
                self._here()
                return
            pool = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="stepwell-reader")
            try:
                connection = await asyncio.get_running_loop().run_in_executor(pool, self._connect, create)
            except BaseException:
                pool.shutdown(wait=False)
                self._turn.close()
                raise
            readers = Readers(self.path)
            session = Session(connection, self.path)
            committer = Committer(session, self._turn, readers.fresh)
            committer.hook = self._hook
            writer = Writer(committer, asyncio.get_running_loop())
            writer.inline = self._inline
            self._parts = _Parts(writer, readers, pool)

    async def close(self) -> None:
        """See `Store.close`."""
        async with self._opening:
            parts = self._parts
            if parts is None:
                return
            self._here()
            if parts.writer.committer.holdings.worker is not None:
                try:
                    await self._call(driving.end)
                except StoreError:  # no room, or broken: the lock's end says it too
                    pass
            self._parts = None
            await parts.writer.finish()
            parts.pool.shutdown(wait=True)
            parts.readers.close()
            parts.writer.close()  # last, because only a connection that can write may remove the log
            self._lock.close()
            self._turn.close()

    def abandon(self) -> None:
        """End as a process that dies, for tests of crashes: nothing more is written and nobody is told."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.writer.abandon()
            parts.pool.shutdown(wait=True)
            parts.readers.close()
        self._lock.close()
        self._turn.close()

    def fault(self, hook: Hook | None) -> None:
        """Have `hook` called with the name of each point inside a transaction, on the thread that writes.

        Points: `rows`, `entries`, `posted`, `published`, `commit`, and `committed` after it. What the hook raises
        happens there.
        """
        self._hook = hook
        if self._parts is not None:
            self._parts.writer.committer.hook = hook

    @property
    def inline_commits(self) -> bool:
        """Whether single changes may be committed on the caller's thread."""
        return self._inline

    @inline_commits.setter
    def inline_commits(self, allowed: bool) -> None:
        self._inline = allowed
        if self._parts is not None:
            self._parts.writer.inline = allowed

    # -- driving ------------------------------------------------------------------------------------------------
    async def drive(self, worker: str, *, now: int, lease: int) -> None:
        """See `Store.drive`. One process drives a file."""
        parts = self._here()
        locked = self._lock.try_acquire()
        try:
            await self._call(lambda group: driving.begin(group, worker, now=now, lease=lease, locked=locked))
        except BaseException:
            if parts.writer.committer.holdings.worker is None:
                self._lock.release()
            raise

    async def renew(self, worker: str, *, now: int, lease: int) -> bool:
        """See `Store.renew`."""
        self._here()
        locked = self._lock.try_acquire()  # one that took over from a frozen process has not got it yet
        kept = await self._call(lambda group: driving.renew(group, worker, now=now, lease=lease, locked=locked))
        if not kept:
            self._lock.release()
        return kept

    async def claim(self, worker: str, *, workflows: Sequence[str], now: int, limit: int) -> list[Claimed]:
        """See `Store.claim`."""
        return await self._call(lambda group: driving.claim(group, worker, workflows=workflows, now=now, limit=limit))

    async def next_wake(self, *, workflows: Sequence[str]) -> int | None:
        """See `Store.next_wake`."""
        return await self._read(lambda session: driving.next_wake(session, workflows))

    # -- journal ------------------------------------------------------------------------------------------------
    def create(self, run: NewRun) -> asyncio.Future[RunRow]:
        """See `Store.create`."""
        parts = self._here()
        future: asyncio.Future[RunRow] = parts.loop.create_future()
        parts.writer.submit(Creation(run, future))
        return future

    def append(self, append: Append) -> asyncio.Future[None]:
        """See `Store.append`."""
        parts = self._here()
        future: asyncio.Future[None] = parts.loop.create_future()
        parts.writer.submit(Appending(append, future))
        return future

    async def read(self, run_id: str, *, after: int = 0, limit: int = 1_000_000) -> list[Stored]:
        """See `Store.read`."""
        return await self._read(lambda session: reading.entries(session, run_id, after=after, limit=limit))

    async def read_many(self, run_ids: Sequence[str], *, limit: int) -> dict[str, list[Stored]]:
        """See `Store.read_many`."""
        return await self._read(lambda session: reading.heads(session, run_ids, limit=limit))

    async def blob(self, digest: str) -> bytes:
        """See `Store.blob`."""
        return await self._read(lambda session: reading.blob(session, digest))

    # -- mailbox ------------------------------------------------------------------------------------------------
    def post(self, message: NewMessage) -> asyncio.Future[Message | None]:
        """See `Store.post`."""
        parts = self._here()
        future: asyncio.Future[Message | None] = parts.loop.create_future()
        parts.writer.submit(Posting(message, future))
        return future

    def transact(
        self,
        run_id: str,
        epoch: int,
        work: Callable[[Any], NewMessage],  # Any: a sqlite3.Connection, guarded
    ) -> asyncio.Future[Message]:
        """See `Store.transact`. `work` is called on the writer's thread and holds up everybody else who writes.

        Its connection has `execute`, `executemany`, `cursor` and `row_factory`. Ending the transaction, settings,
        temporary tables and Stepwell's own tables are refused with `DefinitionError`.
        """
        parts = self._here()
        future: asyncio.Future[Message] = parts.loop.create_future()
        change = Call(lambda group: transact.transact(group, change, run_id, epoch, work), future)
        parts.writer.submit(change)
        return future

    async def messages(self, *, after: int, owner: str) -> list[Message]:
        """See `Store.messages`."""
        return await self._read(lambda session: reading.messages(session, after=after, owner=owner))

    async def mailbox(self, run_id: str) -> list[Message]:
        """See `Store.mailbox`."""
        return await self._read(lambda session: reading.mailbox(session, run_id))

    def changed(self) -> bool:
        """See `Store.changed`."""
        parts = self._here()
        before, parts.data_version = parts.data_version, parts.writer.changed_elsewhere()
        return before != parts.data_version

    # -- events and open waits ----------------------------------------------------------------------------------
    def publish(self, event: NewEvent) -> asyncio.Future[Event | None]:
        """See `Store.publish`."""
        return self._submit(lambda group: group.publish([event])[0], len(event.body))

    async def events(
        self, *, after: int = 0, topic: str | None = None, since: int = 0, limit: int = 1000
    ) -> list[Event]:
        """See `Store.events`."""
        return await self._read(
            lambda session: events.read(session, after=after, topic=topic, since=since, limit=limit)
        )

    async def last_event(self) -> int:
        """See `Store.last_event`."""
        return await self._read(events.last)

    async def forget_events(self, *, before: int) -> int:
        """See `Store.forget_events`."""
        return await self._call(lambda group: events.forget(group, before=before))

    async def open_waits(
        self, kind: OpenKind, *, id: str = "", run_id: str = "", name: str = "", limit: int = 1000, offset: int = 0
    ) -> list[OpenWait]:
        """See `Store.open_waits`."""
        return await self._read(
            lambda session: waits.find(session, kind, id=id, run_id=run_id, name=name, limit=limit, offset=offset)
        )

    # -- queues -------------------------------------------------------------------------------------------------
    async def put_queue(self, queue: Queue) -> None:
        """See `Store.put_queue`."""
        await self._call(lambda group: queues.put(group, queue))

    async def queues(self) -> list[QueueRow]:
        """See `Store.queues`."""
        return await self._read(queues.rows)

    async def admit(self, name: str, *, now: int, limit: int = 1000) -> Admission:
        """See `Store.admit`."""
        return await self._call(lambda group: queues.admit(group, name, now=now, limit=limit))

    # -- triggers -----------------------------------------------------------------------------------------------
    async def put_trigger(self, trigger: TriggerRow) -> None:
        """See `Store.put_trigger`."""
        await self._call(lambda group: triggers.put(group, trigger))

    async def triggers(self) -> list[TriggerRow]:
        """See `Store.triggers`."""
        return await self._read(triggers.read)

    async def remove_trigger(self, name: str) -> bool:
        """See `Store.remove_trigger`."""
        return await self._call(lambda group: triggers.remove(group, name))

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
        return await self._call(
            lambda group: triggers.advance(
                group, name, seen=seen, cursor=cursor, next_at=next_at, firings=firings, runs=runs
            )
        )

    async def firings(self, name: str, *, limit: int = 100) -> list[Firing]:
        """See `Store.firings`."""
        return await self._read(lambda session: triggers.firings(session, name, limit=limit))

    # -- definitions and kept outputs ---------------------------------------------------------------------------
    async def put_definition(
        self, definition: NewDefinition, *, activate: bool = False, move_label: bool = False
    ) -> bool:
        """See `Store.put_definition`."""
        return await self._call(
            lambda group: definitions.put(group, definition, activate=activate, move_label=move_label)
        )

    async def definition(self, name: str, version: str = "") -> DefinitionRow | None:
        """See `Store.definition`."""
        return await self._read(lambda session: definitions.find(session, name, version))

    async def definitions(self, name: str = "") -> list[DefinitionRow]:
        """See `Store.definitions`."""
        return await self._read(lambda session: definitions.rows(session, name))

    async def set_active(self, name: str, digest: str) -> bool:
        """See `Store.set_active`."""
        return await self._call(lambda group: definitions.activate(group, name, digest))

    async def drop_definitions(self, versions: Sequence[Version], *, put_before: int) -> list[Version]:
        """See `Store.drop_definitions`."""
        return await self._call(lambda group: definitions.drop(group, versions, put_before=put_before))

    async def cached(self, key: str, *, now: int) -> bytes | None:
        """See `Store.cached`."""
        return await self._read(lambda session: definitions.cached(session, key, now=now))

    async def put_cached(self, key: str, payload: bytes, *, at: int, expires_at: int | None = None) -> None:
        """See `Store.put_cached`."""
        await self._call(lambda group: definitions.put_cached(group, key, payload, at=at, expires_at=expires_at))

    async def forget_cached(self, *, before: int) -> int:
        """See `Store.forget_cached`."""
        return await self._call(lambda group: definitions.forget_cached(group, before=before))

    # -- shelves ------------------------------------------------------------------------------------------------
    def shelve(self, changes: Sequence[ShelfChange], *, fence: Fence | None = None) -> asyncio.Future[None]:
        """See `Store.shelve`."""
        size = sum(len(one.value) for one in changes if isinstance(one, Put))
        return self._submit(lambda group: shelf.change(group, changes, fence), size)

    async def shelved(self, owner: str, prefix: str, *, last_first: bool = False, limit: int = 1_000_000) -> Values:
        """See `Store.shelved`."""
        return await self._read(lambda session: shelf.find(session, owner, prefix, last_first, limit))

    async def shelved_at(self, owner: str, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Store.shelved_at`."""
        return await self._read(lambda session: shelf.at(session, owner, keys))

    async def shelf_owners(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store.shelf_owners`."""
        return await self._read(lambda session: shelf.owners(session, after=after, limit=limit))

    # -- index --------------------------------------------------------------------------------------------------
    async def get(self, run_id: str) -> RunRow | None:
        """See `Store.get`."""
        return await self._read(lambda session: reading.run(session, run_id))

    async def find(self, where: Filter) -> list[RunRow]:
        """See `Store.find`."""
        return await self._read(lambda session: reading.find(session, where))

    async def count(self) -> dict[str, int]:
        """See `Store.count`."""
        return await self._read(reading.count)

    # -- care ---------------------------------------------------------------------------------------------------
    async def delete(self, *, finished_before: int, limit: int = 500) -> int:
        """See `Store.delete`."""
        return await self._call(lambda group: care.delete(group, finished_before=finished_before, limit=limit))

    async def backup(self, to: Path) -> None:
        """See `Store.backup`."""
        parts = self._here()

        def copy() -> None:
            session = parts.readers.fresh()
            try:
                session.connection.execute("PRAGMA query_only = OFF")  # the file itself stays open read-only
                care.backup(self.path, to, session)
            finally:
                session.connection.close()

        await parts.loop.run_in_executor(parts.pool, copy)

    async def check(self) -> list[Finding]:
        """See `Store.check`."""
        parts = self._here()

        def look() -> list[Finding]:
            findings: list[Finding] = []
            try:
                with parts.readers.moment() as session:
                    for finding in care.check(session, self._lock.path):
                        findings.append(finding)  # noqa: PERF402 - what was found before an error is kept
            except (StepwellError, OSError) as error:
                findings.append(Finding(False, "check", str(error)))
            return findings

        return await parts.loop.run_in_executor(parts.pool, look)

    # -- small parts --------------------------------------------------------------------------------------------
    def _here(self) -> _Parts:
        parts = self._parts
        if parts is None:
            raise StoreUnusable(f"store {self.path}: is closed; open it first")
        if parts.process != os.getpid():
            raise StoreUnusable(
                f"store {self.path}: was opened by process {parts.process} and cannot be used after a fork: "
                "make a new store object in this process"
            )
        return parts

    def _connect(self, create: bool) -> Any:  # a sqlite3.Connection, which this module has no other need to name
        if create and not self.path.parent.exists():
            try:
                self.path.parent.mkdir(mode=0o700)
            except OSError as error:
                raise StoreUnusable(
                    f"store {self.path}: its folder cannot be made: {error.strerror}; make it first"
                ) from error
        if not create and not self.path.exists():
            raise StoreUnusable(f"store {self.path}: there is no such file; check the path, or start a run to make it")
        if not self._turn.acquire(OPEN_SECONDS):
            raise StoreError(
                f"store {self.path}: another process has kept it locked for {OPEN_SECONDS:g} s; is it frozen?"
            )
        try:
            return write_connection(self.path, create=create)
        finally:
            self._turn.release()

    def _submit(self, function: Callable[[Group], T], size: int = 0) -> asyncio.Future[T]:
        parts = self._here()
        future: asyncio.Future[T] = parts.loop.create_future()
        parts.writer.submit(Call(function, future, size=size))
        return future

    async def _call(self, function: Callable[[Group], T]) -> T:
        return await self._submit(function)

    async def _read(self, function: Callable[[Session], T]) -> T:
        parts = self._here()

        def read() -> T:
            with parts.readers.moment() as session:
                return function(session)

        return await parts.loop.run_in_executor(parts.pool, read)
