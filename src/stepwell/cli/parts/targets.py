"""What does `shop.py:select_products` name? A script or module is loaded, and the workflow or task in it found."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

import stepwell
from stepwell.authoring.graph import GraphWorkflow
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.cli.parts.endings import TargetMissing
from stepwell.cli.parts.finding import did_you_mean
from stepwell.engine.scripts import load_script
from stepwell.errors import DefinitionError, TargetError

LABEL: Final = "target"
"""The label under which a run keeps what it was started from, so that it can be driven again."""

_FORMS: Final = "write file.py:name, module:name, or file.py when it has one workflow"
_NOT_OURS: Final = (str(Path(stepwell.__file__).parent), "<frozen importlib", importlib.__file__)


class Loaded(msgspec.Struct, frozen=True):
    """A loaded script or module. `place` finds it again from any folder, `shown` is what the person wrote."""

    place: str
    shown: str
    module: ModuleType

    @property
    def workflows(self) -> dict[str, Workflow[..., Any]]:
        """The workflows it defines or imports by name, its own first, by the variable's name."""
        return self._of(Workflow)

    @property
    def tasks(self) -> dict[str, Task[..., Any]]:
        """The same for tasks."""
        return self._of(Task)

    def _of(self, kind: type[Any]) -> dict[str, Any]:  # Any: the two kinds have nothing in common
        found = {name: value for name, value in vars(self.module).items() if isinstance(value, kind)}
        return dict(sorted(found.items(), key=lambda pair: pair[1].__module__ != self.module.__name__))

    @property
    def own_workflows(self) -> list[str]:
        """The variables of workflows defined in it, not imported."""
        return [name for name, value in self.workflows.items() if value.__module__ == self.module.__name__]


class Target(msgspec.Struct, frozen=True):
    """A workflow (or a task as one) that can be run, and what else its module has, to drive children and recover.

    `workflows` has it last; `tasks` are those that graphs among them may call.
    """

    label: str
    workflow: Workflow[..., Any]
    workflows: tuple[Workflow[..., Any], ...]
    tasks: Registry | None = None


def find_target(text: str) -> Target:
    """Load what `text` names.

    Raises:
        TargetMissing: there is no such file, module or name.
        TargetError: it cannot be loaded, or names something else than a workflow or a task.
    """
    loaded, name = load(text)
    if not name:
        own = loaded.own_workflows or list(loaded.workflows)
        if len(own) != 1:
            raise _which(loaded, own)
        name = own[0]
    found = _named(loaded, name)
    try:
        workflow = workflow_of(found)
    except DefinitionError:
        raise _no_workflow(loaded, name, found) from None
    everything = _all_workflows(loaded, workflow)
    return Target(f"{loaded.place}:{name}", workflow, everything, _tasks_for(loaded, everything))


def workflows_in(text: str) -> tuple[Workflow[..., Any], ...]:
    """All that may have runs in the script or module that `text` names, with a name behind a colon or without.

    Raises:
        TargetMissing, TargetError: as for `find_target`.
    """
    loaded, name = load(text)
    if name:
        return find_target(text).workflows
    named = [*loaded.workflows.values(), *map(workflow_of, loaded.tasks.values())]
    if not named:
        raise _which(loaded, [])
    own = [loaded.workflows[one] for one in loaded.own_workflows]
    return _all_workflows(loaded, (own or named)[-1])


def load(text: str) -> tuple[Loaded, str]:
    """Load the script or module that `text` names; gives it, and the name behind the colon or "".

    Raises:
        TargetMissing, TargetError: as for `find_target`.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not re.fullmatch(r"[^\W\d]\w*", name):  # `C:\shop.py` has a colon of its own
        place, name = text, ""
    if place.endswith(".py") or os.sep in place or Path(place).is_file():
        return _load_file(place), name
    if not place or not all(part.isidentifier() for part in place.split(".")):
        raise TargetMissing(f"{text!r} is no target: {_FORMS}")
    return _load_module(place, text), name


def _load_file(place: str) -> Loaded:
    path = Path(place).expanduser()
    if path.is_dir():
        raise TargetMissing(f"{place} is a folder: {_FORMS}")
    if not path.is_file():
        near = did_you_mean(
            path.name, [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        )
        raise TargetMissing(f"there is no file {place}{near}")
    whole = str(path.resolve())
    _find_first(str(path.resolve().parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # answers alone go to standard output
            module = load_script(whole)
    except (Exception, SystemExit) as error:
        raise _unloadable(place, error) from error
    # Names that a journal has for this script's classes begin with `__main__.`, as if Python had been started with it.
    sys.modules["__main__"] = module
    return Loaded(whole, place, module)


def _load_module(name: str, text: str) -> Loaded:
    _find_first(os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Loaded(name, name, importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _unloadable(f"module {name}", error) from error
        file = Path(*name.split(".")).with_suffix(".py")
        hint = f"; did you mean the file {file}?" if file.is_file() else f"; {_FORMS}"
        raise TargetMissing(f"{text!r}: there is no module {name!r} here{hint}") from None
    except (Exception, SystemExit) as error:
        raise _unloadable(f"module {name}", error) from error


def _find_first(folder: str) -> None:
    """Have imports look into this folder first, as Python does for a script's own."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _unloadable(shown: str, error: BaseException) -> TargetError:
    """What is wrong with the user's file, with the line."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        line = (error.text or "").rstrip("\n")
        mark = " " * max(0, (error.offset or 1) - 1) + "^" if line else ""
        code = f"\n    {line}\n    {mark}" if line else ""
        return TargetError(f"{_near(error.filename, shown)}:{error.lineno}: syntax error: {error.msg}{code}")
    what = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_OURS)]
    if not frames:
        return TargetError(f"{shown} cannot be loaded: {what}")
    last = frames[-1]
    hint = ""
    if isinstance(error, SystemExit):
        hint = '\n  what a script does when it is started belongs under `if __name__ == "__main__":`'
    code = f"\n    {last.line}" if last.line else ""
    return TargetError(f"{_near(last.filename, shown)}:{last.lineno}: {shown} cannot be loaded: {what}{code}{hint}")


def _near(filename: str, shown: str) -> str:
    """The file's name as the person wrote it, where it is that file."""
    return shown if shown.endswith(".py") and os.path.realpath(shown) == os.path.realpath(filename) else filename


def _named(loaded: Loaded, name: str) -> object:
    if name in vars(loaded.module):
        return vars(loaded.module)[name]
    everything: list[Workflow[..., Any] | Task[..., Any]] = [*loaded.workflows.values(), *loaded.tasks.values()]
    named = [value for value in everything if value.name == name]  # it may bear another name than its variable
    if named:
        here = [value for value in named if value.__module__ == loaded.module.__name__]
        return (here or named)[-1]  # of several versions, the last
    own = loaded.own_workflows or list(loaded.workflows)
    listed = f"it has the workflows {', '.join(own)}" if own else "it has no workflows"
    near = did_you_mean(name, [*loaded.workflows, *loaded.tasks])
    raise TargetMissing(f"{loaded.shown} has no {name!r}: {listed}{near}")


def _which(loaded: Loaded, own: Sequence[str]) -> TargetError:
    if own:
        return TargetError(f"{loaded.shown} has {len(own)} workflows: write {loaded.shown}:{{{','.join(own)}}}")
    tasks = list(loaded.tasks)
    hint = (
        f"; its tasks can be run too: {loaded.shown}:{tasks[0]}" if tasks else "; put @workflow in front of a function"
    )
    return TargetError(f"{loaded.shown} has no workflow{hint}")


def _tasks_for(loaded: Loaded, workflows: Sequence[Workflow[..., Any]]) -> Registry | None:
    """The module's own tasks, for graphs that are defined in it."""
    if not any(isinstance(one, GraphWorkflow) for one in workflows):
        return None
    registry = Registry()
    registry.add(loaded.tasks.values(), replace=True)
    return registry


def _no_workflow(loaded: Loaded, name: str, found: object) -> TargetError:
    if callable(found) and not isinstance(found, type):
        code = getattr(found, "__code__", None)
        line = f":{code.co_firstlineno}" if code is not None else ""
        return TargetError(
            f"{loaded.shown}{line}: {name} is a plain function: put @workflow (or @task) in front of it "
            "(from stepwell import workflow)"
        )
    own = loaded.own_workflows or list(loaded.workflows)
    rest = f"; its workflows are {', '.join(own)}" if own else ""
    return TargetError(f"{loaded.shown}: {name} is of type {type(found).__name__}, not a workflow or a task{rest}")


def _all_workflows(loaded: Loaded, first: Workflow[..., Any]) -> tuple[Workflow[..., Any], ...]:
    """Everything in the module that may have runs, one for each name and version label; what is meant comes last.

    What an engine is given last serves new runs, so a module's own definitions follow those that it imports.
    """
    found: dict[tuple[str, str], Workflow[..., Any]] = {}
    for task in loaded.tasks.values():
        found.setdefault((task.name, ""), workflow_of(task))
    own = set(loaded.own_workflows)
    for is_own in (False, True):
        for name, workflow in loaded.workflows.items():
            if (name in own) is is_own:
                found.pop((workflow.name, workflow.label), None)
                found[workflow.name, workflow.label] = workflow
    found.pop((first.name, first.label), None)
    return (*found.values(), first)
