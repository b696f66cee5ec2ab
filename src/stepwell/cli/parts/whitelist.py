"""Which tasks may the nodes of a graph call? Those in the scripts and modules that `--tasks` names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.cli.parts.call import Call, code_option
from stepwell.cli.parts.endings import TargetMissing
from stepwell.cli.parts.finding import did_you_mean
from stepwell.cli.parts.targets import Loaded, load
from stepwell.errors import TargetError


def tasks_option(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command `--tasks`, as `tasks`: a registry of them, or None when none are named."""

    @functools.wraps(function)
    def wrapped(call: Call, *args: Any, **given: Any) -> int:  # Any: click's own signature
        return function(call, *args, tasks=find_tasks(call.tasks) if call.tasks else None, **given)

    return code_option(wrapped)


def find_tasks(named: Sequence[str]) -> Registry:
    """The tasks in these scripts and modules, and those of installed distributions.

    Raises:
        TargetMissing: there is no such file, module or task.
        TargetError: one cannot be loaded, or has no tasks.
        DefinitionError: two tasks have one name.
    """
    registry = Registry()
    for text in named:
        registry.add(tasks_of(*load(text)))
    return registry


def tasks_of(loaded: Loaded, name: str) -> list[Task[..., Any]]:  # Any: whatever they return
    """The tasks in a script or module, or only the one called so.

    Raises:
        TargetMissing: there is no such task.
        TargetError: it has no tasks.
    """
    found = loaded.tasks
    if name:
        chosen = [one for key, one in found.items() if name in (key, one.name)]
        if not chosen:
            raise TargetMissing(f"{loaded.shown} has no task {name!r}{did_you_mean(name, found)}")
        return chosen[:1]
    if not found:
        raise TargetError(f"{loaded.shown} has no tasks; put @task in front of a function")
    return list(found.values())
