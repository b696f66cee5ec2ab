"""Replay stored runs against today's code, without any effect."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.authoring.graph import GraphWorkflow
from stepwell.authoring.registry import Registry
from stepwell.authoring.workflow import Workflow
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.endings import FAILED, NOT_FOUND, OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.graphs import code_in, graph_in_file
from stepwell.cli.parts.opening import client, run
from stepwell.cli.parts.sources import is_definition_file
from stepwell.cli.parts.targets import find_target, workflows_in
from stepwell.cli.parts.verbs import target_of
from stepwell.errors import TargetError
from stepwell.model.versions import label_of
from stepwell.stores.protocol import Filter, RunRow
from stepwell.usecases.replaying import Replayed

PAGE = 200
"""Rows looked up at a time."""

_COLOURS = {"ok": "green", "diverged": "red", "cannot_load": "yellow"}


@cli_command
@click.argument("names", nargs=-1, metavar="[RUN] [TARGET]...")
@click.option("--all", "everything", is_flag=True, help="Replay all runs of the store.")
@click.option("--workflow", metavar="NAME", help="Replay all runs of this workflow.")
@code_option
def command(call: Call, names: tuple[str, ...], everything: bool, workflow: str | None) -> int:
    """Run the bodies of stored runs with what their journals recorded, and say where today's code differs.

    Nothing is run but the bodies: no step, no wait, no write; a process that drives the store is not disturbed. The
    code is that of TARGET (file.py or module, several if need be), or what a run was started from. A run of a graph
    goes through its own definition, or through that in TARGET (flow.yaml); its tasks need not be there. Exits with 1
    when a run diverged; steps that are new, and records that are left over, are only told.
    """
    many = everything or workflow is not None
    if not many and not names:
        raise click.UsageError("name one RUN, or say --all or --workflow NAME")
    targets = names if many else names[1:]
    with contextlib.redirect_stdout(sys.stderr):  # bodies print what they like; answers alone go to standard output
        tasks = code_in(call.tasks).tasks if call.tasks else None
        code = Code([workflow for target in targets for workflow in _workflows_in(target)], tasks)
        if many:
            return run(_replay_all(call, code, workflow or ""))
        return run(_replay_one(call, code, names[0]))


def _workflows_in(target: str) -> Sequence[Workflow[..., Any]]:  # Any: whatever they return
    if is_definition_file(target):
        return [graph_in_file(target, (), checked=False).workflow]
    return workflows_in(target)


class Code:
    """Where the code of a run is found: in the targets that were named, or in what it was started from."""

    def __init__(self, given: Sequence[Workflow[..., Any]], tasks: Registry | None) -> None:  # Any: what they return
        self.tasks = tasks
        self._given = given
        self._main = sys.modules["__main__"]
        self._loaded: dict[str, tuple[Sequence[Workflow[..., Any]], ModuleType] | str] = {}

    def of(self, row: RunRow, version: str, target: str) -> Workflow[..., Any] | str:  # Any: whatever it returns
        """The run's workflow, or why it is not found."""
        if self._given:
            sys.modules["__main__"] = self._main
            return _fitting(self._given, row, version) or f"the targets have no {_named(row, version)}"
        if not target:
            return "it was not started with 'stepwell run': name a TARGET that has its code"
        if target not in self._loaded:
            self._loaded[target] = self._load(target)
        found = self._loaded[target]
        if isinstance(found, str):
            return found
        # A script's own classes are recorded as those of `__main__`, and each script is that in its turn.
        sys.modules["__main__"] = found[1]
        return _fitting(found[0], row, version) or f"{target} has no {_named(row, version)}"

    def graph_of(self, row: RunRow) -> GraphWorkflow | None:
        """The graph that was named for runs of this workflow, if one was."""
        named = [one for one in self._given if isinstance(one, GraphWorkflow) and one.name == row.workflow]
        return named[-1] if named else None

    def _load(self, target: str) -> tuple[Sequence[Workflow[..., Any]], ModuleType] | str:  # Any: as above
        sys.modules["__main__"] = self._main
        try:
            return find_target(target).workflows, sys.modules["__main__"]
        except TargetError as error:
            return str(error)


def _fitting(
    workflows: Sequence[Workflow[..., Any]], row: RunRow, version: str
) -> Workflow[..., Any] | None:  # Any: as above
    label = label_of(version)
    known = [one for one in workflows if one.name == row.workflow]
    fits = [one for one in known if one.label == label] or ([] if label else known)
    return fits[-1] if fits else None


def _named(row: RunRow, version: str) -> str:
    label = label_of(version)
    return f"workflow {row.workflow!r}" + (f" with version={label!r}" if label else "")


async def _replay_one(call: Call, code: Code, text: str) -> int:
    async with client(call, tasks=code.tasks) as app:
        found = await _replay(app, code, await find_run(app, text))
    if call.json:
        call.document(found)
    else:
        _tell(call, found)
    return _code({found.outcome: 1})


async def _replay_all(call: Call, code: Code, workflow: str) -> int:
    counts: Counter[str] = Counter()
    async with client(call, tasks=code.tasks) as app:
        async for row in app.every(Filter(workflow=workflow, limit=PAGE)):
            found = await _replay(app, code, row)
            counts[found.outcome] += 1
            is_quiet = found.outcome == "ok" and not (found.new_calls or found.orphans or found.note)
            counts["told"] += found.outcome == "ok" and not is_quiet
            if call.json:
                call.document(found)
            elif not is_quiet:
                _tell(call, found)
    told = counts.pop("told", 0)
    text = f"{words.count(sum(counts.values()), 'run')} replayed: {counts['ok']:,} ok"
    text += f" ({told:,} with something to look at)" if told else ""
    text += f", {counts['diverged']:,} diverged" if counts["diverged"] else ""
    call.say(text + (f", {counts['cannot_load']:,} without code" if counts["cannot_load"] else ""))
    return _code(counts)


async def _replay(app: Stepwell, code: Code, row: RunRow) -> Replayed:
    found: Workflow[..., Any] | str = ""

    def find(version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        nonlocal found
        found = code.of(row, version, target)
        return None if isinstance(found, str) else found

    target = await target_of(app, row)
    replayed = await app.replay(row.run_id, code.graph_of(row), find=find)
    return msgspec.structs.replace(replayed, detail=found) if isinstance(found, str) else replayed


def _code(counts: Any) -> int:  # Any: how often each outcome was met
    if counts.get("diverged"):
        return FAILED
    return NOT_FOUND if counts.get("cannot_load") else OK


def _tell(call: Call, found: Replayed) -> None:
    outcome = click.style(found.outcome.replace("_", " "), fg=_COLOURS[found.outcome])
    call.answer(f"{click.style(found.run_id, bold=True)}  {found.workflow}  {outcome}")
    difference = [("step", found.step), ("recorded", _short(found.recorded)), ("called", _short(found.called))]
    rows = [*difference, ("at", found.place)] if found.step and found.place else [("why", found.detail)]
    rows += [("new calls", _some(found.new_calls)), ("left over", _some(found.orphans)), ("note", found.note)]
    if shown := words.fields(rows):
        call.answer(shown)


def _short(text: str) -> str:
    return words.short(text.encode(), 500)


def _some(paths: tuple[str, ...]) -> str:
    return ", ".join(paths[:8]) + (f" and {len(paths) - 8:,} more" if len(paths) > 8 else "")
