"""A workflow body's side of its run: what `ctx` and calls of tasks do when a body makes them."""

from __future__ import annotations

import asyncio
import os
import random as chance_source
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec

import stepwell.errors
from stepwell.authoring.context import Awaiter, Identity, OnError, WaitingContext
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import ArgumentError, DefinitionError, Unserialisable
from stepwell.model.codec import ValueCodec, content_hash, is_typed
from stepwell.model.commands import RecordValue, SetState
from stepwell.model.entries import NULL, StateSet, ValueKind
from stepwell.model.ids import StepPath, run_id
from stepwell.programs.asks import Asks, Decoder, Pending, check_size
from stepwell.programs.protocol import ChildRequest, Note, PublishEvent, StepRequest
from stepwell.programs.turnloop import Scope, TurnLoop
from stepwell.programs.undoing import Block, OneSaga, Undoing
from stepwell.programs.variables import RunVariables
from stepwell.programs.waiting import Waiting
from stepwell.programs.window import Cancel, Ended, Window

_ANY = ValueCodec(Any, "a value")
_NOW = ValueCodec(datetime, "ctx.now()")
_RANDOM = ValueCodec(float, "ctx.random()")
_UUID = ValueCodec(UUID, "ctx.uuid()")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MACHINERY = (os.path.dirname(asyncio.__file__), os.path.dirname(stepwell.errors.__file__) + os.sep)


class Body:
    """The `authoring.context.BodyContext` of one run.

    Args:
        identity: who the run is.
        loop: on which the body runs.
        asks: where its calls go.
        clock: the real time in microseconds, for `ctx.now()`.
        chance: the source of `ctx.random()` and `ctx.uuid()`.
    """

    def __init__(
        self,
        identity: Identity,
        loop: TurnLoop,
        asks: Asks,
        clock: Callable[[], int],
        chance: chance_source.Random,
    ) -> None:
        self.identity = identity
        self.blocking: Awaiter | None = None
        self.cancelled = False
        self.notes: list[Note] = []
        self.maps: dict[str, tuple[int, int, int]] = {}
        self._state: RunVariables | None = None
        self._undoing: Undoing | None = None
        self._patches: dict[str, bool] = {}
        self._loop = loop
        self._asks = asks
        self._clock = clock
        self._chance = chance

    @property
    def replaying(self) -> bool:
        """Whether the body only does again what it did before."""
        return self._asks.closed or not self._asks.live

    # Of the parts below most runs need none, and each is a part of what thousands of runs cost; so they are made when
    # they are asked for.

    @property
    def state(self) -> MutableMapping[str, object]:
        """`ctx.state`."""
        return self._variables

    @property
    def _variables(self) -> RunVariables:
        if self._state is None:
            self._state = RunVariables(self)
        return self._state

    @property
    def waits(self) -> WaitingContext:
        """What the body may wait for besides steps."""
        return Waiting(self._loop, self._asks)

    @property
    def undoing(self) -> Undoing:
        """The sagas of the run."""
        if self._undoing is None:
            self._undoing = Undoing(self._loop, self._undo)
        return self._undoing

    @property
    def failed_compensations(self) -> Sequence[Exception]:
        """What has failed for good of what was to undo the run's work."""
        return () if self._undoing is None else self._undoing.failures

    # -- steps --------------------------------------------------------------------------------------------------

    def call(
        self, task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Coroutine[Any, Any, Any]:  # Any: whatever the task returns
        """Reserve the step's identity; it starts when the returned coroutine is awaited."""
        self._asks.check_open()
        request = self._step(self._loop.current_scope(), task, args, kwargs, task.options.key)
        return self._await_step(request, self._place())

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
        check_size(data, "the input of step", path)
        return StepRequest(path=path, task=task, input=data, fingerprint=content_hash(bytes(data)))

    def _place(self) -> str:
        """File and line of the call, looked up only where a difference may have to be explained."""
        return _caller() if self._asks.recorded.has_left else ""

    async def _await_step(self, request: StepRequest, place: str) -> object:
        future = self._loop.create_future()
        path = self._ask(request, Pending(_reader(request.task), future), place)
        try:
            return await future
        except asyncio.CancelledError:
            self._asks.cancel_step(path)
            raise

    def _ask(self, request: StepRequest, pending: Pending, place: str) -> StepPath:
        task = request.task
        return self._asks.step(request, (task.name, *task.options.aliases), task.options.on_change, pending, place)

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
        self._asks.check_open()
        scope = self._map_scope(f"{task.name}.map")
        place = self._place()

        def start(index: int, item: object, ended: Ended) -> Cancel:
            name = str(key(item)) if key is not None else None
            try:
                request = self._step(scope, task, (item,), common, name)
                path = self._ask(request, Pending(_reader(task), ended=ended), place)
            except (ArgumentError, Unserialisable) as error:
                ended(None, error)
                return lambda: None
            return lambda: self._asks.cancel_step(path)

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
        self._asks.check_open()
        scope = self._map_scope(f"{label}.map")

        def start(index: int, item: object, ended: Ended) -> Cancel:
            task = self._loop.create_task(function(item), scope=scope.child("item", index + 1))
            task.add_done_callback(lambda done: _report(done, ended))

            def cancel() -> None:
                task.cancel()

            return cancel

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

        collect = on_error == "collect"
        return Window(self._loop, items, start, concurrency=concurrency, collect=collect, ticked=ticked).run()

    # -- child runs ---------------------------------------------------------------------------------------------

    def call_child(
        self, workflow: Workflow[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Coroutine[Any, Any, Any]:  # Any: whatever the workflow returns
        """A child run as a step."""
        self._asks.check_open()
        request = self._child(self._loop.current_scope(), workflow, args, kwargs, None)
        return self._await_child(request, self._place())

    async def _await_child(self, request: ChildRequest, place: str) -> object:
        future = self._loop.create_future()
        path = self._ask_child(request, Pending(request.workflow.codec.returns, future), place)
        try:
            return await future
        except asyncio.CancelledError:
            if request.workflow.options.on_cancel == "wait":
                await self._outlast_child(path)
            else:
                self._asks.cancel_step(path)
            raise

    async def _outlast_child(self, path: StepPath) -> None:
        """Ask the child to end, and wait until it has, whatever else happens."""
        future = self._loop.create_future()
        self._asks.cancel_child(path, future)
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError:  # that is what it is waiting for
                continue
        future.exception()  # how it ended is not what its parent asked for any more

    def _ask_child(self, request: ChildRequest, pending: Pending, place: str) -> StepPath:
        return self._asks.step(request, (request.workflow.name,), "pause", pending, place)

    def map_child(
        self,
        workflow: Workflow[..., Any],
        items: Iterable[object],
        concurrency: int | None,
        on_error: OnError,
        key: Callable[[Any], str] | None,
        common: Mapping[str, object],
    ) -> Coroutine[Any, Any, list[Any]]:  # Any: as the protocol says
        """A child run per item."""
        self._asks.check_open()
        if workflow.options.on_cancel == "wait":
            raise DefinitionError(f"{workflow.name}.map: on_cancel='wait' is for single child runs; use 'cancel'")
        scope = self._map_scope(f"{workflow.name}.map")
        place = self._place()

        def start(index: int, item: object, ended: Ended) -> Cancel:
            name = str(key(item)) if key is not None else None
            try:
                request = self._child(scope, workflow, (item,), common, name)
                path = self._ask_child(request, Pending(workflow.codec.returns, ended=ended), place)
            except (ArgumentError, Unserialisable) as error:
                ended(None, error)
                return lambda: None
            return lambda: self._asks.cancel_step(path)

        return self._window(workflow.name, items, start, concurrency, on_error)

    async def start(
        self,
        workflow: Workflow[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        new_identity: bool,
    ) -> str:
        """Start a run and go on; recorded, so a replay starts nothing."""
        self._asks.check_open()
        request = self._child(self._loop.current_scope(), workflow, args, kwargs, None, awaited=False)
        recorded = self._asks.recorded.value(request.path)
        if recorded is None:
            self._asks.requests.append(msgspec.structs.replace(request, new_identity=new_identity))
            return request.run_id
        return cast("str", _ANY.decode(recorded.payload))

    def _child(
        self,
        scope: Scope,
        workflow: Workflow[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        key: str | None,
        *,
        awaited: bool = True,
    ) -> ChildRequest:
        name = workflow.name if awaited else f"start:{workflow.name}"
        path = StepPath(scope.path, name, scope.occurrence(name) if key is None else key)
        data = workflow.codec.encode(args, kwargs)
        check_size(data, "the input of child run", path)
        return ChildRequest(
            path=path,
            workflow=workflow,
            input=data,
            fingerprint=content_hash(bytes(data)),
            run_id=run_id(workflow.options.id) if workflow.options.id else "",
            awaited=awaited,
            new_identity=False,
        ).named(self.identity.run_id)

    # -- sagas --------------------------------------------------------------------------------------------------

    @property
    def saga(self) -> OneSaga:
        """The innermost saga that this code is in."""
        return self.undoing.saga

    def open_saga(self) -> Block:
        """A block with a saga of its own."""
        self._asks.check_open()
        return self.undoing.block()

    async def _undo(
        self, scope: Scope, task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        """Run a task as a compensation."""
        self._asks.check_open()
        request = self._step(scope, task, args, kwargs, task.options.key)
        request = msgspec.structs.replace(request, step="compensation")
        return await self._await_step(request, self._place())

    # -- events and values --------------------------------------------------------------------------------------

    def publish(self, topic: str, data: object, subject: str, transient: bool) -> None:
        """Publish an event with the next commit; recorded, so a replay publishes nothing."""
        self._asks.check_open()
        if not topic:
            raise DefinitionError("ctx.publish needs the topic of the event")
        scope = self._loop.current_scope()
        name = f"publish:{topic}"
        path = StepPath(scope.path, name, scope.occurrence(name))
        payload = ValueCodec(type(data) if is_typed(data) else Any, f"event {topic!r}").encode(data)
        check_size(payload, "the data of event", topic)
        if self._asks.recorded.value(path) is None:
            self._asks.requests.append(PublishEvent(path, topic, payload, subject, transient))

    def patched(self, id: str) -> bool:
        """Whether this run goes the new way; kept under the id, wherever in the body it is asked."""
        self._asks.check_open()
        known = self._patches.get(id)
        if known is None:
            path = StepPath((), f"patch:{id}", 1)
            known = self._asks.recorded.value(path) is not None
            if not known and self._asks.knows_no_more:
                known = True
                self._asks.requests.append(RecordValue(path=path, value="patch", payload=NULL))
            self._patches[id] = known
        return known

    def _value(self, kind: ValueKind, produce: Callable[[], object], codec: ValueCodec) -> Any:  # Any: codec's type
        self._asks.check_open()
        scope = self._loop.current_scope()
        name = f"ctx.{kind}"
        path = StepPath(scope.path, name, scope.occurrence(name))
        recorded = self._asks.recorded.value(path)
        if recorded is not None:
            return codec.decode(recorded.payload)
        payload = codec.encode(produce())
        self._asks.requests.append(RecordValue(path=path, value=kind, payload=payload))
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

    def edit_state(self, edit: StateSet) -> None:
        """Somebody outside changed a key of `ctx.state`."""
        self._variables.edit(edit)

    def set_state(self, key: str, value: object, *, deleted: bool = False) -> None:
        """Journal a change of `ctx.state`, unless the journal has it."""
        self._asks.check_open()
        scope = self._loop.current_scope()
        name = f"ctx.state:{key}"
        path = StepPath(scope.path, name, scope.occurrence(name))
        payload = NULL if deleted else ValueCodec(Any, f"ctx.state[{key!r}]").encode(value)
        check_size(payload, "ctx.state", key)
        recorded = self._asks.recorded.state(path)
        same = recorded is not None and recorded.deleted == deleted and bytes(recorded.payload) == bytes(payload)
        if not same:
            self._asks.requests.append(SetState(key=key, payload=payload, path=path, deleted=deleted))

    # -- what is said -------------------------------------------------------------------------------------------

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell readers how far the run is; silent during a rebuild."""
        self._note("progress", {"done": done, "total": total, "message": message})

    def log(self, message: str, fields: Mapping[str, object]) -> None:
        """Write to the run's log; silent during a rebuild."""
        self._note("log", {"message": message, **fields})

    def _note(self, kind: str, fields: Mapping[str, object]) -> None:
        if self._asks.live and not self._asks.closed:
            self.notes.append(Note(kind, fields))


class _Upgrading:
    """Reads what a task returned, also what an older version of it did."""

    def __init__(self, task: Task[..., Any], upgrade: Callable[[Any], object]) -> None:  # Any: JSON
        self._codec = task.codec.returns
        self._upgrade = upgrade
        self._name = task.name

    def decode(self, data: msgspec.Raw) -> object:
        """The value, upgraded when it does not fit as it is."""
        try:
            return self._codec.decode(data)
        except Unserialisable as misfit:
            try:
                upgraded = self._upgrade(msgspec.json.decode(data))
            except Exception as error:  # the author's function: what it says is part of the answer
                raise Unserialisable(
                    f"{misfit}; and upgrade= of task {self._name} raised {type(error).__name__}: {error}"
                ) from error
            return self._codec.decode(self._codec.encode(upgraded))


def _reader(task: Task[..., Any]) -> Decoder:
    upgrade = task.options.upgrade
    return task.codec.returns if upgrade is None else _Upgrading(task, upgrade)


def _report(task: asyncio.Task[Any], ended: Ended) -> None:  # Any: whatever it returns
    if task.cancelled():
        ended(None, asyncio.CancelledError())
    else:
        error = task.exception()
        ended(None if error is not None else task.result(), error)


def _caller() -> str:
    """File and line of the innermost frame that is not the engine's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def is_machinery(filename: str) -> bool:
    """Whether a file is asyncio's or ours."""
    return filename.startswith(_MACHINERY) and f"{os.sep}examples{os.sep}" not in filename
