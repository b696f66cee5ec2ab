"""Which child processes may run an attempt? Those of this Python, or those of its task's environment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from stepwell.authoring.task import Task
from stepwell.engine.environments import Environment, Environments
from stepwell.engine.environments import EnvironmentMissing as EnvironmentMissing
from stepwell.engine.processes import ProcessPool
from stepwell.engine.processes import WorkerDied as WorkerDied
from stepwell.engine.sharing import Hold


class Pools:
    """A pool of child processes for each environment that is in use, and one for tasks without requirements.

    Each may have `size` processes; how many attempts run in all of them together is the engine's to bound.
    """

    def __init__(self, size: int, root: str | Path | None = None) -> None:
        """Environments are in the folder `root`; see `Environments`."""
        self._size = size
        self._environments = Environments(root)
        self._plain: ProcessPool | None = None
        self._apart: dict[tuple[str, ...], tuple[ProcessPool, Hold]] = {}
        self._entered: set[tuple[str, tuple[str, ...]]] = set()

    async def of(self, task: Task[..., Any], run_id: str) -> ProcessPool:
        """The pool in which a task's attempts run.

        Raises:
            EnvironmentMissing: the task has requirements, and nobody has installed them.
        """
        requires = task.options.requires
        if not requires:
            self._plain = self._plain or ProcessPool(self._size)
            return self._plain
        known = self._apart.get(requires)
        if known is not None and (task.name, requires) in self._entered and self._environments.is_installed(requires):
            return known[0]
        entering = asyncio.ensure_future(asyncio.to_thread(self._environments.enter, task, run_id))
        try:
            environment, hold = await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(_let_go)
            raise
        self._entered.add((task.name, requires))
        if requires in self._apart:
            hold.release()
        else:
            self._apart[requires] = ProcessPool(self._size, interpreter=environment.interpreter), hold
        return self._apart[requires][0]

    async def close(self, *, grace: float) -> None:
        """End all processes, those in use after `grace` seconds; see `ProcessPool.close`. Idempotent."""
        apart = list(self._apart.values())
        pools = [pool for pool, _ in apart] + ([self._plain] if self._plain is not None else [])
        await asyncio.gather(*(pool.close(grace=grace) for pool in pools))
        for _, hold in apart:
            hold.release()
        self._apart.clear()


def _let_go(entering: asyncio.Future[tuple[Environment, Hold]]) -> None:
    """Release what nobody waits for any more."""
    if not entering.cancelled() and entering.exception() is None:
        entering.result()[1].release()
