"""What attempts emit: told to live readers at once, journaled a few times a second, held up when there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from stepwell.authoring.ctx import Done
from stepwell.engine.chunks import Usage, counted, encoded
from stepwell.engine.executor import Attempt
from stepwell.engine.feed import Live
from stepwell.errors import DefinitionError
from stepwell.model.commands import KeepChunks
from stepwell.model.entries import INLINE_LIMIT
from stepwell.model.ids import SECOND

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner

FLUSH = SECOND // 4
"""How long what was emitted may wait to be journaled (microseconds)."""

ROOM = 4 * 1024 * 1024
"""Bytes that may be on their way to the journal before those who emit are held up."""

CountUsage = Callable[[object], Mapping[str, int]]
"""Counts what a chunk stands for when the task does not say; for `Stepwell(count_usage=…)`."""


class _Stream:
    """What one attempt has emitted: blocks that the journal does not have yet, and what all of it stands for."""

    __slots__ = ("attempt", "blocks", "count", "size", "usage")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.blocks: list[_Block] = []
        self.size = 0
        self.count = 0
        self.usage: dict[str, int] = {}

    def add(self, data: msgspec.Raw, usage: Usage) -> None:
        """One more chunk."""
        size = len(memoryview(data)) + 1  # with the comma, or one of the brackets
        if not self.blocks or self.blocks[-1].size + size > INLINE_LIMIT:
            self.blocks.append(_Block(self.count + 1))
        self.blocks[-1].add(data, size, usage)
        self.count += 1
        self.size += size
        _add(self.usage, usage)


class _Block:
    """Chunks that are journaled together; never more than an entry may hold."""

    __slots__ = ("chunks", "first", "size", "usage")

    def __init__(self, first: int) -> None:
        self.first = first
        self.chunks: list[msgspec.Raw] = []
        self.size = 1
        self.usage: dict[str, int] = {}

    def add(self, data: msgspec.Raw, size: int, usage: Usage) -> None:
        """One more chunk of `size` bytes."""
        self.chunks.append(data)
        self.size += size
        _add(self.usage, usage)


class StreamDesk:
    """The streams of one run's attempts."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._streams: dict[Attempt, _Stream] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._is_due = False
        self._waiting: list[asyncio.Future[None]] = []
        self._unwritten = 0

    def emit(self, attempt: Attempt, chunk: object, usage: Usage) -> Awaitable[None]:
        """Take a chunk; the result is done when there is room for another one.

        Raises:
            Unserialisable: it is no JSON, or larger than an entry may be.
            ArgumentError: what was used is not counted in whole numbers.
            DefinitionError: `count_usage` failed.
        """
        if attempt.over:
            return Done()
        data = encoded(chunk, attempt.path)
        counts = self._counted(attempt, chunk, usage)
        stream = self._streams.get(attempt)
        if stream is None:
            stream = self._streams[attempt] = _Stream(attempt)
        before = stream.size
        stream.add(data, counts)
        self._unwritten += stream.size - before
        self._tell(stream, data)
        if len(stream.blocks) > 1 and not self._is_due:  # one is full
            self._ring()
        elif self._alarm is None and not self._is_due:
            clock = self._runner.engine.clock
            self._alarm = clock.call_at(clock.now() + FLUSH, self._ring)
        if self._unwritten <= ROOM or self._runner.state.durability == "exit":  # which writes nothing before the end
            return Done()
        waiting: asyncio.Future[None] = self._runner.engine.loop.create_future()
        self._waiting.append(waiting)
        self._ring()
        return waiting

    def _counted(self, attempt: Attempt, chunk: object, usage: Usage) -> dict[str, int]:
        counter = self._runner.engine.count_usage
        if usage or counter is None:
            return counted(usage, attempt.path)
        try:
            found = counter(chunk)
        except Exception as error:
            raise DefinitionError(
                f"step {attempt.path}: Stepwell(count_usage=…) raised {type(error).__name__} for a chunk: {error}"
            ) from error
        return counted(found, attempt.path, "Stepwell(count_usage=…)")

    def _tell(self, stream: _Stream, data: msgspec.Raw) -> None:
        engine = self._runner.engine
        if engine.feed.has_readers:
            attempt = stream.attempt
            fields = {"number": stream.count, "chunk": data}
            note = Live(self._runner.run_id, "chunk", engine.clock.now(), fields, str(attempt.path), attempt.number)
            engine.feed.say(note)

    def _ring(self) -> None:
        self._is_due = True
        self._quiet()
        self._runner.wake()

    def _quiet(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def flush(self) -> None:
        """Journal what has gathered, if it is time to, with the commit that is being made.

        A busy run commits all the time: what it streams must not go with each of its commits.
        """
        if self._is_due:
            self._is_due = False
            for stream in tuple(self._streams.values()):
                self._keep(stream)

    def ended(self, attempt: Attempt) -> dict[str, int]:
        """The attempt is over: journal what it emitted before that; returns what it used."""
        stream = self._streams.pop(attempt, None)
        if stream is None:
            return {}
        self._keep(stream)
        return stream.usage

    def _keep(self, stream: _Stream) -> None:
        blocks, stream.blocks = stream.blocks, []
        stream.size = 0
        for block in blocks:
            self._runner.apply(
                KeepChunks(
                    path=stream.attempt.path,
                    attempt=stream.attempt.number,
                    first=block.first,
                    chunks=msgspec.Raw(msgspec.json.encode(block.chunks)),
                    usage=block.usage,
                )
            )

    def committed(self) -> None:
        """What was journaled is on disk: there is room again."""
        if self._runner.ledger.on_the_way:
            return
        self._unwritten = sum(stream.size for stream in self._streams.values())
        if self._unwritten <= ROOM:
            self._let_go()

    def _let_go(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Hold nobody up any more."""
        self._quiet()
        self._streams.clear()
        self._let_go()


def _add(total: dict[str, int], usage: Usage) -> None:
    for name, count in usage.items():
        total[name] = total.get(name, 0) + count
