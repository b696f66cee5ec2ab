"""The engine of one process: claims runs, keeps a bounded number of them in memory, and gives them up again."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, TypeVar

import msgspec

from stepwell.authoring.graph import GraphWorkflow
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.engine.caching import Caching
from stepwell.engine.claiming import Claims
from stepwell.engine.clock import Clock
from stepwell.engine.executor import Executor
from stepwell.engine.feed import Feed, Live
from stepwell.engine.graphs import Graphs
from stepwell.engine.limits import Limits, Needs, Slots
from stepwell.engine.mailboxes import Mailboxes
from stepwell.engine.queueing import Queueing
from stepwell.engine.runner import Runner
from stepwell.engine.scheduling import Scheduling
from stepwell.engine.streams import CountUsage
from stepwell.engine.topics import Topics
from stepwell.errors import DefinitionError, StoreError
from stepwell.model.ids import SECOND
from stepwell.model.state import State
from stepwell.model.versions import label_of
from stepwell.nodes.registry import NodeTypes
from stepwell.stores.protocol import Append, Store

T = TypeVar("T")

_log = logging.getLogger("stepwell.engine")

LEASE = 15 * SECOND
"""How long a worker's right to drive lasts without renewal (microseconds)."""

FOR_EVER = 1 << 60
"""The lease of a store that nobody else can drive (microseconds)."""

TICK = SECOND // 5
"""How often, at most, a run's progress is told (microseconds)."""


KEEP_VOLATILE = 1000
"""How many runs in memory only are kept after they have ended, at least; up to twice as many are there."""


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
        count_usage: CountUsage | None = None,
        strict: bool = False,
        keep_events: int | None = None,
        tasks: Registry | None = None,
        types: NodeTypes | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.context = contextvars.Context()
        self.store = store
        self.volatile = volatile
        self.clock = clock
        self.now = clock.now
        self.chance = chance
        self.limits = limits
        self.warm_wait = warm_wait
        self.strict = strict
        self.keep_events = keep_events
        self.count_usage = count_usage
        self.store_retry = SECOND
        self.feed = Feed()
        self.slots = Slots(clock)
        self.executor = Executor(clock, self.feed, limits, executors)
        self.bodies = ThreadPoolExecutor(limits.bodies, thread_name_prefix="stepwell-body")
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{chance.getrandbits(32):08x}"
        self.runners: dict[str, Runner] = {}
        self.workflows: dict[str, Workflow[..., Any]] = {}  # Any: whatever they return; those that serve new runs
        self.versions: dict[tuple[str, str], Workflow[..., Any]] = {}  # Any: the same; by name and version label
        self.closing = False
        self.lost = False
        self.stopped_by: BaseException | None = None
        self._ends: dict[str, list[asyncio.Future[State]]] = {}
        self._needs: dict[Task[..., Any], Needs] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._chores: set[asyncio.Task[None]] = set()
        self.claims = Claims(self)
        self.graphs = Graphs(self, tasks or Registry(), types or NodeTypes.standard())
        self.mailboxes = Mailboxes(self)
        self.caching = Caching(self)
        self.topics = Topics(self)
        self.queueing = Queueing(self)
        self.scheduling = Scheduling(self)
        self._ticked: dict[str, int] = {}
        self._degraded_said = 0
        self._volatile_ended = 0
        self._emptied = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take the right to drive and begin to.

        Raises:
            StoreBusy: another live process drives this store.
        """
        now = self.clock.now()
        await self.store.drive(self.worker, now=now, lease=LEASE if self.store.is_shared else FOR_EVER)
        await self.graphs.refresh()
        await self.queueing.open()
        await self.volatile.drive(self.worker, now=now, lease=FOR_EVER)
        loops = [self.claims.keep_claiming(), self.claims.trials.keep_trying()]
        if self.keep_events is not None:
            loops.append(self.topics.keep_forgetting(self.keep_events))
        loops += [self.queueing.keep_admitting(), self.scheduling.keep_firing()]
        if self.store.is_shared:
            loops = [self._keep_lease(), loops[0], self.mailboxes.keep_polling(), *loops[1:]]
        self._tasks = [self.loop.create_task(loop) for loop in loops]
        for task in self._tasks:
            task.add_done_callback(self._loop_ended)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        """A loop of the engine ends when it is cancelled; anything else means that the store is gone for good."""
        if not task.cancelled() and task.exception() is not None:
            _log.critical("the engine stops: %s", task.exception(), exc_info=task.exception())
            self.stopped_by = task.exception()
            self.lose()

    async def close(self, grace: int) -> None:
        """Claim nothing more, give attempts in flight `grace` microseconds to end, then leave them to recovery."""
        self.closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._chores, return_exceptions=True)
        await self.claims.trials.give_back()
        deadline = self.clock.now() + grace
        while grace and any(r.steps.in_flight for r in self.runners.values()) and self.clock.now() < deadline:
            await self.nap(self.clock.now() + SECOND // 20)
        for runner in tuple(self.runners.values()):
            runner.release()
        await self._let_go(max(deadline, self.clock.now()) + SECOND)
        for chore in tuple(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self.slots.close()
        await self.executor.close(grace=1.0)
        self.bodies.shutdown(wait=False, cancel_futures=True)

    async def _let_go(self, patience: int) -> None:
        """Wait until all runs are given up; after `patience` not for those for which the store has no room.

        What such a run has not written was never acknowledged; whoever drives the store next takes it up.
        """
        while self.runners and not self.lost:
            self._emptied.clear()
            alarm = self.clock.call_at(patience, self._emptied.set)
            await self._emptied.wait()
            alarm.cancel()
            if self.clock.now() < patience:
                continue
            patience = self.clock.now() + SECOND
            for runner in tuple(self.runners.values()):
                if runner.ledger.is_refused:
                    _log.warning("run %s is left as it stands in the store, which has no room", runner.run_id)
                    runner.abandon()

    def register(self, workflow: Workflow[..., Any]) -> None:
        """Let this engine drive runs of a workflow, and of those that its body mentions.

        Functions of one name with different version labels stand side by side; the last registered serves new runs.

        Raises:
            DefinitionError: another workflow has this name and label, or the engine is strict and the lint finds
                something.
        """
        if isinstance(workflow, GraphWorkflow):
            self._register_graph(workflow)
            return
        if workflow.name in self.graphs.own:
            raise DefinitionError(f"a graph is called {workflow.name!r}: give the function another name")
        version = (workflow.name, workflow.label)
        known = self.versions.get(version)
        if known is None:
            from stepwell.authoring.lint import check  # only now: a client reads no sources

            check(workflow, strict=self.strict)
            self.versions[version] = self.workflows[workflow.name] = workflow
            if workflow.own_queue is not None:
                self.queueing.imply(workflow.own_queue)
            self.claims.look()
            for child in workflow.mentioned():
                self.register(child)
        elif (
            known is not workflow and known.__wrapped__ is not workflow.__wrapped__ and not _same_place(known, workflow)
        ):
            raise DefinitionError(
                f"two workflows are called {workflow.name!r} ({known.__module__} and {workflow.__module__}): "
                "give one of them a name of its own with @workflow(name='…'), or a version label with "
                "@workflow(version='…')"
            )

    def _register_graph(self, graph: GraphWorkflow) -> None:
        if graph.name in self.workflows:
            raise DefinitionError(f"a function is called {graph.name!r}: give the graph another id")
        self.graphs.add(graph)
        if graph.own_queue is not None:
            self.queueing.imply(graph.own_queue)
        self.claims.look()

    async def newest(self, name: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """The workflow that serves new runs of this name: a function, or else a graph.

        Raises:
            InvalidDefinition: the deployed graph has problems in this version of the engine.
        """
        known = self.workflows.get(name)
        return known if known is not None else await self.graphs.fetch(name, "")

    def driven(self) -> list[str]:
        """The names of the workflows whose runs this engine drives."""
        return [*self.workflows, *self.graphs.names()]

    def serving(self, name: str, version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """The function that drives a run of this workflow and version; None when its label is not registered.

        A run without a label is driven by the function without one, or else by the one that serves new runs.
        """
        if self.graphs.knows(name) and name not in self.workflows:
            return self.graphs.serving(name, version)
        label, newest = label_of(version), self.workflows.get(name)
        if newest is None or newest.label == label:
            return newest
        return self.versions.get((name, label), None if label else newest)

    def unserved(self, run_id: str, name: str, version: str) -> str:
        """Why a run of a version that is not registered is set aside, and what to do, for people."""
        labels = [label for known, label in self.versions if known == name]
        listed = ", ".join(repr(label) if label else "the one without a label" for label in labels)
        newest = self.workflows[name].label
        return (
            f"the run stays with version {label_of(version)!r} of workflow {name!r}, which this engine does not have "
            f"(it has {listed}): register that function beside the others and resume, or let the run go on under "
            f"another version: stepwell upgrade {run_id} --to {newest or chr(34) * 2}"
        )

    # -- starting and finding runs ------------------------------------------------------------------------------

    def ended(self, run_id: str) -> asyncio.Future[State]:
        """Done, with the state at that moment, when this engine next sees the run end, be set aside or leave."""
        future: asyncio.Future[State] = self.loop.create_future()
        self._ends.setdefault(run_id, []).append(future)
        return future

    def moves(self, run_id: str) -> bool:
        """Whether the run is in this engine's memory, or on its way there, and is not set aside."""
        runner = self.runners.get(run_id)
        return self.claims.is_adopting(run_id) if runner is None else runner.state.pause is None

    # -- what runners tell --------------------------------------------------------------------------------------

    def committed(self, runner: Runner, append: Append) -> None:
        """Entries of a run are on disk."""
        if append.entries and self.feed.has_readers:
            self.feed.publish(runner.run_id, runner.stored(append))
        if append.progress:
            self.claims.trials.clear(runner.run_id)
        if append.children:
            self.claims.look()
        self.queueing.committed(runner, append)
        if append.posts:
            self.mailboxes.read_soon(runner.store)
        if append.events:
            self.topics.read_soon()
            self.scheduling.look()
        if append.release or append.status in ("paused", "stuck"):
            self.tell_end(runner.run_id, runner.state)

    def tell_end(self, run_id: str, state: State) -> None:
        """Tell those who wait for a run that it has ended, is set aside, or leaves this engine."""
        for future in self._ends.pop(run_id, ()):
            if not future.done():
                future.set_result(state)

    def hint(self, starting: int) -> None:
        """Tell the store, before an append, whether anything but the attempts that it starts is going on."""
        inline = len(self.runners) == 1 and self.slots.used("attempts") <= starting
        if self.store.inline_commits != inline:
            self.store.inline_commits = inline

    def left(self, runner: Runner) -> None:
        """A run has left this engine's memory."""
        if self.runners.get(runner.run_id) is runner:
            del self.runners[runner.run_id]
        self._ticked.pop(runner.run_id, None)
        self.claims.trials.clear(runner.run_id)
        if runner.is_volatile and runner.state.ended is not None:
            self._volatile_ended += 1
            if self._volatile_ended >= 2 * KEEP_VOLATILE:
                self._volatile_ended -= KEEP_VOLATILE
                self.chore(self.volatile.delete(finished_before=self.clock.now() + 1, limit=KEEP_VOLATILE))
        if not self.closing:
            self.claims.look()
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
        maps = runner.body.maps
        is_last = all(done == total for done, total, _ in maps.values())
        if is_last or now - self._ticked.get(runner.run_id, 0) >= TICK:
            self._ticked[runner.run_id] = now
            self.feed.say(Live(runner.run_id, "maps", now, maps))

    def fetch(self, store: Store, digest: str, then: Callable[[bytes], None]) -> None:
        """Read a blob and call back with it."""

        async def read() -> None:
            then(await self.insist(lambda: store.blob(digest)))

        self.chore(read())

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store for something until it answers; what waiting cannot help is raised."""
        while True:
            try:
                return await ask()
            except StoreError as error:
                if not error.retryable:
                    raise
                self.degraded(error)
                await self.nap(self.clock.now() + self.store_retry)

    def needs(self, task: Task[..., Any], input: msgspec.Raw) -> Needs:
        """The slots that an attempt of this task takes."""
        known = self._needs.get(task)
        if known is not None:
            return known
        options = task.options
        needs = [("attempts", self.limits.attempts, 0)]
        if options.executor == "process":
            needs.append(("processes", self.limits.processes, 0))
        elif options.executor == "thread" or (not options.executor and not task.is_async):
            needs.append(("threads", self.limits.threads, 0))
        key = ""
        is_keyed = options.concurrency_key is not None and (options.concurrency or options.rate)
        if options.concurrency_key is not None and is_keyed:
            args, kwargs = task.codec.decode(input)
            key = f":{options.concurrency_key(*args, **kwargs)}"
        if options.concurrency is not None:
            needs.append((f"task:{task.name}{key}", options.concurrency, 0))
        if options.rate is not None:
            needs.append((f"rate:{task.name}{key}", *options.rate))
        result = tuple(needs)
        if not is_keyed:
            self._needs[task] = result
        return result

    # -- loops --------------------------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        while True:
            await self.nap(self.clock.now() + LEASE // 3)
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

    async def nap(self, until: int) -> None:
        """Wait until the clock shows `until`."""
        done: asyncio.Future[None] = self.loop.create_future()
        alarm = self.clock.call_at(until, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            alarm.cancel()

    def chore(self, work: Any) -> None:  # Any: a coroutine that returns None
        """Do some work beside the loops; what it raises is logged."""
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
