"""`ctx.sync`: the waiting verbs of a synchronous workflow body, which block instead of being awaited."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from stepwell.authoring.context import Saga, SagaBlock, Selected
from stepwell.authoring.ctx import body_of, ctx
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import WorkflowBodyError
from stepwell.model.cloudevents import CloudEvent
from stepwell.model.durations import Duration

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class SyncCtx:
    """`ctx.sync`: waiting verbs that block."""

    def _run(self, what: str, coroutine: Coroutine[Any, Any, T]) -> T:
        body = body_of(f"sync.{what}")
        if body.blocking is None:
            coroutine.close()
            raise WorkflowBodyError(f"ctx.sync.{what} is for synchronous workflows; here write `await ctx.{what}`")
        return cast("T", body.blocking(coroutine))

    def sleep(self, duration: Duration) -> None:
        """As `ctx.sleep`."""
        self._run("sleep(…)", ctx.sleep(duration))

    @overload
    def signal(self, name: str, type: type[T], *, timeout: Duration | None = None) -> T: ...

    @overload
    def signal(self, name: str, *, timeout: Duration | None = None) -> Any: ...

    def signal(
        self, name: str, type: Any = Any, *, timeout: Duration | None = None
    ) -> Any:  # Any: the overloads say it
        """As `ctx.signal`."""
        return self._run("signal(…)", ctx.signal(name, type, timeout=timeout))

    def start(self, workflow: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> str:
        """As `ctx.start`."""
        return self._run("start(…)", ctx.start(workflow, *args, **kwargs))

    def start_new(self, workflow: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> str:
        """As `ctx.start_new`."""
        return self._run("start_new(…)", ctx.start_new(workflow, *args, **kwargs))

    @overload
    def event(
        self,
        topic: str,
        type: type[T],
        *,
        where: object = None,
        timeout: Duration | None = None,
        since: datetime | None = None,
    ) -> CloudEvent[T]: ...

    @overload
    def event(
        self,
        topic: str,
        *,
        where: object = None,
        timeout: Duration | None = None,
        since: datetime | None = None,
    ) -> CloudEvent[Any]: ...

    def event(
        self,
        topic: str,
        type: Any = Any,
        *,
        where: object = None,
        timeout: Duration | None = None,
        since: datetime | None = None,
    ) -> CloudEvent[Any]:  # Any: the overloads say it
        """As `ctx.event`."""
        return self._run("event(…)", ctx.event(topic, type, where=where, timeout=timeout, since=since))

    def ask(self, prompt: str, type: Any = None, **options: Any) -> Any:  # Any: as `ctx.ask`, which says what it takes
        """As `ctx.ask`, with the same options."""
        return self._run("ask(…)", ctx.ask(prompt, type, **options))

    def select(self, **branches: Awaitable[Any]) -> Selected:  # Any: each its own
        """As `ctx.select`; the branches are the awaitable forms: `ctx.signal(…)`, `charge.aio(…)`."""
        return self._run("select(…)", ctx.select(**branches))

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Block until it is done: `ctx.sync.wait(pack.map(orders))`, or whatever else an async body would await."""
        return self._run("wait(…)", _awaited(awaitable))

    @overload
    def map(
        self,
        function: Callable[[Item], Coroutine[Any, Any, T]],
        items: Iterable[Item],
        *,
        concurrency: int | None = None,
        on_error: Literal["raise"] = "raise",
        label: str = "",
    ) -> list[T]: ...

    @overload
    def map(
        self,
        function: Callable[[Item], Coroutine[Any, Any, T]],
        items: Iterable[Item],
        *,
        concurrency: int | None = None,
        on_error: Literal["collect"],
        label: str = "",
    ) -> list[T | Exception]: ...

    def map(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        on_error: Any = "raise",
        label: str = "",
    ) -> list[Any]:  # Any: the overloads say it
        """As `ctx.map`; `function` is an async function of the body."""
        return self._run("map(…)", ctx.map(function, items, concurrency=concurrency, on_error=on_error, label=label))

    @contextlib.contextmanager
    def saga(self) -> Iterator[Saga]:
        """As `ctx.saga`: `with ctx.sync.saga():`."""
        block = ctx.saga()
        opened = self._run("saga()", _entered(block))
        block.enter()  # this thread has a context of its own
        try:
            yield opened
        except BaseException as error:
            block.leave()
            self._run("saga()", _left(block, error))
            raise
        block.leave()
        self._run("saga()", _left(block, None))


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _entered(block: SagaBlock) -> Saga:
    return await block.__aenter__()


async def _left(block: SagaBlock, error: BaseException | None) -> None:
    await block.__aexit__(type(error) if error is not None else None, error, None)


SYNC = SyncCtx()
