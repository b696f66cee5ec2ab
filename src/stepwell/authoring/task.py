"""`@task`: a function whose call inside a workflow is a durable step, and outside is a plain call."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, cast, overload

from stepwell.authoring.context import OnError, current_body
from stepwell.errors import DefinitionError, StepFailed, WorkflowBodyError
from stepwell.model.codec import CallCodec
from stepwell.model.durations import Duration, micros
from stepwell.model.entries import OnChange
from stepwell.model.rates import rate as read_rate
from stepwell.model.retry import ONCE, Retry

P = ParamSpec("P")
T = TypeVar("T")


class TaskOptions:
    """How a task's steps run; immutable. Durations in microseconds, None means no limit."""

    __slots__ = (
        "aliases",
        "concurrency",
        "concurrency_key",
        "executor",
        "heartbeat",
        "key",
        "on_change",
        "priority",
        "rate",
        "requires",
        "retry",
        "tags",
        "timeout",
        "total_timeout",
        "transactional",
        "upgrade",
    )

    def __init__(
        self,
        *,
        retry: Retry | int | None = None,
        timeout: Duration | None = None,
        total_timeout: Duration | None = None,
        heartbeat: Duration | None = None,
        executor: str = "",
        concurrency: int | None = None,
        concurrency_key: Callable[..., str] | None = None,
        rate: str | None = None,
        priority: int = 0,
        on_change: OnChange = "pause",
        aliases: tuple[str, ...] = (),
        key: str | None = None,
        transactional: bool = False,
        upgrade: Callable[[Any], object] | None = None,  # Any: JSON, as an older version returned it
        requires: Sequence[str] = (),
        tags: Sequence[str] = (),
    ) -> None:
        self.retry = ONCE if retry is None else Retry(attempts=retry) if isinstance(retry, int) else retry
        self.timeout = _limit(timeout, "timeout")
        self.total_timeout = _limit(total_timeout, "total_timeout")
        self.heartbeat = _limit(heartbeat, "heartbeat")
        self.executor = executor
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise DefinitionError(f"concurrency={concurrency!r}: give a whole number from 1")
        self.concurrency = concurrency
        self.concurrency_key = concurrency_key
        self.rate = None if rate is None else read_rate(rate, "rate=")
        self.priority = priority
        if on_change not in ("pause", "rerun", "reuse", "fail"):
            raise DefinitionError(f"on_change={on_change!r}: use 'pause', 'rerun', 'reuse' or 'fail'")
        self.on_change = on_change
        self.aliases = aliases
        self.key = key
        self.transactional = transactional
        self.upgrade = upgrade
        self.requires = _requirements(requires)
        self.tags = _texts(tags, "tags")
        self._check()

    def _check(self) -> None:
        if self.requires:
            self.executor = self.executor or "process"  # another Python's packages cannot be loaded into this one
            if self.executor != "process" or self.transactional:
                where = "transactional=True" if self.transactional else f"executor={self.executor!r}"
                raise DefinitionError(
                    f"requires=… and {where}: a task with requirements runs in a process of its own environment; "
                    "leave one of the two out"
                )
        limits = self.timeout, self.total_timeout, self.heartbeat
        if self.transactional and (self.executor or any(limit is not None for limit in limits)):
            raise DefinitionError(
                "a transactional task runs where the store writes, holds up everything else that is written and cannot "
                "be stopped half-way: it takes no executor, timeout, total_timeout or heartbeat; keep it short"
            )

    def but(self, **changes: object) -> TaskOptions:
        """A copy with some options changed."""
        copy = TaskOptions.__new__(TaskOptions)
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        fresh = TaskOptions(**changes)  # type: ignore[arg-type]  # checked by the public caller's signature
        for name in changes:
            setattr(copy, name, getattr(fresh, name))
        copy._check()
        return copy


def _limit(duration: Duration | None, name: str) -> int | None:
    return None if duration is None else micros(duration, f"{name}=")


def _texts(given: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(text, str) and text.strip() for text in given):
        raise DefinitionError(f"{name}={given!r}: give a list of texts, such as {name}=['…']")
    return tuple(given)


_REQUIREMENT = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?\s*(\[[^\]]*\])?\s*(@\s*\S.*|[(<>=!~;].*)?", re.ASCII)
"""As much of PEP 508 as tells a requirement from an installer's option, a path or a typing mistake."""


def _requirements(given: Sequence[str]) -> tuple[str, ...]:
    """Requirements in one order, each once: the same set is the same environment."""
    found = {" ".join(text.split()) for text in _texts(given, "requires")}
    for text in sorted(found):
        if not _REQUIREMENT.fullmatch(text):
            raise DefinitionError(
                f"requires={text!r} is no requirement: write 'pillow>=11', 'httpx[http2]', or for a file or a "
                "repository 'name @ URL'"
            )
    return tuple(sorted(found))


class Task(Generic[P, T]):
    """A registered function. Call it as usual: in a workflow body the call is a step, anywhere else a plain call."""

    is_async: bool

    def __init__(self, function: Callable[..., object], name: str, options: TaskOptions) -> None:
        if not callable(function):
            raise DefinitionError(f"@task takes a function; found {type(function).__name__}")
        self.function = function
        self.name = name or getattr(function, "__name__", "")
        if not self.name or not self.name.replace("_", "a").isidentifier():
            raise DefinitionError(
                f"a task needs a name made of letters, digits and _; found {self.name!r}: give name='…' to @task"
            )
        self.options = options
        self.codec = CallCodec(function, self.name)
        self.__wrapped__ = function
        self.__name__ = self.name
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    @property
    def summary(self) -> str:
        """The first line of the function's docstring; empty without one."""
        return (self.__doc__ or "").strip().partition("\n")[0].strip()

    @property
    def location(self) -> str:
        """Where another process finds the function: `module:qualname`, or `file:/path.py:qualname` for a script."""
        module = self.function.__module__
        main = sys.modules.get("__main__")
        if module in ("__main__", "__mp_main__") or module.startswith("stepwell_target_"):
            path = getattr(sys.modules.get(module, main), "__file__", None)
            return f"file:{path}:{self.__qualname__}"
        return f"{module}:{self.__qualname__}"

    def with_options(
        self,
        *,
        key: str | None = None,
        retry: Retry | int | None = None,
        timeout: Duration | None = None,
        total_timeout: Duration | None = None,
        heartbeat: Duration | None = None,
        executor: str | None = None,
        priority: int | None = None,
        on_change: OnChange | None = None,
    ) -> Self:
        """The same task with other options, for one call: `charge.with_options(key=order.id)(order)`.

        `key` pins the step's identity within its scope, so that it is found again wherever the call moves.
        """
        given = {
            "key": key,
            "retry": retry,
            "timeout": timeout,
            "total_timeout": total_timeout,
            "heartbeat": heartbeat,
            "executor": executor,
            "priority": priority,
            "on_change": on_change,
        }
        return type(self)(
            self.function, self.name, self.options.but(**{k: v for k, v in given.items() if v is not None})
        )

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
        """A step per item, results in the items' order.

        Args:
            items: each becomes the first positional argument of one step.
            concurrency: how many steps are in flight at once (None: as many as the engine's limits allow); the
                next one starts as soon as any has ended.
            on_error: `raise` cancels what is in flight and raises the first error; `collect` puts the `StepFailed`
                in the item's place.
            key: names an item, so that its step is found again when the list is reordered or grows in front.
            common: further arguments by name, the same for all items.

        Outside a workflow the items are worked on concurrently by plain calls.
        """
        body = current_body()
        if body is not None:
            return body.map_task(self, items, concurrency, on_error, key, common or {})
        return self._plain_map(list(items), concurrency, on_error, common or {})

    async def _plain_map(
        self, items: list[object], concurrency: int | None, on_error: OnError, common: Mapping[str, object]
    ) -> list[Any]:  # Any: the overloads of `map` say it
        slots = asyncio.Semaphore(concurrency or max(1, len(items)))

        async def one(item: object) -> object:
            async with slots:
                if self.is_async:
                    return await cast("Coroutine[Any, Any, object]", self.function(item, **common))
                return await asyncio.to_thread(self.function, item, **common)

        return await asyncio.gather(*map(one, items), return_exceptions=on_error == "collect")

    def map_sync(
        self,
        items: Iterable[object],
        *,
        concurrency: int | None = None,
        on_error: OnError = "raise",
        key: Callable[[Any], str] | None = None,  # Any: an item
        common: Mapping[str, object] | None = None,
    ) -> list[Any]:  # Any: T, or T | StepFailed
        """`map` for synchronous workflows and scripts: blocks until all are done."""
        body = current_body()
        if body is not None:
            return cast(
                "list[Any]", _block(self.name, body.map_task(self, items, concurrency, on_error, key, common or {}))
            )
        return asyncio.run(self._plain_map(list(items), concurrency, on_error, common or {}))

    def __repr__(self) -> str:
        return f"<task {self.name}>"


class AsyncTask(Task[P, T]):
    """A task written as `async def`."""

    is_async = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """In a workflow body: a step, started when awaited. Elsewhere: the function's own coroutine."""
        body = current_body()
        if body is None:
            return cast("Coroutine[Any, Any, T]", self.function(*args, **kwargs))
        return body.call(self, args, kwargs)

    def sync(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it from synchronous code and wait."""
        body = current_body()
        if body is None:
            return asyncio.run(cast("Coroutine[Any, Any, T]", self.function(*args, **kwargs)))
        return cast("T", _block(self.name, body.call(self, args, kwargs)))

    aio = __call__


class SyncTask(Task[P, T]):
    """A task written as `def`; it runs in a thread, or where `executor=` says."""

    is_async = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """In a synchronous workflow: a step, and its result. Elsewhere: a plain call."""
        body = current_body()
        if body is None:
            return cast("T", self.function(*args, **kwargs))
        if body.blocking is None:
            raise WorkflowBodyError(
                f"{self.name} is a synchronous task: in an async workflow write `await {self.name}.aio(…)`"
            )
        return cast("T", body.blocking(body.call(self, args, kwargs)))

    sync = __call__

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Call it from async code: a step in a workflow body, a thread elsewhere."""
        body = current_body()
        if body is None:
            return asyncio.to_thread(cast("Callable[P, T]", self.function), *args, **kwargs)
        return body.call(self, args, kwargs)


def _block(name: str, coroutine: Coroutine[Any, Any, Any]) -> object:
    body = current_body()
    if body is None or body.blocking is None:
        coroutine.close()
        raise WorkflowBodyError(f"{name}: this blocks; in an async workflow use the awaitable form (`await …`)")
    return body.blocking(coroutine)


class TaskDecorator:
    """`@task(…)` with options, waiting for its function."""

    def __init__(self, name: str, options: TaskOptions) -> None:
        self._name = name
        self._options = options

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncTask[P, T]: ...  # type: ignore[overload-overlap]  # the first that fits is meant

    @overload
    def __call__(self, function: Callable[P, T], /) -> SyncTask[P, T]: ...

    def __call__(self, function: Callable[..., Any], /) -> AsyncTask[..., Any] | SyncTask[..., Any]:  # Any: overloads
        kind = AsyncTask if inspect.iscoroutinefunction(function) else SyncTask
        if kind is AsyncTask and self._options.executor == "thread":
            raise DefinitionError(f"task {function.__name__}: an async function runs on the loop or in a process")
        if kind is AsyncTask and self._options.transactional:
            raise DefinitionError(f"task {function.__name__}: a transactional task must be a plain `def`")
        return kind(function, self._name, self._options)


@overload
def task(function: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncTask[P, T]: ...  # type: ignore[overload-overlap]  # the first that fits is meant


@overload
def task(function: Callable[P, T], /) -> SyncTask[P, T]: ...


@overload
def task(
    *,
    name: str = "",
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
    total_timeout: Duration | None = None,
    heartbeat: Duration | None = None,
    executor: str = "",
    concurrency: int | None = None,
    concurrency_key: Callable[..., str] | None = None,
    rate: str | None = None,
    priority: int = 0,
    on_change: OnChange = "pause",
    aliases: tuple[str, ...] = (),
    transactional: bool = False,
    upgrade: Callable[[Any], object] | None = None,
    requires: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> TaskDecorator: ...


def task(
    function: Callable[..., Any] | None = None,  # Any: the overloads say it
    /,
    *,
    name: str = "",
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
    total_timeout: Duration | None = None,
    heartbeat: Duration | None = None,
    executor: str = "",
    concurrency: int | None = None,
    concurrency_key: Callable[..., str] | None = None,
    rate: str | None = None,
    priority: int = 0,
    on_change: OnChange = "pause",
    aliases: tuple[str, ...] = (),
    transactional: bool = False,
    upgrade: Callable[[Any], object] | None = None,  # Any: JSON, as an older version returned it
    requires: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> Any:  # Any: the overloads say it
    """Make a function a task: a call of it in a workflow is a durable step.

    Args:
        name: what the step is called in the journal; the function's name by default.
        retry: a `Retry` policy, or a number of attempts; without it a step has one attempt.
        timeout: the longest one attempt may take.
        total_timeout: the longest all attempts and the delays between them may take.
        heartbeat: the longest an attempt may be silent: it must call `ctx.heartbeat()` more often.
        executor: `thread` (default for `def`), `process` (a child process that can be killed), or the name of an
            executor given to `Stepwell(executors=…)`. An `async def` runs on the engine's own loop by default.
        concurrency: how many attempts of this task run at once in this engine; with `concurrency_key`, per key.
        concurrency_key: called with the task's arguments; returns the key that `concurrency` and `rate` count for.
        rate: how many attempts of this task begin within any window of time in this engine, such as `"10/1s"`.
        priority: attempts with a higher number get a free slot first.
        on_change: what happens when today's code calls it with another input than the journal recorded.
        aliases: former names; records under them are taken for this task's.
        transactional: its writes through `ctx.connection` commit together with its outcome, exactly once. It must be a
            `def`, and short: everything else that the store writes waits for it.
        upgrade: called with what an older version of the task returned (JSON as Python values) when today's return
            type cannot read it; gives a value that fits.
        requires: packages, such as `["pillow>=11"]`, with which it runs: in a child process of an environment that
            has them, made by `stepwell tasks install` and never by itself. The module is imported where the packages
            are not, too: import them inside the function.
        tags: words to find it by.

    Raises:
        DefinitionError: an option is out of range.
    """
    options: dict[str, Any] = {key: given for key, given in locals().items() if key not in ("function", "name")}
    decorator = TaskDecorator(name, TaskOptions(**options))
    return decorator if function is None else decorator(function)
