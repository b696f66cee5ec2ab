"""A workflow function in execution: its coroutines on a turn loop, its calls as requests, its past as records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from stepwell.authoring.context import Identity, current
from stepwell.authoring.workflow import Workflow
from stepwell.errors import StepwellError
from stepwell.model.commands import CompleteRun, EndCancelled, FailRun, StartWait
from stepwell.model.entries import NO_PAYLOAD, DefinitionPatched, OnChange, RunCancelRequested, StateSet, StepFailed
from stepwell.model.failures import failure_of
from stepwell.model.ids import StepPath
from stepwell.programs.asks import Asks, Pending, check_size
from stepwell.programs.body import Body, is_machinery
from stepwell.programs.exceptions import failed_paths
from stepwell.programs.matching import NO_RECORDS, Delivery, Records
from stepwell.programs.protocol import Divergence, Note, Request
from stepwell.programs.switch import BodySwitch
from stepwell.programs.turnloop import TurnLoop, TurnTask

NO_VARIABLES: Mapping[str, msgspec.Raw] = MappingProxyType({})

if TYPE_CHECKING:
    from stepwell.programs.guard import Guard


class Ending(NamedTuple):
    """What a body came to: an error, or its result as JSON."""

    error: BaseException | None
    output: msgspec.Raw = NO_PAYLOAD


class FunctionProgram:
    """A `programs.protocol.Program` that is a workflow function.

    Args:
        workflow: whose function is the body.
        identity: who the run is.
        input: the body's arguments, as the journal has them.
        clock: the real time in microseconds, for `ctx.now()`.
        chance: the source of `ctx.random()` and `ctx.uuid()`.
        threads: where a synchronous body's thread comes from.
        records: what the journal knows; None for a fresh run.
        on_change: overrides the tasks' own policy for this rebuild.
        strict: whether a call that cannot be replayed, made by the body's own code, fails the run (`programs.guard`).
    """

    def __init__(
        self,
        workflow: Workflow[..., Any],  # Any: whatever it returns
        identity: Identity,
        input: msgspec.Raw,
        *,
        clock: Callable[[], int],
        chance: Random,
        threads: Executor,
        records: Records | None = None,
        on_change: OnChange | None = None,
        strict: bool = False,
    ) -> None:
        self.deadlock = ""
        self.ended = False
        self.recorded = NO_RECORDS if records is None else records
        self._workflow = workflow
        self._input = input
        self._threads = threads
        self._loop = TurnLoop(self)  # type: ignore[abstract]  # its module answers every method
        self._asks = Asks(self.recorded, on_change, self._loop)
        self._asks.live = records is None
        self._body = Body(identity, self._loop, self._asks, clock, chance)
        self._guard = _guard_of(workflow) if strict else None
        self._main: TurnTask[Any] | None = None  # Any: whatever the body returns
        self._ending: Ending | None = None
        self._new_timers: dict[int, tuple[StepPath, asyncio.TimerHandle]] = {}

    # -- what the engine asks -----------------------------------------------------------------------------------

    @property
    def divergence(self) -> Divergence | None:
        """Set when today's code called a recorded step with another input."""
        return self._asks.divergence

    @property
    def notes(self) -> list[Note]:
        """What the body has said since the engine last looked."""
        return self._body.notes

    @property
    def maps(self) -> dict[str, tuple[int, int, int]]:
        """Per map: how many items are done, of how many, and how many failed."""
        return self._body.maps

    @property
    def is_set_aside(self) -> bool:
        """Whether it stands where it cannot go on."""
        return self.divergence is not None or bool(self.deadlock)

    def take_requests(self) -> list[Request]:
        """What the body has asked for since the last call."""
        if not self._asks.requests:
            return []
        requests, self._asks.requests = self._asks.requests, []
        return requests

    def begin(self, at: int, variables: Mapping[str, msgspec.Raw] = NO_VARIABLES) -> None:
        """Run the first turn."""
        self._loop.now = at / 1_000_000
        for key, payload in variables.items():
            self._body.edit_state(StateSet(at=at, key=key, payload=payload))
        context = copy_context()
        context.run(current.set, self._body)
        self._loop.context = context
        try:
            args, kwargs = self._workflow.codec.decode(self._input)
            body = self._coroutine(args, kwargs)
        except StepwellError as error:
            self._fail(error)
            return
        self._main = self._loop.create_task(
            body, name=self._workflow.name, context=context, scope=self._loop.root_scope
        )
        self._turn()

    def _coroutine(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Coroutine[Any, Any, object]:
        if self._workflow.is_async:
            return cast("Coroutine[Any, Any, object]", self._workflow.function(*args, **kwargs))
        switch = BodySwitch(self._threads)
        self._body.blocking = switch.block
        function = self._workflow.function
        return switch.run(function if self._guard is None else self._guard.watching(function), args, kwargs)

    def deliver(self, delivery: Delivery, payload: msgspec.Raw) -> None:
        """Run the turn in which this outcome reaches the body."""
        self._asks.to_come -= 1
        self._loop.now = max(self._loop.now, delivery.at / 1_000_000)
        if isinstance(delivery, StepFailed):
            self._body.undoing.heard_of(delivery.path)
        if isinstance(delivery, RunCancelRequested):
            self._body.cancelled = True
            self._body.undoing.heard_of_cancel()
            if self._main is not None:
                self._main.cancel()
        elif isinstance(delivery, StateSet):
            self._body.edit_state(delivery)
            return
        elif isinstance(delivery, DefinitionPatched) or not self._asks.deliver(delivery, payload):  # that is for graphs
            return
        self._turn()

    def go_live(self) -> None:
        """What no call has taken by now is an orphan."""
        self._asks.go_live()
        self.recorded.settle()
        self._find_deadlock()

    def close(self) -> None:
        """Take the body out of memory: its coroutines are closed, nothing that they do on the way has an effect."""
        self._asks.close()
        self._loop.dispose()
        self._main = None
        self._asks.requests.clear()
        self._body.notes.clear()

    def orphans(self) -> list[StepPath]:
        """Recorded steps that the body has not asked for."""
        return self.recorded.orphans()

    # -- turns --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        try:
            self._run_turn()
            self._arm_timers()
            while self._asks.has_late and not self.ended and self.divergence is None and self._asks.deliver_late():
                self._run_turn()
                self._arm_timers()
        except StepwellError as error:  # the turn itself gave up (a body that never waits)
            if self._loop.has_given_up:
                self._fail(error)
            elif self._ending is None:
                self._end_with(error)
            return
        if self._main is not None and self._main.done() and not self.ended and self.divergence is None:
            self._finish(self._main)
        if self._asks.live:
            self._find_deadlock()

    def _run_turn(self) -> None:
        if self._guard is None:
            self._loop.turn()
            return
        self._guard.watching(self._loop.turn)()
        offence = self._guard.take_offence()
        main = self._main
        is_told = main and main.done() and not main.cancelled() and main.exception() is offence
        if offence is not None and self._ending is None and not is_told:
            raise offence  # the body has caught it, or goes on elsewhere

    def _finish(self, main: TurnTask[object]) -> None:
        """The body has returned or raised; once what it has left behind has ended too, so has the run."""
        ending = self._ending
        if ending is None:
            error = asyncio.CancelledError() if main.cancelled() else main.exception()
            self._end_with(error, main.result() if error is None else None)
        else:  # what was left has ended, and what had to be undone is undone, as far as it could be
            self._conclude(ending)

    def _end_with(self, error: BaseException | None, result: object = None) -> None:
        ending = self._written(result) if error is None else Ending(error)
        left = any(not task.done() for task in self._loop.tasks)
        if left or (ending.error is not None and self._body.undoing.root.calls):
            self._ending = ending
            undoing = self._body.undoing
            work = undoing.wind_up(ending.error)
            self._main = self._loop.create_task(work, name="undo", scope=undoing.root.scope)
            self._turn()
        else:
            self._conclude(ending)

    def _written(self, result: object) -> Ending:
        try:
            output = self._workflow.codec.returns.encode(result)
            check_size(output, "the result of", self._workflow.name)
        except StepwellError as refused:
            return Ending(refused)
        return Ending(None, output)

    def _conclude(self, ending: Ending) -> None:
        error = ending.error
        if self._body.failed_compensations:
            self._stop(self._body.failed_compensations)
        elif error is None:
            self.ended = True
            self._asks.requests.append(CompleteRun(output=ending.output))
        elif not isinstance(error, asyncio.CancelledError):
            self._fail(error)
        elif self._body.cancelled:
            self.ended = True
            self._asks.requests.append(EndCancelled(undone=self._body.undoing.has_undone_for_cancel))
        else:
            self._fail(asyncio.CancelledError("the body cancelled itself"))

    def _fail(self, error: BaseException) -> None:
        self.ended = True
        undone = self._body.undoing.has_undone_for(error)
        self._asks.requests.append(FailRun(error=failure_of(error), steps=failed_paths(error), undone=undone))

    def _stop(self, failures: Sequence[Exception]) -> None:
        """Compensations have failed for good: that ends the run, whatever its body made of it."""
        self.ended = True
        steps = tuple(dict.fromkeys(path for failure in failures for path in failed_paths(failure)))
        self._asks.requests.append(FailRun(error=failure_of(failures[0]), steps=steps, undoing=True))

    def _find_deadlock(self) -> None:
        if not self._asks.is_empty or self.ended or self.divergence is not None or self._asks.closed:
            return
        if self._main is not None and not self._main.done():
            places = ", ".join(sorted({_place_of(t) for t in self._loop.tasks if not t.done()}))
            self.deadlock = (
                f"nothing that could move this run again is in flight: its body waits at {places} for something that "
                "only the body itself could do; mend the code and resume"
            )

    # -- durable timers -----------------------------------------------------------------------------------------

    def timer_set(self, timer: asyncio.TimerHandle) -> None:
        """The body scheduled a callback: a timer that must survive restarts."""
        scope = self._loop.current_scope()
        name = "timeout" if _is_time_limit(timer) else "timer"  # each counts by itself: a new limit moves no sleep
        self._new_timers[id(timer)] = (StepPath(scope.path, name, scope.occurrence(name)), timer)

    def timer_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """The body no longer wants it; one cancelled in the turn that set it leaves no trace."""
        if self._new_timers.pop(id(timer), None) is None and not self._asks.closed:
            self._asks.withdraw_timer(timer)

    def _arm_timers(self) -> None:
        if not self._new_timers:
            return
        new, self._new_timers = self._new_timers, {}
        now = round(self._loop.now * 1_000_000)
        for path, timer in new.values():
            due = round(timer.when() * 1_000_000)
            self._asks.wait(StartWait(path=path, wait="timer", due=due), Pending(timer=timer), now)


def _is_time_limit(timer: asyncio.TimerHandle) -> bool:
    """Whether `asyncio.timeout`, `wait_for` or `wait` has set it, which differ in how they do between Pythons."""
    callback = timer._callback  # type: ignore[attr-defined]  # nothing public says what a timer is for
    return getattr(callback, "__func__", callback) in _TIME_LIMITS


_TIME_LIMITS = (asyncio.Timeout._on_timeout, asyncio.tasks._release_waiter)  # type: ignore[attr-defined]  # as above


def _guard_of(workflow: Workflow[..., Any]) -> Guard:  # Any: whatever it returns
    from stepwell.programs.guard import Guard  # only now: most engines are not strict

    return Guard(getattr(workflow.function, "__code__", None))


def _place_of(task: asyncio.Task[Any]) -> str:  # Any: whatever it returns
    """File and line at which a task waits: the innermost frame that is neither asyncio's nor ours."""
    coroutine: object = task.get_coro()
    place = task.get_name()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None and not is_machinery(frame.f_code.co_filename):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None)
    return place
