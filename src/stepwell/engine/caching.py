"""Outputs that are kept for other runs: looked up before an attempt is made, kept when one has succeeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.attempt import Attempt

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine


class Caching:
    """Takes outputs from the store's cache, and puts them there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def launch(self, attempt: Attempt) -> None:
        """Give an attempt the output that is kept under its key, or let it be made."""
        self._engine.chore(self._look(attempt))

    async def _look(self, attempt: Attempt) -> None:
        assert attempt.extras is not None, "it has a key"
        engine = self._engine
        key = attempt.extras.cache_key
        found = await engine.insist(lambda: engine.store.cached(key, now=engine.clock.now()))
        if attempt.over:
            return
        if found is None:
            engine.executor.launch(attempt)
        else:
            attempt.is_cached = True
            attempt.finish(msgspec.Raw(found))

    def keep(self, attempt: Attempt, output: msgspec.Raw) -> None:
        """Keep what an attempt has given, for other runs."""
        extras = attempt.extras
        if extras is None or not extras.cache_key or attempt.is_cached:
            return
        engine, now, data = self._engine, self._engine.clock.now(), bytes(output)
        until = None if extras.cache_ttl is None else now + extras.cache_ttl
        engine.chore(engine.insist(lambda: engine.store.put_cached(extras.cache_key, data, at=now, expires_at=until)))
