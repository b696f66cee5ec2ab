"""List the workflows and tasks in a script or module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click

from stepwell.authoring.task import Task, TaskOptions
from stepwell.authoring.workflow import Workflow
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.targets import Loaded, load
from stepwell.model.durations import spoken
from stepwell.model.failures import SCRIPT_MODULE
from stepwell.model.ids import SECOND


@cli_command
@click.argument("target")
def command(call: Call, target: str) -> int:
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
    if options.executor:
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
        "doc": inspect.getdoc(one.function),
    }
