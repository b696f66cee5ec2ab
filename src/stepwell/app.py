"""`Stepwell`: every use case once. The CLI, servers and scripts call this and nothing below it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from pathlib import Path
from random import Random
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

import msgspec

from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.engine.clock import Clock, SystemClock, system_chance
from stepwell.engine.feed import Reader
from stepwell.engine.limits import Limits
from stepwell.engine.verbs import VerbBody
from stepwell.engine.worker import Engine
from stepwell.errors import (
    DefinitionError,
    RequestRefused,
    RunCancelled,
    RunExists,
    RunFailed,
    RunNotFound,
    RunSetAside,
    StepwellBug,
    StoreError,
)
from stepwell.handle import Run
from stepwell.model.codec import ValueCodec
from stepwell.model.durations import Duration, micros
from stepwell.model.entries import OnChange
from stepwell.model.failure import Failure
from stepwell.model.ids import SECOND
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.model.state import State, evolve, replay
from stepwell.starting import new_run
from stepwell.stores import open_store
from stepwell.stores.memory import MemoryStore
from stepwell.stores.protocol import Filter, Finding, Message, MessageKind, NewMessage, RunRow, Store, Stored

P = ParamSpec("P")
T = TypeVar("T")

Durability: TypeAlias = Literal["sync", "async", "exit", "memory"]

_REVIVING = frozenset({"resume", "retry", "cancel"})

PAGE = 1000
"""Entries of a journal read at a time."""

FOLLOW_POLL = 0.1
"""How often a reader of a run that another process drives looks again (seconds)."""


class Stepwell:
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
        drive: False for a client that only asks: it may run beside the process that drives.
        limits: how much happens at once.
        executors: `concurrent.futures` executors by the names that tasks give as `executor=`.
        warm_wait: how long a run that only waits stays in memory before its body is dropped.
        grace: how long attempts in flight may go on when the engine closes.
        create: whether a store that does not exist is made.
        clock, chance: where time and randomness come from; tests give their own.
    """

    def __init__(
        self,
        store: str | Path | Store = "sqlite:///stepwell.db",
        *,
        workflows: Iterable[Workflow[..., Any] | Task[..., Any]] = (),  # Any: whatever they return
        drive: bool = True,
        limits: Limits | None = None,
        executors: Mapping[str, FuturesExecutor] | None = None,
        warm_wait: Duration = "30s",
        grace: Duration = "10s",
        create: bool = True,
        clock: Clock | None = None,
        chance: Random | None = None,
    ) -> None:
        self.store: Store = open_store(str(store)) if isinstance(store, str | Path) else store
        self._workflows = [workflow_of(target) for target in workflows]
        self._drive = drive
        self._limits = limits or Limits()
        self._executors = executors
        self._warm_wait = micros(warm_wait, "warm_wait")
        self._grace = micros(grace, "grace")
        self._create = create
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
        """
        await self.store.open(create=self._create)
        await self._volatile.open()
        self._is_open = True
        if not self._drive:
            return
        engine = Engine(
            self.store,
            self._volatile,
            clock=self._clock,
            chance=self._chance,
            limits=self._limits,
            warm_wait=self._warm_wait,
            executors=self._executors,
        )
        for workflow in self._workflows:
            engine.register(workflow)
        try:
            await engine.open()
        except BaseException:
            await self.close()
            raise
        self._engine = engine

    async def close(self, grace: Duration | None = None) -> None:
        """Stop driving, let attempts in flight end within the grace time, and close the store. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close(self._grace if grace is None else micros(grace, "grace"))
        if self._is_open:
            self._is_open = False
            await self.store.close()

    @property
    def engine(self) -> Engine:
        """The engine, for those who look inside.

        Raises:
            RequestRefused: this is a client, or it is not open.
        """
        if self._engine is None:
            raise RequestRefused("this Stepwell does not drive runs: open it with `async with`, and drive=True")
        return self._engine

    # -- starting -----------------------------------------------------------------------------------------------

    async def start(
        self,
        target: Workflow[P, T] | Task[P, T],
        *args: Any,  # Any: the target's own signature, checked when the arguments are bound
        id: str | None = None,
        priority: int = 0,
        labels: Mapping[str, str] | None = None,
        durability: Durability = "sync",
        by: str = "",
        **kwargs: Any,
    ) -> Run[T]:
        """Start a run; when this returns it is in the store and will be driven to its end.

        `id` is the idempotency key: starting the same workflow with the same input under the same id again gives
        the run that is there.

        Args:
            target: a workflow, or a task, which then is a run of one step with an identity of its own.
            *args, **kwargs: the workflow's own arguments.
            id: the run's id; made up when absent.
            priority: runs with a higher number go first.
            labels: for finding runs.
            durability: `sync` journals each outcome before anything that depends on it starts; `async` writes while
                work goes on (a crash can cost the last moments, which are then done again); `exit` writes once at the
                end (a crash costs the run's progress); `memory` never writes (a crash costs the run).
            by: who asks, for the journal.

        Raises:
            ArgumentError: the arguments do not fit, or the id or durability is not usable.
            Unserialisable: an argument cannot be written.
            RunExists: the id is taken by a run of another workflow or with another input.
        """
        workflow = workflow_of(target)
        data = workflow.codec.encode(args, kwargs)
        return await self.start_encoded(
            workflow, data, id=id, priority=priority, labels=labels, durability=durability, by=by
        )

    async def start_encoded(
        self,
        workflow: Workflow[P, T],
        data: msgspec.Raw,
        *,
        id: str | None = None,
        priority: int = 0,
        labels: Mapping[str, str] | None = None,
        durability: Durability = "sync",
        by: str = "",
    ) -> Run[T]:
        """`start`, with the input as `workflow.codec` encodes it."""
        if durability not in ("sync", "async", "exit", "memory"):
            raise DefinitionError(f"durability={durability!r}: use 'sync', 'async', 'exit' or 'memory'")
        new = new_run(workflow, data, id, priority, labels, durability, by, self._clock.now(), self._chance)
        volatile = durability == "memory"
        if self._engine is not None:
            self._engine.register(workflow)
            # Shielded: a caller that gives up waiting must not keep the engine from hearing that the run is there.
            row = await asyncio.shield(self._engine.claims.start(new, workflow, volatile))
        elif volatile:
            raise RequestRefused(
                "a run with durability='memory' lives in its engine's memory: a client cannot start one"
            )
        else:
            row = await self.store.create(new)
        if row.workflow != new.workflow or row.input_hash != new.input_hash:
            other = "another input" if row.workflow == new.workflow else f"workflow {row.workflow!r}"
            raise RunExists(
                f"run id {new.run_id!r} is taken by a run of {other} ({row.status}); choose another id, or "
                "start it with the same workflow and input to get that run"
            )
        return Run(self, new.run_id, workflow.codec.returns)

    async def run(self, target: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Start a run and wait for its result."""
        workflow = workflow_of(target)
        return await (await self.start_encoded(workflow, workflow.codec.encode(args, kwargs))).result()

    # -- verbs --------------------------------------------------------------------------------------------------

    async def pause(self, id: str, *, by: str = "", reason: str = "") -> None:
        """Let no new attempt of the run start; those in flight end and are journaled.

        Timers and signals that come meanwhile are kept. Accepted means on disk; the driving process acts on it.

        Raises:
            RunNotFound, WrongStatus: there is no such run, or it has ended.
        """
        await self._verb(id, "pause", VerbBody(reason), by)

    async def resume(self, id: str, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """Let a paused or stuck run go on; `on_change` overrides the tasks' policy for code that has changed."""
        await self._verb(id, "resume", VerbBody(reason, on_change), by)

    async def cancel(self, id: str, *, by: str = "", reason: str = "") -> None:
        """Ask a run to end: its body gets `asyncio.CancelledError`, its attempts and child runs are cancelled."""
        await self._verb(id, "cancel", VerbBody(reason), by)

    async def retry(self, id: str, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """Let a failed or cancelled run go on from the steps whose failure ended it; what is finished stays so."""
        await self._verb(id, "retry", VerbBody(reason, on_change), by)

    async def signal(self, id: str, name: str, payload: object = None, *, key: str = "", by: str = "") -> bool:
        """Send a signal; it is kept until the run takes it. False when `key` says that it was sent before.

        Raises:
            RunNotFound, WrongStatus: there is no such run, or it has ended.
            Unserialisable: the payload cannot be written.
        """
        if not name:
            raise RequestRefused("a signal needs a name")
        codec = ValueCodec(type(payload) if _is_typed(payload) else Any, f"signal {name!r}")
        return await self._post(id, "signal", name, bytes(codec.encode(payload)), by, key)

    async def _verb(self, id: str, kind: MessageKind, body: VerbBody, by: str) -> None:
        await self._post(id, kind, "", msgspec.json.encode(body), by, "")

    async def _post(self, id: str, kind: MessageKind, name: str, body: bytes, by: str, key: str) -> bool:
        message = NewMessage(id, kind, name, body, self._clock.now(), key=key, by=by)
        posting = self._store_of(id).post(message)
        posting.add_done_callback(self._posted)
        return await asyncio.shield(posting) is not None

    def _posted(self, done: asyncio.Future[Message | None]) -> None:
        posted = None if done.cancelled() or done.exception() is not None else done.result()
        if posted is not None and self._engine is not None:
            self._engine.mailboxes.heard(posted)

    # -- looking ------------------------------------------------------------------------------------------------

    def handle(self, id: str) -> Run[Any]:
        """A handle on a run by id; nothing is checked."""
        return Run(self, id, None)

    async def get(self, id: str) -> RunRow:
        """The run's row.

        Raises:
            RunNotFound: no run has this id.
        """
        row = await self._store_of(id).get(id)
        if row is None:
            raise RunNotFound(f"no run has the id {id!r}")
        return row

    async def runs(self, where: Filter | None = None) -> list[RunRow]:
        """Rows that match, newest first."""
        return await self.store.find(where or Filter())

    async def counts(self) -> dict[str, int]:
        """How many runs have each status."""
        return await self.store.count()

    async def entries(self, id: str, *, after: int = 0, limit: int = 1_000_000) -> list[Stored]:
        """The run's journal from `after` on."""
        return await self._store_of(id).read(id, after=after, limit=limit)

    async def state(self, id: str, *, at: int | None = None) -> State:
        """The fold of the run's journal, up to and including seq `at` when given."""
        state = State()
        async for one in self.scan(id):
            if at is not None and one.seq > at:
                break
            evolve(state, one.entry)
        return state

    async def scan(self, id: str, *, after: int = 0) -> AsyncIterator[Stored]:
        """The run's journal from `after` on as it is now, read in pages: a long one is never in memory as a whole."""
        while True:
            page = await self.entries(id, after=after, limit=PAGE)
            for one in page:
                yield one
            if len(page) < PAGE:
                return
            after = page[-1].seq

    async def payload(self, inline: msgspec.Raw, blob: str) -> bytes:
        """The JSON of a payload wherever an entry keeps it."""
        return await self.store.blob(blob) if blob else bytes(inline)

    async def follow(self, id: str, *, after: int = 0) -> AsyncIterator[Stored]:
        """Entries from `after` on, as they are committed, until the run has ended or is set aside."""
        while True:
            stored = await self.entries(id, after=after)
            for one in stored:
                after = one.seq
                yield one
            if not stored:
                row = await self._at_rest(id)
                if row is not None and row.next_seq == after + 1:
                    return
                await asyncio.sleep(FOLLOW_POLL)

    @contextlib.contextmanager
    def listening(self, reader: Reader) -> Any:  # Any: a generator of None, as contextmanager wants it
        """Tell `reader` what this engine commits and what its runs say, while the block lasts."""
        stop = self.engine.feed.subscribe(reader)
        try:
            yield
        finally:
            stop()

    async def wait(self, id: str, timeout: Duration | None = None) -> RunRow:
        """Wait until the run has ended or is set aside; return its row."""
        limit = None if timeout is None else micros(timeout, "timeout") / SECOND
        async with asyncio.timeout(limit):
            await self._end(id)
        return await self.get(id)

    async def _end(self, id: str) -> State | None:
        """Wait until the run has ended or is set aside; its state, when this engine saw it happen."""
        while True:
            if self._engine is not None and self._engine.stopped_by is not None:
                raise StoreError(f"this engine has stopped, and run {id} with it: {self._engine.stopped_by}")
            seen = self._engine.ended(id) if self._engine is not None else None
            moves = self._engine is not None and self._engine.moves(id)
            if not moves and await self._at_rest(id) is not None:
                return None
            if seen is None:
                await asyncio.sleep(FOLLOW_POLL)
                continue
            # Look again now and then: another process may have taken the store over.
            done, _ = await asyncio.wait((seen,), timeout=5)
            if done and seen.result().status in TERMINAL | SET_ASIDE:
                return seen.result()

    async def _at_rest(self, id: str) -> RunRow | None:
        """The run's row when it has ended or is set aside, and no accepted verb is about to change that; else None."""
        # The mailbox first: a verb that is no longer in it has changed the row already.
        messages = await self._store_of(id).mailbox(id)
        row = await self.get(id)
        is_reviving = any(message.kind in _REVIVING for message in messages)
        return None if is_reviving or row.status not in TERMINAL | SET_ASIDE else row

    async def result(self, id: str, codec: ValueCodec | None = None, timeout: Duration | None = None) -> object:
        """Wait for the end of a run; its result, decoded by `codec`, or as plain JSON. Raises as `Run.result` does."""
        limit = None if timeout is None else micros(timeout, "timeout") / SECOND
        async with asyncio.timeout(limit):
            state = await self._end(id) or await self._last_word(id)
        match state.status:
            case "completed":
                data = msgspec.Raw(await self._payload_in(id, state))
                return codec.decode(data) if codec is not None else msgspec.json.decode(data)
            case "failed":
                raise RunFailed(id, state.error or Failure("", "no error was recorded"))
            case "cancelled":
                raise RunCancelled(id)
            case "paused" | "stuck":
                raise RunSetAside(id, state.status, state.pause.reason if state.pause is not None else "")
            case _:
                raise StepwellBug(f"run {id} was waited for and is {state.status}")

    async def _last_word(self, id: str) -> State:
        """What the end of an ended run's journal says, without reading the rest of it."""
        row = await self.get(id)
        if row.status not in TERMINAL:
            return await self.state(id)
        return replay(one.entry for one in await self.entries(id, after=row.next_seq - 2))

    async def _payload_in(self, id: str, state: State) -> bytes:
        if state.output_blob:
            return await self._store_of(id).blob(state.output_blob)
        return bytes(state.output)

    def _store_of(self, id: str) -> Store:
        return self._volatile if id in self._volatile.data.runs else self.store

    # -- care ---------------------------------------------------------------------------------------------------

    async def backup(self, to: Path) -> None:
        """Write a consistent copy of the store while work goes on."""
        await self.store.backup(to)

    async def check(self) -> list[Finding]:
        """Look the store over."""
        return await self.store.check()

    async def gc(self, *, older_than: Duration) -> int:
        """Delete runs that ended longer ago than this, with all that belongs to them; returns how many."""
        before = self._clock.now() - micros(older_than, "older_than")
        total = 0
        while True:
            deleted = await self.store.delete(finished_before=before)
            total += deleted
            if not deleted:
                return total


def _is_typed(value: object) -> bool:
    """Whether the value's own class says how to write it (dataclasses, structs, models)."""
    kind = type(value)
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__struct_fields__") or hasattr(kind, "model_fields")
