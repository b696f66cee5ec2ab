"""A handle on one run: the verbs of `Stepwell`, with the run's id filled in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from stepwell.model.codec import ValueCodec
from stepwell.model.durations import Duration
from stepwell.model.entries import OnChange
from stepwell.model.state import State
from stepwell.stores.protocol import RunRow, Stored

if TYPE_CHECKING:
    from stepwell.app import Stepwell
    from stepwell.usecases.streams import Chunk

T = TypeVar("T")


class Run(Generic[T]):
    """A handle on one run; cheap, and valid for as long as the run is kept."""

    def __init__(self, app: Stepwell, id: str, codec: ValueCodec | None) -> None:
        self.id = id
        self._app = app
        self._codec = codec

    async def result(self, timeout: Duration | None = None) -> T:
        """Wait for the end and return the result.

        Raises:
            RunFailed, RunCancelled: it ended so.
            RunSetAside: it is paused or stuck and will not go on by itself.
            TimeoutError: `timeout` passed first; the run goes on.
        """
        return cast("T", await self._app.result(self.id, self._codec, timeout))

    async def wait(self, timeout: Duration | None = None) -> RunRow:
        """Wait until the run has ended or is set aside; return its row."""
        return await self._app.wait(self.id, timeout)

    async def row(self) -> RunRow:
        """The run's row now."""
        return await self._app.get(self.id)

    async def state(self) -> State:
        """The fold of the run's journal now."""
        return await self._app.state(self.id)

    async def pause(self, *, by: str = "", reason: str = "") -> None:
        """See `Stepwell.pause`."""
        await self._app.pause(self.id, by=by, reason=reason)

    async def resume(self, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """See `Stepwell.resume`."""
        await self._app.resume(self.id, by=by, reason=reason, on_change=on_change)

    async def cancel(self, *, by: str = "", reason: str = "") -> None:
        """See `Stepwell.cancel`."""
        await self._app.cancel(self.id, by=by, reason=reason)

    async def retry(
        self,
        *,
        inputs: Mapping[str, Mapping[str, object] | bytes] | None = None,
        by: str = "",
        reason: str = "",
        on_change: OnChange | None = None,
    ) -> None:
        """See `Stepwell.retry`."""
        await self._app.retry(self.id, inputs=inputs, by=by, reason=reason, on_change=on_change)

    async def signal(self, name: str, payload: object = None, *, key: str = "", by: str = "") -> bool:
        """See `Stepwell.signal`."""
        return await self._app.signal(self.id, name, payload, key=key, by=by)

    async def set_state(
        self, key: str, value: object = None, *, deleted: bool = False, by: str = "", reason: str = ""
    ) -> None:
        """See `Stepwell.set_state`."""
        await self._app.set_state(self.id, key, value, deleted=deleted, by=by, reason=reason)

    async def rerun(self, new_id: str | None = None, *, by: str = "", reason: str = "") -> Run[T]:
        """See `Stepwell.rerun`."""
        again = await self._app.rerun(self.id, new_id, by=by, reason=reason)
        return Run(self._app, again.id, self._codec)

    async def fork(
        self,
        *,
        before: str | None = None,
        at: int | None = None,
        new_id: str | None = None,
        input: Mapping[str, object] | bytes | None = None,
        set: Mapping[str, object] | None = None,
        by: str = "",
        reason: str = "",
    ) -> Run[T]:
        """See `Stepwell.fork`."""
        forked = await self._app.fork(
            self.id, before=before, at=at, new_id=new_id, input=input, set=set, by=by, reason=reason
        )
        return Run(self._app, forked.id, self._codec)

    def stream(self, *, step: str = "", after: int = 0) -> AsyncIterator[Chunk]:
        """See `Stepwell.stream`."""
        return self._app.stream(self.id, step=step, after=after)

    def follow(self, *, after: int = 0) -> AsyncIterator[Stored]:
        """See `Stepwell.follow`."""
        return self._app.follow(self.id, after=after)

    def __repr__(self) -> str:
        return f"<run {self.id}>"
