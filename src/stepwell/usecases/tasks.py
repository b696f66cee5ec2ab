"""The tasks and node types that graphs may name, and the environments of tasks that have requirements."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.authoring.registry import Registry, TaskInfo, lack_of
from stepwell.authoring.task import Task
from stepwell.engine.lacking import lack_of_types, let_go_on
from stepwell.errors import DefinitionError, RequestRefused
from stepwell.nodes.protocol import NodeType
from stepwell.nodes.registry import NodeTypes
from stepwell.usecases.looking import Looking
from stepwell.usecases.steering import Steering

if TYPE_CHECKING:
    from stepwell.engine.environments import Environment, Environments


class Tasks(Steering, Looking):
    """Tasks and node types by name, while the engine runs; and what is installed for tasks."""

    registry: Registry
    types: NodeTypes
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

    # -- node types ---------------------------------------------------------------------------------------------

    def add_node_type(self, type: NodeType, *, replace: bool = False) -> None:
        """Let definitions name a node type, from now on; plans that are compiled already keep what they have.

        Runs that were set aside because such a type was missing are resumed. May be called from any thread.

        Raises:
            DefinitionError: there is a type of this name and `replace` is false, or its name cannot be one.
        """
        if not replace and getattr(type, "name", None) in self.types.names():
            raise DefinitionError(f"there is a node type {type.name!r} already: give replace=True, or another name")
        self.types.add(type)
        self._look_again(self._with_types)

    def remove_node_type(self, name: str) -> bool:
        """Let definitions name a node type no more; False when there is none. Runs under way go on with their plans."""
        return self.types.remove(name)

    def node_types(self) -> list[NodeType]:
        """All node types that definitions may name, in alphabetical order; each is loaded by this.

        Raises:
            DefinitionError: another distribution registered one, and it cannot be loaded.
        """
        return [type for name in self.types.names() if (type := self.types.get(name)) is not None]

    # -- environments -------------------------------------------------------------------------------------------

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
        self._look_again(None if task is None else functools.partial(self._with_task, name))

    def _look_again(self, work: Callable[[], Coroutine[Any, Any, None]] | None) -> None:  # Any: what it never uses
        engine = self._engine
        if engine is None:
            return

        def look() -> None:
            engine.claims.look()
            if work is not None:
                engine.chore(work())

        try:
            engine.loop.call_soon_threadsafe(look)
        except RuntimeError:  # the loop has closed: the engine is gone
            pass

    async def _with_task(self, name: str) -> None:
        """Resume the runs that were set aside because there was no task of this name."""
        await let_go_on(self.engine, [lack_of(name)], f"task {name!r} was added")

    async def _with_types(self) -> None:
        """Resume the runs that were set aside because their graphs did not compile."""
        engine = self.engine
        lacks = [lack_of_types(name) for name in engine.graphs.names()]
        await let_go_on(engine, lacks, "a node type was added", status=("paused", "stuck"))
