"""The same verbs for synchronous callers: one thin facade over `stepwell.app`, on a loop in a thread of its own.

```python
from stepwell.blocking import Stepwell

with Stepwell("sqlite:///shop.db") as app:
    print(app.run(select_products, "http://localhost:8000"))
```
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from stepwell import app as asynchronous
from stepwell import handle
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import RequestRefused
from stepwell.model.durations import Duration
from stepwell.model.entries import OnChange
from stepwell.model.state import State
from stepwell.stores.protocol import Filter, Finding, RunRow, Store, Stored

P = ParamSpec("P")
T = TypeVar("T")


class Run(Generic[T]):
    """A handle on one run; every method blocks. See `stepwell.handle.Run`."""

    def __init__(self, app: Stepwell, inner: handle.Run[T]) -> None:
        self.id = inner.id
        self._app = app
        self._inner = inner

    def result(self, timeout: Duration | None = None) -> T:
        """Wait for the end and return the result."""
        return self._app.wait_for(self._inner.result(timeout))

    def wait(self, timeout: Duration | None = None) -> RunRow:
        """Wait until the run has ended or is set aside."""
        return self._app.wait_for(self._inner.wait(timeout))

    def row(self) -> RunRow:
        """The run's row now."""
        return self._app.wait_for(self._inner.row())

    def state(self) -> State:
        """The fold of the run's journal now."""
        return self._app.wait_for(self._inner.state())

    def pause(self, *, by: str = "", reason: str = "") -> None:
        """Let no new attempt start."""
        self._app.wait_for(self._inner.pause(by=by, reason=reason))

    def resume(self, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """Undo a pause."""
        self._app.wait_for(self._inner.resume(by=by, reason=reason, on_change=on_change))

    def cancel(self, *, by: str = "", reason: str = "") -> None:
        """Ask the run to end."""
        self._app.wait_for(self._inner.cancel(by=by, reason=reason))

    def retry(
        self,
        *,
        inputs: Mapping[str, Mapping[str, object] | bytes] | None = None,
        by: str = "",
        reason: str = "",
        on_change: OnChange | None = None,
    ) -> None:
        """Let a failed or cancelled run go on."""
        self._app.wait_for(self._inner.retry(inputs=inputs, by=by, reason=reason, on_change=on_change))

    def signal(self, name: str, payload: object = None, *, key: str = "", by: str = "") -> bool:
        """Send a signal."""
        return self._app.wait_for(self._inner.signal(name, payload, key=key, by=by))

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

    def close(self) -> None:
        """Stop driving, close the store, end the thread. Idempotent."""
        if self._app is not None:
            app, self._app = self._app, None
            self.wait_for(app.close())
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
    def inner(self) -> asynchronous.Stepwell:
        """The asynchronous one, for use on its own loop."""
        if self._app is None:
            raise RequestRefused("this Stepwell is not open: use it in a `with` block, or call open() first")
        return self._app

    def start(self, target: Workflow[P, T] | Task[P, T], *args: Any, **kwargs: Any) -> Run[T]:  # Any: as in app.start
        """Start a run; the keyword options are those of `stepwell.app.Stepwell.start`."""
        return Run(self, self.wait_for(self.inner.start(target, *args, **kwargs)))

    def run(self, target: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Start a run and wait for its result."""
        return self.wait_for(self.inner.run(target, *args, **kwargs))

    def handle(self, id: str) -> Run[Any]:  # Any: whatever the run returns
        """A handle on a run by id."""
        return Run(self, self.inner.handle(id))

    def runs(self, where: Filter | None = None) -> list[RunRow]:
        """Rows that match, newest first."""
        return self.wait_for(self.inner.runs(where))

    def entries(self, id: str, *, after: int = 0) -> list[Stored]:
        """The run's journal from `after` on."""
        return self.wait_for(self.inner.entries(id, after=after))

    def follow(self, id: str, *, after: int = 0) -> Iterator[Stored]:
        """Entries as they are committed, until the run has ended or is set aside."""
        source = self.inner.follow(id, after=after)
        while True:
            try:
                yield self.wait_for(_following(source))
            except StopAsyncIteration:
                return

    def gc(self, *, older_than: Duration) -> int:
        """Delete runs that ended longer ago than this."""
        return self.wait_for(self.inner.gc(older_than=older_than))

    def backup(self, to: Path) -> None:
        """Write a consistent copy of the store."""
        self.wait_for(self.inner.backup(to))

    def check(self) -> list[Finding]:
        """Look the store over."""
        return self.wait_for(self.inner.check())


async def _open(store: str | Path | Store, settings: dict[str, Any]) -> asynchronous.Stepwell:  # Any: see the class
    app = asynchronous.Stepwell(store, **settings)
    await app.open()
    return app


async def _following(source: Any) -> Stored:  # Any: an async iterator of Stored
    stored: Stored = await anext(source)
    return stored
