"""How a workflow body undoes what it has done: compensations are steps, run in reverse order, whatever interrupts.

A saga keeps the calls that undo its work, in memory: a rebuild of the body registers them again. When its block is left
by an error or a cancellation, asyncio tasks that are still at work inside are cancelled first, so that nothing goes
forward any more. Then the calls run one after the other as steps of kind `compensation`, which are retried even while
the run is being cancelled, in an asyncio task of their own, so that a second cancellation cannot stop them half-way.

A compensation that fails for good stops the undoing: no code of the body can catch that (`UndoingStopped`), what was
registered before it is left, and the run fails with its error. Branches beside it that are independent are undone. A
retry of the run tries that step again and goes on with the rest.

When a body ends, the asyncio tasks that it leaves behind are cancelled, as `asyncio.run` cancels them, and waited for:
their sagas are undone too, and nothing goes forward while the run is undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ParamSpec

from stepwell.authoring.task import Task
from stepwell.errors import ControlFlow, DefinitionError, StepFailed
from stepwell.model.ids import StepPath
from stepwell.programs.exceptions import failed_paths
from stepwell.programs.turnloop import Scope, TurnLoop, TurnTask

P = ParamSpec("P")

Undo = Callable[[Scope, Task[..., Any], tuple[object, ...], Mapping[str, object]], Coroutine[Any, Any, Any]]
"""Runs a task as a compensation in a scope. (Any: whatever it returns.)"""

_DATE = "_stepwell_undone"
"""The attribute of an exception that says how much had been undone when it came up: it travels with the exception."""

_innermost: ContextVar[OneSaga | None] = ContextVar("stepwell_saga", default=None)


class UndoingStopped(ControlFlow):
    """A compensation has failed for good: the body ends, and the run is kept as it stands for a retry."""


class Call:
    """A call that undoes something."""

    __slots__ = ("args", "kwargs", "task")

    def __init__(
        self, task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:  # Any: whatever it returns
        self.task = task
        self.args = args
        self.kwargs = kwargs


class OneSaga:
    """The `authoring.context.Saga` of one block, or of a whole run. `around` is the one in whose block it is."""

    def __init__(self, scope: Scope, around: OneSaga | None = None) -> None:
        self.calls: list[Call] = []
        self.scope = scope
        self.around = around
        self.is_over = False

    def compensate(self, undo: Task[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:  # Any: whatever it returns
        """Register a call, to be made if the saga fails."""
        if not isinstance(undo, Task):
            raise DefinitionError(f"ctx.compensate takes a task; found {undo!r}: put @task in front of it")
        undo.codec.encode(args, kwargs)  # a call that does not fit is told where it is registered
        self._open_one().calls.append(Call(undo, args, kwargs))

    def end(self) -> None:
        """The block is over: what may still have to be undone is undone with what is around it."""
        self.is_over = True
        calls, self.calls = self.calls, []
        self._open_one().calls += calls

    def _open_one(self) -> OneSaga:
        """This one, or when its block is over (code that it has started goes on) the next one around."""
        saga = self
        while saga.is_over and saga.around is not None:
            saga = saga.around
        return saga

    def is_within(self, other: OneSaga) -> bool:
        """Whether it is the other's, or that of a block inside."""
        saga: OneSaga | None = self
        while saga is not None and saga is not other:
            saga = saga.around
        return saga is other


class Undoing:
    """The sagas of one run. `failures` are the compensations that have failed for good."""

    def __init__(self, loop: TurnLoop, undo: Undo) -> None:
        self.root = OneSaga(Scope((("undo", 1),)))
        self.failures: list[Exception] = []
        self._loop = loop
        self._undo = undo
        self._begun = 0  # compensations
        self._active = 0  # blocks that are being undone
        self._workers: set[TurnTask[None]] = set()
        self._heard: dict[StepPath, int] = {}
        self._cancelled_at: int | None = None
        loop.on_failure = self._date

    @property
    def saga(self) -> OneSaga:
        """The innermost that the running code is in."""
        return _innermost.get() or self.root

    def block(self) -> Block:
        """A block with a saga of its own."""
        scope = self._loop.current_scope()
        return Block(self, scope.child("saga", scope.occurrence("saga")))

    # -- what a retry of the run could not go on from -----------------------------------------------------------

    def heard_of(self, path: StepPath) -> None:
        """The body is about to hear that this step has failed."""
        if self._begun:
            self._heard[path] = self._begun

    def heard_of_cancel(self) -> None:
        """The body is about to hear that the run is to end."""
        self._cancelled_at = -1 if self._active else self._begun

    def _date(self, error: BaseException) -> None:
        """Remember how much had been undone when an error first came up."""
        owner, _ = getattr(error, _DATE, (0, 0))
        if owner != id(self):
            setattr(error, _DATE, (id(self), self._begun))

    @property
    def has_undone_for_cancel(self) -> bool:
        """Whether work was undone since the run was asked to end."""
        return self._cancelled_at is not None and self._cancelled_at < self._begun

    def has_undone_for(self, error: BaseException) -> bool:
        """Whether work was undone since what led to `error` came up.

        A retry of the run takes the failures back that led to its end, and what came of them, but not what was done
        about them: going on from there would take for done what was undone. What was undone before is no obstacle:
        the body has caught that error, and will again.
        """
        dates = [self._heard.get(path, 0) for path in failed_paths(error)]
        for one in _origins(error):
            owner, date = getattr(one, _DATE, (0, 0))
            if owner == id(self):
                dates.append(date)
        return min(dates, default=0) < self._begun

    # -- undoing ------------------------------------------------------------------------------------------------

    async def leave(self, saga: OneSaga, error: BaseException) -> None:
        """Undo the work of a block that `error` leaves.

        Raises:
            UndoingStopped: a compensation failed for good; those registered before it were not run.
            CancelledError: the task was cancelled meanwhile, and `error` is something else.
        """
        self._date(error)
        self._active += 1
        try:
            was_cancelled, stopped = await self._stop(lambda task: _saga_of(task, self.root).is_within(saga))
            if stopped or _comes_of_stopping(error):
                raise UndoingStopped
            was_cancelled |= await self._make_calls(saga)
        finally:
            self._active -= 1
        if was_cancelled and not isinstance(error, asyncio.CancelledError):
            raise asyncio.CancelledError

    async def wind_up(self, error: BaseException | None) -> None:
        """The body has ended: let what it has left behind end, then undo the run as a whole if `error` ended it."""
        if error is not None:
            self._date(error)
        self._active += 1
        await self._stop(lambda _: True)
        if error is not None and not self.failures:
            try:
                await self._make_calls(self.root)
            except UndoingStopped:  # it is among the failures
                pass

    async def _stop(self, is_meant: Callable[[TurnTask[Any]], bool]) -> tuple[bool, bool]:
        """Cancel other tasks, once each, and wait until they have ended.

        Returns whether the calling task was cancelled meanwhile, and whether the undoing of one of them has stopped.
        """
        this = asyncio.current_task(self._loop)
        told: dict[TurnTask[Any], None] = {}  # in order
        was_cancelled = False
        while left := [
            task
            for task in self._loop.tasks_in_order()
            if not (task is this or task in self._workers or task.done()) and is_meant(task)
        ]:
            for task in left:
                if task not in told:
                    told[task] = None
                    task.cancel()
            was_cancelled |= await _outlast(left)
        return was_cancelled, any(_has_stopped(task) for task in told)

    async def _make_calls(self, saga: OneSaga) -> bool:
        """Make a saga's calls, the last first; returns whether the calling task was cancelled meanwhile."""
        if not saga.calls:
            return False
        work = self._loop.create_task(self._work(saga), name="undo", scope=saga.scope)
        self._workers.add(work)
        was_cancelled = await _outlast([work])
        self._workers.discard(work)
        work.result()
        return was_cancelled

    async def _work(self, saga: OneSaga) -> None:
        _innermost.set(None)
        while saga.calls:
            call = saga.calls.pop()
            self._begun += 1
            try:
                await self._undo(self._loop.current_scope(), call.task, call.args, call.kwargs)
            except Exception as failure:
                self.failures.append(failure)
                raise UndoingStopped from failure


class Block:
    """`async with ctx.saga()`: the `authoring.context.SagaBlock`."""

    def __init__(self, undoing: Undoing, scope: Scope) -> None:
        self._undoing = undoing
        self._scope = scope
        self._saga: OneSaga | None = None

    def enter(self) -> OneSaga:
        """From here on this context is in the block; a synchronous body has two, its thread's and its loop's."""
        if self._saga is None:
            self._saga = OneSaga(self._scope, self._undoing.saga)
        _innermost.set(self._saga)
        return self._saga

    def leave(self) -> OneSaga:
        """From here on this context is not in the block any more."""
        assert self._saga is not None, "a block is entered before it is left"
        _innermost.set(self._saga.around)
        return self._saga

    async def __aenter__(self) -> OneSaga:
        if self._saga is not None:
            raise DefinitionError("a saga is one block: call ctx.saga() again for another one")
        return self.enter()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        saga = self.leave()
        if isinstance(error, Exception | asyncio.CancelledError):
            await self._undoing.leave(saga, error)
        if error is None or isinstance(error, Exception | asyncio.CancelledError):
            saga.end()


async def _outlast(tasks: Sequence[asyncio.Task[Any]]) -> bool:  # Any: whatever they return
    """Wait until all have ended, and let no cancellation get through; returns whether there was one."""
    was_cancelled = False
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:  # what is half undone is worst
            was_cancelled = True
    return was_cancelled


def _saga_of(task: TurnTask[Any], root: OneSaga) -> OneSaga:  # Any: whatever it returns
    return task.context.get(_innermost) or root


def _has_stopped(task: asyncio.Task[Any]) -> bool:  # Any: whatever it returns
    # Asked for with `exception()`, an error that nobody looks at would never be told of.
    return _comes_of_stopping(task._exception)


def _comes_of_stopping(error: BaseException | None) -> bool:
    """Whether a compensation's failure is behind an error, such as one that a `finally` block put in its place."""
    return any(isinstance(one, UndoingStopped) for one in _origins(error, of_steps=True))


def _origins(error: BaseException | None, *, of_steps: bool = False) -> list[BaseException]:
    """The error, its causes and contexts, and those of the members of groups; those of failed steps if asked for."""
    found: dict[int, BaseException] = {}
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in found or (isinstance(one, StepFailed) and not of_steps):
            continue
        found[id(one)] = one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return list(found.values())
