"""Which graph does a target name, and where is the code that its nodes call? In a file or deployed; in `--tasks`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepwell.app import Stepwell
from stepwell.authoring.graph import GraphWorkflow, made
from stepwell.authoring.registry import Registry
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.cli.parts.endings import TargetMissing
from stepwell.cli.parts.sources import is_definition_file, read_source
from stepwell.cli.parts.targets import Target, load
from stepwell.cli.parts.whitelist import tasks_of
from stepwell.errors import ArgumentError
from stepwell.model.versions import digest_of
from stepwell.stores.protocol import RunRow
from stepwell.stores.tables import DRAFT

if TYPE_CHECKING:
    from stepwell.graph.plan import Plan

_MARK: Final = " --tasks "
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Code(msgspec.Struct, frozen=True):
    """What the nodes of graphs may call: tasks, and the workflows of the same scripts as child runs.

    `places` find the scripts and modules again from any folder.
    """

    places: tuple[str, ...]
    tasks: Registry
    workflows: tuple[Workflow[..., Any], ...]


def code_in(named: Sequence[str]) -> Code:
    """Load the scripts and modules that `--tasks` names.

    Raises:
        TargetMissing, TargetError, DefinitionError: as for `whitelist.find_tasks`; a script of workflows is right too.
    """
    registry, workflows, places = Registry(), dict[tuple[str, str], Workflow[..., Any]](), []
    for text in named:
        loaded, name = load(text)
        if name or loaded.tasks or not loaded.workflows:
            registry.add(tasks_of(loaded, name))
        places.append(f"{loaded.place}:{name}" if name else loaded.place)
        for workflow in () if name else loaded.workflows.values():
            workflows[workflow.name, workflow.label] = workflow_of(workflow)
    return Code(tuple(places), registry, tuple(workflows.values()))


# -- the label under which a run keeps where it is from ----------------------------------------------------------------


def label_of(head: str, places: Sequence[str]) -> str:
    """What a run of a graph keeps: `/shop/flow.yaml --tasks /shop/tasks.py`."""
    return _MARK.join((head, *places))


def tasks_in(label: str) -> tuple[str, ...]:
    """Where the tasks of a run are found again; nothing when the label is a function's, which ends in `:name`."""
    return tuple(label.split(_MARK)[1:])


def file_in(label: str) -> Path | None:
    """The file with the definition that a run was started from, if it was one."""
    head = label.split(_MARK)[0]
    return Path(head) if is_definition_file(head) else None


# -- what a target names -----------------------------------------------------------------------------------------------


def may_be_deployed(text: str) -> bool:
    """Whether a target may be the name of a deployed workflow."""
    return _NAME.fullmatch(text) is not None


def graph_in_file(file: str, named: Sequence[str], *, checked: bool = True) -> Target:
    """The graph that is defined in a file; `checked` says that what its nodes call must be there.

    Raises:
        TargetMissing: there is no such file, or something that `named` names is not there.
        TargetError, DefinitionError: it, or one of `named`, cannot be loaded.
        InvalidDefinition: it has problems; all of them are told.
    """
    source, text = read_source(file)
    code = code_in(named)
    graph = GraphWorkflow(made(source if text is None else text, _types(), code.tasks if checked else None))
    head = str(Path(file).expanduser().resolve()) if text is None else graph.name
    return _target(graph, head, code)


async def deployed_graph(
    app: Stepwell, name: str, version: str, named: Sequence[str], *, checked: bool = True
) -> Target | None:
    """The deployed graph of this name, the active version for ""; None when nothing is, and no version is asked for.

    Raises:
        WorkflowNotFound: it has no such version, or none that serves new runs.
        TargetMissing, TargetError, InvalidDefinition: as for `graph_in_file`.
    """
    if version == DRAFT:
        raise ArgumentError(f"workflow {name}: a draft cannot be run; deploy it first, or run its file")
    if not version and not await app.store.definitions(name):
        return None
    row = await app.workflow_version(name, version)
    code = code_in(named)
    graph = GraphWorkflow(made(msgspec.json.decode(row.body), _types(), code.tasks if checked else None))
    return _target(graph, name, code)


def _target(graph: GraphWorkflow, head: str, code: Code) -> Target:
    others = tuple(one for one in code.workflows if one.name != graph.name)
    return Target(label_of(head, code.places), graph, (*others, graph), code.tasks)


# -- runs that are there -----------------------------------------------------------------------------------------------


async def plan_of(app: Stepwell, row: RunRow) -> Plan | None:
    """The plan of a graph's run, with what was added to it under way; None when it is no graph's."""
    state = await app.state(row.run_id)
    if state.has_patch:
        body = await app.payload(state.patch, state.patch_blob)
    else:
        kept = await app.store.definition(row.workflow, digest_of(state.version or row.version))
        if kept is None:
            return None
        body = kept.body
    return made(msgspec.json.decode(body), _types())


def code_for(row: RunRow, label: str, named: Sequence[str], wanted: frozenset[str]) -> Code:
    """What drives a run of a graph again, whose definition is in the store; `wanted` are the tasks that it names.

    Args:
        row: the run.
        label: where it is from; "" when a program started it.
        named: what `--tasks` says now, which goes before that.
        wanted: the tasks that its nodes name.

    Raises:
        TargetMissing: a script is not there any more, or none has a task that is wanted.
        TargetError: one cannot be loaded.
    """
    code = code_in(named or tasks_in(label))
    lost = sorted(name for name in wanted if code.tasks.get(name) is None)
    if lost:
        some = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        where = " ".join(shlex.quote(one) for one in code.places) or "what is installed"
        raise TargetMissing(
            f"run {row.run_id} calls task{'s' if len(lost) > 1 else ''} {some}, which {where} does not have: name the "
            "file or module that has them with --tasks"
        )
    return code


def is_graph_label(label: str) -> bool:
    """Whether a run was started from a definition in a file, or from a deployed one."""
    head = label.split(_MARK)[0]
    return _MARK in label or is_definition_file(head) or may_be_deployed(head)


def _types() -> Any:  # Any: a `NodeTypes`
    from stepwell.nodes.registry import NodeTypes

    return NodeTypes.standard()
