"""`@workflow`: a function whose execution by the engine is a run, and whose call elsewhere is a plain call."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator
from types import CodeType
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from stepwell.authoring.context import current_body
from stepwell.authoring.task import Task
from stepwell.errors import DefinitionError, WorkflowBodyError
from stepwell.model.codec import CallCodec

P = ParamSpec("P")
T = TypeVar("T")


class Workflow(Generic[P, T]):
    """A named function that can be run. `version` is its source's content hash, after its label if it has one."""

    is_async: bool

    def __init__(self, function: Callable[..., object], name: str, label: str, concurrency: int | None) -> None:
        if not callable(function):
            raise DefinitionError(f"@workflow takes a function; found {type(function).__name__}")
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise DefinitionError(f"workflow concurrency={concurrency!r}: give a whole number from 1")
        self.function = function
        self.name = name or getattr(function, "__name__", "")
        if not self.name or not self.name.replace("_", "a").replace("-", "a").isidentifier():
            raise DefinitionError(f"a workflow needs a name made of letters, digits, - and _; found {self.name!r}")
        self.label = label
        self.concurrency = concurrency
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
            self._version = f"{self.label}+{digest}" if self.label else digest
        return self._version

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

    def __init__(self, name: str, version: str, concurrency: int | None) -> None:
        self._settings = (name, version, concurrency)

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
def workflow(*, name: str = "", version: str = "", concurrency: int | None = None) -> WorkflowDecorator: ...


def workflow(
    function: Callable[..., Any] | None = None,  # Any: the overloads say it
    /,
    *,
    name: str = "",
    version: str = "",
    concurrency: int | None = None,
) -> Any:  # Any: the overloads say it
    """Make a function a workflow.

    Args:
        name: what the workflow is called; the function's name by default.
        version: a label for people, put before the content hash.
        concurrency: how many of its runs one engine drives at once; further ones stay pending.

    Raises:
        DefinitionError: the name or an option is not usable.
    """
    decorator = WorkflowDecorator(name, version, concurrency)
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
