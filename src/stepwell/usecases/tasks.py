"""The tasks that graphs may name, and the environments of those that have requirements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.authoring.registry import Registry, TaskInfo, lack_of
from stepwell.authoring.task import Task
from stepwell.errors import RequestRefused
from stepwell.stores.protocol import Filter
from stepwell.usecases.looking import Looking
from stepwell.usecases.steering import Steering

if TYPE_CHECKING:
    from stepwell.engine.environments import Environment, Environments


_PAGE = 200


class Tasks(Steering, Looking):
    """Tasks by name, while the engine runs; and what is installed for them."""

    registry: Registry
    _environments_root: str | Path | None

    def add_task(self, tasks: object, *, replace: bool = False) -> list[str]:
        """Let graphs call a task, the tasks of a module, or of an iterable of both; gives their names.

        Runs that were set aside because such a task was missing are resumed. May be called from any thread.

        Raises:
            DefinitionError: another task has one of the names, and `replace` is false; or something is no task.
        """
        return self.registry.add(tasks, replace=replace)

    def remove_task(self, name: str) -> bool:
        """Let graphs call this task no more; False when there is none. Attempts in flight go on."""
        return self.registry.remove(name)

    def tasks(self) -> list[TaskInfo]:
        """All tasks that graphs may call, those of installed distributions included, in alphabetical order."""
        return [info for name in self.registry.names() if (info := self.registry.info(name)) is not None]

    async def install(
        self, task: str | Task[..., Any], *, told: Callable[[str], object] | None = None
    ) -> Environment:  # Any: whatever it returns
        """Make the environment with a task's `requires`, unless it is there. This downloads packages.

        Args:
            task: a task, or the name of one that was added.
            told: called with lines about the progress.

        Raises:
            RequestRefused: there is no such task, it has no requirements, or the folder cannot be written.
            InstallFailed: the packages cannot be installed; nothing is left of the attempt.
        """
        return await self._all_environments().install(self._task(task), told)

    async def environments(self) -> list[Environment]:
        """The environments that are installed on this machine: where, how large, and what uses them."""
        return await asyncio.to_thread(self._all_environments().installed)

    async def prune_environments(self, *, every: bool = False) -> list[Environment]:
        """Remove the environments that no task uses any more; gives those removed.

        A task has ceased to use one when it was installed with other requirements since, or was added here with others,
        or when its file is gone. Those in which an engine runs tasks are left, also with `every`, which removes all
        others.
        """
        names = self.registry.names()
        tasks = [task for name in names if (task := self.registry.get(name)) is not None]
        return await asyncio.to_thread(self._all_environments().prune, tasks, every=every)

    def _all_environments(self) -> Environments:
        from stepwell.engine.environments import Environments  # only for those who install

        return Environments(self._environments_root)

    def _task(self, task: str | Task[..., Any]) -> Task[..., Any]:  # Any: whatever it returns
        if isinstance(task, Task):
            return task
        known = self.registry.get(task)
        if known is None:
            near = self.registry.suggest(task)
            hint = f"did you mean {near!r}?" if near else "add it with Stepwell(tasks=[…])"
            raise RequestRefused(f"there is no task {task!r}; {hint}")
        return known

    def _tasks_changed(self, name: str, task: Task[..., Any] | None) -> None:  # Any: whatever it returns
        """Have the engine look again at what it could not drive."""
        engine = self._engine
        if engine is None:
            return

        def look() -> None:
            engine.claims.look()
            if task is not None:
                engine.chore(self._let_go_on(name))

        try:
            engine.loop.call_soon_threadsafe(look)
        except RuntimeError:  # the loop has closed: the engine is gone
            pass

    async def _let_go_on(self, name: str) -> None:
        """Resume the runs that were set aside because there was no task of this name."""
        stuck = [id for id, runner in self.engine.runners.items() if runner.state.pause is not None]
        page = 0
        while rows := await self.runs(Filter(status=("stuck",), limit=_PAGE, offset=page * _PAGE)):
            stuck += [row.run_id for row in rows]
            page += 1
        for id in dict.fromkeys(stuck):
            runner = self.engine.runners.get(id)
            state = runner.state if runner is not None else await self.state(id)
            if state.pause is None or not state.pause.reason.startswith(lack_of(name)):
                continue
            try:
                await self.resume(id, by=self.engine.worker, reason=f"task {name!r} was added")
            except RequestRefused:  # it goes on already, or has ended
                pass
