"""Which graphs can this engine drive? Those that a program gave it and those deployed in its store, compiled once each.

A run stays on the version that it was created with, so a plan is known by workflow and digest, and is made from the
definition in the store when the first run that needs it is claimed. Tasks and node types are looked up when a node
calls them: what was registered since the plan was compiled counts.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.graph import GraphWorkflow, made
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.engine.lacking import lack_of_workflow, let_go_on
from stepwell.errors import DefinitionError
from stepwell.model.ids import SECOND
from stepwell.model.versions import digest_of
from stepwell.nodes.registry import NodeTypes
from stepwell.stores.protocol import Store
from stepwell.stores.tables import DRAFT, NewDefinition

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine
    from stepwell.graph.plan import Plan, PlanBody

_log = logging.getLogger("stepwell.engine")

REFRESH = 5 * SECOND
"""How often the store is asked which graphs are deployed (microseconds)."""

PATCHED_AT_ONCE = 100
"""How many plans of single runs, changed while they ran, are kept compiled."""


class Compiling:
    """The part of `programs.graph.program.Surroundings` that needs no engine."""

    def __init__(self, types: NodeTypes) -> None:
        self.types = types
        self._patched: dict[str, Plan] = {}

    def compiled(self, data: Any) -> Plan:  # Any: JSON
        """The plan of a definition given as data.

        Tasks are looked up when they are called: one that is not there yet is no reason to refuse a run.

        Raises:
            InvalidDefinition: it has problems.
        """
        return made(data, self.types)

    def environ(self, name: str) -> str | None:
        """As `Surroundings` says."""
        return os.environ.get(name)

    def patched(self, plan: Plan, definition: bytes) -> Plan:
        """As `Surroundings` says."""
        key = definition.decode()
        known = self._patched.get(key)
        if known is None:
            if len(self._patched) >= PATCHED_AT_ONCE:
                self._patched.pop(next(iter(self._patched)))
            known = self._patched[key] = self.compiled(msgspec.json.decode(definition))
        return msgspec.structs.replace(known, version=plan.version)

    def expansion(self, plan: Plan, around: Sequence[str], nodes: Any, edges: Any, result: Any) -> Any:  # Any: JSON
        """As `Surroundings` says."""
        from stepwell.graph.expansion import compile_expansion

        return compile_expansion(plan, around, nodes, edges, result, self.types)


class Graphs(Compiling):
    """The compiled graphs of one engine; the `programs.graph.program.Surroundings` of all of its graph programs."""

    def __init__(self, engine: Engine, tasks: Registry, types: NodeTypes) -> None:
        super().__init__(types)
        self._engine = engine
        self._tasks = tasks
        self._plans: dict[tuple[str, str], GraphWorkflow] = {}
        self._active: dict[str, str] = {}
        self._labels: dict[tuple[str, str], str] = {}
        self.own: dict[str, GraphWorkflow] = {}
        self._unkept: list[GraphWorkflow] = []
        self._kept: set[tuple[str, str]] = set()
        self._started: dict[tuple[str, str], None] = {}
        self._missed: dict[tuple[str, str], None] = {}
        self._looked_at = 0
        self._is_stale = False

    # -- which there are ----------------------------------------------------------------------------------------

    def names(self) -> Collection[str]:
        """The names of all graphs whose runs this engine can drive."""
        return {*self._active, *self.own}

    def knows(self, name: str) -> bool:
        """Whether a workflow of this name is a graph."""
        return name in self._active or name in self.own

    def add(self, graph: GraphWorkflow) -> None:
        """Take in a graph that the program has; where none of that name is deployed, new runs by its name are of it."""
        key = (graph.name, digest_of(graph.version))
        known = self._plans.get(key)
        if known is not None and known.plan is graph.plan:
            return
        if known is None:
            self._unkept.append(graph)
        if known is None or (known.tasks is None and graph.tasks is not None):
            self._take(key, graph)
        self.own[graph.name] = self._plans[key]

    def _take(self, key: tuple[str, str], graph: GraphWorkflow) -> None:
        self._plans[key] = graph
        for name, version in _started_in(graph.plan.body):
            self._started[name, version] = None

    async def refresh(self) -> None:
        """Learn from the store which graphs are deployed, and keep there those that the program has."""
        is_first, self._looked_at, self._is_stale = not self._looked_at, self._engine.clock.now(), False
        unkept, self._unkept = self._unkept, []
        for graph in unkept:
            await self.keep(self._engine.store, graph)
        rows = await self._engine.store.definitions()
        active = dict.fromkeys((row.name for row in rows), "") | {row.name: row.digest for row in rows if row.active}
        labels = {(row.name, label): row.digest for row in rows for label in row.labels}
        is_new = (active, labels) != (self._active, self._labels)
        self._active, self._labels = active, labels
        await self.prepare()
        if is_new and not is_first:
            self._engine.chore(self._let_go_on([*active]))

    async def look(self) -> None:
        """`refresh`, when there is reason to: others may deploy graphs in the same store."""
        if self._unkept or self._is_stale or self._engine.clock.now() - self._looked_at >= REFRESH:
            await self.refresh()

    def stale(self) -> None:
        """Another process has written to the store, perhaps a definition."""
        self._is_stale = True

    async def keep(self, store: Store, graph: GraphWorkflow) -> None:
        """See that a graph's definition is in the store, where its runs will need it."""
        key = (graph.name, digest_of(graph.version))
        if key not in self._kept:
            await keep_definition(store, graph, self._engine.clock.now())
            self._kept.add(key)

    def serving(self, name: str, version: str) -> GraphWorkflow | None:
        """The graph of a run's very version, if it has been loaded; for a run without one, what new ones get."""
        if not version:
            return self._loaded(name, "")
        return self._plans.get((name, digest_of(version)))

    async def fetch(self, name: str, version: str) -> GraphWorkflow | None:
        """The graph of this version (a digest, a label, or "" for the active one), from the store if need be.

        Raises:
            InvalidDefinition: its definition has problems in this version of the engine.
        """
        known = self._loaded(name, version)
        if known is not None:
            return known
        row = await self._engine.store.definition(name, version)
        if row is None or row.digest == DRAFT:
            return None
        key = (name, row.digest)
        if key not in self._plans:
            graph = GraphWorkflow(self.compiled(msgspec.json.decode(row.body)))
            if key not in self._plans:  # somebody else may have loaded it meanwhile
                self._take(key, graph)
                self._kept.add(key)
        if not version:
            self._active[name] = row.digest
        await self.prepare()
        return self._plans[key]

    def _loaded(self, name: str, version: str) -> GraphWorkflow | None:
        digest = self._labels.get((name, version), version) or self._active.get(name, "")
        return self._plans.get((name, digest)) if digest else self.own.get(name)

    async def prepare(self) -> None:
        """Load the graphs that those which are loaded may start: when a node does so, it is too late to ask the store.

        Definitions with problems are left; whoever needs them is told then.
        """
        wanted = dict.fromkeys(self._started)
        for name, version in self._started:
            if "{{" in version:  # it is said when the node runs: any label may be meant
                del wanted[name, version]
                wanted |= dict.fromkeys(key for key in self._labels if key[0] == name)
        for name, version in wanted:
            if name in self._engine.workflows or not self.knows(name) or self._loaded(name, version) is not None:
                continue
            try:
                await self.fetch(name, version)
            except DefinitionError as error:
                _log.error("graph %s, which others start, does not compile: %s", name, error)

    async def _let_go_on(self, names: Sequence[str]) -> None:
        """Resume the runs that were set aside because a workflow was missing that is there now."""
        lacks = [lack_of_workflow(name) for name in names]
        await self._engine.insist(lambda: let_go_on(self._engine, lacks, "its workflow is there now"))

    def add_task(self, task: Task[..., Any]) -> None:  # Any: whatever it returns
        """Let graphs call a task."""
        self._tasks.add(task)

    # -- surroundings of programs -------------------------------------------------------------------------------

    def task(self, name: str) -> Task[..., Any] | None:  # Any: whatever it returns
        """As `Surroundings` says."""
        return self._tasks.get(name)

    def workflow(self, name: str, version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """As `Surroundings` says; a graph must have been loaded."""
        if not version and name in self._engine.workflows:
            return self._engine.workflows[name]
        if version and (name, version) in self._engine.versions:
            return self._engine.versions[name, version]
        found = self._loaded(name, version)
        if found is None and not self._engine.closing:
            if not self._missed:
                self._engine.chore(self._find_missed())
            self._missed[name, version] = None
        return found

    async def _find_missed(self) -> None:
        """Look in the store for what a program has asked for in vain; its run was set aside meanwhile."""
        missed, self._missed = self._missed, {}
        found = []
        for name, version in missed:
            try:
                if await self._engine.insist(functools.partial(self.fetch, name, version)) is not None:
                    found.append(name)
            except DefinitionError as error:
                _log.error("graph %s, which others start, does not compile: %s", name, error)
        if found:
            await self._let_go_on(found)


def _started_in(body: PlanBody) -> Iterator[tuple[str, str]]:
    """The workflows, with their versions, that nodes of a body and of the bodies in it start."""
    for node in body.nodes:
        if node.type.name == "workflow":
            given = node.settings.source
            yield given["workflow"], given.get("version") or ""
        for inner in node.bodies.values():
            yield from _started_in(inner)


async def keep_definition(store: Store, graph: GraphWorkflow, now: int) -> None:
    """See that a graph's definition is in a store.

    Raises:
        DefinitionError: its label stands for another version there, or it was not made of a text or of data.
    """
    definition = graph.plan.definition
    if definition.canonical is None:
        raise DefinitionError(f"graph {graph.name} has no canonical form: it was not made by graph.parse")
    body = msgspec.json.encode(definition.canonical)
    row = NewDefinition(name=graph.name, digest=definition.digest, body=body, at=now, dialect=definition.dialect)
    await store.put_definition(row)
