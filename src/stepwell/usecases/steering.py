"""Steering runs from outside: pause, resume, cancel, retry, signal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from stepwell.engine.verbs import RetryBody, VerbBody
from stepwell.errors import RequestRefused
from stepwell.model.codec import ValueCodec, is_typed
from stepwell.model.decide import nothing_left
from stepwell.model.entries import OnChange, RunCancelled, RunFailed, StepStarted
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import RETRYABLE
from stepwell.model.state import State, evolve
from stepwell.usecases.base import UseCases
from stepwell.usecases.payloads import arguments


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

    async def retry(
        self,
        id: str,
        *,
        inputs: Mapping[str, Mapping[str, object] | bytes] | None = None,
        by: str = "",
        reason: str = "",
        on_change: OnChange | None = None,
    ) -> None:
        """Let a failed or cancelled run go on from the steps whose failure ended it; what is finished stays so.

        Args:
            id: the run.
            inputs: by readable path of a failed step (`charge#1`), the arguments by name, or a JSON object of them,
                that it is tried again with, in place of all those that the body called it with. The edit is journaled;
                the body goes on knowing the call that it made. Steps find the same `ctx.idempotency_key` as before.
            by, reason: who asks and why, for the journal.
            on_change: overrides the tasks' policy for code that has changed.

        Raises:
            RunNotFound, WrongStatus: there is no such run, it has not failed or been cancelled, or compensations have
                undone its work.
            RequestRefused: an input is for something else than a task's step whose failure ended the run.
            Unserialisable: an argument cannot be written.
        """
        await self._refuse_undone(id)
        edits: dict[str, msgspec.Raw] = {}
        if inputs:
            steps = await self._failed_tasks(id, inputs)
            edits = {steps[text]: arguments(given, steps[text]) for text, given in inputs.items()}
        await self._verb(id, "retry", RetryBody(reason, on_change, edits), by)

    async def _refuse_undone(self, id: str) -> None:
        store = self._store_of(id)
        row = await store.get(id)
        if row is None or row.status not in RETRYABLE:
            return  # the store refuses it, or knows better by now
        for last in await store.read(id, after=row.next_seq - 2):
            if isinstance(last.entry, RunFailed | RunCancelled) and last.entry.undone:
                raise nothing_left(id, row.status)

    async def _failed_tasks(self, id: str, wanted: Iterable[str]) -> dict[str, str]:
        """The whole paths of steps whose input may be edited, by what was given for them."""
        state, starts = State(), dict[StepPath, StepStarted]()
        for stored in await self._store_of(id).read(id):
            evolve(state, stored.entry)
            if isinstance(stored.entry, StepStarted):
                starts.setdefault(stored.entry.path, stored.entry)
        failed = {str(path): path for path in state.failed_steps}
        found = {}
        for text in wanted:
            name = text if text in failed else f"{text}#1"
            if name not in failed:
                listed = f"these are: {', '.join(failed)}" if failed else "there are none"
                raise RequestRefused(
                    f"run {id} is {state.status}, and {text!r} is not among the steps whose failure ended it; {listed}"
                )
            start = starts.get(failed[name])
            if start is not None and start.step == "child":
                raise RequestRefused(
                    f"step {name} is child run {start.child}: retry that run with other inputs, then run {id}"
                )
            found[text] = name
        return found

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
