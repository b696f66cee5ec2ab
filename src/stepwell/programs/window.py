"""A sliding window over items: as many in flight as allowed, the next starts as soon as one ends, results in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

Cancel = Callable[[], None]
Ended = Callable[[object, BaseException | None], None]
Start = Callable[[int, object, Ended], Cancel]


class Window:
    """Drives one map call inside a workflow body; every start and every end happens in some turn of the body."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        items: Iterable[object],
        start: Start,
        *,
        concurrency: int | None,
        collect: bool,
        ticked: Callable[[int, int, int], None],
    ) -> None:
        waiting = list(items)
        self._results: list[object] = [None] * len(waiting)
        self._waiting: Iterator[tuple[int, object]] = enumerate(waiting)
        self._start = start
        self._room = concurrency if concurrency is not None else max(1, len(waiting))
        self._collect = collect
        self._ticked = ticked
        self._active: dict[int, Cancel] = {}
        self._done = 0
        self._failed = 0
        self._filling = False
        self._future: asyncio.Future[list[object]] = loop.create_future()

    async def run(self) -> list[object]:
        """Work through all items.

        Raises:
            BaseException: the first item's error, unless errors are collected; what is in flight is cancelled.
        """
        self._ticked(0, len(self._results), 0)
        self._fill()
        try:
            return await self._future
        finally:
            if self._active:
                self._cancel_active()

    def _fill(self) -> None:
        if self._filling:  # an item that ended at once called back in here: the loop below goes on
            return
        self._filling = True
        try:
            while len(self._active) < self._room and not self._future.done():
                following = next(self._waiting, None)
                if following is None:
                    break
                self._begin(*following)
        finally:
            self._filling = False
        if not self._active and not self._future.done():
            self._future.set_result(self._results)

    def _begin(self, index: int, item: object) -> None:
        ended_early = False

        def ended(value: object, error: BaseException | None) -> None:
            nonlocal ended_early
            ended_early = True
            self._ended(index, value, error)

        cancel = self._start(index, item, ended)
        if not ended_early:
            self._active[index] = cancel

    def _ended(self, index: int, value: object, error: BaseException | None) -> None:
        self._active.pop(index, None)
        self._done += 1
        if error is not None:
            self._failed += 1
            if not self._collect or not isinstance(error, Exception):
                if not self._future.done():
                    self._future.set_exception(error)
                return
            value = error
        self._results[index] = value
        self._ticked(self._done, len(self._results), self._failed)
        self._fill()

    def _cancel_active(self) -> None:
        active, self._active = self._active, {}
        for cancel in active.values():
            cancel()
