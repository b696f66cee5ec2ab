"""Starting runs, and waiting for their results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

import msgspec

from stepwell.authoring.graph import GraphWorkflow, made
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.engine.queueing import put_queues
from stepwell.engine.verbs import InputBody, VerbBody
from stepwell.errors import RequestRefused, RunExists, RunNotFound, WorkflowNotFound, WrongStatus
from stepwell.handle import Run
from stepwell.model.durations import Duration
from stepwell.starting import Durability as Durability
from stepwell.starting import OnConflict, Order, StartOptions, order, refuse_ambiguous
from stepwell.stores.protocol import NewMessage, NewRun, RunRow
from stepwell.usecases.base import UseCases

if TYPE_CHECKING:
    from stepwell.triggers.schedule import Moment

P = ParamSpec("P")
T = TypeVar("T")


class Starting(UseCases):
    """How runs come into being."""

    _workflows: list[Workflow[..., Any]]  # Any: whatever they return

    @overload
    async def start(
        self,
        target: Workflow[P, T] | Task[P, T],
        *args: Any,  # Any: the target's own signature, checked when the arguments are bound
        id: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        durability: Durability = "sync",
        by: str = "",
        queue: str | None = None,
        queue_key: str = "",
        delay: Duration | None = None,
        at: Moment | None = None,
        deadline: Duration | None = None,
        singleton: str | None = None,
        on_conflict: OnConflict | None = None,
        debounce: Duration | None = None,
        debounce_key: str = "",
        debounce_max: Duration | None = None,
        until: str | None = None,
        **kwargs: Any,
    ) -> Run[T]: ...

    @overload
    async def start(self, target: str, *args: Any, **kwargs: Any) -> Run[Any]: ...  # Any: whatever it returns

    async def start(
        self,
        target: Workflow[P, T] | Task[P, T] | str,
        *args: Any,  # Any: the target's own signature, checked when the arguments are bound
        id: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        durability: Durability = "sync",
        by: str = "",
        queue: str | None = None,
        queue_key: str = "",
        delay: Duration | None = None,
        at: Moment | None = None,
        deadline: Duration | None = None,
        singleton: str | None = None,
        on_conflict: OnConflict | None = None,
        debounce: Duration | None = None,
        debounce_key: str = "",
        debounce_max: Duration | None = None,
        until: str | None = None,
        **kwargs: Any,
    ) -> Run[T]:
        """Start a run; when this returns it is in the store and will be driven to its end.

        `id` is the idempotency key: starting the same workflow with the same input under the same id again gives
        the run that is there.

        Args:
            target: a workflow, or a task, which then is a run of one step with an identity of its own. Options that
                it was given by `with_options` hold unless they are given here. Or a name: of a deployed graph, for
                its active version, or of a function that this Stepwell was given.
            *args, **kwargs: the workflow's own arguments.
            id: the run's id; made up when absent.
            priority: runs with a higher number go first.
            labels: for finding runs.
            durability: `sync` journals each outcome before anything that depends on it starts; `async` writes while
                work goes on (a crash can cost the last moments, which are then done again); `exit` writes once at the
                end (a crash costs the run's progress); `memory` never writes (a crash costs the run, and of those that
                have ended only the last thousand can still be asked).
            by: who asks, for the journal.
            queue, queue_key: the queue in which it waits, pending, until the queue's limits leave room for it, and
                what the limits per key count it under. Without: the workflow's own (`""`: none).
            delay, at: begin that much later, or at that moment. Until then the run is pending, and can be cancelled.
            deadline: how long it may take from when it may begin, waiting in a queue and paused included. A run that
                has not ended by then is cancelled, and fails with `DeadlinePassed`.
            singleton: of the workflow's runs with this key only one is under way at a time. `on_conflict` says what
                happens when there is one: `attach` gives that one (the default), `refuse` raises `RunExists`,
                `replace` cancels it and starts this one.
            until: only for graphs: run what leads to this node, and end with its output as the result.
            debounce: begin when no further start of the workflow with the same `debounce_key` has come for so long;
                each of those replaces the input and gives the same run. `debounce_max` bounds how long after the
                first start it begins all the same.

        Raises:
            ArgumentError: the arguments do not fit, or an option is not usable.
            Unserialisable: an argument cannot be written.
            RunExists: the id is taken by a run of another workflow or with another input.
            WorkflowNotFound: nothing has the name that was given.
        """
        options: dict[str, object] = {
            "id": id,
            "priority": priority,
            "labels": labels,
            "durability": durability,
            "by": by,
            "queue": queue,
            "queue_key": queue_key,
            "delay": delay,
            "at": at,
            "deadline": deadline,
            "singleton": singleton,
            "on_conflict": on_conflict,
            "debounce": debounce,
            "debounce_key": debounce_key,
            "debounce_max": debounce_max,
            "until": until,
        }
        given: Any = {name: value for name, value in options.items() if value != _DEFAULTS.get(name)}  # as options
        return await self._start_with(await self._workflow(target), args, kwargs, given)

    async def _start_with(
        self, workflow: Workflow[..., Any], args: tuple[object, ...], kwargs: dict[str, object], given: StartOptions
    ) -> Run[Any]:
        refuse_ambiguous(workflow, len(args), given)
        return await self.start_encoded(workflow, workflow.codec.encode(args, kwargs), **given)

    @overload
    async def start_encoded(
        self, workflow: Workflow[P, T], data: msgspec.Raw, **options: Unpack[StartOptions]
    ) -> Run[T]: ...

    @overload
    async def start_encoded(
        self, workflow: str, data: msgspec.Raw, **options: Unpack[StartOptions]
    ) -> Run[Any]: ...  # Any: whatever it returns

    async def start_encoded(
        self, workflow: Workflow[..., Any] | str, data: msgspec.Raw, **options: Unpack[StartOptions]
    ) -> Run[Any]:
        """`start`, with the input as `workflow.codec` encodes it; for a workflow given by name, any JSON of it.

        Raises:
            As `start`; ArgumentError: the input of a workflow that was given by name does not fit it.
        """
        is_named = isinstance(workflow, str)
        workflow = await self._workflow(workflow)
        if is_named:
            data = workflow.codec.parse(bytes(data))
        made = order(workflow, data, options, now=self._clock.now(), chance=self._chance)
        row = await self._create(made.run, workflow, volatile=made.durability == "memory")
        if row.run_id != made.run.run_id:  # another run has its unique key
            row = await (
                self._replace(made, workflow, row) if made.debounce is None else self._put_off(made, workflow, row)
            )
        elif row.workflow != workflow.name or row.input_hash != made.run.input_hash:
            other = "another input" if row.workflow == workflow.name else f"workflow {row.workflow!r}"
            raise RunExists(
                f"run id {row.run_id!r} is taken by a run of {other} ({row.status}); choose another id, or "
                "start it with the same workflow and input to get that run"
            )
        return Run(self, row.run_id, workflow.codec.returns)  # type: ignore[arg-type]  # the whole of it is a Stepwell

    async def _create(self, new: NewRun, workflow: Workflow[..., Any], *, volatile: bool) -> RunRow:
        if isinstance(workflow, GraphWorkflow) and not volatile:
            await self._keep_definition(workflow)
        engine = self._engine
        if engine is not None:
            engine.register(workflow)
            if isinstance(workflow, GraphWorkflow):
                await engine.graphs.prepare()
        if engine is not None and engine is self._engine:  # it may have been closed meanwhile
            # Shielded: a caller that gives up waiting must not keep the engine from hearing that the run is there.
            return await asyncio.shield(engine.claims.start(new, workflow, volatile))
        if volatile:
            raise RequestRefused(
                "a run with durability='memory' lives in its engine's memory: a client cannot start one"
            )
        if isinstance(workflow, GraphWorkflow) and workflow.own_queue is not None:
            await put_queues(self.store, (workflow.own_queue.row(),))  # nobody else may know its limits
        return await self.store.create(new)

    async def _replace(self, made: Order, workflow: Workflow[..., Any], other: RunRow) -> RunRow:
        """Deal with the run that has the singleton's key."""
        if made.on_conflict == "attach":
            return other
        if made.on_conflict == "refuse":
            raise RunExists(
                f"run {other.run_id} of {workflow.name} is {other.status} and has the same singleton key; wait for "
                "it, cancel it, or start with on_conflict='attach' or 'replace'"
            )
        volatile = made.durability == "memory"
        while True:
            # First the cancel, then the takeover: a crash in between leaves no two of them going on.
            reason = f"replaced by run {made.run.run_id}"
            try:
                await self._verb(other.run_id, "cancel", VerbBody(reason), made.run.run_id)
            except (WrongStatus, RunNotFound):  # it has ended meanwhile
                pass
            row = await self._create(made.run, workflow, volatile=volatile)
            if row.run_id == other.run_id:
                taking = msgspec.structs.replace(made.run, takes_over=True)
                row = await self._create(taking, workflow, volatile=volatile)
            if row.run_id == made.run.run_id:
                return row
            other = row

    async def _put_off(self, made: Order, workflow: Workflow[..., Any], waiting: RunRow) -> RunRow:
        """Give this start's input to the run that waits for further starts; one that is about to begin is left."""
        assert made.debounce is not None, "only debounced runs are put off"
        now = self._clock.now()
        begin_at = now + made.debounce
        if made.debounce_max is not None:
            begin_at = min(begin_at, waiting.created_at + made.debounce_max)
        body = msgspec.json.encode(InputBody(_input_of(made.run), begin_at))
        by = getattr(made.run.entries[0], "by", "")
        message = NewMessage(waiting.run_id, "input", "", body, now, by=by, wake_at=begin_at)
        store = self._store_of(waiting.run_id)
        try:
            await asyncio.shield(store.post(message))
        except (WrongStatus, RunNotFound):
            taking = msgspec.structs.replace(made.run, takes_over=True)
            return await self._create(taking, workflow, volatile=made.durability == "memory")
        if self._engine is not None:
            self._engine.claims.look()
            self._engine.queueing.look(store, waiting.queue)
        return waiting

    @overload
    async def run(self, target: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def run(self, target: str, *args: Any, **kwargs: Any) -> Any: ...  # Any: whatever it takes and returns

    async def run(self, target: Workflow[P, T] | Task[P, T] | str, *args: Any, **kwargs: Any) -> Any:
        """Start a run and wait for its result; `target` as for `start`."""
        workflow = await self._workflow(target)
        return await (await self.start_encoded(workflow, workflow.codec.encode(args, kwargs))).result()

    async def _workflow(self, target: Workflow[P, T] | Task[P, T] | str) -> Workflow[..., Any]:  # Any: its result
        """The workflow that is meant.

        Raises:
            WorkflowNotFound: nothing has this name, or no version of what is deployed under it serves new runs.
            InvalidDefinition: the deployed definition has problems here.
        """
        if not isinstance(target, str):
            return workflow_of(target)
        found = await self._named(target)
        if found is None:
            rows = await self.store.definitions()
            raise WorkflowNotFound(_unknown(target, {row.name for row in rows}, self._names()))
        return found

    async def _named(self, name: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        if self._engine is not None:
            return await self._engine.newest(name)
        known = [workflow for workflow in self._workflows if workflow.name == name]
        row = None if known else await self.store.definition(name, "")
        if row is None:
            return known[-1] if known else None
        return GraphWorkflow(made(msgspec.json.decode(row.body), self.types))

    def _names(self) -> set[str]:
        functions = self._workflows if self._engine is None else self._engine.workflows.values()
        return {workflow.name for workflow in functions}


_DEFAULTS: dict[str, object] = {"durability": "sync", "by": "", "queue_key": "", "debounce_key": ""}
"""What the options of `start` are when they are not given; None, for those that are not named here."""


def _input_of(run: NewRun) -> msgspec.Raw:
    """The input of a run that is not created yet, wherever it is kept."""
    (created,) = run.entries
    blob = getattr(created, "input_blob", "")
    return msgspec.Raw(run.blobs[blob]) if blob else getattr(created, "input", msgspec.Raw(b""))


def _unknown(name: str, deployed: set[str], functions: set[str]) -> str:
    if name in deployed:
        return f"workflow {name} has no active version: activate one, or deploy it again"
    import difflib  # only for who has mistyped

    near = difflib.get_close_matches(name, deployed | functions, n=1, cutoff=0.6)
    hint = (
        f"did you mean {near[0]!r}?" if near else "deploy its definition, or give its function to Stepwell(workflows=…)"
    )
    return f"there is no workflow {name[:100]!r} here; {hint}"
