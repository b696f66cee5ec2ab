"""List tasks and workflows, install the environments that tasks need, look at those, remove what nothing uses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import click

from stepwell.app import Stepwell
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task, TaskOptions
from stepwell.authoring.workflow import Workflow
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_group
from stepwell.cli.parts.endings import FAILED, OK, TargetMissing, complain
from stepwell.cli.parts.finding import did_you_mean
from stepwell.cli.parts.opening import run
from stepwell.cli.parts.targets import Loaded, load
from stepwell.engine.environments import Environment, Environments, InstallFailed, Use
from stepwell.errors import TargetError
from stepwell.model.durations import spoken
from stepwell.model.failures import SCRIPT_MODULE
from stepwell.model.ids import SECOND

AnyTask = Task[..., Any]  # Any: whatever they return


@cli_group
def command(call: Call) -> int:
    """List the workflows and tasks that TARGET (file.py or module) has; without, tasks of installed distributions.

    Tasks with requirements run in environments of their own, which are installed here and never by themselves.
    """
    return _list_installed(call)


command.otherwise = "list"


def _list_installed(call: Call) -> int:
    registry = Registry()
    infos = [info for name in registry.names() if (info := registry.info(name)) is not None]
    if call.json:
        call.document({"tasks": infos})
    elif infos:
        call.answer(words.table(("task", "", "from"), [(one.name, one.summary, one.location) for one in infos]))
    else:
        call.say("no installed distribution has tasks; name a script: stepwell tasks shop.py")
    return OK


@command.own("list")
@click.argument("target")
def list_target(call: Call, target: str) -> int:
    """List the workflows and tasks that TARGET (file.py or module) has, with how they are called and retried."""
    loaded, name = load(target)
    workflows = {key: one for key, one in loaded.workflows.items() if name in ("", key, one.name)}
    tasks = {key: one for key, one in loaded.tasks.items() if name in ("", key, one.name)}
    if call.json:
        call.document(
            {
                "target": loaded.place,
                "workflows": [_workflow_as_json(loaded, *pair) for pair in workflows.items()],
                "tasks": [_task_as_json(loaded, *pair) for pair in tasks.items()],
            }
        )
        return OK
    if not workflows and not tasks:
        call.say(f"{loaded.shown} has no workflows and no tasks" + (f" called {name!r}" if name else ""))
    for title, found in (("workflows", workflows), ("tasks", tasks)):
        if found:
            call.answer(words.dim(title.upper()))
            call.answer("\n".join(_shown(key, one) for key, one in found.items()))
    return OK


@command.own("install")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="For all tasks of installed distributions, too.")
def install(call: Call, targets: tuple[str, ...], every: bool) -> int:
    """Install the environments of tasks that have requirements. This downloads packages.

    TARGET is a task (file.py:task, module:task, or the name of one that an installed distribution brings), or a script
    or module, for all tasks in it. What is installed already is left as it is.
    """
    if not targets and not every:
        raise click.UsageError("name a task, a script or a module, or say --all")
    tasks = _wanted(targets, every)
    with_requirements = [one for one in tasks if one.options.requires]
    if not with_requirements and not call.json:
        call.say("none of these tasks has requirements: there is nothing to install")
    return run(_install(call, with_requirements))


async def _install(call: Call, tasks: Iterable[AnyTask]) -> int:
    app, code = _app(tasks), OK
    done: list[dict[str, object]] = []
    for task in tasks:
        was_there = Environments().is_installed(task.options.requires)
        try:
            made = await app.install(task, told=lambda line: call.say(words.dim(line)))
        except InstallFailed as error:
            complain(call, error.code, f"task {task.name!r}: {error}")
            code = FAILED
            continue
        done.append({"task": task.name, "was_there": was_there, **_environment_as_json(made)})
        if not call.json:
            packages = ", ".join(f"{name} {version}" for name, version in made.packages.items())
            call.answer(f"{task.name}: {'is installed' if was_there else 'installed'} in {made.path} ({packages})")
    if call.json:
        call.document({"installed": done})
    return code


@command.own("envs")
def envs(call: Call) -> int:
    """List the environments that are installed: where, how large, with what, and which tasks use them."""
    return run(_envs(call))


async def _envs(call: Call) -> int:
    found = await _app().environments()
    if call.json:
        call.document({"environments": [_environment_as_json(one) for one in found]})
    elif found:
        heads = ("environment", "size", "requires", "python", "used by")
        call.answer(words.table(heads, [_cells(one) for one in found], right=frozenset({1})))
    else:
        call.say(f"no environments in {Environments().root}; install one with: stepwell tasks install shop.py:task")
    return OK


@command.own("prune")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Remove those that tasks use, too.")
def prune(call: Call, targets: tuple[str, ...], every: bool) -> int:
    """Remove environments that no task uses any more.

    A task uses what it was last installed with, unless its file is gone; the tasks of TARGET use what they require
    now. An environment in which a program runs tasks at this moment is left.
    """
    return run(_prune(call, _wanted(targets, every=False), every))


async def _prune(call: Call, tasks: Iterable[AnyTask], every: bool) -> int:
    app = _app(tasks)
    removed = await app.prune_environments(every=every)
    left = len(await app.environments())
    if call.json:
        call.document({"removed": [_environment_as_json(one) for one in removed], "left": left})
        return OK
    for one in removed:
        call.answer(f"removed {one.path} ({_megabytes(one.size)}; {', '.join(one.requires)})")
    call.say(f"{words.count(len(removed), 'environment')} removed, {left:,} left")
    return OK


def _app(tasks: Iterable[AnyTask] = ()) -> Stepwell:
    """For use cases that need no store: it is not opened."""
    registry = Registry()
    for task in tasks:
        registry.add(task, replace=True)  # two scripts may have tasks of one name
    return Stepwell("memory://", drive=False, tasks=registry)


def _wanted(targets: Iterable[str], every: bool) -> list[AnyTask]:
    """The tasks that are meant."""
    registry = Registry()
    names = registry.names() if every else []
    found = [task for target in targets for task in _named(registry, target)]
    return [*found, *(task for name in names if (task := registry.get(name)) is not None)]


def _named(registry: Registry, target: str) -> list[AnyTask]:
    known = registry.get(target) if target.isidentifier() else None
    if known is not None:
        return [known]
    try:
        loaded, name = load(target)
    except TargetMissing as error:
        if not target.isidentifier():
            raise
        near = did_you_mean(target, registry.names())
        raise TargetMissing(f"no installed distribution has a task {target!r}{near}; and {error}") from None
    tasks = [one for key, one in loaded.tasks.items() if name in ("", key, one.name)]
    if name and not tasks:
        near = did_you_mean(name, loaded.tasks)
        raise TargetMissing(f"{loaded.shown} has no task {name!r}{near}")
    if not tasks:
        raise TargetError(f"{loaded.shown} has no tasks; put @task in front of a function")
    return tasks


def _cells(one: Environment) -> tuple[str, ...]:
    return one.path, _megabytes(one.size), ", ".join(one.requires), one.python, ", ".join(map(_user, one.used_by))


def _user(use: Use) -> str:
    return f"{use.task} ({use.file})" if use.file else use.task


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def _environment_as_json(one: Environment) -> dict[str, object]:
    return {
        "key": one.key,
        "path": one.path,
        "size": one.size,
        "requires": one.requires,
        "python": one.python,
        "installer": one.installer,
        "packages": one.packages,
        "used_by": one.used_by,
    }


def _shown(key: str, one: Workflow[..., Any] | Task[..., Any]) -> str:
    signature = f"{click.style(one.name, bold=True)}{_signature(one.function)}"
    alias = f"  {words.dim(f'(as {key})')}" if key != one.name else ""
    options = _options(one.options) if isinstance(one, Task) else ""
    lines = [f"  {signature}{alias}", f"      {words.dim(options)}" if options else ""]
    text = (one.__doc__ or "").strip().partition("\n")[0]
    lines.append(f"      {text}" if text else "")
    return "\n".join(line for line in lines if line)


def _signature(function: Callable[..., object]) -> str:
    try:
        return str(inspect.signature(function)).replace(f"{SCRIPT_MODULE}.", "")
    except (TypeError, ValueError):
        return "(…)"


def _options(options: TaskOptions) -> str:
    retry = options.retry
    parts = [words.count(retry.attempts, "attempt")] if retry.attempts != 1 else []
    if retry.attempts != 1:
        parts[0] += f" ({spoken(retry.first)} to {spoken(retry.max)} between)"
    for name, limit in (
        ("timeout", options.timeout),
        ("total timeout", options.total_timeout),
        ("heartbeat", options.heartbeat),
    ):
        if limit is not None:
            parts.append(f"{name} {spoken(limit)}")
    if options.requires:
        is_installed = Environments().is_installed(options.requires)
        parts.append(f"requires {', '.join(options.requires)} ({'installed' if is_installed else 'not installed'})")
    elif options.executor:
        parts.append(f"executor {options.executor}")
    if options.concurrency is not None:
        parts.append(f"{options.concurrency} at once" + (" per key" if options.concurrency_key else ""))
    return ", ".join(parts)


def _workflow_as_json(loaded: Loaded, key: str, one: Workflow[..., Any]) -> dict[str, object]:
    return {
        "name": one.name,
        "target": f"{loaded.place}:{key}",
        "version": one.version,
        "signature": _signature(one.function),
        "input_schema": one.codec.schema(),
        "doc": inspect.getdoc(one.function),
    }


def _task_as_json(loaded: Loaded, key: str, one: Task[..., Any]) -> dict[str, object]:
    options = one.options

    def seconds(limit: int | None) -> float | None:
        return None if limit is None else limit / SECOND

    return {
        "name": one.name,
        "target": f"{loaded.place}:{key}",
        "signature": _signature(one.function),
        "input_schema": one.codec.schema(),
        "attempts": options.retry.attempts,
        "timeout_seconds": seconds(options.timeout),
        "total_timeout_seconds": seconds(options.total_timeout),
        "heartbeat_seconds": seconds(options.heartbeat),
        "executor": options.executor or ("loop" if one.is_async else "thread"),
        "concurrency": options.concurrency,
        "tags": options.tags,
        "requires": options.requires,
        "doc": inspect.getdoc(one.function),
    }
