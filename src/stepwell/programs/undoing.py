"""How a workflow body undoes what it has done: compensations are steps, run in reverse order, whatever interrupts.

A saga keeps the calls that undo its work, in memory: a rebuild of the body registers them again. When its block is left
by an error or a cancellation they run one after the other as steps of kind `compensation`, which are retried even while
the run is being cancelled, in an asyncio task of their own, so that a second cancellation cannot stop them half-way. One
that fails for good ends the run with its error; a retry of the run tries that step again and goes on with the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar, Token
from typing import Any

from stepwell.authoring.task import Task
from stepwell.errors import DefinitionError, StepFailed
from stepwell.programs.turnloop import Scope, TurnLoop

Undo = Callable[[Scope, Task[..., Any], tuple[object, ...], Mapping[str, object]], Coroutine[Any, Any, Any]]
"""Runs a task as a compensation in a scope. (Any: whatever it returns.)"""

_innermost: ContextVar[OneSaga | None] = ContextVar("stepwell_saga", default=None)


class OneSaga:
    """The `authoring.context.Saga` of one block, or of a whole run."""

    def __init__(self, scope: Scope) -> None:
        self.calls: list[tuple[Task[..., Any], tuple[object, ...], dict[str, object]]] = []  # Any: what it returns
        self.scope = scope

    def compensate(
        self, undo: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:  # Any: whatever it returns
        """Register a call, to be made if the saga fails."""
        if not isinstance(undo, Task):
            raise DefinitionError(f"ctx.compensate takes a task; found {undo!r}: put @task in front of it")
        undo.codec.encode(args, kwargs)  # a call that does not fit is told where it is registered
        self.calls.append((undo, args, dict(kwargs)))


class Undoing:
    """The sagas of one run."""

    def __init__(self, loop: TurnLoop, undo: Undo, is_cancelling: Callable[[], bool]) -> None:
        self.root = OneSaga(Scope((("undo", 1),)))
        self.undone_by_cancel = False
        self._loop = loop
        self._undo = undo
        self._is_cancelling = is_cancelling
        self._undone: list[BaseException] = []
        self._failed: list[StepFailed] = []

    @property
    def saga(self) -> OneSaga:
        """The innermost that the running code is in."""
        return _innermost.get() or self.root

    def block(self) -> _Block:
        """A block with a saga of its own."""
        scope = self._loop.current_scope()
        return _Block(self, OneSaga(scope.child("saga", scope.occurrence("saga"))))

    def has_undone(self, error: BaseException | None) -> bool:
        """Whether work was undone, to the end, on the way of `error` out of the body."""
        chain = _chain(error)
        return any(one in self._undone for one in chain) and not any(one in self._failed for one in chain)

    def is_stopped(self, error: BaseException | None) -> bool:
        """Whether a compensation that failed is what `error` came from."""
        return any(one in self._failed for one in _chain(error))

    async def undo_all(self, saga: OneSaga, error: BaseException) -> None:
        """Undo the work of a saga that `error` leaves.

        Raises:
            StepFailed: a compensation failed for good; those registered before it were not run.
        """
        if not saga.calls:
            return
        work = self._loop.create_task(self._run(saga), name="undo", scope=saga.scope)
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError:  # it is being undone already, and half undone is worst
                continue
        failure = work.exception()
        if failure is not None:
            failure.__context__ = error
            if isinstance(failure, StepFailed):
                self._failed.append(failure)
            raise failure
        self._undone.append(error)
        if isinstance(error, asyncio.CancelledError) and self._is_cancelling():
            self.undone_by_cancel = True

    async def _run(self, saga: OneSaga) -> None:
        _innermost.set(None)
        while saga.calls:
            task, args, kwargs = saga.calls[-1]
            await self._undo(self._loop.current_scope(), task, args, kwargs)
            saga.calls.pop()


class _Block:
    """`async with ctx.saga()`."""

    def __init__(self, undoing: Undoing, saga: OneSaga) -> None:
        self._undoing = undoing
        self._saga = saga
        self._outer = undoing.saga
        self._token: Token[OneSaga | None] | None = None

    async def __aenter__(self) -> OneSaga:
        self._token = _innermost.set(self._saga)
        return self._saga

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._token is not None:
            token, self._token = self._token, None
            _innermost.reset(token)
        if error is None:
            self._outer.calls += self._saga.calls
        elif isinstance(error, Exception | asyncio.CancelledError):
            await self._undoing.undo_all(self._saga, error)


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error, its causes and contexts, and those of the members of groups."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or any(one is other for other in found):
            continue
        found.append(one)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return found
