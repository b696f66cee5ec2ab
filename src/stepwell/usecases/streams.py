"""What tasks emit, read from outside: what the journal has, then what comes, each chunk once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from stepwell.engine.feed import Live
from stepwell.model.entries import StreamBlock
from stepwell.stores.protocol import Stored
from stepwell.usecases.looking import FOLLOW_POLL, Looking

WAITING_BYTES = 4 * 1024 * 1024
"""How much may wait in memory for a slow reader; what is over is read from the journal again."""

LOOK_AGAIN = 5.0
"""Seconds of silence after which a reader looks whether another process has taken the run over."""


class Chunk(msgspec.Struct, frozen=True):
    """One thing that an attempt emitted; `number` counts the chunks of the attempt from 1.

    `seq` is that of the entry from which it was read; 0 when it came live, before it was journaled.
    """

    step: str
    attempt: int
    number: int
    value: Any  # Any: JSON
    seq: int = 0


class _Heard(msgspec.Struct, frozen=True):
    """A live chunk that is still JSON."""

    step: str
    attempt: int
    number: int
    data: bytes

    @property
    def chunk(self) -> Chunk:
        return Chunk(self.step, self.attempt, self.number, msgspec.json.decode(self.data))


class _Ear:
    """Hears live chunks and commits of one run; quick, since attempts wait for it."""

    def __init__(self, run_id: str) -> None:
        self.waiting: deque[_Heard] = deque()
        self.has_committed = False
        self._size = 0
        self._run_id = run_id
        self._woken = asyncio.Event()

    def entries(self, run_id: str, stored: Sequence[Stored]) -> None:
        """Something was committed: the journal may have what is missing, or the end."""
        if run_id == self._run_id:
            self.has_committed = True
            self._woken.set()

    def live(self, note: Live) -> None:
        """A chunk, perhaps."""
        if note.run_id != self._run_id or note.kind != "chunk" or self._size > WAITING_BYTES:
            return
        number, data = note.fields["number"], note.fields["chunk"]
        assert isinstance(number, int) and isinstance(data, msgspec.Raw), "as the stream desk tells them"
        heard = _Heard(note.step, note.attempt, number, bytes(data))
        self.waiting.append(heard)
        self._size += len(heard.data)
        self._woken.set()

    def take(self) -> _Heard:
        """The oldest that waits."""
        heard = self.waiting.popleft()
        self._size -= len(heard.data)
        return heard

    async def until_woken(self) -> bool:
        """Wait for a chunk or a commit; False when nothing has come for a while."""
        self._woken.clear()
        try:
            await asyncio.wait_for(self._woken.wait(), LOOK_AGAIN)
        except TimeoutError:
            return False
        return True


class Streams(Looking):
    """Streams of runs."""

    async def stream(self, id: str, *, step: str = "", after: int = 0) -> AsyncIterator[Chunk]:
        """Chunks in the order in which they were emitted, per attempt without a gap and each once.

        Chunks that were emitted before are replayed from the journal; those that come are handed on at once when this
        process drives the run, and within a moment of their commit otherwise. A step that is tried again emits anew,
        under its next attempt. The stream ends when the run has ended or is set aside.

        Args:
            id: the run.
            step: only this step's, by its readable path.
            after: only what the journal has after this seq (for a reader that comes back), and what comes.

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
                        for chunk in _chunks(one.seq, one.entry):
                            if _is_new(heard, chunk) and step in ("", chunk.step):
                                yield chunk
                if at_rest is not None and at_rest.next_seq <= after + 1:
                    return
                if stop is None:
                    await asyncio.sleep(FOLLOW_POLL)
                    continue
                async for chunk in _until_commit(ear, heard):
                    if step in ("", chunk.step):
                        yield chunk
        finally:
            if stop is not None:
                stop()


async def _until_commit(ear: _Ear, heard: dict[tuple[str, int], int]) -> AsyncIterator[Chunk]:
    """Live chunks until something is committed."""
    while not ear.has_committed:
        if ear.waiting:
            one = ear.take()
            if _is_next(heard, one):
                yield one.chunk
        elif not await ear.until_woken():
            return
    ear.has_committed = False


def _chunks(seq: int, block: StreamBlock) -> list[Chunk]:
    values = msgspec.json.decode(block.chunks)
    return [Chunk(str(block.path), block.attempt, block.first + n, value, seq) for n, value in enumerate(values)]


def _is_new(heard: dict[tuple[str, int], int], chunk: Chunk) -> bool:
    """Whether a chunk of the journal, which leaves none out, has not been handed on."""
    key = (chunk.step, chunk.attempt)
    if chunk.number <= heard.get(key, 0):
        return False
    heard[key] = chunk.number
    return True


def _is_next(heard: dict[tuple[str, int], int], chunk: _Heard) -> bool:
    """Whether this is the chunk after the last one of its attempt; a later one is read from the journal in its turn."""
    key = (chunk.step, chunk.attempt)
    if chunk.number != heard.get(key, 0) + 1:
        return False
    heard[key] = chunk.number
    return True
