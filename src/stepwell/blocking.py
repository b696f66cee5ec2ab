"""The same verbs for synchronous callers: one thin facade over `stepwell.app`, on a loop in a thread of its own.

```python
from stepwell.blocking import Stepwell

with Stepwell("sqlite:///shop.db") as app:
    print(app.run(select_products, "http://localhost:8000"))
```

Every method here is the one of the same name over there, waited for; nothing is written twice.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from stepwell import app as asynchronous
from stepwell import handle
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import RequestRefused
from stepwell.stores.protocol import Store
from stepwell.stores.tables import TriggerRow

P = ParamSpec("P")
T = TypeVar("T")
_App = asynchronous.Stepwell
_Method = Callable[Concatenate[Any, P], Any]  # Any: the object it belongs to, and what it gives


class _Facade(Generic[P, T]):
    """A method that calls an asynchronous one of the object behind, and hands on what it comes to."""

    def __init__(self, method: _Method[P], call: Callable[[Any, Any], T]) -> None:  # Any: facade, and what was called
        self._method = method
        self._call = call
        self.__wrapped__ = method
        self.__name__ = getattr(method, "__name__", "")
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> _Facade[P, T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Callable[P, T]: ...

    def __get__(self, instance: Any, owner: type) -> Any:  # Any: the overloads say it
        if instance is None:
            return self  # callable with an object as its first argument, as functions of a class are

        @functools.wraps(self._method)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return self(instance, *args, **kwargs)

        return call

    def __call__(self, instance: Any, *args: P.args, **kwargs: P.kwargs) -> T:  # Any: the facade's object
        return self._call(instance, self._method(instance.inner, *args, **kwargs))


def _waits(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> _Facade[P, T]:  # Any: its object
    """Wait for a coroutine's result."""
    return _Facade(method, lambda facade, coroutine: cast("T", facade.wait_for(coroutine)))


def _gives_run(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, handle.Run[T]]]) -> _Facade[P, Run[T]]:
    """Wait for a run, and give a blocking handle on it."""
    return _Facade(method, lambda facade, coroutine: Run(facade.app, facade.wait_for(coroutine)))


def _gives(method: Callable[Concatenate[Any, P], T]) -> _Facade[P, T]:  # Any: its object
    """Call what needs no waiting."""
    return _Facade(method, lambda facade, found: cast("T", found))


def _iterates(method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> _Facade[P, Iterator[T]]:  # Any: its object
    """Iterate over what comes, waiting for each."""
    return _Facade(method, lambda facade, source: _each(facade, source))


def _each(facade: Any, source: AsyncIterator[T]) -> Iterator[T]:  # Any: a Stepwell or a Run
    while True:
        try:
            yield facade.wait_for(_next(source))
        except StopAsyncIteration:
            return


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)


class Run(Generic[T]):
    """A handle on one run; every method blocks. See `stepwell.handle.Run`."""

    def __init__(self, app: Stepwell, inner: handle.Run[T]) -> None:
        self.id = inner.id
        self.inner = inner
        self.app = app

    def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:  # Any: whatever it returns
        """Run a coroutine on the facade's loop and wait."""
        return self.app.wait_for(work)

    def result(self, timeout: Any = None) -> T:  # Any: a Duration, or None
        """Wait for the end and return the result. See `stepwell.handle.Run.result`."""
        return self.app.wait_for(self.inner.result(timeout))

    wait = _waits(handle.Run.wait)
    row = _waits(handle.Run.row)
    state = _waits(handle.Run.state)
    pause = _waits(handle.Run.pause)
    resume = _waits(handle.Run.resume)
    cancel = _waits(handle.Run.cancel)
    retry = _waits(handle.Run.retry)
    signal = _waits(handle.Run.signal)
    set_state = _waits(handle.Run.set_state)
    rerun = _gives_run(handle.Run.rerun)
    fork = _gives_run(handle.Run.fork)
    stream = _iterates(handle.Run.stream)
    follow = _iterates(handle.Run.follow)

    def __repr__(self) -> str:
        return f"<run {self.id}>"


class Stepwell:
    """`stepwell.app.Stepwell` for scripts, notebooks and synchronous services; takes the same arguments."""

    def __init__(self, store: str | Path | Store = "sqlite:///stepwell.db", **settings: Any) -> None:  # Any: see there
        self._settings = (store, settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._app: asynchronous.Stepwell | None = None

    def __enter__(self) -> Stepwell:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Start the loop's thread, open the store and begin to drive."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stepwell-loop", daemon=True)
        self._thread.start()
        store, settings = self._settings
        try:
            self._app = self.wait_for(_open(store, settings))
        except BaseException:
            self._stop()
            raise

    def close(self, grace: Any = None) -> None:  # Any: a Duration, or None
        """Stop driving, close the store, end the thread. Idempotent. See `stepwell.app.Stepwell.close`."""
        if self._app is not None:
            app, self._app = self._app, None
            self.wait_for(app.close(grace))
        self._stop()

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the facade's loop and wait; the door to everything that has no method here."""
        if self._loop is None:
            work.close()
            raise RequestRefused("this Stepwell is not open: use it in a `with` block, or call open() first")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def app(self) -> Stepwell:
        """This one: what handles on its runs are made with."""
        return self

    @property
    def inner(self) -> asynchronous.Stepwell:
        """The asynchronous one, for use on its own loop."""
        if self._app is None:
            raise RequestRefused("this Stepwell is not open: use it in a `with` block, or call open() first")
        return self._app

    def handle(self, id: str) -> Run[Any]:  # Any: whatever the run returns
        """A handle on a run by id."""
        return Run(self, self.inner.handle(id))

    @overload
    def start(self, target: Workflow[P, T] | Task[P, T], *args: Any, **kwargs: Any) -> Run[T]: ...  # Any: as below

    @overload
    def start(self, target: str, *args: Any, **kwargs: Any) -> Run[Any]: ...  # Any: whatever it takes and returns

    def start(self, target: Any, *args: Any, **kwargs: Any) -> Run[Any]:  # Any: as in app.start
        """Start a run; the keyword options are those of `stepwell.app.Stepwell.start`."""
        return Run(self, self.wait_for(self.inner.start(target, *args, **kwargs)))

    @overload
    def run(self, target: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    def run(self, target: str, *args: Any, **kwargs: Any) -> Any: ...  # Any: whatever it takes and returns

    def run(self, target: Any, *args: Any, **kwargs: Any) -> Any:  # Any: as in app.run
        """Start a run and wait for its result."""
        return self.wait_for(self.inner.run(target, *args, **kwargs))

    def schedule(self, name: str, target: Workflow[P, T] | Task[P, T], *args: Any, **kwargs: Any) -> TriggerRow:
        """Start runs at set times; the keyword options are those of `stepwell.app.Stepwell.schedule`."""
        return self.wait_for(self.inner.schedule(name, target, *args, **kwargs))

    def on(self, topic: str, target: Workflow[P, T] | Task[P, T], **options: Any) -> TriggerRow:
        """Start runs by events; the keyword options are those of `stepwell.app.Stepwell.on`."""
        return self.wait_for(self.inner.on(topic, target, **options))

    # -- steering and looking -----------------------------------------------------------------------------------
    pause = _waits(_App.pause)
    resume = _waits(_App.resume)
    cancel = _waits(_App.cancel)
    retry = _waits(_App.retry)
    signal = _waits(_App.signal)
    get = _waits(_App.get)
    runs = _waits(_App.runs)
    counts = _waits(_App.counts)
    entries = _waits(_App.entries)
    state = _waits(_App.state)
    payload = _waits(_App.payload)
    wait = _waits(_App.wait)
    result = _waits(_App.result)
    scan = _iterates(_App.scan)
    follow = _iterates(_App.follow)
    stream = _iterates(_App.stream)

    # -- people and events --------------------------------------------------------------------------------------
    inbox = _waits(_App.inbox)
    request = _waits(_App.request)
    answer = _waits(_App.answer)
    withdraw = _waits(_App.withdraw)
    reassign = _waits(_App.reassign)
    publish = _waits(_App.publish)
    publish_event = _waits(_App.publish_event)
    events = _waits(_App.events)
    forget_events = _waits(_App.forget_events)

    # -- time travel --------------------------------------------------------------------------------------------
    rerun = _gives_run(_App.rerun)
    fork = _gives_run(_App.fork)
    rerun_from = _gives_run(_App.rerun_from)
    patch = _waits(_App.patch)
    set_state = _waits(_App.set_state)
    upgrade = _waits(_App.upgrade)
    upgrade_all = _waits(_App.upgrade_all)
    replay = _waits(_App.replay)
    export = _waits(_App.export)
    import_run = _gives_run(_App.import_run)

    # -- flow control and triggers ------------------------------------------------------------------------------
    put_queue = _waits(_App.put_queue)
    queues = _waits(_App.queues)
    pause_queue = _waits(_App.pause_queue)
    resume_queue = _waits(_App.resume_queue)
    pause_all = _waits(_App.pause_all)
    resume_all = _waits(_App.resume_all)
    cancel_all = _waits(_App.cancel_all)
    retry_all = _waits(_App.retry_all)
    triggers = _waits(_App.triggers)
    trigger = _waits(_App.trigger)
    pause_trigger = _waits(_App.pause_trigger)
    resume_trigger = _waits(_App.resume_trigger)
    remove_trigger = _waits(_App.remove_trigger)
    fire_trigger = _gives_run(_App.fire_trigger)
    backfill = _waits(_App.backfill)
    firings = _waits(_App.firings)

    # -- graphs -------------------------------------------------------------------------------------------------
    deploy = _waits(_App.deploy)
    evaluate = _gives(_App.evaluate)
    validate = _waits(_App.validate)
    activate = _waits(_App.activate)
    undeploy = _waits(_App.undeploy)
    workflows = _waits(_App.workflows)
    workflow_versions = _waits(_App.workflow_versions)
    workflow_version = _waits(_App.workflow_version)
    definition_of = _waits(_App.definition_of)
    diff = _waits(_App.diff)

    # -- tasks --------------------------------------------------------------------------------------------------
    add_task = _gives(_App.add_task)
    remove_task = _gives(_App.remove_task)
    tasks = _gives(_App.tasks)
    add_node_type = _gives(_App.add_node_type)
    remove_node_type = _gives(_App.remove_node_type)
    node_types = _gives(_App.node_types)
    install = _waits(_App.install)
    environments = _waits(_App.environments)
    prune_environments = _waits(_App.prune_environments)

    # -- care ---------------------------------------------------------------------------------------------------
    gc = _waits(_App.gc)
    backup = _waits(_App.backup)
    check = _waits(_App.check)


async def _open(store: str | Path | Store, settings: dict[str, Any]) -> asynchronous.Stepwell:  # Any: see the class
    app = asynchronous.Stepwell(store, **settings)
    await app.open()
    return app
