"""What attempts emit: told to live readers at once, journaled a few times a second, held up when there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from stepwell.authoring.ctx import Done
from stepwell.engine.executor import Attempt
from stepwell.engine.feed import Live
from stepwell.errors import Unserialisable
from stepwell.model.codec import ValueCodec
from stepwell.model.commands import KeepChunks
from stepwell.model.entries import INLINE_LIMIT
from stepwell.model.ids import SECOND

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner

FLUSH = SECOND // 4
"""How long what was emitted may wait to be journaled (microseconds)."""

ROOM = 4 * 1024 * 1024
"""Bytes that may be on their way to the journal before those who emit are held up."""

Usage = Mapping[str, int]
CountUsage = Callable[[object], Usage]
"""Counts what a chunk stands for when the task does not say; for `Stepwell(count_usage=…)`."""

_CODEC = ValueCodec(object, "a chunk")


class _Stream:
    """What one attempt has emitted and the journal does not have yet."""

    __slots__ = ("attempt", "chunks", "count", "size", "usage")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.chunks: list[msgspec.Raw] = []
        self.size = 0
        self.count = 0
        self.usage: dict[str, int] = {}


class StreamDesk:
    """The streams of one run's attempts."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._streams: dict[Attempt, _Stream] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._unwritten = 0

    def emit(self, attempt: Attempt, chunk: object, usage: Usage) -> Awaitable[None]:
        """Take a chunk; the result is done when there is room for another one.

        Raises:
            Unserialisable: it is no JSON, or larger than an entry may be.
        """
        if attempt.over:
            return Done()
        data = _CODEC.encode(chunk)
        size = len(memoryview(data))
        if size > INLINE_LIMIT:
            raise Unserialisable(
                f"a chunk emitted by step {attempt.path} is {size:,} bytes of JSON; the limit is {INLINE_LIMIT:,}: "
                "emit smaller ones, or the name of a file"
            )
        stream = self._streams.get(attempt)
        if stream is None:
            stream = self._streams[attempt] = _Stream(attempt)
        self._count(stream, chunk, usage)
        if stream.size + size > INLINE_LIMIT:
            self._runner.wake()  # a block is full: it is written with the next commit
            self._keep(stream)
        stream.chunks.append(data)
        stream.size += size
        stream.count += 1
        self._unwritten += size
        self._tell(stream, data)
        if self._alarm is None:
            clock = self._runner.engine.clock
            self._alarm = clock.call_at(clock.now() + FLUSH, self._ring)
        if self._unwritten <= ROOM:
            return Done()
        waiting: asyncio.Future[None] = self._runner.engine.loop.create_future()
        self._waiting.append(waiting)
        self._runner.wake()
        return waiting

    def _count(self, stream: _Stream, chunk: object, usage: Usage) -> None:
        counter = self._runner.engine.count_usage
        if not usage and counter is not None:
            usage = counter(chunk)
        for name, number in usage.items():
            stream.usage[name] = stream.usage.get(name, 0) + number

    def _tell(self, stream: _Stream, data: msgspec.Raw) -> None:
        engine = self._runner.engine
        if engine.feed.has_readers:
            attempt = stream.attempt
            fields = {"number": stream.count, "chunk": data}
            note = Live(self._runner.run_id, "chunk", engine.clock.now(), fields, str(attempt.path), attempt.number)
            engine.feed.say(note)

    def _ring(self) -> None:
        self._alarm = None
        self._runner.wake()

    def flush(self) -> None:
        """Journal all that has gathered, with the commit that is being made."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for stream in tuple(self._streams.values()):
            self._keep(stream)

    def ended(self, attempt: Attempt) -> dict[str, int]:
        """The attempt has an outcome: journal what it emitted before that; returns what it used."""
        stream = self._streams.pop(attempt, None)
        if stream is None:
            return {}
        self._keep(stream)
        return stream.usage

    def _keep(self, stream: _Stream) -> None:
        if not stream.chunks:
            return
        chunks, stream.chunks = stream.chunks, []
        stream.size = 0
        self._runner.apply(
            KeepChunks(
                path=stream.attempt.path,
                attempt=stream.attempt.number,
                first=stream.count - len(chunks) + 1,
                chunks=msgspec.Raw(msgspec.json.encode(chunks)),
            )
        )

    def committed(self) -> None:
        """What was journaled is on disk: there is room again."""
        self._unwritten = sum(stream.size for stream in self._streams.values())
        if self._unwritten <= ROOM:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def close(self) -> None:
        """Hold nobody up any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._streams.clear()
        self.committed()
