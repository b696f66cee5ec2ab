"""Looking at runs: rows, journals, states, results, as they are and as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from stepwell.engine.feed import Reader
from stepwell.errors import RunCancelled, RunFailed, RunNotFound, RunSetAside, StepwellBug, StoreError
from stepwell.handle import Run
from stepwell.model.codec import ValueCodec
from stepwell.model.durations import Duration, micros
from stepwell.model.failure import Failure
from stepwell.model.ids import SECOND
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.model.state import State, evolve, replay
from stepwell.stores.protocol import Filter, RunRow, Stored
from stepwell.usecases.base import UseCases

_REVIVING = {True: frozenset({"retry", "again"}), False: frozenset({"resume", "retry", "cancel", "upgrade"})}
"""Kinds of messages that let a run go on: one that has ended (another cancel changes nothing), or is set aside."""

PAGE = 1000
"""Entries of a journal read at a time."""

FOLLOW_POLL = 0.1
"""How often a reader of a run that another process drives looks again (seconds)."""


class Looking(UseCases):
    """What a run is, was and comes to."""

    def handle(self, id: str) -> Run[Any]:
        """A handle on a run by id; nothing is checked."""
        return Run(self, id, None)  # type: ignore[arg-type]  # the whole of it is a Stepwell

    async def get(self, id: str) -> RunRow:
        """The run's row.

        Raises:
            RunNotFound: no run has this id.
        """
        row = await self._store_of(id).get(id)
        if row is None:
            raise RunNotFound(f"no run has the id {id!r}")
        return row

    async def runs(self, where: Filter | None = None) -> list[RunRow]:
        """Rows that match, newest first."""
        return await self.store.find(where or Filter())

    async def counts(self) -> dict[str, int]:
        """How many runs have each status."""
        return await self.store.count()

    async def entries(self, id: str, *, after: int = 0, limit: int = 1_000_000) -> list[Stored]:
        """The run's journal from `after` on."""
        return await self._store_of(id).read(id, after=after, limit=limit)

    async def state(self, id: str, *, at: int | None = None) -> State:
        """The fold of the run's journal, up to and including seq `at` when given."""
        state = State()
        async for one in self.scan(id):
            if at is not None and one.seq > at:
                break
            evolve(state, one.entry)
        return state

    async def scan(self, id: str, *, after: int = 0) -> AsyncIterator[Stored]:
        """The run's journal from `after` on as it is now, read in pages: a long one is never in memory as a whole."""
        while True:
            page = await self.entries(id, after=after, limit=PAGE)
            for one in page:
                yield one
            if len(page) < PAGE:
                return
            after = page[-1].seq

    async def payload(self, inline: msgspec.Raw, blob: str) -> bytes:
        """The JSON of a payload wherever an entry keeps it."""
        return await self.store.blob(blob) if blob else bytes(inline)

    async def follow(self, id: str, *, after: int = 0) -> AsyncIterator[Stored]:
        """Entries from `after` on, as they are committed, until the run has ended or is set aside."""
        while True:
            stored = await self.entries(id, after=after)
            for one in stored:
                after = one.seq
                yield one
            if not stored:
                row = await self._at_rest(id)
                if row is not None and row.next_seq == after + 1:
                    return
                await asyncio.sleep(FOLLOW_POLL)

    @contextlib.contextmanager
    def listening(self, reader: Reader) -> Any:  # Any: a generator of None, as contextmanager wants it
        """Tell `reader` what this engine commits and what its runs say, while the block lasts."""
        stop = self.engine.feed.subscribe(reader)
        try:
            yield
        finally:
            stop()

    async def wait(self, id: str, timeout: Duration | None = None) -> RunRow:
        """Wait until the run has ended or is set aside; return its row."""
        limit = None if timeout is None else micros(timeout, "timeout") / SECOND
        async with asyncio.timeout(limit):
            await self._end(id)
        return await self.get(id)

    async def _end(self, id: str) -> State | None:
        """Wait until the run has ended or is set aside; its state, when this engine saw it happen."""
        while True:
            if self._engine is not None and self._engine.stopped_by is not None:
                raise StoreError(f"this engine has stopped, and run {id} with it: {self._engine.stopped_by}")
            seen = self._engine.ended(id) if self._engine is not None else None
            moves = self._engine is not None and self._engine.moves(id)
            if not moves and await self._at_rest(id) is not None:
                return None
            if seen is None:
                await asyncio.sleep(FOLLOW_POLL)
                continue
            # Look again now and then: another process may have taken the store over.
            done, _ = await asyncio.wait((seen,), timeout=5)
            if not done or seen.result().status not in TERMINAL | SET_ASIDE:
                continue
            if seen.result().status in TERMINAL:
                return seen.result()
            # Given up while it is paused, a run is perhaps about to hear that it was resumed, or has gone on since.
            if await self._at_rest(id) is not None:
                return None

    async def _at_rest(self, id: str) -> RunRow | None:
        """The run's row when it has ended or is set aside, and no accepted verb is about to change that; else None."""
        # The mailbox first: a verb that is no longer in it has changed the row already.
        messages = await self._store_of(id).mailbox(id)
        row = await self.get(id)
        is_reviving = any(message.kind in _REVIVING[row.status in TERMINAL] for message in messages)
        return None if is_reviving or row.status not in TERMINAL | SET_ASIDE else row

    async def result(self, id: str, codec: ValueCodec | None = None, timeout: Duration | None = None) -> object:
        """Wait for the end of a run; its result, decoded by `codec`, or as plain JSON. Raises as `Run.result` does."""
        limit = None if timeout is None else micros(timeout, "timeout") / SECOND
        async with asyncio.timeout(limit):
            state = await self._end(id) or await self._last_word(id)
        match state.status:
            case "completed":
                data = msgspec.Raw(await self._payload_in(id, state))
                return codec.decode(data) if codec is not None else msgspec.json.decode(data)
            case "failed":
                raise RunFailed(id, state.error or Failure("", "no error was recorded"))
            case "cancelled":
                raise RunCancelled(id)
            case "paused" | "stuck":
                raise RunSetAside(id, state.status, state.pause.reason if state.pause is not None else "")
            case _:
                raise StepwellBug(f"run {id} was waited for and is {state.status}")

    async def _last_word(self, id: str) -> State:
        """What the end of an ended run's journal says, without reading the rest of it."""
        row = await self.get(id)
        if row.status not in TERMINAL:
            return await self.state(id)
        return replay(one.entry for one in await self.entries(id, after=row.next_seq - 2))

    async def _payload_in(self, id: str, state: State) -> bytes:
        if state.output_blob:
            return await self._store_of(id).blob(state.output_blob)
        return bytes(state.output)
