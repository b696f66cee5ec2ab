"""What tasks emit, read from outside: what the journal has, then what comes, each chunk once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from stepwell.engine.feed import Live
from stepwell.model.entries import StreamBlock
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.stores.protocol import Stored
from stepwell.usecases.looking import FOLLOW_POLL, Looking

WAITING = 10_000
"""Live chunks that may wait for a slow reader; what is over is read from the journal again."""


class Chunk(msgspec.Struct, frozen=True):
    """One thing that an attempt emitted; `number` counts the chunks of the attempt from 1."""

    step: str
    attempt: int
    number: int
    value: Any  # Any: JSON


class _Ear:
    """Hears live chunks and commits of one run."""

    def __init__(self, run_id: str) -> None:
        self.queue: asyncio.Queue[Chunk | None] = asyncio.Queue(WAITING)
        self._run_id = run_id

    def entries(self, run_id: str, stored: Sequence[Stored]) -> None:
        """Something was committed: the journal may have what is missing, or the end."""
        if run_id == self._run_id and not self.queue.full():
            self.queue.put_nowait(None)

    def live(self, note: Live) -> None:
        """A chunk, perhaps."""
        if note.run_id == self._run_id and note.kind == "chunk" and not self.queue.full():
            number, data = note.fields["number"], note.fields["chunk"]
            assert isinstance(number, int), "the stream desk numbers its chunks"
            value = msgspec.json.decode(bytes(data))  # type: ignore[call-overload]  # it is what the desk encoded
            self.queue.put_nowait(Chunk(note.step, note.attempt, number, value))


class Streams(Looking):
    """Streams of runs."""

    async def stream(self, id: str, *, step: str = "", after: int = 0) -> AsyncIterator[Chunk]:
        """Chunks in the order in which they were emitted, per attempt without a gap and each once, until the run ends.

        Chunks that were emitted before are replayed from the journal; those that come are handed on at once when this
        process drives the run, and within a moment of their commit otherwise. A step that is tried again emits anew,
        under its next attempt.

        Args:
            id: the run.
            step: only this step's, by its readable path.
            after: only what the journal has after this seq (for a reader that comes back).

        Raises:
            RunNotFound: no run has this id.
        """
        ear = _Ear(id)
        heard: dict[tuple[str, int], int] = {}
        stop = self._engine.feed.subscribe(ear) if self._engine is not None else None
        try:
            while True:
                at_rest = await self._at_rest(id)
                async for one in self.scan(id, after=after):
                    after = one.seq
                    if isinstance(one.entry, StreamBlock):
                        for chunk in _chunks(one.entry):
                            if _is_new(heard, chunk) and step in ("", chunk.step):
                                yield chunk
                if at_rest is not None and at_rest.status in TERMINAL | SET_ASIDE and at_rest.next_seq == after + 1:
                    return
                if stop is None:
                    await asyncio.sleep(FOLLOW_POLL)
                    continue
                async for chunk in _until_commit(ear):
                    if _is_next(heard, chunk) and step in ("", chunk.step):
                        yield chunk
        finally:
            if stop is not None:
                stop()


async def _until_commit(ear: _Ear) -> AsyncIterator[Chunk]:
    """Live chunks until something is committed."""
    while True:
        try:
            chunk = await asyncio.wait_for(ear.queue.get(), 5)
        except TimeoutError:  # another process may have taken the run over
            return
        if chunk is None:
            return
        yield chunk


def _chunks(block: StreamBlock) -> list[Chunk]:
    values = msgspec.json.decode(block.chunks)
    return [Chunk(str(block.path), block.attempt, block.first + n, value) for n, value in enumerate(values)]


def _is_new(heard: dict[tuple[str, int], int], chunk: Chunk) -> bool:
    """Whether a chunk of the journal, which leaves none out, has not been handed on."""
    key = (chunk.step, chunk.attempt)
    if chunk.number <= heard.get(key, 0):
        return False
    heard[key] = chunk.number
    return True


def _is_next(heard: dict[tuple[str, int], int], chunk: Chunk) -> bool:
    """Whether this is the chunk after the last one of its attempt; a later one is read from the journal in its turn."""
    key = (chunk.step, chunk.attempt)
    if chunk.number != heard.get(key, 0) + 1:
        return False
    heard[key] = chunk.number
    return True
