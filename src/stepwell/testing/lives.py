"""One process of a bench, from its beginning to its end: its loop, its store object, its engine."""

from __future__ import annotations

from stepwell.app import Stepwell
from stepwell.engine.worker import Engine
from stepwell.testing.crashing import BenchStore
from stepwell.testing.standins import Process, StandIns
from stepwell.testing.threads import ThreadedLoop


class Life:
    """One process of a bench. `engine` is set from `open` on."""

    def __init__(self, loop: ThreadedLoop, store: BenchStore, app: Stepwell) -> None:
        self.loop = loop
        self.store = store
        self.app = app
        self.engine: Engine | None = None
        self._process: Process | None = None

    async def open(self, stand_ins: StandIns) -> None:
        """Begin to drive; no attempt is launched before the stand-ins are in place."""
        await self.app.open()
        self.engine = self.app.engine
        self._process = stand_ins.take_over(self.engine, self.loop.pool)

    def freeze(self) -> None:
        """Nothing that it does from now on has an effect."""
        self.loop.frozen = True
        self.store.is_dead = True
        if self._process is not None:
            self._process.die()

    def kill(self) -> None:
        """End at once. Synchronous bodies are unwound, since a thread cannot be killed. Idempotent."""
        self.freeze()
        if self.engine is not None:
            with self.loop.running():
                self.engine.lose()
            self.engine.bodies.shutdown(wait=False, cancel_futures=True)
        self.store.abandon()
        self.loop.kill()

    def join(self) -> None:
        """Wait for its threads, none of which works any more, to be gone."""
        self.loop.pool.shutdown(wait=True)
        if self.engine is not None:
            self.engine.bodies.shutdown(wait=True)
