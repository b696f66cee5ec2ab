"""`ctx`: what workflow bodies and tasks may ask of the engine, found through the call chain they run in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, MutableMapping
from datetime import datetime
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload
from uuid import UUID

from stepwell.authoring.context import AttemptContext, BodyContext, Identity, OnError, current
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.errors import WorkflowBodyError
from stepwell.model.durations import Duration, micros

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

_log = logging.getLogger("stepwell.user")


def _body(what: str) -> BodyContext:
    context = current.get()
    if context is None:
        raise WorkflowBodyError(f"ctx.{what} works in a workflow that the engine runs; here nothing runs")
    if isinstance(context, AttemptContext):
        raise WorkflowBodyError(f"ctx.{what} belongs in a workflow body; this is a task (step {context.step})")
    return context


def _any(what: str) -> BodyContext | AttemptContext:
    context = current.get()
    if context is None:
        raise WorkflowBodyError(f"ctx.{what} works in workflows and tasks that the engine runs; here nothing runs")
    return context


class _Ctx:
    """The one object that `from stepwell import ctx` gives."""

    # -- in workflow bodies and in tasks ------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Run id, workflow, parent and root of the run that this code works for."""
        return _any("identity").identity

    @property
    def run_id(self) -> str:
        """The id of the run that this code works for."""
        return self.identity.run_id

    @property
    def cancelled(self) -> bool:
        """Whether this work is no longer wanted; long synchronous tasks should look now and then and return."""
        context = current.get()
        return context is not None and context.cancelled

    def log(self, message: str, **fields: object) -> None:
        """Write a line to the run's log; from a workflow body it is written once, not again on replay."""
        context = current.get()
        if context is None:
            _log.info("%s %s", message, fields or "")
        elif isinstance(context, AttemptContext):
            context.note("log", {"message": message, **fields})
        else:
            context.log(message, fields)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell whoever watches how far this is; the latest word counts, nothing is journaled."""
        context = current.get()
        if isinstance(context, AttemptContext):
            context.note("progress", {"done": done, "total": total, "message": message})
        elif context is not None:
            context.progress(done, total, message)

    # -- in tasks -----------------------------------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        """Which attempt of its step this is, from 1 (1 outside the engine)."""
        context = current.get()
        return context.attempt if isinstance(context, AttemptContext) else 1

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of one step, and for no other step: hand it to the outside world."""
        context = _any("idempotency_key")
        if not isinstance(context, AttemptContext):
            raise WorkflowBodyError("ctx.idempotency_key belongs in a task: a workflow body has no attempt")
        return context.idempotency_key

    def heartbeat(self) -> None:
        """Say that a long attempt is alive; needed when the task has `heartbeat=`. Does nothing outside the engine."""
        context = current.get()
        if isinstance(context, AttemptContext):
            context.note("heartbeat", {})

    # -- in workflow bodies -------------------------------------------------------------------------------------

    @property
    def state(self) -> MutableMapping[str, object]:
        """The run's own key/values: journaled, shown by every tool, restored after a restart."""
        return _body("state").state

    def now(self) -> datetime:
        """The real time (UTC, with zone), recorded: the same on every replay."""
        return _body("now()").now()

    def random(self) -> float:
        """A random number from [0, 1), recorded."""
        return _body("random()").random()

    def uuid(self) -> UUID:
        """A random UUID, recorded."""
        return _body("uuid()").uuid()

    async def sleep(self, duration: Duration) -> None:
        """Wait; the timer survives restarts."""
        import asyncio

        _body("sleep()")
        await asyncio.sleep(micros(duration, "ctx.sleep") / 1_000_000)

    @overload
    def signal(self, name: str, type: type[T], *, timeout: Duration | None = None) -> Coroutine[Any, Any, T]: ...

    @overload
    def signal(self, name: str, *, timeout: Duration | None = None) -> Coroutine[Any, Any, Any]: ...

    def signal(
        self, name: str, type: Any = Any, *, timeout: Duration | None = None
    ) -> Coroutine[Any, Any, Any]:  # Any: the overloads say it
        """Wait for a signal sent to this run under `name` and return its payload as `type`.

        Signals are taken in the order in which they were accepted, each once; one that came before anybody waited
        is kept.

        Raises:
            TimeoutError: `timeout` passed first.
        """
        return _body("signal()").signal(name, type, timeout)

    @overload
    def map(
        self,
        function: Callable[[Item], Coroutine[Any, Any, T]],
        items: Iterable[Item],
        *,
        concurrency: int | None = None,
        on_error: Literal["raise"] = "raise",
        label: str = "",
    ) -> Coroutine[Any, Any, list[T]]: ...

    @overload
    def map(
        self,
        function: Callable[[Item], Coroutine[Any, Any, T]],
        items: Iterable[Item],
        *,
        concurrency: int | None = None,
        on_error: Literal["collect"],
        label: str = "",
    ) -> Coroutine[Any, Any, list[T | Exception]]: ...

    def map(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        on_error: OnError = "raise",
        label: str = "",
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: the overloads say it
        """Run an async function of the workflow body per item, at most `concurrency` at once, results in order.

        Each item has a scope of its own, so the steps in it are found again on replay in whatever order items end.
        `on_error="collect"` puts an item's exception in its place; `"raise"` cancels the others and raises.
        """
        return _body("map()").map_function(
            function, items, concurrency, on_error, label or getattr(function, "__name__", "map")
        )

    def start(
        self,
        workflow: Workflow[P, T] | Task[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, str]:
        """Start a child run and go on without waiting; gives its run id. It inherits this run's identity."""
        return _body("start()").start(workflow_of(workflow), args, kwargs, None, False)

    def start_new(
        self,
        workflow: Workflow[P, T] | Task[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, str]:
        """Start a run with an identity of its own (no parent, its own root); gives its run id."""
        return _body("start_new()").start(workflow_of(workflow), args, kwargs, None, True)

    @property
    def sync(self) -> _SyncCtx:
        """The waiting verbs for synchronous workflows: they block instead of being awaited."""
        return _SYNC


class _SyncCtx:
    """`ctx.sync`: waiting verbs that block."""

    def _run(self, what: str, coroutine: Coroutine[Any, Any, T]) -> T:
        body = _body(f"sync.{what}")
        if body.blocking is None:
            coroutine.close()
            raise WorkflowBodyError(f"ctx.sync.{what} is for synchronous workflows; here write `await ctx.{what}`")
        return cast("T", body.blocking(coroutine))

    def sleep(self, duration: Duration) -> None:
        """As `ctx.sleep`."""
        self._run("sleep(…)", ctx.sleep(duration))

    def signal(self, name: str, type: type[T], *, timeout: Duration | None = None) -> T:
        """As `ctx.signal`."""
        return self._run("signal(…)", ctx.signal(name, type, timeout=timeout))

    def start(self, workflow: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> str:
        """As `ctx.start`."""
        return self._run("start(…)", ctx.start(workflow, *args, **kwargs))


_SYNC = _SyncCtx()
ctx = _Ctx()
