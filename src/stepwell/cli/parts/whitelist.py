"""Which tasks may the nodes of a graph call? Those in the scripts and modules that `--tasks` names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.cli.parts.endings import TargetMissing
from stepwell.cli.parts.finding import did_you_mean
from stepwell.cli.parts.targets import load
from stepwell.errors import TargetError

_OPTION = click.option(
    "--tasks",
    "tasks",
    multiple=True,
    metavar="TARGET",
    help="Tasks that nodes may call: file.py, module, or one task in it; may be repeated.",
)


def tasks_option(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command `--tasks`, as `tasks`: a registry of them, or None when it is not given."""

    @functools.wraps(function)
    def wrapped(*args: Any, **given: Any) -> int:  # Any: click's own signature
        named: tuple[str, ...] = given.pop("tasks")
        return function(*args, tasks=find_tasks(named) if named else None, **given)

    return _OPTION(wrapped)


def find_tasks(named: Sequence[str]) -> Registry:
    """The tasks in these scripts and modules, and those of installed distributions.

    Raises:
        TargetMissing: there is no such file, module or task.
        TargetError: one cannot be loaded, or has no tasks.
        DefinitionError: two tasks have one name.
    """
    registry = Registry()
    for text in named:
        registry.add(_tasks_of(text))
    return registry


def _tasks_of(text: str) -> list[Task[..., Any]]:  # Any: whatever they return
    loaded, name = load(text)
    found = loaded.tasks
    if name:
        chosen = [one for key, one in found.items() if name in (key, one.name)]
        if not chosen:
            raise TargetMissing(f"{loaded.shown} has no task {name!r}{did_you_mean(name, found)}")
        return chosen[:1]
    if not found:
        raise TargetError(f"{loaded.shown} has no tasks; put @task in front of a function")
    return list(found.values())
