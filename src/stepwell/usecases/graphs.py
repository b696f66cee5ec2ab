"""Workflows that are data: deploying definitions, looking at their versions, choosing which one serves new runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from stepwell.errors import ArgumentError, DefinitionError, RequestRefused, WorkflowNotFound
from stepwell.graph.problems import Findings, InvalidDefinition, Problem
from stepwell.model.versions import digest_of, version_text
from stepwell.stores.protocol import Store
from stepwell.stores.tables import DRAFT, DefinitionRow, NewDefinition
from stepwell.usecases.triggers import Triggers

if TYPE_CHECKING:
    from stepwell.authoring.registry import Registry
    from stepwell.graph.definition import Definition
    from stepwell.graph.diff import Diff
    from stepwell.nodes.registry import NodeTypes
    from stepwell.usecases.definitions import DefinitionSource

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_DIGEST: Final = re.compile(r"[0-9a-f]{12}")
_BEGINNING: Final = re.compile(r"[0-9a-f]{4,11}")
_LONGEST_LABEL: Final = 100


class Deployed(msgspec.Struct, frozen=True):
    """What became of a definition that was deployed.

    `version` is the text that runs of it bear: its label, if it has one, and its digest; `draft` for a draft. `is_new`
    tells whether the store had no such version, `is_active` whether new runs are of it. `warnings` are problems that
    do not keep it from running; for a draft, all of its problems.
    """

    name: str
    version: str
    digest: str
    is_new: bool
    is_active: bool
    warnings: tuple[Problem, ...] = ()


class DeployedWorkflow(msgspec.Struct, frozen=True):
    """A deployed workflow. `active` is the version that serves new runs (None: none does), `versions` how many there
    are; `labels` of all of them. `updated_at` is when something was last deployed."""

    name: str
    active: DefinitionRow | None
    versions: int
    labels: tuple[str, ...]
    has_draft: bool
    updated_at: int


class Undeployed(msgspec.Struct, frozen=True):
    """Which versions are gone, and which are kept since runs of them are."""

    dropped: tuple[str, ...]
    kept: tuple[str, ...]


class Graphs(Triggers):
    """What can be done with definitions."""

    registry: Registry
    types: NodeTypes

    # -- deploying ----------------------------------------------------------------------------------------------

    async def deploy(
        self,
        source: DefinitionSource,
        *,
        label: str = "",
        by: str = "",
        activate: bool = True,
        draft: bool = False,
        move_label: bool = False,
        tasks: Registry | None = None,
    ) -> Deployed:
        """Keep a version of a workflow in the store: `await app.deploy("shop.yaml")`.

        The triggers that stand in it are made when it begins to serve new runs, under the names `<workflow>/<n>`, in
        place of those of the version before; `undeploy` removes them.

        A version is known by the hash of what it means, and never changes; deploying the same again changes nothing
        but titles and positions on the screen. Runs that are under way stay with their versions.

        Args:
            source: the name of a file, a text in YAML or JSON, or the data; see `DefinitionSource`.
            label: a name for the version, such as "2.1"; by default what the definition says itself, if it does.
            by: who asks.
            activate: whether new runs are of this version from now on.
            draft: keep it as the workflow's draft instead, in place of the one that is there, whatever its problems.
            move_label: let the label stand for this version although it stands for another one.
            tasks: the tasks that its nodes may call. By default those of this Stepwell if it drives runs, and any if
                it does not: a task that is missing when a node is to call it is an error then.

        Raises:
            InvalidDefinition: it has problems; all of them are told.
            LabelTaken: the label stands for another version.
            ArgumentError: the label cannot be one.
            DefinitionError: a function of this Stepwell has the workflow's name.
            RequestRefused: a trigger that somebody made by hand has the name of one of the definition's.
        """
        if draft:
            return await self._keep_draft(source, by, tasks)
        from stepwell.usecases import definitions  # the compiler is loaded by those who need it

        definition, warnings = definitions.checked(source, tasks or self._known(), self.types)
        if self._engine is not None and definition.id in self._engine.workflows:
            raise DefinitionError(f"a function is called {definition.id!r}: give the graph another id")
        if activate:
            await self._refuse_taken_triggers(definition)
        new = _new(definition, _usable(label or definition.label), self._clock.now(), by)
        is_new = await self.store.put_definition(new, activate=activate, move_label=move_label)
        there = await self.store.definition(new.name, DRAFT)
        if there is not None and there.body == new.body:  # the draft has become this version
            await self.store.drop_definitions([(new.name, DRAFT)], put_before=0)
        row = await self.store.definition(new.name)
        is_active = row is not None and row.digest == new.digest
        await self._definitions_changed()
        if activate:
            await self._serve(definition, by)
        version = version_text(definition.label, new.digest)
        return Deployed(new.name, version, new.digest, is_new, is_active, warnings)

    async def validate(self, source: DefinitionSource, *, tasks: Registry | None = None) -> list[Problem]:
        """All that is wrong with a definition, in the order of places; warnings too. Nothing is stored.

        `tasks` as in `deploy`.
        """
        from stepwell.usecases import definitions

        try:
            return list(definitions.checked(source, tasks or self._known(), self.types)[1])
        except InvalidDefinition as invalid:
            return list(invalid.problems)

    async def activate(self, name: str, version: str) -> DefinitionRow:
        """Let new runs of a deployed workflow be of this version (a label, a digest or its beginning).

        The triggers that stand in its definition take the place of those of the version before.

        Raises:
            WorkflowNotFound: there is no such workflow or version.
            ArgumentError: the version is the draft, which must be deployed first.
        """
        if version == DRAFT:
            raise ArgumentError(f"workflow {name}: a draft cannot serve new runs; deploy it first")
        row = await self.workflow_version(name, version)
        if not await self.store.set_active(name, row.digest):
            raise _no_version(name, version)  # somebody has removed it meanwhile
        await self._definitions_changed()
        from stepwell.usecases import definitions

        await self._serve(definitions.restored(row, self.types), "")
        return msgspec.structs.replace(row, active=True, body=b"")

    async def undeploy(self, name: str, version: str = "") -> Undeployed:
        """Take a workflow, or one version of it, away: no new runs, and what no run needs is deleted.

        With the version that serves new runs the triggers of its definition go.

        Versions of which runs are kept stay for these, but serve no new ones; when the runs have been deleted
        (`gc`), their versions go too. "draft" removes the draft.

        Raises:
            WorkflowNotFound: there is no such workflow or version.
        """
        rows = [await self.workflow_version(name, version)] if version else await self.workflow_versions(name)
        if any(row.active for row in rows):
            await self.store.set_active(name, "")
            await self._stand_down(name)
        wanted = [(name, row.digest) for row in rows]
        dropped = await self.store.drop_definitions(wanted, put_before=self._clock.now() + 1)
        await self._definitions_changed()
        return Undeployed(
            tuple(digest for _, digest in dropped),
            tuple(row.digest for row in rows if (name, row.digest) not in dropped),
        )

    # -- looking ------------------------------------------------------------------------------------------------

    async def workflows(self) -> list[DeployedWorkflow]:
        """Deployed workflows by name, those with a draft only too."""
        found: dict[str, list[DefinitionRow]] = {}
        for row in await self.store.definitions():
            found.setdefault(row.name, []).append(row)
        return [_summary(name, rows) for name, rows in found.items()]

    async def workflow_versions(self, name: str) -> list[DefinitionRow]:
        """The versions of a deployed workflow without their bodies, the last deployed first, and its draft.

        Raises:
            WorkflowNotFound: nothing of that name is deployed.
        """
        rows = await self.store.definitions(name) if _NAME.fullmatch(name) else []
        if not rows:
            raise await self._no_workflow(name)
        return rows

    async def workflow_version(self, name: str, version: str = "") -> DefinitionRow:
        """A version as it is stored: by its label, its digest or the beginning of that; the active one for "".

        "draft" gives the draft. The body is the definition as canonical JSON.

        Raises:
            WorkflowNotFound: there is no such workflow or version, or none is active.
        """
        if not _NAME.fullmatch(name) or len(version) > 200 or not version.isprintable():
            raise await self._no_workflow(name)
        row = await self.store.definition(name, version)
        if row is None and "+" in version:
            row = await self.store.definition(name, digest_of(version))
        if row is None and _BEGINNING.fullmatch(version):
            begun = [row for row in await self.store.definitions(name) if row.digest.startswith(version)]
            row = await self.store.definition(name, begun[0].digest) if len(begun) == 1 else None
        if row is not None:
            return row
        rows = await self.workflow_versions(name)
        if version:
            raise _no_version(name, version, rows)
        raise WorkflowNotFound(f"workflow {name} has no active version: name one ({_listed(rows)}), or activate it")

    async def definition_of(self, name: str, version: str = "") -> Definition:
        """The definition of a version, which is named as for `workflow_version`.

        Raises:
            WorkflowNotFound: there is no such workflow or version, or none is active.
            InvalidDefinition: it is a draft with problems.
        """
        from stepwell.usecases import definitions

        return definitions.restored(await self.workflow_version(name, version), self.types)

    async def diff(self, name: str, a: str, b: str = "") -> Diff:
        """What differs from version `a` to version `b` of a deployed workflow ("" for the active one).

        Raises:
            WorkflowNotFound, InvalidDefinition: as for `definition_of`.
        """
        from stepwell.graph.diff import diff

        return diff(await self.definition_of(name, a), await self.definition_of(name, b))

    # -- parts --------------------------------------------------------------------------------------------------

    async def _definitions_changed(self) -> None:
        """Let the engine know at once what it would find out by itself in a while."""
        engine = self._engine
        if engine is not None:
            await engine.graphs.refresh()
            engine.claims.look()

    async def _refuse_taken_triggers(self, definition: Definition) -> None:
        if not definition.triggers:
            return
        from stepwell.usecases.standing import standing, strangers

        wanted = standing(definition, Findings())
        taken = strangers(await self.store.triggers(), wanted, definition.id)
        if taken:
            raise RequestRefused(
                f"there is a trigger {taken[0]!r}, which no definition stands for: remove it, or give the one in the "
                f"definition a name of its own"
            )

    async def _serve(self, definition: Definition, by: str) -> None:
        """Put what belongs to the version that serves new runs: its queue, and its triggers."""
        if not definition.triggers and not definition.options.get("concurrency"):
            await self._stand_down(definition.id)
            return
        from stepwell.authoring.graph import GraphWorkflow, made
        from stepwell.engine.queueing import put_queues
        from stepwell.usecases.standing import standing

        workflow = GraphWorkflow(made(definition.canonical, self.types))
        if workflow.own_queue is not None:
            await put_queues(self.store, (workflow.own_queue.row(),))
        wanted = standing(definition, Findings(), by) if definition.triggers else []
        await self._stand_down(definition.id, {one.row.name: one.row.kind for one in wanted})
        for one in wanted:
            await self._put_standing(one.row, one.plan, workflow)

    async def _stand_down(self, name: str, but: Mapping[str, str] = {}) -> None:
        """Remove the triggers of a workflow's definition, but for some, by their names and kinds."""
        rows = await self.store.triggers()
        if not any(row.workflow == name for row in rows):
            return
        from stepwell.usecases.standing import is_standing

        for row in rows:
            if is_standing(row, name) and but.get(row.name) != row.kind:
                await self.store.remove_trigger(row.name)

    async def _keep_draft(self, source: DefinitionSource, by: str, tasks: Registry | None) -> Deployed:
        from stepwell.usecases import definitions

        draft = definitions.drafted(source, tasks or self._known(), self.types)
        name = draft.name
        new = NewDefinition(
            name=name, digest=DRAFT, body=draft.body, at=self._clock.now(), dialect=draft.dialect, by=by
        )
        is_new = await self.store.put_definition(new)
        return Deployed(name, DRAFT, DRAFT, is_new, False, draft.problems)

    async def _no_workflow(self, name: str) -> WorkflowNotFound:
        known = sorted({row.name for row in await self.store.definitions()})
        import difflib  # only for who has mistyped

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else "deploy its definition first"
        return WorkflowNotFound(f"no workflow {name[:100]!r} is deployed in this store; {hint}")

    def _known(self) -> Registry | None:
        """The tasks that graphs may call here; None when others drive them."""
        return self.registry if self._engine is not None else None


async def forget_versions(store: Store, *, before: int) -> int:
    """Delete versions that nobody would miss: put before this time, not active, without a label, needed by no run.

    What `stepwell run flow.yaml` leaves behind, for one; returns how many.
    """
    rows = await store.definitions()
    idle = [
        (row.name, row.digest)
        for row in rows
        if not row.active and not row.labels and row.digest != DRAFT and row.updated_at < before
    ]
    return len(await store.drop_definitions(idle, put_before=before)) if idle else 0


def _new(definition: Definition, label: str, at: int, by: str) -> NewDefinition:
    from stepwell.usecases import definitions

    return NewDefinition(
        name=definition.id,
        digest=definition.digest,
        body=definitions.body_of(definition),
        at=at,
        dialect=definition.dialect,
        label=label,
        by=by,
    )


def _usable(label: str) -> str:
    """A label that can be told from digests and drafts.

    Raises:
        ArgumentError: it cannot.
    """
    if label and (len(label) > _LONGEST_LABEL or not label.isprintable() or label != label.strip()):
        raise ArgumentError(f"label {label[:120]!r}: use up to {_LONGEST_LABEL} printable characters")
    if label == DRAFT or _DIGEST.fullmatch(label):
        raise ArgumentError(f"label {label!r}: this is how {'drafts' if label == DRAFT else 'versions'} are called")
    return label


def _summary(name: str, rows: Sequence[DefinitionRow]) -> DeployedWorkflow:
    versions = [row for row in rows if row.digest != DRAFT]
    return DeployedWorkflow(
        name,
        next((row for row in versions if row.active), None),
        len(versions),
        tuple(sorted(label for row in versions for label in row.labels)),
        len(versions) < len(rows),
        max(row.updated_at for row in rows),
    )


def _no_version(name: str, version: str, rows: Sequence[DefinitionRow] = ()) -> WorkflowNotFound:
    known = f"; it has {_listed(rows)}" if rows else ""
    return WorkflowNotFound(f"workflow {name} has no version {version!r}{known}")


def _listed(rows: Sequence[DefinitionRow]) -> str:
    names = [name for row in rows for name in (row.labels or (row.digest,))]
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
