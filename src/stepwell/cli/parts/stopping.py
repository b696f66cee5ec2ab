"""Ctrl-C once asks, twice ends at once; a request to terminate leaves neatly without pausing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Literal

from stepwell.cli.parts.endings import INTERRUPTED


class Stop:
    """Listens for signals while the block lasts; `asked` is set by the first one, `why` says which it was.

    Args:
        at_once: called before the process ends at the second Ctrl-C; it must be quick and may be called anywhere.
    """

    def __init__(self, at_once: Callable[[], None]) -> None:
        self.asked = asyncio.Event()
        self.why: Literal["", "interrupt", "terminate"] = ""
        self.at_once = at_once
        self._former: list[tuple[int, Any]] = []  # Any: what `signal.signal` gave

    def __enter__(self) -> Stop:
        loop = asyncio.get_running_loop()

        def heard(number: int, _: FrameType | None) -> None:
            # A handler of Python's, not of the loop's: it is called even when a task blocks the loop.
            if self.why == "interrupt" and number == signal.SIGINT:
                self._end()
            self.why = self.why or ("interrupt" if number == signal.SIGINT else "terminate")
            loop.call_soon_threadsafe(self.asked.set)

        for number in (signal.SIGINT, signal.SIGTERM):
            self._former.append((number, signal.signal(number, heard)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former:
            signal.signal(number, former)

    def _end(self) -> None:
        try:
            self.at_once()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except Exception:  # half drawn, closed: nothing matters more than to end
                    pass
            os._exit(INTERRUPTED)
