"""`ctx`: what workflow bodies and tasks may ask of the engine, found through the call chain they run in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

from stepwell.authoring.context import (
    AttemptContext,
    BodyContext,
    Identity,
    OnError,
    Question,
    SagaBlock,
    Selected,
    current,
)
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.errors import WorkflowBodyError
from stepwell.model.cloudevents import CloudEvent
from stepwell.model.durations import Duration, micros
from stepwell.model.requests import Answer

if TYPE_CHECKING:
    from stepwell.authoring.syncctx import SyncCtx

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

_log = logging.getLogger("stepwell.user")


def body_of(what: str) -> BodyContext:
    """The workflow body that the calling code runs in; `what` it asks for is named when there is none.

    Raises:
        WorkflowBodyError: nothing runs here, or a task.
    """
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
    def step(self) -> str:
        """The readable path of the step that this attempt is of, such as `fetch.map:1/fetch#7`.

        Raises:
            WorkflowBodyError: this is a workflow body, which is no step.
        """
        context = _any("step")
        if not isinstance(context, AttemptContext):
            raise WorkflowBodyError("ctx.step belongs in a task: a workflow body is no step")
        return context.step

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

    def emit(self, chunk: object, **usage: int) -> Awaitable[None]:
        """Send a chunk (any JSON value) to whoever reads the run's stream; kept, so that a late reader misses nothing.

        Further keyword arguments count what was used (`tokens=1`); they are summed into the step's usage. In an async
        task `await` it, to be held up while more than a few megabytes are on their way; in a thread the call itself
        waits. Outside the engine it does nothing.
        """
        context = current.get()
        if isinstance(context, AttemptContext) and context.emit is not None:
            return context.emit(chunk, usage)
        if context is not None and not isinstance(context, AttemptContext):
            raise WorkflowBodyError("ctx.emit belongs in a task: a workflow body has no stream")
        return Done()

    @property
    def connection(self) -> Any:  # Any: of the store's own kind, such as a `sqlite3.Connection`
        """In a task marked `transactional`: a connection to the store's database, whose writes commit with the outcome.

        The step's outcome and what it wrote become durable together or not at all: exactly once, whatever crashes. It
        must not be committed, rolled back or kept; the tables are the application's own.
        """
        context = current.get()
        if context is None:
            raise WorkflowBodyError(
                "ctx.connection is there while the engine runs the task; here nothing runs: in a test, call it in a "
                "workflow on a stepwell.testing.Bench"
            )
        if not isinstance(context, AttemptContext) or context.connection is None:
            raise WorkflowBodyError("ctx.connection belongs in a task marked @task(transactional=True)")
        return context.connection

    # -- in workflow bodies -------------------------------------------------------------------------------------

    @property
    def state(self) -> MutableMapping[str, object]:
        """The run's own key/values: journaled, shown by every tool, restored after a restart."""
        return body_of("state").state

    def now(self) -> datetime:
        """The real time (UTC, with zone), recorded: the same on every replay."""
        return body_of("now()").now()

    def random(self) -> float:
        """A random number from [0, 1), recorded."""
        return body_of("random()").random()

    def uuid(self) -> UUID:
        """A random UUID, recorded."""
        return body_of("uuid()").uuid()

    async def sleep(self, duration: Duration) -> None:
        """Wait; the timer survives restarts."""
        import asyncio

        body_of("sleep()")
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
        return body_of("signal()").waits.signal(name, type, timeout)

    @overload
    def event(
        self,
        topic: str,
        type: type[T],
        *,
        where: object = None,
        timeout: Duration | None = None,
        since: datetime | None = None,
    ) -> Coroutine[Any, Any, CloudEvent[T]]: ...

    @overload
    def event(
        self,
        topic: str,
        *,
        where: object = None,
        timeout: Duration | None = None,
        since: datetime | None = None,
    ) -> Coroutine[Any, Any, CloudEvent[Any]]: ...

    def event(
        self,
        topic: str,
        type: Any = Any,
        *,
        where: object = None,
        timeout: Duration | None = None,
        since: datetime | None = None,
    ) -> Coroutine[Any, Any, CloudEvent[Any]]:  # Any: the overloads say it
        """Wait for an event published on `topic`; its data is read as `type`.

        Events are for everybody: each run that waits gets each event, and takes the ones that fit in the order in
        which they were published, each once for a topic and filter. One that was published before anybody waited counts
        too, from the creation of the run on; a transient one only for those who wait already.

        Args:
            topic: what the event is called (the `type` attribute of a CloudEvent).
            type: what its data is.
            where: a JSONLogic rule over the event, such as `{"==": [{"var": "data.order"}, "o-7"]}`.
            timeout: how long to wait.
            since: count events published from this time on instead.

        Raises:
            TimeoutError: `timeout` passed first.
            DefinitionError: `where` is no JSONLogic.
        """
        return body_of("event()").waits.event(topic, type, where, timeout, since)

    def publish(self, topic: str, data: object = None, *, subject: str = "", transient: bool = False) -> None:
        """Publish an event together with what else the run commits: exactly once, whatever crashes.

        `transient` events are for those who wait for them now; others are kept for a while (see `Stepwell`).
        """
        body_of("publish()").publish(topic, data, subject, transient)

    @overload
    def ask(
        self,
        prompt: str,
        type: type[T],
        *,
        timeout: Duration | None = None,
        who: Iterable[str] = (),
        quorum: None = None,
        reminders: Iterable[Duration] = (),
        name: str = "",
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def ask(
        self,
        prompt: str,
        type: type[T],
        *,
        timeout: Duration | None = None,
        who: Iterable[str] = (),
        quorum: int,
        agree: str = "",
        reminders: Iterable[Duration] = (),
        name: str = "",
    ) -> Coroutine[Any, Any, list[Answer[T]]]: ...

    @overload
    def ask(
        self,
        prompt: str,
        type: dict[str, Any] | None = None,
        *,
        timeout: Duration | None = None,
        who: Iterable[str] = (),
        quorum: int | None = None,
        agree: str = "",
        reminders: Iterable[Duration] = (),
        name: str = "",
    ) -> Coroutine[Any, Any, Any]: ...

    def ask(
        self,
        prompt: str,
        type: Any = None,
        *,
        timeout: Duration | None = None,
        who: Iterable[str] = (),
        quorum: int | None = None,
        agree: str = "",
        reminders: Iterable[Duration] = (),
        name: str = "",
    ) -> Coroutine[Any, Any, Any]:  # Any: the overloads say it
        """Ask people, and wait for their answer however long it takes; the question is in the inbox until then.

        Args:
            prompt: what is asked.
            type: what an answer is: a dataclass, msgspec or pydantic model, `bool`, …, or a JSON Schema as a dict. An
                answer that does not fit is refused, with the fields named, and the request stays open.
            timeout: how long to wait.
            who: who may answer; anybody by default.
            quorum: so many different people must answer; the result is then a list of `Answer`, in order.
            agree: with `quorum`: the name of a boolean field (or `"."` for an answer that is a bool itself). Only
                answers in which it is true count, and it also ends when the quorum can no longer be reached.
            reminders: how long after asking those who may answer are reminded.
            name: tells this question from others in the step's path.

        Raises:
            TimeoutError: `timeout` passed first.
            InputWithdrawn: somebody took the question back.
        """
        question = Question(
            prompt=prompt,
            hint=type,
            name=name,
            timeout=timeout,
            who=tuple(who),
            quorum=quorum,
            agree=agree,
            reminders=tuple(reminders),
        )
        return body_of("ask()").waits.ask(question)

    def timer(self, duration: Duration) -> Coroutine[Any, Any, None]:
        """A branch of `ctx.select` that is done after a while; the same as `ctx.sleep`."""
        return self.sleep(duration)

    def select(self, **branches: Awaitable[Any]) -> Coroutine[Any, Any, Selected]:  # Any: each its own
        """Wait for the first of several things; the others are withdrawn, and what they waited for is not used up.

        ```python
        match await ctx.select(approved=ctx.signal("approve", bool), late=ctx.timer("24h")):
            case ("approved", True):
                await publish()
            case ("late", _):
                await give_up()
        ```

        Branches may be signals, events, questions, timers, steps, child runs and any other awaitable. The winner is
        recorded by what the journal says came first, and is the same on every replay. What the winner raises is raised.
        """
        return body_of("select()").waits.select(branches)

    def saga(self) -> SagaBlock:
        """A block whose work is undone when it fails: `async with ctx.saga():` with `ctx.compensate(…)` inside.

        When the block is left by an exception or a cancellation, what was registered in it runs as steps, the last
        first, to the end, even while the run is being cancelled; then the exception goes on. A block that is left in
        good order hands its compensations to the block around it, or to the run.
        """
        return body_of("saga()").open_saga()

    def compensate(self, undo: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        """Say how to undo what has just been done: `undo(*args)` runs as a step if the saga, or the run, fails.

        A compensation is retried as its task says. One that fails for good fails the run, visibly: what is left to
        undo waits until the run is retried, and goes on from there.
        """
        body_of("compensate()").saga.compensate(undo, *args, **kwargs)

    def patched(self, id: str) -> bool:
        """Whether this run goes the new way: `if ctx.patched("fraud-check"): … else: …`.

        True for runs that come by here for the first time with this code, and always for them from then on; False
        for runs that went by before the change, so that their recorded way stays valid.
        """
        return body_of("patched()").patched(id)

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
        return body_of("map()").map_function(
            function, items, concurrency, on_error, label or getattr(function, "__name__", "map")
        )

    def start(
        self,
        workflow: Workflow[P, T] | Task[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, str]:
        """Start a child run and go on without waiting; gives its run id. It inherits this run's identity.

        `pack.with_options(id=…)` sets its id, queue and so on. It goes on when this run ends, however it ends.
        """
        return body_of("start()").start(workflow_of(workflow), args, kwargs, False)

    def start_new(
        self,
        workflow: Workflow[P, T] | Task[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, str]:
        """Start a run with an identity of its own (no parent, its own root); gives its run id."""
        return body_of("start_new()").start(workflow_of(workflow), args, kwargs, True)

    @property
    def sync(self) -> SyncCtx:
        """The waiting verbs for synchronous workflows: they block instead of being awaited."""
        from stepwell.authoring.syncctx import SYNC

        return SYNC


class Done:
    """An awaitable that is done: what emitting comes to where nobody has to wait."""

    def __await__(self) -> Generator[Any, Any, None]:  # Any: nothing comes or goes
        return
        yield


ctx = _Ctx()
