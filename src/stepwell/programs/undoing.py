"""How a workflow body undoes what it has done: compensations are steps, run in reverse order, whatever interrupts.

A saga keeps the calls that undo its work, in memory: a rebuild of the body registers them again. When its block is left
by an error or a cancellation they run one after the other as steps of kind `compensation`, which are retried even while
the run is being cancelled, in an asyncio task of their own, so that a second cancellation cannot stop them half-way. One
that fails for good ends the run with its error; a retry of the run tries that step again and goes on with the rest.

When a body ends, the asyncio tasks that it leaves behind are cancelled, as `asyncio.run` cancels them, and waited for:
their sagas are undone too, and nothing goes forward while the run is undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar, Token
from typing import Any, cast

from stepwell.authoring.task import Task
from stepwell.errors import DefinitionError, StepFailed
from stepwell.model.ids import StepPath
from stepwell.programs.turnloop import Scope, TurnLoop

Undo = Callable[[Scope, Task[..., Any], tuple[object, ...], Mapping[str, object]], Coroutine[Any, Any, Any]]
"""Runs a task as a compensation in a scope. (Any: whatever it returns.)"""

_innermost: ContextVar[OneSaga | None] = ContextVar("stepwell_saga", default=None)


class Call:
    """A call that undoes something; each is itself and equal to no other."""

    __slots__ = ("args", "kwargs", "task")

    def __init__(self, task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        self.task = task  # Any: whatever it returns
        self.args = args
        self.kwargs = kwargs


class OneSaga:
    """The `authoring.context.Saga` of one block, or of a whole run."""

    def __init__(self, scope: Scope) -> None:
        self.calls: list[Call] = []
        self.scope = scope
        self.outer: OneSaga | None = None

    def compensate(
        self, undo: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:  # Any: whatever it returns
        """Register a call, to be made if the saga fails."""
        if not isinstance(undo, Task):
            raise DefinitionError(f"ctx.compensate takes a task; found {undo!r}: put @task in front of it")
        undo.codec.encode(args, kwargs)  # a call that does not fit is told where it is registered
        saga = self
        while saga.outer is not None:  # its block is over; code that it has started goes on
            saga = saga.outer
        saga.calls.append(Call(undo, args, dict(kwargs)))

    def hand_over(self, outer: OneSaga) -> None:
        """The block is over: what is still to be undone, if need be, is undone with what is around it."""
        outer.calls += self.calls
        self.calls = []
        self.outer = outer


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
        self._undoing: set[asyncio.Task[None]] = set()
        self._moment = 0
        self._heard: dict[StepPath, int] = {}
        self._last_cancelled = 0

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

    def stopped_by(self, error: BaseException | None) -> tuple[StepPath, ...]:
        """The compensations whose failure `error` came from: what a retry goes on with."""
        paths = [getattr(one, "path", None) for one in _chain(error) if one in self._failed]
        return tuple(dict.fromkeys(path for path in paths if path is not None))

    def heard_of(self, path: StepPath) -> None:
        """The body is about to hear that this step has failed."""
        self._moment += 1
        self._heard[path] = self._moment

    def has_undone_after(self, steps: Iterable[StepPath]) -> bool:
        """Whether work was undone because of a cancellation after the first of these steps had failed.

        A retry of the run takes these failures back, and the cancellations that came of them, but nothing that was
        done about these: going on from there would take for done what was undone.
        """
        first = min((self._heard.get(path, 0) for path in steps), default=None)
        return first is not None and self._last_cancelled >= first

    async def wind_up(self, error: BaseException | None) -> None:
        """The body has ended: let what it has left behind end, then undo the run as a whole if `error` ended it.

        Raises:
            StepFailed: a compensation failed for good.
        """
        this, stopped, told = asyncio.current_task(), list[BaseException](), set[asyncio.Task[Any]]()
        while left := [task for task in self._loop.tasks_in_order() if task is not this and not task.done()]:
            for task in left:
                if task not in told:
                    told.add(task)
                    if task not in self._undoing:
                        task.cancel()
            try:
                await asyncio.wait(left)
            except asyncio.CancelledError:  # it is ending already
                continue
        for task in sorted(told, key=hash):
            failure = None if task.cancelled() else task.exception()
            if self.stopped_by(failure):
                stopped.append(cast("BaseException", failure))
        if stopped:
            raise stopped[0]
        if error is not None:
            await self.undo_all(self.root, error)

    async def undo_all(self, saga: OneSaga, error: BaseException) -> None:
        """Undo the work of a saga that `error` leaves.

        Raises:
            StepFailed: a compensation failed for good; those registered before it were not run.
        """
        if not saga.calls:
            return
        if isinstance(error, asyncio.CancelledError):
            self._last_cancelled = self._moment
        work = self._loop.create_task(self._run(saga), name="undo", scope=saga.scope)
        self._undoing.add(work)
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
            call = saga.calls[-1]
            await self._undo(self._loop.current_scope(), call.task, call.args, call.kwargs)
            saga.calls.remove(call)  # others may have been registered meanwhile


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
            self._saga.hand_over(self._outer)
        elif isinstance(error, Exception | asyncio.CancelledError):
            await self._undoing.undo_all(self._saga, error)
            self._saga.hand_over(self._outer)


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
