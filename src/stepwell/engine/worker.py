"""The engine of one process: claims runs, keeps a bounded number of them in memory, and gives them up again."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import msgspec

from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.engine.clock import Clock
from stepwell.engine.executor import Executor
from stepwell.engine.feed import Feed, Live
from stepwell.engine.limits import Limits, Needs, Slots
from stepwell.engine.runner import Runner
from stepwell.engine.trials import Trials
from stepwell.errors import DefinitionError, Fenced, StoreError
from stepwell.model.commands import Pause
from stepwell.model.decide import decide
from stepwell.model.entries import AnyEntry
from stepwell.model.ids import SECOND
from stepwell.model.state import State, evolve, replay
from stepwell.programs.matching import blobs_of
from stepwell.stores.protocol import Append, Claimed, Message, NewRun, RunRow, Store, Stored

_log = logging.getLogger("stepwell.engine")

LEASE = 15 * SECOND
"""How long a worker's right to drive lasts without renewal (microseconds)."""

POLL = SECOND // 10
"""How often an engine looks for what other processes have put into the store (microseconds)."""

TICK = SECOND // 5
"""How often, at most, a run's progress is told (microseconds)."""

LONGEST_NAP = 5 * SECOND
CLAIM_PAGE = 200


class Engine:
    """Drives runs of one store, and of a volatile one for `durability="memory"`, on the running loop."""

    def __init__(
        self,
        store: Store,
        volatile: Store,
        *,
        clock: Clock,
        chance: Random,
        limits: Limits,
        warm_wait: int,
        executors: Mapping[str, FuturesExecutor] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.context = contextvars.Context()
        self.store = store
        self.volatile = volatile
        self.clock = clock
        self.chance = chance
        self.limits = limits
        self.warm_wait = warm_wait
        self.store_retry = SECOND
        self.feed = Feed()
        self.slots = Slots()
        self.executor = Executor(clock, self.feed, limits, executors)
        self._trials = Trials(clock, self._adopt_in_time, lambda run_id: run_id in self.runners)
        self.bodies = ThreadPoolExecutor(limits.bodies, thread_name_prefix="stepwell-body")
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{chance.getrandbits(32):08x}"
        self.runners: dict[str, Runner] = {}
        self.workflows: dict[str, Workflow[..., Any]] = {}  # Any: whatever they return
        self.closing = False
        self.lost = False
        self._adopting: set[str] = set()
        self._asked_for = 0
        self._early: dict[str, list[Message]] = {}
        self._ends: dict[str, list[asyncio.Future[State]]] = {}
        self._needs: dict[Task[..., Any], Needs] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._chores: set[asyncio.Task[None]] = set()
        self._attention = asyncio.Event()
        self._last_read = {id(store): 0, id(volatile): 0}
        self._unread: set[int] = set()
        self._is_reading = False
        self._ticked: dict[str, int] = {}
        self._degraded_said = 0
        self._emptied = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take the right to drive and begin to.

        Raises:
            StoreBusy: another live process drives this store.
        """
        now = self.clock.now()
        await self.store.drive(self.worker, now=now, lease=LEASE)
        await self.volatile.drive(self.worker, now=now, lease=1 << 60)
        self._tasks = [
            self.loop.create_task(self._keep_lease()),
            self.loop.create_task(self._keep_claiming()),
            self.loop.create_task(self._keep_polling()),
            self.loop.create_task(self._trials.keep_trying()),
        ]
        for task in self._tasks:
            task.add_done_callback(self._loop_ended)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        """A loop of the engine ends when it is cancelled; anything else means that the store is gone for good."""
        if not task.cancelled() and task.exception() is not None:
            _log.critical("the engine stops: %s", task.exception(), exc_info=task.exception())
            self.lose()

    async def close(self, grace: int) -> None:
        """Claim nothing more, give attempts in flight `grace` microseconds to end, then leave them to recovery."""
        self.closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._chores, return_exceptions=True)
        await self._trials.give_back()
        deadline = self.clock.now() + grace
        while grace and any(r.steps.in_flight for r in self.runners.values()) and self.clock.now() < deadline:
            await self._nap(self.clock.now() + SECOND // 20)
        for runner in tuple(self.runners.values()):
            runner.release()
        while self.runners and not self.lost:
            self._emptied.clear()
            await self._emptied.wait()
        await self.executor.close(grace=1.0)
        self.bodies.shutdown(wait=False, cancel_futures=True)

    def register(self, workflow: Workflow[..., Any]) -> None:
        """Let this engine drive runs of a workflow, and of those that its body mentions.

        Raises:
            DefinitionError: another workflow has this name.
        """
        known = self.workflows.get(workflow.name)
        if known is None:
            self.workflows[workflow.name] = workflow
            self._attention.set()
            for child in workflow.mentioned():
                self.register(child)
        elif (
            known is not workflow and known.__wrapped__ is not workflow.__wrapped__ and not _same_place(known, workflow)
        ):
            raise DefinitionError(
                f"two workflows are called {workflow.name!r} ({known.__module__} and {workflow.__module__}): "
                "give one of them a name of its own with @workflow(name='…')"
            )

    # -- starting and finding runs ------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether one more run may be held in memory."""
        return self._room() > 0 and not self.closing

    def _room(self) -> int:
        return self.limits.runs - len(self.runners) - len(self._adopting) - self._asked_for

    def _is_full(self, workflow: Workflow[..., Any]) -> bool:
        if workflow.concurrency is None:
            return False
        held = sum(1 for r in self.runners.values() if r.workflow.name == workflow.name)
        return held >= workflow.concurrency

    def start(self, new: NewRun, workflow: Workflow[..., Any], volatile: bool) -> asyncio.Future[RunRow]:
        """Create a run, and drive it at once when there is room; gives the row that the store then has."""
        store = self.volatile if volatile else self.store
        if self.has_room and not self._is_full(workflow) and new.wake_at <= self.clock.now():
            new = msgspec.structs.replace(new, owner=self.worker)
            self._adopting.add(new.run_id)
        created = store.create(new)
        if created.done():
            self._created(new, store, workflow, created)
        else:
            created.add_done_callback(lambda done: self._created(new, store, workflow, done))
        return created

    def _created(self, new: NewRun, store: Store, workflow: Workflow[..., Any], done: asyncio.Future[RunRow]) -> None:
        was_adopting = new.run_id in self._adopting
        self._adopting.discard(new.run_id)
        early = self._early.pop(new.run_id, ())
        if done.cancelled() or done.exception() is not None:
            return
        row = done.result()
        is_ours = new.owner is not None and row.owner == self.worker and row.epoch == 1 and row.next_seq == 2
        if was_adopting and is_ours and new.run_id not in self.runners and not self.closing:
            state = replay(new.entries)
            runner = Runner(
                self,
                store,
                workflow,
                state,
                row.epoch,
                history=(),
                blobs=dict(new.blobs),
                messages=(),
            )
            for message in early:
                runner.receive(message)
            self.runners[new.run_id] = runner
            runner.wake()
        else:
            self._attention.set()

    def ended(self, run_id: str) -> asyncio.Future[State]:
        """Done, with the state at that moment, when this engine next sees the run end, be set aside or leave."""
        future: asyncio.Future[State] = self.loop.create_future()
        self._ends.setdefault(run_id, []).append(future)
        return future

    def moves(self, run_id: str) -> bool:
        """Whether the run is in this engine's memory, or on its way there, and is not set aside."""
        runner = self.runners.get(run_id)
        return run_id in self._adopting if runner is None else runner.state.pause is None

    def heard(self, message: Message, *, in_order: bool = False) -> None:
        """A message is in a mailbox; `in_order` says that all earlier ones of its run were told before."""
        runner = self.runners.get(message.run_id)
        if runner is not None:
            runner.receive(message, in_order=in_order)
            return
        if message.run_id in self._adopting or self._asked_for:
            # Its run is being picked up, perhaps by a claim that has not been answered yet and did not see it.
            self._early.setdefault(message.run_id, []).append(message)
        self._attention.set()

    # -- what runners tell --------------------------------------------------------------------------------------

    def committed(self, runner: Runner, append: Append) -> None:
        """Entries of a run are on disk."""
        if append.entries and self.feed.has_readers:
            self.feed.publish(runner.run_id, runner.stored(append))
        if append.progress:
            self._trials.clear(runner.run_id)
        if append.children:
            self._attention.set()
        if append.posts:
            self._read_soon(runner.store)
        if append.release or append.status in ("paused", "stuck"):
            self._tell_end(runner.run_id, runner.state)

    def _tell_end(self, run_id: str, state: State) -> None:
        for future in self._ends.pop(run_id, ()):
            if not future.done():
                future.set_result(state)

    def hint(self, starting: int) -> None:
        """Tell the store, before an append, whether anything but the attempts that it starts is going on."""
        self.store.inline_commits = len(self.runners) == 1 and self.slots.used("attempts") <= starting

    def left(self, runner: Runner) -> None:
        """A run has left this engine's memory."""
        if self.runners.get(runner.run_id) is runner:
            del self.runners[runner.run_id]
        self._ticked.pop(runner.run_id, None)
        self._trials.clear(runner.run_id)
        if not self.closing:
            self._attention.set()
        if not self.runners:
            self._emptied.set()

    def degraded(self, error: StoreError) -> None:
        """The store takes nothing for now: say so, and go on offering."""
        now = self.clock.now()
        if now - self._degraded_said > 30 * SECOND:
            self._degraded_said = now
            _log.error("the store takes no writes for now; what is finished is kept and offered again: %s", error)

    def tick(self, runner: Runner) -> None:
        """Tell how far a run's maps are, not too often."""
        if not self.feed.has_readers:
            return
        now = self.clock.now()
        maps = runner.map_progress()
        is_last = all(done == total for done, total, _ in maps.values())
        if is_last or now - self._ticked.get(runner.run_id, 0) >= TICK:
            self._ticked[runner.run_id] = now
            self.feed.say(Live(runner.run_id, "maps", now, maps))

    def fetch(self, store: Store, digest: str, then: Callable[[bytes], None]) -> None:
        """Read a blob and call back with it."""

        async def read() -> None:
            while True:
                try:
                    data = await store.blob(digest)
                    break
                except StoreError as error:
                    if not error.retryable:
                        raise
                    self.degraded(error)
                    await self._nap(self.clock.now() + self.store_retry)
            then(data)

        self._chore(read())

    def needs(self, task: Task[..., Any], input: msgspec.Raw) -> Needs:
        """The slots that an attempt of this task takes."""
        known = self._needs.get(task)
        if known is not None:
            return known
        options = task.options
        needs: list[tuple[str, int]] = [("attempts", self.limits.attempts)]
        if options.executor == "process":
            needs.append(("processes", self.limits.processes))
        elif options.executor == "thread" or (not options.executor and not task.is_async):
            needs.append(("threads", self.limits.threads))
        if options.concurrency is not None:
            name = f"task:{task.name}"
            if options.concurrency_key is not None:
                args, kwargs = task.codec.decode(input)
                return (*needs, (f"{name}:{options.concurrency_key(*args, **kwargs)}", options.concurrency))
            needs.append((name, options.concurrency))
        self._needs[task] = result = tuple(needs)
        return result

    # -- loops --------------------------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        while True:
            await self._nap(self.clock.now() + LEASE // 3)
            try:
                held = await self.store.renew(self.worker, now=self.clock.now(), lease=LEASE)
            except StoreError as error:
                if not error.retryable:
                    raise
                self.degraded(error)
                continue
            if not held:
                _log.error("worker %s lost the right to drive %s to another process", self.worker, self.store.url)
                self.lose()
                return

    def lose(self) -> None:
        """Stop at once and write nothing more: the runs belong to others, or the store to nobody."""
        self.lost = True
        self.closing = True
        for runner in tuple(self.runners.values()):
            runner.abandon()

    async def _keep_claiming(self) -> None:
        while True:
            self._attention.clear()
            try:
                full = await self._claim(self.store)
                full = await self._claim(self.volatile) or full
                wake = None if full else await self._next_wake()
            except Fenced:
                self.lose()
                return
            except StoreError as error:
                self.degraded(error)
                await self._nap(self.clock.now() + self.store_retry)
                continue
            if full:
                continue
            latest = self.clock.now() + LONGEST_NAP
            await self._wait_for_attention(latest if wake is None else min(wake, latest))

    async def _claim(self, store: Store) -> bool:
        """Claim a page; True when there may be more."""
        room = self._room()
        if room <= 0:
            self._make_room()
            return False
        names = [name for name, workflow in self.workflows.items() if not self._is_full(workflow)]
        if not names:
            return False
        tight = any(self.workflows[name].concurrency is not None for name in names)
        limit = 1 if tight else min(room, CLAIM_PAGE)
        self._asked_for += limit
        try:
            claimed = await store.claim(self.worker, workflows=names, now=self.clock.now(), limit=limit)
        finally:
            self._asked_for -= limit
        self._adopting.update(one.row.run_id for one in claimed)
        for one in claimed:
            if not self._trials.takes(store, one):
                await self._adopt_in_time(store, one)
        self._early = {run_id: early for run_id, early in self._early.items() if run_id in self._adopting}
        return len(claimed) >= limit

    async def _adopt_in_time(self, store: Store, claimed: Claimed) -> None:
        """Adopt a run that belongs to this worker now, however long the store has trouble."""
        try:
            while not self.closing:
                try:
                    await self._adopt(store, claimed)
                    return
                except StoreError as error:
                    if not error.retryable:
                        _log.error("run %s is left as it is: %s", claimed.row.run_id, error)
                        return
                    self.degraded(error)
                    await self._nap(self.clock.now() + self.store_retry)
        finally:
            self._adopting.discard(claimed.row.run_id)

    def _make_room(self) -> None:
        dropped = 0
        for runner in tuple(self.runners.values()):
            if dropped >= CLAIM_PAGE:
                return
            if runner.state.status in ("waiting", "paused", "stuck") and runner.drop_if_idle():
                dropped += 1

    async def _adopt(self, store: Store, claimed: Claimed) -> None:
        row = claimed.row
        stored = await store.read(row.run_id)
        entries: list[AnyEntry] = [one.entry for one in stored]
        state = replay(entries)
        wanted = blobs_of(entries) | ({state.input_blob} if state.input_blob else set())
        blobs = {digest: await store.blob(digest) for digest in sorted(wanted)}
        if self.closing:
            return
        if state.ended is None and state.pause is None and self._trials.is_guilty(claimed):
            reason = f"it was picked up {row.claims} times and made no progress; the last worker died each time"
            await self._set_aside(store, row, state, reason)
            return
        workflow = self.workflows[row.workflow]
        runner = Runner(
            self,
            store,
            workflow,
            state,
            row.epoch,
            history=entries,
            blobs=blobs,
            messages=claimed.messages,
            claims=row.claims,
        )
        self.runners[row.run_id] = runner
        for message in self._early.pop(row.run_id, ()):
            runner.receive(message)
        runner.wake()

    async def _set_aside(self, store: Store, row: RunRow, state: State, reason: str) -> None:
        now = max(self.clock.now(), state.updated_at)
        entries = decide(state, Pause(cause="crash_loop", reason=reason), now)
        seq = state.seq + 1
        for entry in entries:
            evolve(state, entry)
        await store.append(
            Append(
                run_id=row.run_id,
                epoch=row.epoch,
                seq=seq,
                entries=entries,
                status=state.status,
                wake_at=None,
                at=now,
                release=True,
            )
        )
        self._trials.judged()
        if self.feed.has_readers:
            self.feed.publish(row.run_id, [Stored(seq + n, row.epoch, entry) for n, entry in enumerate(entries)])
        self._tell_end(row.run_id, state)

    async def _next_wake(self) -> int | None:
        names = [name for name, workflow in self.workflows.items() if not self._is_full(workflow)]
        wakes = [await store.next_wake(workflows=names) for store in (self.store, self.volatile)]
        return min((wake for wake in wakes if wake is not None), default=None)

    async def _keep_polling(self) -> None:
        while True:
            await self._nap(self.clock.now() + POLL)
            if self.store.changed():
                self._read_soon(self.store)

    def _read_soon(self, store: Store) -> None:
        """Look into the mailboxes of this engine's runs; calls that come meanwhile share the next look."""
        self._unread.add(id(store))
        if not self._is_reading:
            self._is_reading = True
            self._chore(self._read_messages())

    async def _read_messages(self) -> None:
        try:
            while self._unread:
                for store in (self.store, self.volatile):
                    if id(store) in self._unread:
                        self._unread.discard(id(store))
                        await self._read_mailboxes(store)
                self._attention.set()
        finally:
            self._is_reading = False

    async def _read_mailboxes(self, store: Store) -> None:
        try:
            messages = await store.messages(after=self._last_read[id(store)], owner=self.worker)
        except StoreError as error:
            if not error.retryable:
                raise
            self.degraded(error)
            self._unread.add(id(store))
            await self._nap(self.clock.now() + self.store_retry)
            return
        for message in messages:
            self._last_read[id(store)] = message.id
            self.heard(message, in_order=True)

    async def _wait_for_attention(self, until: int) -> None:
        alarm = self.clock.call_at(until, self._attention.set)
        try:
            await self._attention.wait()
        finally:
            alarm.cancel()

    async def _nap(self, until: int) -> None:
        done: asyncio.Future[None] = self.loop.create_future()
        alarm = self.clock.call_at(until, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            alarm.cancel()

    def _chore(self, work: Any) -> None:  # Any: a coroutine that returns None
        task = self.loop.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("the engine could not do a chore", exc_info=task.exception())


def _same_place(one: Workflow[..., Any], other: Workflow[..., Any]) -> bool:
    """Whether both are the same definition, loaded twice (a script reloaded, a task wrapped again)."""
    return one.__module__ == other.__module__ and one.__qualname__ == other.__qualname__
