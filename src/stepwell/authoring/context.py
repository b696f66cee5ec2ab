"""What code that runs under the engine can reach: a workflow body's context, or an attempt's.

`current` holds one of the two, or nothing outside the engine. The body's context is implemented by
`programs.function`; here stands what authors' code may ask of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, ParamSpec, Protocol, TypeAlias
from uuid import UUID

import msgspec

from stepwell.model.durations import Duration

if TYPE_CHECKING:
    from stepwell.authoring.task import Task
    from stepwell.authoring.workflow import Workflow

P = ParamSpec("P")

OnError: TypeAlias = Literal["raise", "collect"]


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a piece of work belongs to; inherited by everything that the run starts.

    `root` is the run at the top of the tree (the run itself there), `parent` the run that started this one.
    """

    run_id: str
    workflow: str
    parent: str | None
    root: str


class Selected(NamedTuple):
    """Which branch of a `ctx.select` was first, and what it gave."""

    name: str
    value: Any  # Any: whatever that branch returns


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What `ctx.ask` was called with."""

    prompt: str
    hint: object
    name: str = ""
    timeout: Duration | None = None
    who: tuple[str, ...] = ()
    quorum: int | None = None
    agree: str = ""
    reminders: tuple[Duration, ...] = ()


class Awaiter(Protocol):
    """Runs a coroutine of the body's loop to its end from a synchronous body."""

    def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> Any:  # Any: whatever the coroutine returns
        """Block until `coroutine` is done; return its result or raise its error."""


class WaitingContext(Protocol):
    """What a workflow body may wait for besides steps and child runs."""

    def signal(self, name: str, hint: object, timeout: Duration | None) -> Coroutine[Any, Any, Any]:  # Any: payload
        """Wait for a signal."""

    def event(
        self,
        topic: str,
        hint: object,
        where: object,
        timeout: Duration | None,
        since: datetime | None,
    ) -> Coroutine[Any, Any, Any]:  # Any: a CloudEvent of the hint
        """Wait for an event."""

    def ask(self, question: Question) -> Coroutine[Any, Any, Any]:  # Any: an answer, or a list of `Answer`
        """Wait for people's answers."""

    def select(self, branches: Mapping[str, Awaitable[Any]]) -> Coroutine[Any, Any, Selected]:  # Any: each its own
        """Wait for the first of several; withdraw the others."""


class Saga(Protocol):
    """A block of a workflow whose work can be undone: what `async with ctx.saga()` gives."""

    def compensate(self, undo: Task[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:  # Any: whatever it returns
        """When the block fails or is cancelled, run `undo(*args)` as a step; the last that was said first."""


class SagaBlock(Protocol):
    """`async with ctx.saga():`, and the halves of it for code that does not run on the body's loop."""

    async def __aenter__(self) -> Saga: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def enter(self) -> Saga:
        """From here on this context is in the block."""

    def leave(self) -> Saga:
        """From here on it is not any more."""


class BodyContext(Protocol):
    """What a workflow body may ask of the run that it is."""

    identity: Identity
    blocking: Awaiter | None

    @property
    def state(self) -> MutableMapping[str, object]:
        """The run's own keys and values."""

    @property
    def waits(self) -> WaitingContext:
        """What the body may wait for."""

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to end."""

    @property
    def replaying(self) -> bool:
        """Whether the body only does again what it did before: it is being rebuilt, or taken out of memory."""

    def call(
        self, task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Coroutine[Any, Any, Any]:  # Any: whatever the task returns
        """Make a call of a task a step; its identity is reserved now, it starts when awaited."""

    def call_child(
        self, workflow: Workflow[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Coroutine[Any, Any, Any]:  # Any: whatever the workflow returns
        """Make a call of a workflow a child run and wait for it."""

    def start(
        self,
        workflow: Workflow[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        new_identity: bool,
    ) -> Coroutine[Any, Any, str]:
        """Start a run and go on without waiting for it; returns its id."""

    def map_task(
        self,
        task: Task[..., Any],
        items: Iterable[object],
        concurrency: int | None,
        on_error: OnError,
        key: Callable[[Any], str] | None,  # Any: an item
        common: Mapping[str, object],
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: whatever the task returns
        """A step per item, at most `concurrency` at once, results in the items' order."""

    def map_function(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],  # Any: item and result
        items: Iterable[object],
        concurrency: int | None,
        on_error: OnError,
        label: str,
    ) -> Coroutine[Any, Any, list[Any]]:
        """An asyncio task with a scope of its own per item, at most `concurrency` at once."""

    def map_child(
        self,
        workflow: Workflow[..., Any],
        items: Iterable[object],
        concurrency: int | None,
        on_error: OnError,
        key: Callable[[Any], str] | None,  # Any: an item
        common: Mapping[str, object],
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: whatever the workflow returns
        """A child run per item, at most `concurrency` at once, results in the items' order."""

    def publish(self, topic: str, data: object, subject: str, transient: bool) -> None:
        """Publish an event with the run's next commit; recorded, so a replay publishes nothing."""

    @property
    def saga(self) -> Saga:
        """The innermost saga that this code is in: a block's, or the whole run's."""

    def open_saga(self) -> SagaBlock:
        """A block with a saga of its own."""

    def patched(self, id: str) -> bool:
        """Whether this run began, or came by here first, with the change called `id`."""

    def now(self) -> datetime:
        """The real time, recorded."""

    def random(self) -> float:
        """A random number from [0, 1), recorded."""

    def uuid(self) -> UUID:
        """A random UUID, recorded."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell readers how far the run is."""

    def log(self, message: str, fields: Mapping[str, object]) -> None:
        """Write a line to the run's log, once: not again on replay."""


class Emit(Protocol):
    """Takes what an attempt emits, and says when there is room for more."""

    def __call__(self, chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        """Hand on a chunk; await the result to be held up while readers and journal fall behind."""


class AttemptContext:
    """What the code of one attempt may ask: who it is, whether it is wanted, and how to be heard.

    `step` is anything whose text is the step's readable path; the texts are made when they are asked for.
    `connection` is set while a transactional task runs, `emit` where chunks can be taken.
    """

    __slots__ = ("_cancelled", "_step", "attempt", "connection", "emit", "identity", "key", "note", "shelf")

    def __init__(
        self,
        identity: Identity,
        step: object,
        attempt: int,
        note: Callable[[str, dict[str, object]], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.identity = identity
        self.attempt = attempt
        self.note = note
        self.connection: Any = None  # Any: a connection of the store's database
        self.key = ""
        self.shelf: Any = None  # Any: a `model.shelf.Shelf`, where there is one
        self.emit: Emit | None = None
        self._step = step
        self._cancelled = cancelled

    @property
    def run_id(self) -> str:
        """The run that the step belongs to."""
        return self.identity.run_id

    @property
    def step(self) -> str:
        """The readable path of the step."""
        return str(self._step)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this step, and for no other step, unless the step was given one of its own."""
        return self.key or f"{self.identity.run_id}:{self._step}"

    @property
    def cancelled(self) -> bool:
        """Whether the outcome is no longer wanted; long synchronous code should look now and then and return."""
        return self._cancelled()


current: ContextVar[BodyContext | AttemptContext | None] = ContextVar("stepwell_current", default=None)
attempt_context = current
"""The same variable under the name that worker processes know."""


def current_body() -> BodyContext | None:
    """The workflow body that this code is part of, or None (also inside a task)."""
    context = current.get()
    return None if context is None or isinstance(context, AttemptContext) else context
