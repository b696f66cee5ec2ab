"""Engines that die: at once, or at a chosen commit, before it reaches the store or before anybody is told of it."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from stepwell import Stepwell
from stepwell.stores.protocol import Append

When = Literal["before", "after"]


async def die(app: Stepwell) -> None:
    """End as a process that dies: nothing more is written, and nothing is given up in good order."""
    app.engine.lose()
    vars(app.store).pop("append", None)  # a fuse before it
    app.store.abandon()  # type: ignore[attr-defined]  # both stores have it, for tests
    await app.close(grace=0)


class Fuse:
    """Stops an engine at its n-th commit from now; `burnt` is set when it has come to that."""

    def __init__(self, app: Stepwell, n: int, when: When) -> None:
        self.burnt = asyncio.Event()
        self._left = n
        self._when = when
        self._append = app.store.append
        app.store.append = self.append  # type: ignore[method-assign]  # it stands before the store

    def append(self, append: Append) -> asyncio.Future[None]:
        """As `Store.append`, up to the n-th; nothing that comes later is answered or done."""
        self._left -= 1
        if self._left > 0:
            return self._append(append)
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._left < 0:
            return never
        if self._when == "before":
            self.burnt.set()
        else:
            self._append(append).add_done_callback(lambda _: self.burnt.set())
        return never


async def burnt_or_done(fuse: Fuse, work: Any) -> bool:  # Any: something to await
    """Whether the fuse has burnt before the work was done."""
    burning, working = asyncio.ensure_future(fuse.burnt.wait()), asyncio.ensure_future(work)
    await asyncio.wait((burning, working), return_when=asyncio.FIRST_COMPLETED)
    burning.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait((working,))
        return True
    working.exception()
    return False
