"""Starting runs, and waiting for their results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

import msgspec

from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.errors import DefinitionError, RequestRefused, RunExists
from stepwell.handle import Run
from stepwell.starting import new_run
from stepwell.usecases.base import UseCases

P = ParamSpec("P")
T = TypeVar("T")

Durability: TypeAlias = Literal["sync", "async", "exit", "memory"]


class Starting(UseCases):
    """How runs come into being."""

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
        return Run(self, new.run_id, workflow.codec.returns)  # type: ignore[arg-type]  # the whole of it is a Stepwell

    async def run(self, target: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Start a run and wait for its result."""
        workflow = workflow_of(target)
        return await (await self.start_encoded(workflow, workflow.codec.encode(args, kwargs))).result()
