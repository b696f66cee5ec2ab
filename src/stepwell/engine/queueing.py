"""When are runs let into their queues? As soon as something has changed that may leave room for them.

`Store.admit` decides who goes in. This asks it, for every queue of which that may be worth while: when a run has been
put into it, or one of its runs has ended or has begun to wait (it may wait for a child run that is held), when its
limits were changed, when a rate's window moves on, and when another process has written to the store. It also ends
those whose deadline passes while they wait to be let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from stepwell.authoring.queue import IMPLIED, Queue
from stepwell.engine.overdue import Overdue
from stepwell.errors import StoreError
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.stores import tables
from stepwell.stores.protocol import Append, NewRun, Store

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner
    from stepwell.engine.worker import Engine

_NOT_UNDER_WAY = frozenset({"pending", *SET_ASIDE})

PAGE = 1000
"""Runs let in at a time."""


class Queueing:
    """Lets runs into the queues of one engine's stores."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._declared: Sequence[tables.Queue] = ()
        self._own: dict[str, tables.Queue] = {}
        self._put: set[tuple[int, str]] = set()
        self._dirty: dict[tuple[int, str], None] = {}
        self._unsure: set[int] = {id(engine.store)}
        self._again: dict[tuple[int, str], int] = {}
        self._waited: set[str] = set()
        self._overdue = Overdue(engine)
        self._attention = asyncio.Event()

    def declare(self, queues: Sequence[tables.Queue]) -> None:
        """These are put into the stores when the engine opens."""
        self._declared = queues

    async def open(self) -> None:
        """Put what was declared, before anybody is let in."""
        for store in (self._engine.store, self._engine.volatile):
            await put_queues(store, self._declared)

    # -- what has changed ---------------------------------------------------------------------------------------

    def imply(self, queue: Queue) -> None:
        """A workflow that is registered limits its own runs: its queue is put before anybody is let into it."""
        self._own[queue.name] = queue.row()
        self._put = {known for known in self._put if known[1] != queue.name}
        self.look(self._engine.store, queue.name)

    def look(self, store: Store, queue: str) -> None:
        """Somebody may go in: look soon."""
        self._dirty[id(store), queue] = None
        self._attention.set()

    def look_at_all(self) -> None:
        """Another process has written to the store: look at every queue."""
        self._unsure.add(id(self._engine.store))
        self._attention.set()

    def joined(self, store: Store, runs: Sequence[NewRun]) -> None:
        """Runs were created."""
        for run in runs:
            if run.held:
                self._overdue.joined(store, run)
                self.look(store, run.queue)

    def committed(self, runner: Runner, append: Append) -> None:
        """A run has moved on: one that has ended leaves room; one that begins to wait may wait for one that is held."""
        self.joined(runner.store, append.children)
        queue = runner.state.queue
        if not queue:
            return
        waits = append.status == "waiting"
        is_back = append.release and append.status in _NOT_UNDER_WAY  # it may have been driven while it was held
        if append.status in TERMINAL or is_back or (waits and runner.run_id not in self._waited):
            self.look(runner.store, queue)
        if waits and not append.release:
            self._waited.add(runner.run_id)
        else:
            self._waited.discard(runner.run_id)

    # -- letting in ---------------------------------------------------------------------------------------------

    async def keep_admitting(self) -> None:
        """Look at queues as there is reason to, for ever."""
        while True:
            self._attention.clear()
            try:
                for store in (self._engine.store, self._engine.volatile):
                    await self._look_at(store)
                await self._overdue.end_due()
            except StoreError as error:
                if not error.retryable:
                    raise
                self._engine.degraded(error)
                self._unsure.add(id(self._engine.store))
                await self._engine.nap(self._engine.clock.now() + self._engine.store_retry)
                continue
            await self._wait()

    async def _look_at(self, store: Store) -> None:
        if id(store) in self._unsure:
            self._unsure.discard(id(store))
            for row in await store.queues():
                if row.waiting and self._is_known(row.queue):
                    self._dirty[id(store), row.queue.name] = None
                    await self._overdue.read(store, row.queue.name)
        now = self._engine.clock.now()
        due = [key for key, at in self._again.items() if at <= now]
        for key in {**self._dirty, **dict.fromkeys(due)}:
            if key[0] == id(store):
                await self._admit(store, key[1])

    def _is_known(self, queue: tables.Queue) -> bool:
        """Not a workflow's own queue that its engine has not put yet: without it that would have no limits."""
        return queue.name in self._own or queue.concurrency is not None or not queue.name.startswith(IMPLIED)

    async def _admit(self, store: Store, name: str) -> None:
        key = (id(store), name)
        if name in self._own and key not in self._put:
            await put_queues(store, (self._own[name],))
            self._put.add(key)
        self._dirty.pop(key, None)
        try:
            admission = await store.admit(name, now=self._engine.clock.now(), limit=PAGE)
        except StoreError:
            self._dirty[key] = None
            self._engine.claims.look()  # it may have been done all the same
            raise
        if admission.again_at is None:
            self._again.pop(key, None)
        else:
            self._again[key] = admission.again_at
        if admission.admitted:
            self._overdue.let_in(store, admission.admitted)
            self._engine.claims.look()

    async def _wait(self) -> None:
        times = [*self._again.values(), *([] if self._overdue.next_at is None else [self._overdue.next_at])]
        until = min(times, default=None)
        alarm = None if until is None else self._engine.clock.call_at(until, self._attention.set)
        try:
            await self._attention.wait()
        finally:
            if alarm is not None:
                alarm.cancel()


async def put_queues(store: Store, queues: Sequence[tables.Queue]) -> None:
    """Make queues, or change their limits: of one that is there already it does not change whether it is paused."""
    if not queues:
        return
    known = {row.queue.name: row.queue for row in await store.queues()}
    for queue in queues:
        there = known.get(queue.name)
        wanted = queue if there is None else msgspec.structs.replace(queue, paused=there.paused)
        if wanted != there:
            await store.put_queue(wanted)
