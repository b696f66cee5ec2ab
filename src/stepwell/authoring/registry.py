"""Which tasks may be called by name? Those that a program adds, and those of installed distributions.

The registry is the whitelist of graphs: a name in a definition is looked up here and never imported. Distributions
register tasks under the entry point group `stepwell.tasks`. An entry whose value is a task (`resize =
"shop.images:resize"`) bears the task's name and is loaded when that name is asked for; one whose value is a module
brings all tasks in it, and is loaded when a name is asked for that nothing else has. What the program adds goes before
both.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from stepwell.authoring.task import Task, TaskOptions
from stepwell.errors import DefinitionError
from stepwell.graph import tasks as calls
from stepwell.model.ids import SECOND
from stepwell.model.parameters import Parameters, resolved_hints
from stepwell.model.refusals import hint_text

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "stepwell.tasks"

AnyTask: TypeAlias = Task[..., Any]  # Any: whatever they return
Listener: TypeAlias = Callable[[str, AnyTask | None], object]

_log = logging.getLogger("stepwell.tasks")


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a task. `hint` is its type as the author would write it, `schema` that type's JSON Schema.

    `schema` is `{}` where the type has no one JSON form; it has the parameter's `default`, if that is JSON.
    """

    name: str
    required: bool
    hint: str
    schema: dict[str, Any]  # Any: JSON


class TaskInfo(msgspec.Struct, frozen=True):
    """What a task is, as data: for lists, for editors, and for graphs that are to call it.

    `input` is the JSON Schema of the object of its arguments, `returns` that of its result (`{}`: anything). `is_open`
    says that it takes arguments which are no parameters (`**kwargs`). `options` are the `@task` options that are not
    at their defaults, durations in seconds. `location` is where the function is found: `module:name`, or
    `file:/path.py:name`. When its signature cannot be told, `problem` says why, and it has no parameters here.
    """

    name: str
    summary: str
    description: str
    tags: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    is_open: bool
    input: dict[str, Any]  # Any: JSON
    returns: dict[str, Any]  # Any: JSON
    options: dict[str, Any]  # Any: JSON
    requires: tuple[str, ...]
    aliases: tuple[str, ...]
    is_async: bool
    location: str
    problem: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the parameters that must be given."""
        return tuple(one.name for one in self.parameters if one.required)


class Registry:
    """Tasks by name; they may be added and removed while an engine runs, from any thread.

    A run that is under way keeps what it has: an attempt in flight goes on with its task's old function.
    """

    def __init__(self, tasks: object = (), *, entry_points: bool = True) -> None:
        """Begin with `tasks`: what `add` takes. `entry_points=False` leaves installed distributions out."""
        self._lock = threading.RLock()
        self._added: dict[str, AnyTask] = {}
        self._installed: dict[str, AnyTask] = {}
        self._removed: set[str] = set()
        self._infos: dict[str, tuple[AnyTask, TaskInfo]] = {}
        self._listeners: list[Listener] = []
        self._points: dict[str, EntryPoint] = {}
        self._modules: list[EntryPoint] = []
        self._looked = not entry_points
        self.add(tasks)

    def add(self, tasks: object, *, replace: bool = False) -> list[str]:
        """Take in a task, the tasks of a module, or an iterable of both; gives their names. All or nothing.

        A task that was loaded anew (the same function at the same place) takes the older one's place.

        Raises:
            DefinitionError: another task has one of the names, and `replace` is false; or something is no task, or a
                module without any.
        """
        found = list(_tasks_in(tasks))
        with self._lock:
            new: dict[str, AnyTask] = {}
            for one in found:
                known = new.get(one.name) or (None if replace else self._added.get(one.name))
                if known is not None and not _is_same(known, one):
                    raise DefinitionError(
                        f"two tasks are called {one.name!r} ({known.location} and {one.location}): give one of them a "
                        "name of its own with @task(name='…'), or say replace=True"
                    )
                new[one.name] = one
            changed = {name: one for name, one in new.items() if self._added.get(name) is not one}
            self._added = {**self._added, **new}
            self._removed -= new.keys()
        for name, one in changed.items():
            self._tell(name, one)
        return list(new)

    def remove(self, name: str) -> bool:
        """Take a task out, an installed distribution's too; False when there is none of this name."""
        with self._lock:
            if self._find(name) is None:
                return False
            self._added = {key: one for key, one in self._added.items() if key != name}
            self._infos.pop(name, None)
            self._removed.add(name)
        self._tell(name, None)
        return True

    def get(self, name: str) -> AnyTask | None:
        """The task of this name, or else the one that had it formerly (`aliases=`); None when there is none.

        Raises:
            DefinitionError: an installed distribution registered it, and it cannot be loaded.
        """
        known = self._added.get(name)
        if known is not None:
            return known
        with self._lock:
            return self._find(name) or self._former(name)

    def names(self) -> list[str]:
        """The names of all tasks, in alphabetical order."""
        with self._lock:
            self._look(modules=True)
            return sorted({*self._added, *self._installed, *self._points} - self._removed)

    def suggest(self, name: str) -> str:
        """The name most like this one, or nothing."""
        import difflib  # only for who has mistyped

        near = difflib.get_close_matches(name, self.names(), n=1)
        return near[0] if near else ""

    def info(self, name: str) -> TaskInfo | None:
        """What the task of this name is; None when there is none. Raises as `get` does."""
        task = self.get(name)
        if task is None:
            return None
        known = self._infos.get(task.name)
        if known is None or known[0] is not task:
            known = self._infos[task.name] = task, info_of(task)
        return known[1]

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(name, task)` after each change, with None for a task that was removed; gives its end.

        It is called in the thread that makes the change.
        """
        with self._lock:
            self._listeners = [*self._listeners, listener]

        def end() -> None:
            with self._lock:
                self._listeners = [one for one in self._listeners if one is not listener]

        return end

    def _tell(self, name: str, task: AnyTask | None) -> None:
        for listener in self._listeners:
            try:
                listener(name, task)
            except Exception:  # the change is made, and the others have to hear of it
                _log.exception("a listener to changes of tasks failed at %r", name)

    # -- installed distributions --------------------------------------------------------------------------------

    def _find(self, name: str) -> AnyTask | None:
        if name in self._added or name in self._removed:
            return self._added.get(name)
        self._look(modules=False)
        if name in self._points and name not in self._installed:
            self._installed[name] = _loaded(self._points[name])
        elif name not in self._installed:
            self._look(modules=True)
        return self._installed.get(name)

    def _former(self, name: str) -> AnyTask | None:
        known = {**self._installed, **self._added}
        return next(
            (one for key, one in known.items() if name in one.options.aliases and key not in self._removed), None
        )

    def _look(self, *, modules: bool) -> None:
        """Learn what is installed, once; with `modules` load those whose tasks nobody knows the names of."""
        if not self._looked:
            from importlib import metadata  # slow to load, and only for names that the program has not added

            self._looked = True
            for point in metadata.entry_points(group=ENTRY_POINTS):
                if point.attr:
                    self._points.setdefault(point.name, point)
                else:
                    self._modules.append(point)
        while modules and self._modules:
            point = self._modules.pop(0)
            try:
                found = {one.name: one for one in _tasks_in(point.load())}
            except Exception as error:  # code of others, which may fail in any way; other tasks must not suffer
                _log.warning("%s cannot be loaded: %s: %s", _place(point), type(error).__name__, error)
                continue
            self._installed = {**found, **self._installed}


class KnownTasks:
    """A registry as graphs are checked against it: see `stepwell.graph.tasks.Tasks`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def get(self, name: str) -> calls.TaskInfo | None:
        """What a node may give to the task of this name; None when there is none.

        Of a task whose signature cannot be told anything is taken: the call itself says what is wrong with it.

        Raises:
            DefinitionError: an installed distribution registered it, and it cannot be loaded.
        """
        task = self._registry.get(name)
        if task is None:
            return None
        try:
            found, hints = Parameters(task.function, task.name), task.codec.hints
        except DefinitionError:
            return calls.TaskInfo(task.name, has_var_keyword=True)
        kinds: dict[object, calls.ParameterKind] = {
            inspect.Parameter.POSITIONAL_ONLY: "positional_only",
            inspect.Parameter.VAR_POSITIONAL: "rest",
        }
        parameters = tuple(
            calls.Parameter(key, key in found.required, hints[key], kinds.get(one.kind, "plain"))
            for key, one in found.named.items()
        )
        return calls.TaskInfo(task.name, parameters, has_var_keyword=found.extras is not None)

    def names(self) -> list[str]:
        """The names of all tasks."""
        return self._registry.names()


def lack_of(name: str) -> str:
    """How the reason begins for which a run is set aside that calls a task which is not there."""
    return f"task {name!r} is not registered in this process: "


def info_of(task: AnyTask) -> TaskInfo:
    """What a task is, as data; never raises: see `TaskInfo.problem`."""
    parameters: tuple[Parameter, ...] = ()
    whole: dict[str, Any] = {"type": "object"}  # Any: JSON
    returns: dict[str, Any] = {}  # Any: JSON
    is_open, problem = False, ""
    try:
        whole = task.codec.schema()
        found = Parameters(task.function, task.name)
        parameters = tuple(_parameter(task, name, name in found.required, whole) for name in found.named)
        returns = _schema(resolved_hints(task.function, task.name).get("return", Any), f"result of {task.name}")
        is_open = found.extras is not None
    except DefinitionError as error:
        problem = str(error)
    return TaskInfo(
        name=task.name,
        summary=task.summary,
        description=inspect.cleandoc(task.__doc__ or ""),
        tags=task.options.tags,
        parameters=parameters,
        is_open=is_open,
        input=whole,
        returns=returns,
        options=options_of(task.options),
        requires=task.options.requires,
        aliases=task.options.aliases,
        is_async=task.is_async,
        location=task.location,
        problem=problem,
    )


def options_of(options: TaskOptions) -> dict[str, Any]:  # Any: JSON
    """The options that are not at their defaults, as JSON; durations in seconds."""
    retry = options.retry
    given: dict[str, Any] = {
        "executor": options.executor,
        "concurrency": options.concurrency,
        "priority": options.priority or None,
        "on_change": options.on_change if options.on_change != "pause" else None,
        "transactional": options.transactional or None,
    }
    if retry.attempts != 1:
        waits = {"first": retry.first / SECOND, "backoff": retry.backoff, "max": retry.max / SECOND}
        kinds = {"only": sorted(retry.retry_on), "never": sorted(retry.never_on)}
        given["retry"] = {"attempts": retry.attempts, **waits, **{key: found for key, found in kinds.items() if found}}
    for name in ("timeout", "total_timeout", "heartbeat"):
        limit: int | None = getattr(options, name)
        given[name] = None if limit is None else limit / SECOND
    if options.rate is not None:
        count, period = options.rate
        given["rate"] = {"count": count, "seconds": period / SECOND}
    return {name: one for name, one in given.items() if one not in (None, "")}


def _parameter(task: AnyTask, name: str, required: bool, whole: Mapping[str, Any]) -> Parameter:  # Any: JSON
    hint = task.codec.hints[name]
    schema = _schema(hint, f"argument {name!r} of {task.name}")
    default = whole["properties"][name]
    if "default" in default:
        schema = {**schema, "default": default["default"]}
    return Parameter(name, required, hint_text(hint), schema)


def _schema(hint: Any, place: str) -> dict[str, Any]:  # Any: a type form, and JSON
    from stepwell.model.forms import schema_of  # only for those who look

    try:
        return schema_of(hint, place)
    except DefinitionError:  # it has no one JSON form: what does not fit is refused when the task is called
        return {}


def _tasks_in(found: object) -> Iterable[AnyTask]:
    if isinstance(found, Task):
        return [found]
    if isinstance(found, ModuleType):
        tasks = [one for one in vars(found).values() if isinstance(one, Task)]
        if not tasks:
            raise DefinitionError(f"module {found.__name__} has no tasks: put @task in front of a function")
        return tasks
    if isinstance(found, Iterable) and not isinstance(found, str | bytes | Mapping):
        return [task for part in found for task in _tasks_in(part)]
    name = getattr(found, "__name__", type(found).__name__)
    raise DefinitionError(f"{name} is no task: put @task in front of the function, or give the module that has it")


def _is_same(one: AnyTask, other: AnyTask) -> bool:
    """Whether both are the same definition: one function, or the same place loaded twice."""
    return one.function is other.function or one.location == other.location


def _loaded(point: EntryPoint) -> AnyTask:
    try:
        found = point.load()
    except Exception as error:  # code of others, which may fail in any way
        raise DefinitionError(
            f"{_place(point)} cannot be loaded: {type(error).__name__}: {error}; mend or uninstall that distribution"
        ) from error
    if not isinstance(found, Task):
        raise DefinitionError(f"{_place(point)} is a {type(found).__name__}: put @task in front of the function")
    if found.name != point.name:
        raise DefinitionError(f"{_place(point)} calls itself {found.name!r}: name and entry point must be the same")
    return found


def _place(point: EntryPoint) -> str:
    source = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "another distribution"
    return f"task entry point {point.name!r} of {source} ({point.value})"
