"""A workflow function in execution: its coroutines on a turn loop, its calls as requests, its past as records."""

from __future__ import annotations

import asyncio
import os
import random as chance_source
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Executor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec

import stepwell.errors

from stepwell.authoring.context import Awaiter, Identity, OnError, current
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import ArgumentError, ControlFlow, DefinitionError, StepwellError, Unserialisable, Unwound
from stepwell.model.codec import ValueCodec, content_hash
from stepwell.model.commands import (
    CancelStep,
    CompleteRun,
    EndCancelled,
    FailRun,
    RecordValue,
    SetState,
    StartWait,
    WithdrawWait,
)
from stepwell.model.durations import Duration, micros
from stepwell.model.entries import (
    PAYLOAD_LIMIT,
    OnChange,
    RunCancelRequested,
    StepCompleted,
    StepFailed,
    ValueKind,
    WaitSatisfied,
)
from stepwell.model.failures import failure_of
from stepwell.model.ids import StepPath
from stepwell.programs.exceptions import error_of, failed_paths
from stepwell.programs.matching import Changed, Delivery, Record, Records, no_records
from stepwell.programs.protocol import ChildRequest, Divergence, Note, Request, StepRequest
from stepwell.programs.switch import BodySwitch
from stepwell.programs.turnloop import Scope, TurnLoop, TurnTask
from stepwell.programs.window import Cancel, Ended, Window

_MACHINERY = (
    os.path.dirname(asyncio.__file__),
    os.path.dirname(os.path.dirname(stepwell.errors.__file__)) + "/stepwell/",
)
_ANY = ValueCodec(Any, "a value")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Diverged(ControlFlow):
    """The call cannot go on: the program is set aside."""


class _Pending:
    """Somebody in the body waits for an outcome."""

    __slots__ = ("codec", "ended", "future", "timer")

    def __init__(
        self,
        codec: ValueCodec | None = None,
        future: asyncio.Future[Any] | None = None,  # Any: whatever is awaited
        ended: Ended | None = None,
        timer: asyncio.TimerHandle | None = None,
    ) -> None:
        self.codec = codec
        self.future = future
        self.ended = ended
        self.timer = timer

    def settle(self, value: object, error: BaseException | None) -> None:
        if self.ended is not None:
            self.ended(value, error)
        elif self.future is not None and not self.future.done():
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)


class FunctionProgram:
    """A `programs.protocol.Program`, and the `authoring.context.BodyContext` of the function that it runs.

    Args:
        workflow: whose function is the body.
        input: its arguments, as the journal has them.
        variables: `ctx.state` is rebuilt by the body itself; these are shown until it sets them.
        clock: the real time in microseconds, for `ctx.now()`.
        chance: the source of `ctx.random()` and `ctx.uuid()`.
        threads: where a synchronous body's thread comes from.
        records: what the journal knows; empty for a fresh run.
        on_change: overrides the tasks' own policy for this rebuild.
    """

    def __init__(
        self,
        workflow: Workflow[..., Any],  # Any: whatever it returns
        identity: Identity,
        input: msgspec.Raw,
        *,
        clock: Callable[[], int],
        chance: chance_source.Random,
        threads: Executor,
        records: Records | None = None,
        on_change: OnChange | None = None,
    ) -> None:
        self.identity = identity
        self.requests: list[Request] = []
        self.notes: list[Note] = []
        self.maps: dict[str, tuple[int, int, int]] = {}
        self.divergence: Divergence | None = None
        self.deadlock = ""
        self.ended = False
        self.state: MutableMapping[str, object] = _RunState(self)
        self.blocking: Awaiter | None = None
        self._workflow = workflow
        self._input = input
        self._clock = clock
        self._chance = chance
        self._threads = threads
        self.recorded = records if records is not None else no_records()
        self._live = records is None
        self._on_change = on_change
        self._cancel_asked = False
        self._closed = False
        self._loop = TurnLoop(self)  # type: ignore[abstract]  # its module answers every method
        self._main: TurnTask[object] | None = None
        self._pending: dict[StepPath, _Pending] = {}
        self._late: list[Record] = []
        self._payloads: dict[StepPath, msgspec.Raw] = {}
        self._new_timers: dict[int, tuple[StepPath, asyncio.TimerHandle]] = {}
        self._timers: dict[int, StepPath] = {}

    # -- what the engine asks -----------------------------------------------------------------------------------

    def begin(self, at: int) -> None:
        """Run the first turn."""
        self._loop.now = at / 1_000_000
        context = copy_context()
        context.run(current.set, self)
        try:
            args, kwargs = self._workflow.codec.decode(self._input)
            body = self._body(args, kwargs)
        except StepwellError as error:
            self._finish_with(error)
            return
        self._main = self._loop.create_task(
            body, name=self._workflow.name, context=context, scope=self._loop.root_scope
        )
        self._turn()

    def _body(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Coroutine[Any, Any, object]:
        if self._workflow.is_async:
            return cast("Coroutine[Any, Any, object]", self._workflow.function(*args, **kwargs))
        switch = BodySwitch(self._threads)
        self.blocking = switch.block
        return switch.run(self._workflow.function, args, kwargs)

    def deliver(self, delivery: Delivery, payload: msgspec.Raw) -> None:
        """Run the turn in which this outcome reaches the body."""
        self._loop.now = max(self._loop.now, delivery.at / 1_000_000)
        if isinstance(delivery, RunCancelRequested):
            self._cancel_asked = True
            if self._main is not None:
                self._main.cancel()
        else:
            pending = self._pending.pop(delivery.path, None)
            if pending is None:
                self._remember(delivery, payload)
                return
            self._settle(pending, delivery, payload)
        self._turn()

    def go_live(self) -> None:
        """What no call has taken by now is an orphan."""
        self._live = True
        self._find_deadlock()

    def close(self) -> None:
        """Take the body out of memory: its coroutines are closed, nothing that they do on the way has an effect."""
        self._closed = True
        self._loop.closed = True
        self._pending.clear()
        for task in tuple(self._loop.tasks):
            if not task.done():
                _dispose(task)
        self._loop.tasks.clear()
        self._main = None
        self.requests.clear()
        self.notes.clear()

    @property
    def is_set_aside(self) -> bool:
        """Whether it stands where it cannot go on."""
        return self.divergence is not None or bool(self.deadlock)

    def orphans(self) -> list[StepPath]:
        """Recorded steps that the body has not asked for."""
        return self.recorded.orphans()

    # -- turns --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        try:
            self._loop.turn()
            self._arm_timers()
            while self._late and not self.ended and self.divergence is None:
                record = self._late.pop(0)
                assert record.outcome is not None and not isinstance(record.outcome, RunCancelRequested)
                pending = self._pending.pop(record.path, None)
                if pending is not None:
                    self._settle(pending, record.outcome, self._payloads.pop(record.path, msgspec.Raw(b"null")))
                    self._loop.turn()
                    self._arm_timers()
        except StepwellError as error:  # the turn itself gave up (a body that never waits)
            self._finish_with(error)
            return
        if self.divergence is None and self._main is not None and self._main.done() and not self.ended:
            self._finish(self._main)
        if self._live:
            self._find_deadlock()

    def _settle(self, pending: _Pending, delivery: Delivery, payload: msgspec.Raw) -> None:
        match delivery:
            case StepCompleted() | WaitSatisfied():
                if pending.timer is not None:
                    self._timers.pop(id(pending.timer), None)
                    self._loop.fire(pending.timer)
                    return
                try:
                    value = pending.codec.decode(payload) if pending.codec is not None else None
                except StepwellError as error:
                    pending.settle(None, error)
                else:
                    pending.settle(value, None)
            case StepFailed():
                pending.settle(None, error_of(delivery.error, delivery.path))
            case _:
                name = delivery.path.name.partition(":")[2] if not isinstance(delivery, RunCancelRequested) else ""
                pending.settle(None, TimeoutError(f"signal {name!r} did not come in time"))

    def _remember(self, delivery: Delivery, payload: msgspec.Raw) -> None:
        """The call for this outcome has not been made yet (changed code): keep it for when it is."""
        assert not isinstance(delivery, RunCancelRequested)
        record = self.recorded.by_path.get(delivery.path)
        if record is not None and not record.consumed:
            record.passed = True
            self._payloads[delivery.path] = payload

    def _finish(self, main: TurnTask[object]) -> None:
        if main.cancelled():
            error: BaseException | None = asyncio.CancelledError("the body cancelled itself")
            if self._cancel_asked:
                self.ended = True
                self.requests.append(EndCancelled())
                return
        else:
            error = main.exception()
        if error is not None:
            self._finish_with(error)
            return
        try:
            output = self._workflow.codec.returns.encode(main.result())
            _check_size(output, f"the result of {self._workflow.name}")
        except StepwellError as refused:
            self._finish_with(refused)
            return
        self.ended = True
        self.requests.append(CompleteRun(output=output))

    def _finish_with(self, error: BaseException) -> None:
        self.ended = True
        self.requests.append(FailRun(error=failure_of(error), steps=failed_paths(error)))

    def _find_deadlock(self) -> None:
        if self.ended or self._pending or self._late or self.requests or self.divergence is not None or self._closed:
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
        self._new_timers[id(timer)] = (StepPath(scope.path, "timer", scope.occurrence("timer")), timer)

    def timer_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """The body no longer wants it; one cancelled in the turn that set it leaves no trace."""
        if self._new_timers.pop(id(timer), None) is not None or self._closed:
            return
        path = self._timers.pop(id(timer), None)
        if path is not None and self._pending.pop(path, None) is not None:
            self.requests.append(WithdrawWait(path=path))

    def _arm_timers(self) -> None:
        new, self._new_timers = self._new_timers, {}
        for path, timer in new.values():
            self._timers[id(timer)] = path
            due = round(timer.when() * 1_000_000)
            self._wait(StartWait(path=path, wait="timer", due=due), _Pending(timer=timer))

    # -- steps --------------------------------------------------------------------------------------------------

    def call(
        self, task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Coroutine[Any, Any, Any]:  # Any: whatever the task returns
        """Reserve the step's identity; it starts when the returned coroutine is awaited."""
        self._check_open()
        request = self._step(self._loop.current_scope(), task, args, kwargs, task.options.key)
        return self._await_step(request, self._place())

    def _place(self) -> str:
        """File and line of the call, looked up only where a difference may have to be explained."""
        return _caller() if self.recorded.by_path else ""

    def _step(
        self,
        scope: Scope,
        task: Task[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        key: str | None,
    ) -> StepRequest:
        occurrence: int | str = scope.occurrence(task.name) if key is None else key
        data = task.codec.encode(args, kwargs)
        path = StepPath(scope.path, task.name, occurrence)
        _check_size(data, f"the input of step {path}")
        return StepRequest(path=path, task=task, input=data, fingerprint=content_hash(bytes(data)))

    async def _await_step(self, request: StepRequest, place: str) -> object:
        future = self._loop.create_future()
        path = self._issue(request, _Pending(request.task.codec.returns, future), place)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel_step(path)
            raise

    def _issue(self, request: StepRequest, pending: _Pending, place: str) -> StepPath:
        """Ask for a step, or take its record; returns the path under which its outcome will come."""
        self._check_open()
        record = None
        if self.recorded.by_path:
            task = request.task
            found = self._find(request.path, request.fingerprint, (task.name, *task.options.aliases))
            record = (
                self._resolve(found, request, task.options.on_change, place) if isinstance(found, Changed) else found
            )
        if record is not None:
            return self._resume(record, pending, request)
        path = self.recorded.free_path(request.path)
        if path is not request.path:
            request = msgspec.structs.replace(request, path=path)
        self._pending[path] = pending
        self.requests.append(request)
        return path

    def _find(self, path: StepPath, fingerprint: str, names: tuple[str, ...]) -> Record | Changed | None:
        return self.recorded.match(path, fingerprint, names, live=self._live)

    def _resume(self, record: Record, pending: _Pending, request: StepRequest | ChildRequest) -> StepPath:
        """Wait for the outcome of a recorded step: it comes in its turn, or came already, or must be run again."""
        self._pending[record.path] = pending
        if record.passed:
            self._late.append(record)
        elif record.outcome is None and not record.cancelled:
            again = msgspec.structs.replace(request, path=record.path, attempt=record.started_attempts + 1)
            self.requests.append(again)
        return record.path

    def _resolve(
        self, changed: Changed, request: StepRequest | ChildRequest, policy: OnChange, place: str
    ) -> Record | None:
        policy = self._on_change or policy
        record = changed.record
        recorded = bytes(getattr(record.start, "input", b"")) or b"(kept as a blob)"
        divergence = Divergence(record.path, policy, recorded, bytes(request.input), place)
        match policy:
            case "rerun":
                return None  # the record stays: another call may still be the one that it belongs to
            case "reuse":
                record.consumed = True
                return record
            case "fail":
                raise DefinitionError(divergence.explain())
            case _:
                self.divergence = divergence
                raise Diverged

    def cancel_step(self, path: StepPath) -> None:
        """The body no longer waits for this step."""
        if self._pending.pop(path, None) is not None and not self._closed:
            self.requests.append(CancelStep(path=path))

    def map_task(
        self,
        task: Task[..., Any],
        items: Iterable[object],
        concurrency: int | None,
        on_error: OnError,
        key: Callable[[Any], str] | None,
        common: Mapping[str, object],
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: as the protocol says
        """A step per item, without an asyncio task per item."""
        self._check_open()
        scope = self._map_scope(f"{task.name}.map")
        place = self._place()

        def start(index: int, item: object, ended: Ended) -> Cancel:
            name = str(key(item)) if key is not None else None
            try:
                request = self._step(scope, task, (item,), common, name)
                path = self._issue(request, _Pending(task.codec.returns, ended=ended), place)
            except (ArgumentError, Unserialisable) as error:
                ended(None, error)
                return lambda: None
            return lambda: self.cancel_step(path)

        return self._window(task.name, items, start, concurrency, on_error)

    def map_function(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],
        items: Iterable[object],
        concurrency: int | None,
        on_error: OnError,
        label: str,
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: as the protocol says
        """An asyncio task with a scope of its own per item."""
        self._check_open()
        scope = self._map_scope(f"{label}.map")

        def start(index: int, item: object, ended: Ended) -> Cancel:
            task = self._loop.create_task(function(item), scope=scope.child("item", index + 1))
            task.add_done_callback(lambda done: _report(done, ended))
            return lambda: _cancel(task)

        return self._window(label, items, start, concurrency, on_error)

    def _map_scope(self, name: str) -> Scope:
        scope = self._loop.current_scope()
        return scope.child(name, scope.occurrence(name))

    def _window(
        self,
        label: str,
        items: Iterable[object],
        start: Callable[[int, object, Ended], Cancel],
        concurrency: int | None,
        on_error: OnError,
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: as the protocol says
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise DefinitionError(f"map over {label}: concurrency={concurrency!r}; give a whole number from 1")
        if on_error not in ("raise", "collect"):
            raise DefinitionError(f"map over {label}: on_error={on_error!r}; use 'raise' or 'collect'")

        def ticked(done: int, total: int, failed: int) -> None:
            self.maps[label] = (done, total, failed)

        window = Window(self._loop, items, start, concurrency=concurrency, collect=on_error == "collect", ticked=ticked)
        return window.run()

    # -- child runs ---------------------------------------------------------------------------------------------

    def call_child(
        self, workflow: Workflow[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Coroutine[Any, Any, Any]:  # Any: whatever the workflow returns
        """A child run as a step."""
        request = self._child(workflow, args, kwargs, None, awaited=True, new_identity=False)
        return self._await_child(request, self._place())

    async def _await_child(self, request: ChildRequest, place: str) -> object:
        future = self._loop.create_future()
        pending = _Pending(request.workflow.codec.returns, future)
        self._check_open()
        record = None
        if self.recorded.by_path:
            found = self._find(request.path, request.fingerprint, (request.workflow.name,))
            record = self._resolve(found, request, "pause", place) if isinstance(found, Changed) else found
        if record is not None:
            path = self._resume(record, pending, request)
        else:
            path = self.recorded.free_path(request.path)
            self._pending[path] = pending
            self.requests.append(
                request
                if path is request.path
                else msgspec.structs.replace(request, path=path, run_id=self._child_id(path))
            )
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel_step(path)
            raise

    async def start(
        self,
        workflow: Workflow[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        run_id: str | None,
        new_identity: bool,
    ) -> str:
        """Start a run and go on; recorded, so a replay starts nothing."""
        request = self._child(workflow, args, kwargs, run_id, awaited=False, new_identity=new_identity)
        recorded = self.recorded.values.get(request.path)
        if recorded is None:
            self.requests.append(request)
            return request.run_id
        return cast("str", _ANY.decode(recorded.payload))

    def _child(
        self,
        workflow: Workflow[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        run_id: str | None,
        *,
        awaited: bool,
        new_identity: bool,
    ) -> ChildRequest:
        self._check_open()
        scope = self._loop.current_scope()
        name = workflow.name if awaited else f"start:{workflow.name}"
        path = StepPath(scope.path, name, scope.occurrence(name))
        data = workflow.codec.encode(args, kwargs)
        _check_size(data, f"the input of child run {path}")
        return ChildRequest(
            path=path,
            workflow=workflow,
            input=data,
            fingerprint=content_hash(bytes(data)),
            run_id=run_id or self._child_id(path),
            awaited=awaited,
            new_identity=new_identity,
        )

    def _child_id(self, path: StepPath) -> str:
        """The same call in the same run always names the same child, so a crash never starts two."""
        readable = f"{self.identity.run_id}/{path}"
        if len(readable) <= 120 and "[" not in readable:
            return readable
        return f"{self.identity.run_id[:120]}/{path.name[:40]}~{content_hash(readable.encode())[:16]}"

    # -- waits and values ---------------------------------------------------------------------------------------

    def signal(self, name: str, hint: object, timeout: Duration | None) -> Coroutine[Any, Any, Any]:  # Any: payload
        """Wait for a signal; the order of the calls decides who gets which."""
        self._check_open()
        scope = self._loop.current_scope()
        label = f"signal:{name}"
        path = StepPath(scope.path, label, scope.occurrence(label))
        within = None if timeout is None else micros(timeout, f"the timeout of signal {name!r}")
        return self._await_signal(path, name, ValueCodec(hint, f"signal {name!r}"), within)

    async def _await_signal(self, path: StepPath, name: str, codec: ValueCodec, within: int | None) -> object:
        self._check_open()
        future = self._loop.create_future()
        due = None if within is None else round(self._loop.now * 1_000_000) + within
        path = self._wait(StartWait(path=path, wait="signal", name=name, due=due), _Pending(codec, future))
        try:
            return await future
        except asyncio.CancelledError:
            if self._pending.pop(path, None) is not None and not self._closed:
                self.requests.append(WithdrawWait(path=path))
            raise

    def _wait(self, request: StartWait, pending: _Pending) -> StepPath:
        record = self._recorded_wait(request)
        if record is None:
            path = self.recorded.free_path(request.path)
            self._pending[path] = pending
            self.requests.append(request if path is request.path else msgspec.structs.replace(request, path=path))
            return path
        self._pending[record.path] = pending
        if pending.timer is not None:
            self._timers[id(pending.timer)] = record.path
        if record.passed:
            self._late.append(record)
        elif record.outcome is None and not record.cancelled:
            self.requests.append(msgspec.structs.replace(request, path=record.path))
        return record.path

    def _recorded_wait(self, request: StartWait) -> Record | None:
        """A signal may have moved; a timer is only itself at its own place."""
        if not self.recorded.by_path:
            return None
        if request.wait == "timer":
            return self.recorded.take(request.path)
        found = self._find(request.path, "", (request.path.name,))
        return None if isinstance(found, Changed) else found

    def _value(self, kind: ValueKind, produce: Callable[[], object], codec: ValueCodec) -> Any:  # Any: codec's type
        self._check_open()
        scope = self._loop.current_scope()
        name = f"ctx.{kind}"
        path = StepPath(scope.path, name, scope.occurrence(name))
        recorded = self.recorded.values.get(path)
        if recorded is not None:
            return codec.decode(recorded.payload)
        payload = codec.encode(produce())
        self.requests.append(RecordValue(path=path, value=kind, payload=payload))
        return codec.decode(payload)

    def now(self) -> datetime:
        """The real time, recorded."""
        return cast("datetime", self._value("now", lambda: _EPOCH + timedelta(microseconds=self._clock()), _NOW))

    def random(self) -> float:
        """A random number, recorded."""
        return cast("float", self._value("random", self._chance.random, _RANDOM))

    def uuid(self) -> UUID:
        """A random UUID (version 4), recorded."""
        return cast("UUID", self._value("uuid", lambda: UUID(int=self._chance.getrandbits(128), version=4), _UUID))

    def set_state(self, key: str, value: object, *, deleted: bool = False) -> None:
        """Journal a change of `ctx.state`, unless the journal has it."""
        self._check_open()
        scope = self._loop.current_scope()
        name = f"ctx.state:{key}"
        path = StepPath(scope.path, name, scope.occurrence(name))
        payload = msgspec.Raw(b"null") if deleted else ValueCodec(Any, f"ctx.state[{key!r}]").encode(value)
        _check_size(payload, f"ctx.state[{key!r}]")
        recorded = self.recorded.states.get(path)
        same = recorded is not None and recorded.deleted == deleted and bytes(recorded.payload) == bytes(payload)
        if not same:
            self.requests.append(SetState(key=key, payload=payload, path=path, deleted=deleted))

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to end."""
        return self._cancel_asked

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell readers how far the run is; silent during a rebuild."""
        if self._live and not self._closed:
            self.notes.append(Note("progress", {"done": done, "total": total, "message": message}))

    def log(self, message: str, fields: Mapping[str, object]) -> None:
        """Write to the run's log; silent during a rebuild."""
        if self._live and not self._closed:
            self.notes.append(Note("log", {"message": message, **fields}))

    def _check_open(self) -> None:
        if self._closed:
            raise Unwound
        if self.divergence is not None:
            raise Diverged


_NOW = ValueCodec(datetime, "ctx.now()")
_RANDOM = ValueCodec(float, "ctx.random()")
_UUID = ValueCodec(UUID, "ctx.uuid()")


class _RunState(MutableMapping[str, object]):
    """`ctx.state` as the body sees it."""

    def __init__(self, program: FunctionProgram) -> None:
        self._program = program
        self._values: dict[str, object] = {}

    def __getitem__(self, key: str) -> object:
        return self._values[key]

    def __setitem__(self, key: str, value: object) -> None:
        self._program.set_state(key, value)
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self._values:
            raise KeyError(key)
        self._program.set_state(key, None, deleted=True)
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _check_size(data: msgspec.Raw, place: str) -> None:
    size = len(bytes(data))
    if size > PAYLOAD_LIMIT:
        raise Unserialisable(
            f"{place} is {size:,} bytes of JSON; the limit is {PAYLOAD_LIMIT:,}: write it to a file or an object store "
            "in a task and pass its name"
        )


def _report(task: asyncio.Task[Any], ended: Ended) -> None:  # Any: whatever it returns
    if task.cancelled():
        ended(None, asyncio.CancelledError())
    else:
        error = task.exception()
        ended(None if error is not None else task.result(), error)


def _cancel(task: asyncio.Task[Any]) -> None:  # Any: whatever it returns
    task.cancel()


def _dispose(task: asyncio.Task[Any]) -> None:  # Any: whatever it returns
    """Close a waiting task's coroutine for good: a body that awaits while it is closed is closed again."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch for "was destroyed but is pending"
    coroutine = cast("Coroutine[Any, Any, Any]", task.get_coro())
    for _ in range(1000):
        try:
            coroutine.close()
        except RuntimeError:  # "coroutine ignored GeneratorExit": its finally block awaits
            continue
        except BaseException:  # whatever the body raises on its way out reaches nobody
            pass
        return


def _caller() -> str:
    """File and line of the innermost frame that is not the engine's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _place_of(task: asyncio.Task[Any]) -> str:  # Any: whatever it returns
    """File and line at which a task waits: the innermost frame that is neither asyncio's nor ours."""
    coroutine: object = task.get_coro()
    place = task.get_name()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None and not _is_machinery(frame.f_code.co_filename):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None)
    return place


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY)
