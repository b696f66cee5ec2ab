"""Find what in workflow bodies would not be the same on replay."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from stepwell.authoring.lint import Finding, lint
from stepwell.authoring.workflow import Workflow
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import FAILED, OK
from stepwell.cli.parts.targets import find_target, load


@cli_command
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
def command(call: Call, targets: tuple[str, ...]) -> int:
    """Find clocks, chance, files, network, threads and the like in workflow bodies.

    TARGET is file.py:name or module:name, or a file or module whose workflows are all meant. Nothing is run but the
    modules themselves. A call that is meant is marked with  # stepwell: allow  on its line. Exits with 1 when
    something was found.
    """
    workflows = [workflow for target in targets for workflow in _workflows(target)]
    findings = sorted({_nearby(one) for workflow in workflows for one in lint(workflow)})
    if call.json:
        call.document({"workflows": [workflow.name for workflow in workflows], "findings": findings})
    else:
        for one in findings:
            call.answer(_line(one))
        found = words.count(len(findings), "finding") if findings else "nothing found"
        call.say(f"{words.count(len(workflows), 'workflow')} read: {found}")
    return FAILED if findings else OK


def _workflows(target: str) -> Iterable[Workflow[..., Any]]:  # Any: whatever they return
    loaded, name = load(target)
    if name:
        return [find_target(target).workflow]
    return [loaded.workflows[own] for own in loaded.own_workflows or loaded.workflows]


def _nearby(one: Finding) -> Finding:
    """With the file as a person in this folder would name it."""
    path, here = Path(one.file), Path(os.getcwd())
    return msgspec.structs.replace(one, file=str(path.relative_to(here))) if path.is_relative_to(here) else one


def _line(one: Finding) -> str:
    place = click.style(f"{one.file}:{one.line}:{one.column}", bold=True)
    return f"{place} {click.style(one.code, fg='yellow')} {one.call} — {one.advice}"
