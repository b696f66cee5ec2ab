"""Who writes? One thread, which commits whatever has gathered: one durable transaction for many callers.

On the loop's thread changes gather until the loop has run what is ready, then go to the thread together; the thread
commits all it was given in one transaction and completes the futures with one call back to the loop. When nothing
else is going on (`inline`) and commits are quick, a single change is committed on the caller's thread instead, since
handing it over and back takes longer than the commit.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from stepwell.errors import StoreError
from stepwell.stores.sqlite.changes import Call, Change, settle
from stepwell.stores.sqlite.committer import Committer, fail

GROUP_CHANGES: Final = 512
GROUP_BYTES: Final = 16 * 1024 * 1024
"""A transaction takes no more than this, so that the log stays small and nobody waits long."""

INLINE_BYTES: Final = 256 * 1024
INLINE_SECONDS: Final = 0.001
"""Changes up to this size are committed inline, as long as commits lately took less than this."""

FEW_CHANGES: Final = 4
"""Only small transactions tell how long a commit takes."""

LOOK_SECONDS: Final = 0.01
IDLE_SECONDS: Final = 1.0


class Writer:
    """The thread that writes, what waits for it, and the lock between it and an inline commit."""

    def __init__(self, committer: Committer, loop: asyncio.AbstractEventLoop) -> None:
        self.committer = committer
        self.inline = False
        self._data_version = 0
        self._loop = loop
        self._lock = threading.Lock()
        self._gathered: list[Change] = []
        self._handed_over = 0
        self._queue: queue.SimpleQueue[list[Change] | None] = queue.SimpleQueue()
        self._seconds = 0.0
        self._answers = True
        self._looked = 0.0
        self._ended: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(
            target=self._work, name=f"stepwell-writer {committer.session.path.name}", daemon=True
        )
        self._thread.start()

    # -- on the loop's thread -------------------------------------------------------------------------------------
    def submit(self, change: Change) -> None:
        """Commit the change with what else gathers; its future is done afterwards."""
        if self.inline and self._try_inline(change):
            return
        self._gathered.append(change)
        if len(self._gathered) == 1:
            self._loop.call_soon(self._hand_over)

    def changed_elsewhere(self) -> int:
        """A number that differs when another connection has committed; the last known while a commit is going on."""
        if self._lock.acquire(blocking=False):
            try:
                self._look_around()
            finally:
                self._lock.release()
        return self._data_version

    async def finish(self) -> None:
        """Commit what was submitted, shorten the log, end the thread; `close` follows."""
        self._hand_over()
        self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def close(self) -> None:
        """Close the connection."""
        self.committer.session.connection.close()

    def abandon(self) -> None:
        """End as a dying process would: nothing more is written, nobody is answered."""
        self.committer.broken = StoreError(f"store {self.committer.session.path}: abandoned")
        self._gathered.clear()
        self._answers = False
        self._queue.put(None)
        self._thread.join()
        self.committer.session.connection.close()

    def _hand_over(self) -> None:
        if self._gathered:
            self._handed_over += 1
            self._queue.put(self._gathered)
            self._gathered = []

    def _taken_back(self, changes: Sequence[Change], batches: int) -> None:
        self._handed_over -= batches
        if self._answers:
            settle(changes)

    def _try_inline(self, change: Change) -> bool:
        """Commit here and now if nothing is waiting, nobody else is writing, and it is quick."""
        if self._gathered or self._handed_over or self._seconds > INLINE_SECONDS:
            return False
        if isinstance(change, Call) or change.size > INLINE_BYTES or self.committer.checkpoints.due:
            return False
        if not self._lock.acquire(blocking=False):
            return False
        try:
            started = time.perf_counter()
            if not self.committer.commit_at_once(change):
                return False
            self._took(time.perf_counter() - started)
        finally:
            self._lock.release()
        settle([change])
        return True

    # -- on the writer's thread -----------------------------------------------------------------------------------
    def _work(self) -> None:
        busy = False
        while True:
            try:
                batches = [self._queue.get(timeout=IDLE_SECONDS if busy else None)]
            except queue.Empty:
                busy = False
                self._shorten_log(self.committer.checkpoints.idle)
                continue
            while not self._queue.empty():
                batches.append(self._queue.get())
            ending = None in batches
            changes = [change for batch in batches if batch is not None for change in batch]
            if changes:
                busy = True
                self._commit_all(changes, len(batches) - ending)
            if ending:
                self._shorten_log(self.committer.checkpoints.idle)
                self._call_back(self._ended.set_result, None)
                return

    def _commit_all(self, changes: Sequence[Change], batches: int) -> None:
        for part in parts(changes):
            with self._lock:
                self._commit(part)
                if time.monotonic() - self._looked > LOOK_SECONDS:
                    self._look_around()
            self._call_back(self._taken_back, part, batches if part[-1] is changes[-1] else 0)
            if self.committer.checkpoints.due:
                self._shorten_log(self.committer.checkpoints.run)

    def _commit(self, part: Sequence[Change]) -> None:
        started = time.perf_counter()
        try:
            self.committer.commit(part)
        except BaseException as error:  # this thread must live, or nobody would ever be answered again
            path = self.committer.session.path
            self.committer.broken = StoreError(f"store {path}: the writer failed: {error!r}; please report it")
            fail(part, self.committer.broken)
        if len(part) <= FEW_CHANGES:
            self._took(time.perf_counter() - started)

    def _shorten_log(self, how: Callable[[], None]) -> None:
        with self._lock:
            self.committer.shorten_log(how)

    def _took(self, seconds: float) -> None:
        self._seconds += (seconds - self._seconds) / 8

    def _look_around(self) -> None:
        self._looked = time.monotonic()
        version = self.committer.data_version()
        if version is not None:
            self._data_version = version

    def _call_back(self, function: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *values)
        except RuntimeError:  # the loop is closed: nobody waits for an answer
            pass


def parts(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The changes in parts that are small enough for one transaction each."""
    start, size = 0, 0
    for place, change in enumerate(changes):
        size += change.size
        if place > start and (place - start >= GROUP_CHANGES or size > GROUP_BYTES):
            yield changes[start:place]
            start, size = place, change.size
    yield changes[start:]
