"""How a command ends: the exit codes, and an error as one clear message."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Final

import click
import msgspec

from stepwell.cli.parts.call import Call
from stepwell.errors import (
    DefinitionError,
    RequestNotFound,
    RunCancelled,
    RunFailed,
    RunNotFound,
    RunSetAside,
    StepwellBug,
    StepwellError,
    StoreUnusable,
    TargetError,
    TriggerNotFound,
    WorkflowNotFound,
)
from stepwell.graph.problems import InvalidDefinition

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
BROKEN: Final = 70
INTERRUPTED: Final = 130
TERMINATED: Final = 143


class TargetMissing(TargetError):
    """The target's file, module or name is not there."""


class StoreMissing(StoreUnusable):
    """There is no store at this place, and this command does not make one."""


def exit_code(error: StepwellError) -> int:
    """The exit code that an error stands for."""
    match error:
        case RunNotFound() | RequestNotFound() | TriggerNotFound() | WorkflowNotFound():
            return NOT_FOUND
        case TargetMissing() | StoreMissing():
            return NOT_FOUND
        case InvalidDefinition():
            return REFUSED
        case DefinitionError() | StoreUnusable():
            return USAGE
        case RunFailed() | RunCancelled() | RunSetAside():
            return FAILED
        case StepwellBug():
            return BROKEN
        case _:
            return REFUSED


def complain(call: Call, code: str, message: str, **fields: object) -> None:
    """Say on standard error what went wrong: a line, or with `--json` an object with the error's stable code."""
    if call.json:
        error = {"error": {"code": code, "message": message, **fields}}
        click.echo(msgspec.json.encode(error, enc_hook=str), file=call.stderr)
    else:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", file=call.stderr)


def explain(call: Call, error: StepwellError) -> int:
    """Say what an error says; returns the exit code."""
    if isinstance(error, StepwellBug):
        return report_crash(call, error, "this is a fault of Stepwell's own")
    if isinstance(error, InvalidDefinition):
        from stepwell.cli.parts.faults import refused  # only for who deploys

        message, fields = refused(error)
        complain(call, error.code, message, **fields)
    else:
        complain(call, error.code, str(error) or type(error).__doc__ or error.code)
    return exit_code(error)


def report_crash(call: Call, error: BaseException, what: str = "something unexpected happened") -> int:
    """Write the details of an unexpected error into a file and say where; returns the exit code."""
    text = "".join(traceback.format_exception(error))
    version = sys.version.replace("\n", " ")
    details = f"stepwell {' '.join(sys.argv[1:])}\nPython {version} on {sys.platform}\n\n{text}"
    place = _written(call, details)
    where = f"the details are in {place}" if place is not None else f"the details could not be written:\n{details}"
    summary = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    message = f"{what}: {summary}\n{where}\nplease report it with that file; runs are not harmed by it"
    complain(call, "bug", message, details=str(place or ""))
    return BROKEN


def _written(call: Call, details: str) -> Path | None:
    from stepwell.cli.parts.opening import data_folder  # only now: it needs the engine, which may be what is broken

    folders: list[Path] = []
    with contextlib.suppress(Exception):  # the store's URL may be what is broken
        folders.append(data_folder(call.store))
    for folder in (*folders, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(prefix="crash-", suffix=".txt", dir=folder)
            with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(details)
        except OSError:
            continue
        return Path(name)
    return None
