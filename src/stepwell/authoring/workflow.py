"""`@workflow`: a function whose execution by the engine is a run, and whose call elsewhere is a plain call."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import CodeType
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, cast, overload

import msgspec

from stepwell.authoring.context import OnError, current_body
from stepwell.authoring.queue import Queue, implied
from stepwell.authoring.task import Task
from stepwell.errors import DefinitionError, StepFailed, WorkflowBodyError
from stepwell.model.codec import CallCodec
from stepwell.model.durations import Duration, micros
from stepwell.model.entries import OnCancel
from stepwell.model.versions import version_text

P = ParamSpec("P")
T = TypeVar("T")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How runs of a workflow are started; `deadline` in microseconds from the start. None: as the workflow says."""

    id: str | None = None
    priority: int | None = None
    labels: Mapping[str, str] = {}
    queue: str = ""
    queue_key: str = ""
    deadline: int | None = None
    on_cancel: OnCancel = "cancel"


class Workflow(Generic[P, T]):
    """A named function that can be run. `version` is its source's content hash, after its label if it has one."""

    is_async: bool

    def __init__(
        self,
        function: Callable[..., object],
        name: str,
        label: str,
        concurrency: int | None,
        options: RunOptions | None = None,
    ) -> None:
        if not callable(function):
            raise DefinitionError(f"@workflow takes a function; found {type(function).__name__}")
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise DefinitionError(f"workflow concurrency={concurrency!r}: give a whole number from 1")
        if concurrency is not None and options is not None and options.queue:
            raise DefinitionError(
                f"workflow queue={options.queue!r} and concurrency={concurrency}: its runs wait in one queue; give the "
                "queue that concurrency"
            )
        self.function = function
        self.name = name or getattr(function, "__name__", "")
        if not self.name or not self.name.replace("_", "a").replace("-", "a").isidentifier():
            raise DefinitionError(f"a workflow needs a name made of letters, digits, - and _; found {self.name!r}")
        self.label = label
        self.concurrency = concurrency
        self.options = options or RunOptions()
        self.codec = CallCodec(function, self.name)
        self._version = ""
        self.__wrapped__ = function
        self.__name__ = self.name
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    @property
    def version(self) -> str:
        """The label, if any, and 12 hex digits of the hash of the function's source."""
        if not self._version:
            digest = hashlib.blake2b(_source(self.function), digest_size=6).hexdigest()
            self._version = version_text(self.label, digest)
        return self._version

    @property
    def queue(self) -> str:
        """The queue that its runs wait in: the one given, or one of its own when it has a `concurrency`."""
        return self.options.queue or (self.own_queue.name if self.own_queue is not None else "")

    @property
    def own_queue(self) -> Queue | None:
        """The queue that its `concurrency` stands for."""
        return None if self.concurrency is None else implied(self.name, self.concurrency)

    def with_options(
        self,
        *,
        id: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        queue_key: str | None = None,
        deadline: Duration | None = None,
        on_cancel: OnCancel | None = None,
    ) -> Self:
        """The same workflow with other options, for one child run: `await pack.with_options(id=f"pack-{n}")(order)`.

        Args:
            id: the child's run id; by default one made of the parent's id and the call's place.
            priority: instead of the parent's.
            labels: for finding it.
            queue, queue_key: the queue that it waits in, and the key that the queue's limits count it under.
            deadline: how long it may take before it is cancelled.
            on_cancel: what becomes of the child when its parent no longer waits for it, because it was cancelled or
                lost a race: `cancel` it (the default), `abandon` it (it goes on), or `wait`: cancel it and let the
                parent go on only when it has ended.
        """
        if on_cancel not in (None, "cancel", "abandon", "wait"):
            raise DefinitionError(f"on_cancel={on_cancel!r}: use 'cancel', 'abandon' or 'wait'")
        given = {
            "id": id,
            "priority": priority,
            "labels": labels,
            "queue": queue,
            "queue_key": queue_key,
            "deadline": None if deadline is None else micros(deadline, "deadline="),
            "on_cancel": on_cancel,
        }
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.options = msgspec.structs.replace(self.options, **{k: v for k, v in given.items() if v is not None})
        return copy

    @overload
    def map(
        self,
        items: Iterable[object],
        *,
        concurrency: int | None = None,
        on_error: Literal["raise"] = "raise",
        key: Callable[[Any], str] | None = None,
        common: Mapping[str, object] | None = None,
    ) -> Coroutine[Any, Any, list[T]]: ...

    @overload
    def map(
        self,
        items: Iterable[object],
        *,
        concurrency: int | None = None,
        on_error: Literal["collect"],
        key: Callable[[Any], str] | None = None,
        common: Mapping[str, object] | None = None,
    ) -> Coroutine[Any, Any, list[T | StepFailed]]: ...

    def map(
        self,
        items: Iterable[object],
        *,
        concurrency: int | None = None,
        on_error: OnError = "raise",
        key: Callable[[Any], str] | None = None,  # Any: an item
        common: Mapping[str, object] | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: the overloads say it
        """A child run per item, results in the items' order: as `Task.map`, with runs in place of steps.

        All children that may start at once are created in one transaction.
        """
        body = current_body()
        if body is None:
            raise WorkflowBodyError(f"{self.name}.map(…) starts child runs: it works in a workflow body only")
        return body.map_child(self, items, concurrency, on_error, key, common or {})

    def mentioned(self) -> list[Workflow[..., Any]]:  # Any: whatever they return
        """The workflows that the body names: an engine that may drive this one will meet them as child runs."""
        return [one for one in _names_in(self.function) if isinstance(one, Workflow) and one is not self]

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


class AsyncWorkflow(Workflow[P, T]):
    """A workflow written as `async def`."""

    is_async = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """In another workflow's body: a child run. Elsewhere: the function's own coroutine."""
        body = current_body()
        if body is None:
            return cast("Coroutine[Any, Any, T]", self.function(*args, **kwargs))
        return body.call_child(self, args, kwargs)

    aio = __call__


class SyncWorkflow(Workflow[P, T]):
    """A workflow written as `def`; its body runs in a thread of its own and is unwound while it waits for long."""

    is_async = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """In a synchronous workflow's body: a child run, and its result. Elsewhere: a plain call."""
        body = current_body()
        if body is None:
            return cast("T", self.function(*args, **kwargs))
        if body.blocking is None:
            raise WorkflowBodyError(
                f"{self.name} is a synchronous workflow: in an async workflow write `await {self.name}.aio(…)`"
            )
        return cast("T", body.blocking(body.call_child(self, args, kwargs)))

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Start it as a child run of an async workflow and wait for it."""
        body = current_body()
        if body is None:
            raise WorkflowBodyError(f"{self.name}.aio(…) is for workflow bodies; elsewhere call {self.name}(…)")
        return body.call_child(self, args, kwargs)


class WorkflowDecorator:
    """`@workflow(…)` with options, waiting for its function."""

    def __init__(self, name: str, version: str, concurrency: int | None, options: RunOptions) -> None:
        self._settings = (name, version, concurrency, options)

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncWorkflow[P, T]: ...  # type: ignore[overload-overlap]  # the first that fits is meant

    @overload
    def __call__(self, function: Callable[P, T], /) -> SyncWorkflow[P, T]: ...

    def __call__(self, function: Callable[..., Any], /) -> Workflow[..., Any]:  # Any: the overloads say it
        kind = AsyncWorkflow if inspect.iscoroutinefunction(function) else SyncWorkflow
        return kind(function, *self._settings)


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncWorkflow[P, T]: ...  # type: ignore[overload-overlap]  # the first that fits is meant


@overload
def workflow(function: Callable[P, T], /) -> SyncWorkflow[P, T]: ...


@overload
def workflow(
    *,
    name: str = "",
    version: str = "",
    concurrency: int | None = None,
    queue: str = "",
    deadline: Duration | None = None,
    priority: int = 0,
) -> WorkflowDecorator: ...


def workflow(
    function: Callable[..., Any] | None = None,  # Any: the overloads say it
    /,
    *,
    name: str = "",
    version: str = "",
    concurrency: int | None = None,
    queue: str = "",
    deadline: Duration | None = None,
    priority: int = 0,
) -> Any:  # Any: the overloads say it
    """Make a function a workflow.

    Args:
        name: what the workflow is called; the function's name by default.
        version: a label for people, put before the content hash. Several functions of one name with different labels
            stand side by side: a run stays with the label that it began under.
        concurrency: how many of its runs may be under way at once; further ones wait in a queue of its own.
        queue: the queue that its runs wait in, unless they are started with another one.
        deadline: how long a run may take, from its start, before it is cancelled and fails.
        priority: of its runs, unless they are started with another one.

    Raises:
        DefinitionError: the name or an option is not usable.
    """
    limit = None if deadline is None else micros(deadline, "deadline=")
    options = RunOptions(queue=queue, deadline=limit, priority=priority or None)
    decorator = WorkflowDecorator(name, version, concurrency, options)
    return decorator if function is None else decorator(function)


@overload
def workflow_of(target: Workflow[P, T] | Task[P, T]) -> Workflow[P, T]: ...  # type: ignore[overload-overlap]  # the first that fits is meant


@overload
def workflow_of(target: object) -> Workflow[..., Any]: ...


def workflow_of(target: object) -> Workflow[..., Any]:  # Any: the overloads say it
    """The workflow that `target` is; a task becomes a workflow of one step, run under its own identity.

    Raises:
        DefinitionError: it is neither.
    """
    if isinstance(target, Workflow):
        return target
    if isinstance(target, Task):
        return _TaskWorkflow(target)
    name = getattr(target, "__name__", type(target).__name__)
    raise DefinitionError(f"{name} is not a workflow or a task: put @workflow or @task in front of it")


class _TaskWorkflow(AsyncWorkflow[P, T]):
    """A task started on its own."""

    def __init__(self, task: Task[P, T]) -> None:
        async def body(*args: object, **kwargs: object) -> object:
            context = current_body()
            assert context is not None, "the body of a task's own run runs under the engine"
            return await context.call(task, args, kwargs)

        super().__init__(body, task.name, "", None)
        self.codec = task.codec
        self._version = hashlib.blake2b(_source(task.function), digest_size=6).hexdigest()


def _names_in(function: Callable[..., object]) -> Iterator[object]:
    """What the names in a function's code, and in functions defined inside it, stand for now."""
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # the enclosing function has not given it a value yet
            continue
    known = getattr(function, "__globals__", {})
    waiting = [code]
    while waiting:
        current = waiting.pop()
        yield from (known[name] for name in current.co_names if name in known)
        waiting.extend(constant for constant in current.co_consts if isinstance(constant, CodeType))


def _source(function: Callable[..., object]) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):  # typed at a prompt or compiled elsewhere: the code object says as much
        code = getattr(function, "__code__", None)
        constants = repr(getattr(code, "co_consts", function)).encode()
        return (getattr(code, "co_code", b"") or b"") + constants + sys.version.encode()
