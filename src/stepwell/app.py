"""`Stepwell`: every use case once. The CLI, servers and scripts call this and nothing below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from stepwell.authoring.queue import Queue
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.engine.clock import Clock, SystemClock, system_chance
from stepwell.engine.limits import Limits
from stepwell.engine.queueing import put_queues
from stepwell.engine.streams import CountUsage
from stepwell.engine.worker import Engine
from stepwell.model.durations import Duration, micros
from stepwell.nodes.protocol import NodeType
from stepwell.nodes.registry import NodeTypes
from stepwell.observe.tracing import spans_for
from stepwell.stores import open_store
from stepwell.stores.memory import MemoryStore
from stepwell.stores.protocol import Store
from stepwell.usecases.care import Care
from stepwell.usecases.events import Events
from stepwell.usecases.graphs import Graphs
from stepwell.usecases.partial import Partial
from stepwell.usecases.people import People
from stepwell.usecases.pipelines import Pipelines
from stepwell.usecases.starting import Durability as Durability
from stepwell.usecases.starting import Starting
from stepwell.usecases.streams import Streams
from stepwell.usecases.tasks import Tasks
from stepwell.usecases.triggers import Triggers

if TYPE_CHECKING:
    from stepwell.observe.spans import Spans


class Stepwell(Starting, Graphs, Pipelines, Triggers, People, Events, Streams, Partial, Tasks, Care):
    """A store, and unless `drive=False` an engine that drives its runs.

    ```python
    async with Stepwell("sqlite:///shop.db", workflows=[select_products]) as app:
        run = await app.start(select_products, "http://localhost:8000", id="shop-2026-11-20")
        report = await run.result()
    ```

    Args:
        store: a URL (`sqlite:///relative.db`, `sqlite:////absolute.db`, `memory://`), a path of an SQLite file, or a
            `Store`.
        workflows: what this engine may drive; what `start` is given is added by itself.
        tasks: tasks that graphs may name, and modules that have such; a `Registry` as it is. Those of installed
            distributions (entry points `stepwell.tasks`) are known without. Functions call their tasks in any case.
        node_types: node types beside the standard ones and those of installed distributions (entry points
            `stepwell.nodes`); a `NodeTypes` as it is.
        drive: False for a client that only asks: it may run beside the process that drives.
        queues: put into the store at opening; see `Queue`.
        limits: how much happens at once.
        executors: `concurrent.futures` executors by the names that tasks give as `executor=`.
        environments: the folder of the environments of tasks with `requires`; None: `$STEPWELL_ENVS`, or
            `~/.stepwell/envs`.
        warm_wait: how long a run that only waits stays in memory before its body is dropped.
        keep_events: how long published events are kept for runs that are still to wait for them, and known, so that a
            second one of the same source and id is not published; None: for ever.
        grace: how long attempts in flight may go on when the engine closes.
        create: whether a store that does not exist is made.
        strict: for development: a workflow with findings of the lint is refused when it is registered, and a run whose
            body makes a call that cannot be replayed fails there and says where.
        tracing: whether runs and attempts are OpenTelemetry spans; None: if the program has set a tracer provider up
            before this is opened. Without it OpenTelemetry is not imported.
        count_usage: counts what an emitted chunk stands for when its task does not say, such as
            `lambda chunk: {"tokens": len(chunk) // 4}`.
        clock, chance: where time and randomness come from; tests give their own.
    """

    def __init__(
        self,
        store: str | Path | Store = "sqlite:///stepwell.db",
        *,
        workflows: Iterable[Workflow[..., Any] | Task[..., Any]] = (),  # Any: whatever they return
        tasks: object = (),
        node_types: NodeTypes | Iterable[NodeType] = (),
        queues: Iterable[Queue] = (),
        drive: bool = True,
        limits: Limits | None = None,
        executors: Mapping[str, FuturesExecutor] | None = None,
        environments: str | Path | None = None,
        warm_wait: Duration = "30s",
        keep_events: Duration | None = "7d",
        grace: Duration = "10s",
        create: bool = True,
        strict: bool = False,
        tracing: bool | None = None,
        count_usage: CountUsage | None = None,
        clock: Clock | None = None,
        chance: Random | None = None,
    ) -> None:
        self.store: Store = open_store(str(store)) if isinstance(store, str | Path) else store
        self._workflows = [workflow_of(target) for target in workflows]
        self.registry = tasks if isinstance(tasks, Registry) else Registry(tasks)
        self.types = node_types if isinstance(node_types, NodeTypes) else NodeTypes.standard()
        for one in () if isinstance(node_types, NodeTypes) else node_types:
            self.types.add(one)
        self._environments_root = environments
        self._queues = [queue.row() for queue in queues]
        self._drive = drive
        self._limits = limits or Limits()
        self._executors = executors
        self._warm_wait = micros(warm_wait, "warm_wait")
        self._keep_events = None if keep_events is None else micros(keep_events, "keep_events")
        self._grace = micros(grace, "grace")
        self._may_create = create
        self._count_usage = count_usage
        self._strict = strict
        self._tracing = tracing
        self._spans: Spans | None = None
        self._clock = clock or SystemClock()
        self._chance = chance or system_chance()
        self._engine: Engine | None = None
        self._volatile = MemoryStore()
        self._is_open = False

    # -- life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Stepwell:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the store and begin to drive: every run that was under way goes on.

        Raises:
            StoreUnusable: the store cannot be opened.
            StoreBusy: another live process drives it (only with `drive=True`).
            DefinitionError: two workflows have one name, or with `strict=True` the lint has findings in one.
        """
        await self.store.open(create=self._may_create)
        await self._volatile.open()
        self._is_open = True
        if not self._drive:
            await put_queues(self.store, self._queues)
            return
        engine = Engine(
            self.store,
            self._volatile,
            clock=self._clock,
            chance=self._chance,
            limits=self._limits,
            warm_wait=self._warm_wait,
            executors=self._executors,
            count_usage=self._count_usage,
            strict=self._strict,
            keep_events=self._keep_events,
            tasks=self.registry,
            types=self.types,
        )
        try:
            engine.queueing.declare(self._queues)
            for workflow in self._workflows:
                engine.register(workflow)
            self._spans = spans_for(
                self._tracing,
                state_of=lambda id: engine.runners[id].state if id in engine.runners else None,
                read=self.entries,
            )
            if self._spans is not None:
                engine.feed.subscribe(self._spans)
                engine.executor.spans = self._spans
            engine.executor.environments_root = self._environments_root
            await engine.open()
        except BaseException:
            await self.close()
            raise
        self._engine = engine
        self._unlisten = self.registry.on_change(self._tasks_changed)

    async def close(self, grace: Duration | None = None) -> None:
        """Stop driving, let attempts in flight end within the grace time, and close the store. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is not None:
            self._unlisten()
            await engine.close(self._grace if grace is None else micros(grace, "grace"))
        if self._spans is not None:
            await self._spans.close()
        if self._is_open:
            self._is_open = False
            await self.store.close()
