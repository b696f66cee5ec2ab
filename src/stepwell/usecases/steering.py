"""Steering runs from outside: pause, resume, cancel, retry, signal."""

from __future__ import annotations

from typing import Any

from stepwell.engine.verbs import VerbBody
from stepwell.errors import RequestRefused
from stepwell.model.codec import ValueCodec, is_typed
from stepwell.model.entries import OnChange
from stepwell.usecases.base import UseCases


class Steering(UseCases):
    """The verbs that change what a run does next."""

    async def pause(self, id: str, *, by: str = "", reason: str = "") -> None:
        """Let no new attempt of the run start; those in flight end and are journaled.

        Timers and signals that come meanwhile are kept. Accepted means on disk; the driving process acts on it.

        Raises:
            RunNotFound, WrongStatus: there is no such run, or it has ended.
        """
        await self._verb(id, "pause", VerbBody(reason), by)

    async def resume(self, id: str, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """Let a paused or stuck run go on; `on_change` overrides the tasks' policy for code that has changed."""
        await self._verb(id, "resume", VerbBody(reason, on_change), by)

    async def cancel(self, id: str, *, by: str = "", reason: str = "") -> None:
        """Ask a run to end: its body gets `asyncio.CancelledError`, its attempts and child runs are cancelled."""
        await self._verb(id, "cancel", VerbBody(reason), by)

    async def retry(self, id: str, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """Let a failed or cancelled run go on from the steps whose failure ended it; what is finished stays so."""
        await self._verb(id, "retry", VerbBody(reason, on_change), by)

    async def signal(self, id: str, name: str, payload: object = None, *, key: str = "", by: str = "") -> bool:
        """Send a signal; it is kept until the run takes it. False when `key` says that it was sent before.

        Raises:
            RunNotFound, WrongStatus: there is no such run, or it has ended.
            Unserialisable: the payload cannot be written.
        """
        if not name:
            raise RequestRefused("a signal needs a name")
        codec = ValueCodec(type(payload) if is_typed(payload) else Any, f"signal {name!r}")
        return await self._post(id, "signal", name, bytes(codec.encode(payload)), by, key)
