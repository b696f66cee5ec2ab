"""Graphs while they run and afterwards: do part of a run again, and let a run go on under a definition of its own."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.graph import UNTIL, made
from stepwell.engine.verbs import PatchBody
from stepwell.errors import RequestRefused, WorkflowNotFound
from stepwell.handle import Run
from stepwell.model.entries import (
    AnyEntry,
    DefinitionPatched,
    NodePassed,
    RunCreated,
    RunFailed,
    RunInputSet,
    RunStarted,
    ScopeClosed,
    ScopeOpened,
    StateSet,
    StepSkipped,
    StepStarted,
    ValueRecorded,
)
from stepwell.model.ids import StepPath
from stepwell.model.state import State
from stepwell.model.versions import digest_of
from stepwell.programs.matching import Records
from stepwell.usecases.history import History

if TYPE_CHECKING:
    from stepwell.graph.dirty import Dirty
    from stepwell.graph.plan import Plan, PlanBody

_FACTS = NodePassed | StepSkipped | ScopeOpened | ScopeClosed | ValueRecorded


class Partial(History):
    """What can be done with runs of graphs, and of graphs only."""

    async def rerun_from(
        self,
        id: str,
        node: str,
        *,
        version: str = "",
        new_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        by: str = "",
        reason: str = "",
    ) -> Run[Any]:
        """Start a new run that takes over what another one has done, but for a node and all that follows from it.

        One that was started with `until=` goes on to its end this time.

        Args:
            id: a run of a graph, in any status; it is untouched.
            node: where to begin again: a node's id, or the path of a node inside containers, as steps have it:
                `each:17/image` is the node `image` of the map's 17th item, `poll:3/ask` of the third iteration.
            version: another version of the definition (a label or a digest); by default the run's own.
            new_id: the new run's id; made up when absent.
            labels: besides those of the other run.
            by, reason: who asks and why, for the journal.

        Raises:
            RunNotFound: there is no such run.
            RequestRefused: it is no run of a graph, or has no definition here.
            ArgumentError: there is no such node.
            RunExists: `new_id` is taken.
        """
        from stepwell.graph.dirty import Dirty  # loaded when there is a graph

        row = await self.get(id)
        entries: list[AnyEntry] = [stored.entry for stored in await self.entries(id)]
        state = await self.state(id)
        plan = await self._plan_of(state, version)
        start = step_path(node)
        dirty = Dirty(plan.body, start)
        depth = len(start.scope)
        paths = [path for entry in entries if (path := getattr(entry, "path", None)) is not None]
        if depth and not any(path.scope[:depth] == start.scope for path in paths):
            raise RequestRefused(
                f"run {id} has done nothing in {node.rpartition('/')[0]}: there is nothing to do again"
            )
        kept = without(entries, dirty)
        created = kept[0]
        assert isinstance(created, RunCreated), "a journal begins with run.created"
        if version:
            kept[0] = msgspec.structs.replace(created, version=plan.version)
            kept = [_under(plan.version, entry) for entry in kept if not isinstance(entry, DefinitionPatched)]
        else:
            kept[0] = msgspec.structs.replace(created, version=state.version)
        others = {name: value for name, value in row.labels.items() if name != UNTIL}
        row = msgspec.structs.replace(row, labels=others)
        new = self._fork_of(row, kept, len(entries), new_id, labels, by, reason, {})
        await self._refuse_taken(new.run_id)
        await self._create_begun(new, self._store_of(id))
        return self.handle(new.run_id)

    async def patch(
        self,
        id: str,
        nodes: Any,  # Any: JSON, as in a definition
        edges: Any = None,  # Any: JSON
        *,
        by: str = "",
        reason: str = "",
    ) -> None:
        """Add nodes, and edges, to a run of a graph that is under way; other runs and the deployed graph are untouched.

        Args:
            id: the run.
            nodes: a mapping from ids to nodes, or a list of nodes, as in a definition. They go into the run's own
                body. Those whose `needs` are done begin at once. Where they refer to outputs that nobody needed any
                more, attempts in flight are begun again, as after a crash.
            edges: further edges, from old nodes too; none may lead to a node that has begun or was skipped.
            by, reason: who asks and why, for the journal.

        Raises:
            RunNotFound, WrongStatus: there is no such run, or it has ended.
            RequestRefused: it is no run of a graph, or an edge leads to a node that has begun.
            InvalidDefinition: with these nodes the definition has problems.
        """
        from stepwell.graph.expansion import grown

        await self.get(id)
        state = await self.state(id)
        plan = before = await self._plan_of(state)
        for message in await self._store_of(id).mailbox(id):
            if message.kind == "patch":  # it is accepted, and comes first
                other = msgspec.json.decode(message.body, type=PatchBody)
                data = grown(before.definition, msgspec.json.decode(other.nodes), msgspec.json.decode(other.edges))
                before = made(data, self.types)
        data = grown(before.definition, nodes, edges)
        new = made(data, self.types, self.registry if self._engine is not None else None)
        begun = _begun([stored.entry for stored in await self.entries(id)], plan.body.by_id)
        for node in _with_new_ins(plan.body, new.body):
            if node in begun:
                raise RequestRefused(
                    f"run {id}: node {node} has begun, or was skipped, already: nothing new can come before it"
                )
        body = PatchBody(
            definition=msgspec.Raw(msgspec.json.encode(new.definition.canonical)),
            digest=new.definition.digest,
            reason=reason,
            base=before.definition.digest,
            nodes=msgspec.Raw(msgspec.json.encode(nodes)),
            edges=msgspec.Raw(msgspec.json.encode(edges)),
        )
        await self._post(id, "patch", "", msgspec.json.encode(body), by, "")

    async def _plan_of(self, state: State, version: str = "") -> Plan:
        """The plan of a run, patched as it is, or of another version of its graph."""
        if state.has_patch and not version:
            data = await self.payload(state.patch, state.patch_blob)
            return made(msgspec.json.decode(data), self.types)
        if self._engine is not None:
            known = self._engine.graphs.serving(state.workflow, version or state.version)
            if known is not None:
                return known.plan
        row = await self.store.definition(state.workflow, version or digest_of(state.version))
        if row is None:
            raise RequestRefused(
                f"run {state.run_id} is no run of a graph, or its definition is not in this store"
                if not version
                else str(WorkflowNotFound(f"workflow {state.workflow} has no version {version!r}"))
            )
        return made(msgspec.json.decode(row.body), self.types)


def _begun(entries: Iterable[AnyEntry], ids: Container[str]) -> set[str]:
    """The nodes of a run's own body that have begun, or were skipped, as far as the journal says."""
    paths = [path for entry in entries if (path := getattr(entry, "path", None)) is not None]
    return {_id_in(path.scope[0][0] if path.scope else path.name, ids) for path in paths}


def _id_in(label: str, ids: Container[str]) -> str:
    """The node that a link of a scope is of (`each`, `each#2`, `try.finally`), or something beside it (`a.delay`)."""
    while label and label not in ids:
        label = label[: max(label.rfind("."), label.rfind("#"), 0)]
    return label


def _with_new_ins(old: PlanBody, new: PlanBody) -> Iterator[str]:
    """The nodes of a body to which edges lead in the new one that the old one has not."""
    known = {(edge.source, edge.port, edge.target, edge.back) for edge in old.edges}
    for edge in new.edges:
        if (edge.source, edge.port, edge.target, edge.back) not in known and edge.target < len(old.nodes):
            yield old.nodes[edge.target].id


def step_path(text: str) -> StepPath:
    """The path that a text says: `export`, `each:17/image`, `loop:2/each:3/image#2`."""
    *links, last = text.split("/")
    scope = []
    for link in links:
        label, _, number = link.rpartition(":")
        if not label or not number.isdigit():
            raise RequestRefused(f"{text!r} is no path of a node: {link!r} should be a container and a number: each:17")
        scope.append((label, int(number)))
    name, _, occurrence = last.rpartition("#")
    if name and occurrence.isdigit():
        return StepPath(tuple(scope), name, int(occurrence))
    return StepPath(tuple(scope), last, 1)


def without(entries: list[AnyEntry], dirty: Dirty) -> list[AnyEntry]:
    """What a run begins with that is to do what is `dirty` again: the outcomes of all else, and nothing that is open.

    The failures that ended the run are left out as well: what failed is done again wherever it stands.
    """
    records = Records(entries)
    fatal = {path for entry in entries if isinstance(entry, RunFailed) for path in entry.steps}
    kept: list[AnyEntry] = []
    begun: set[StepPath] = set()
    for entry in entries:
        if isinstance(entry, RunCreated | RunInputSet | RunStarted | DefinitionPatched):
            kept.append(entry)
            continue
        path: StepPath | None = getattr(entry, "path", None)
        if isinstance(entry, StateSet) and path is None:
            kept.append(entry)
            continue
        if path is None or path in dirty:
            continue
        if isinstance(entry, _FACTS | StateSet):
            kept.append(entry)
            continue
        record = records.by_path.get(path)
        if record is None or record.outcome is None or path in fatal:
            continue
        if path not in begun and type(entry) is type(record.start):
            begun.add(path)
            kept.append(msgspec.structs.replace(entry, attempt=1) if isinstance(entry, StepStarted) else entry)
        elif type(entry) is type(record.outcome):
            kept.append(_first_attempt(entry))
    return kept


def _under(version: str, entry: AnyEntry) -> AnyEntry:
    """A run that began under one version goes on under another from its first entry on."""
    return msgspec.structs.replace(entry, version=version) if isinstance(entry, RunStarted) else entry


def _first_attempt(entry: AnyEntry) -> AnyEntry:
    return msgspec.structs.replace(entry, attempt=1) if hasattr(entry, "attempt") else entry
