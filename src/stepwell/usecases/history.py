"""Time travel: run it again, branch off from the past, edit, move to another version, replay, take along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.graph import GraphWorkflow, made
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.engine.creation import fresh_id
from stepwell.engine.questions import open_waits
from stepwell.engine.verbs import StateBody, VerbBody
from stepwell.errors import RequestRefused, RunExists
from stepwell.handle import Run
from stepwell.model.codec import content_hash
from stepwell.model.entries import NULL, AnyEntry, RunCreated, StepEdited, StepStarted
from stepwell.model.ids import run_id
from stepwell.model.state import replay
from stepwell.model.versions import digest_of, label_of
from stepwell.stores.protocol import Filter, NewRun, RunRow, Store
from stepwell.usecases.flow import BulkResult, able_to
from stepwell.usecases.looking import Looking
from stepwell.usecases.payloads import arguments, stowed, value_of

if TYPE_CHECKING:
    from stepwell.usecases.replaying import Replayed
    from stepwell.usecases.snapshots import TakenRun

SNAPSHOT_TRIES = 50
"""How often a run that moves meanwhile is read again before its export gives up."""


class History(Looking):
    """What can be done with the past of a run."""

    _workflows: list[Workflow[..., Any]]  # Any: whatever they return

    # -- again --------------------------------------------------------------------------------------------------

    async def rerun(
        self,
        id: str,
        new_id: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        by: str = "",
        reason: str = "",
        version: str = "",
    ) -> Run[Any]:
        """Start a new run with the input of another one, by today's code; the other one is untouched.

        It has the other's priority, labels, queue and durability, and as long until its deadline; it is nobody's child.

        Args:
            id: the run whose input is taken, whatever has become of it.
            new_id: the new run's id, and its idempotency key as for `start`; made up when absent.
            labels: besides those of the other run.
            by, reason: who asks and why, for the journal.
            version: of a graph: the label or the digest of a version of its definition. By default the one that new
                runs get, or the run's own where there is none.

        Raises:
            RunNotFound: there is no such run.
            RunExists: `new_id` is taken by a run of another workflow or with another input.
            RequestRefused: there is no such version.
        """
        row = await self.get(id)
        (first,) = await self.entries(id, limit=1)
        created = first.entry
        assert isinstance(created, RunCreated), "a journal begins with run.created"
        state = await self.state(id)  # a start that came later may have replaced the input
        given = msgspec.structs.replace(created, input=state.input, input_blob=state.input_blob)
        row = msgspec.structs.replace(row, input_hash=state.input_blob or content_hash(bytes(state.input)))
        workflow = await self._again_by(row.workflow, digest_of(state.version), version)
        newest = "" if workflow is None else workflow.version
        new = self._new_run(row, given, new_id, labels, by, reason, seq=0, version=newest)
        if workflow is not None and self._engine is not None:
            volatile = self._store_of(id) is self._volatile
            made = await asyncio.shield(self._engine.claims.start(new, workflow, volatile))
        else:
            made = await self._create_begun(new, self._store_of(id))
        if made.workflow != new.workflow or made.input_hash != new.input_hash:
            raise RunExists(f"run id {new.run_id!r} is taken by another run ({made.status}); choose another id")
        return self.handle(new.run_id)

    async def _again_by(
        self, name: str, own: str, wanted: str
    ) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """What a new run of a workflow is by: a wanted version of a graph, else what new runs get, else `own`.

        None when only the engine that will drive it knows.
        """
        if wanted:
            kept = await self.store.definition(name, wanted)
            if kept is None:
                raise RequestRefused(f"workflow {name} has no deployed version {wanted!r}")
        else:
            newest = None if self._engine is None else await self._engine.newest(name)
            if newest is not None:
                return newest
            kept = await self.store.definition(name) or (await self.store.definition(name, own) if own else None)
        if kept is None or self._engine is None:
            return None if kept is None else GraphWorkflow(made(msgspec.json.decode(kept.body), self.types))
        return await self._engine.graphs.fetch(name, kept.digest)

    async def fork(
        self,
        id: str,
        *,
        before: str | None = None,
        at: int | None = None,
        new_id: str | None = None,
        input: Mapping[str, object] | bytes | None = None,
        set: Mapping[str, object] | None = None,
        labels: Mapping[str, str] | None = None,
        by: str = "",
        reason: str = "",
    ) -> Run[Any]:
        """Start a new run that begins with the journal of another one up to some point; the other one is untouched.

        What had ended by then is taken over and not done again. Steps and child runs that were under way begin anew
        in the fork; waits stay open, with their due times; a pause or a request to cancel is left behind. The fork
        stays with the other run's version.

        Args:
            id: the run to branch off from.
            before: the readable path of a step or wait (`charge#1`, `fetch.map:1/fetch#7`): the fork begins with what
                had happened before it.
            at: or the seq of the last entry that is taken over.
            new_id: the fork's id; made up when absent.
            input: the arguments by name (or a JSON object) that the step `before` is given instead of those that the
                body calls it with.
            set: keys of `ctx.state` to set, seen by the call of `before`, and by all that follows.
            labels: besides those of the other run.
            by, reason: who asks and why, for the journal.

        Raises:
            RunNotFound: there is no such run.
            RequestRefused: there is no such step or entry, or nothing could go on from there; the text says why.
            RunExists: `new_id` is taken.
            Unserialisable: an argument or value cannot be written.
        """
        from stepwell.usecases.forking import begin_of, prefix, with_edits  # loaded when it is wanted

        if (before is None) == (at is None):
            raise RequestRefused("fork needs either before= (a step's path) or at= (the seq of an entry)")
        row = await self.get(id)
        entries: list[AnyEntry] = [stored.entry for stored in await self.entries(id)]
        begin, seq = None, at or 0
        if before is not None:
            seq, begin = begin_of(id, entries, before)
            seq -= 1
        if input is not None and not isinstance(begin, StepStarted):
            raise RequestRefused(
                "input= is for the step that the fork begins before: name it with before="
                if begin is None
                else f"{begin.path} is a wait, which has no input: leave input= out"
            )
        kept = prefix(id, entries, seq)
        blobs: dict[str, bytes] = {}
        edit = None
        if input is not None and begin is not None:
            inline, blob = stowed(arguments(input, begin.path), blobs)
            edit = StepEdited(at=0, path=begin.path, input=inline, input_blob=blob, by=by, reason=reason)
        variables = {key: value_of(value, f"set={key!r}") for key, value in (set or {}).items()}
        path = None if begin is None else begin.path
        edited = with_edits(kept, step=path, edit=edit, variables=variables, by=by, reason=reason)
        new = self._fork_of(row, edited, seq, new_id, labels, by, reason, blobs)
        await self._refuse_taken(new.run_id)
        made = await self._create_begun(new, self._store_of(id))
        if made.created_at != new.created_at:
            raise RunExists(f"run id {new.run_id!r} was just taken by another run: choose another id")
        return self.handle(new.run_id)

    def _fork_of(
        self,
        row: RunRow,
        entries: list[AnyEntry],
        seq: int,
        new_id: str | None,
        labels: Mapping[str, str] | None,
        by: str,
        reason: str,
        blobs: Mapping[str, bytes],
    ) -> NewRun:
        created = entries[0]
        assert isinstance(created, RunCreated), "a journal begins with run.created"
        new = self._new_run(row, created, new_id, labels, by, reason, seq=seq, version=created.version)
        (first,) = new.entries
        # What is taken over keeps its times, and the journal begins when the other one did.
        first = msgspec.structs.replace(first, at=created.at)
        whole = (first, *entries[1:])
        state = replay(whole)
        return msgspec.structs.replace(new, entries=whole, status=state.status, blobs=blobs, opened=open_waits(state))

    def _new_run(
        self,
        row: RunRow,
        created: RunCreated,
        new_id: str | None,
        labels: Mapping[str, str] | None,
        by: str,
        reason: str,
        *,
        seq: int,
        version: str,
    ) -> NewRun:
        """A run like that of `row`, at the top of a tree of its own."""
        now = self._clock.now()
        name = run_id(fresh_id(row.workflow, now, self._chance) if new_id is None else new_id)
        began = created.at if created.begin_at is None else created.begin_at
        first = msgspec.structs.replace(
            created,
            at=now,
            run_id=name,
            version=version,
            root=name,
            parent=None,
            parent_step=None,
            seed=self._chance.getrandbits(48),
            labels={**row.labels, **(labels or {})},
            by=by,
            begin_at=None,
            deadline=None if created.deadline is None else now + created.deadline - began,
            trigger="",
            origin=row.run_id,
            origin_seq=seq,
            reason=reason,
        )
        return NewRun(
            run_id=name,
            workflow=row.workflow,
            version=version,
            root=name,
            parent=None,
            priority=row.priority,
            labels=first.labels,
            input_hash=row.input_hash,
            created_at=now,
            wake_at=now,
            entries=(first,),
            queue=row.queue,
            queue_key=row.queue_key,
            held=bool(row.queue),
        )

    async def _create_begun(self, new: NewRun, store: Store) -> RunRow:
        """Create a run whose journal has begun elsewhere, and have it picked up."""
        row = await asyncio.shield(store.create(new))
        if self._engine is not None:
            self._engine.claims.look()
            self._engine.queueing.joined(store, (new,))
        return row

    async def _refuse_taken(self, id: str) -> None:
        for store in (self.store, self._volatile):
            taken = await store.get(id)
            if taken is not None:
                raise RunExists(f"run id {id!r} is taken by a run of {taken.workflow} ({taken.status}): choose another")

    # -- edits --------------------------------------------------------------------------------------------------

    async def set_state(
        self, id: str, key: str, value: object = None, *, deleted: bool = False, by: str = "", reason: str = ""
    ) -> None:
        """Set, or with `deleted` remove, a key of `ctx.state` of a run from outside.

        The edit is journaled with who and why; the body sees it the next time it looks, and on every replay at the same
        place. Accepted means on disk; the driving process acts on it.

        Raises:
            RunNotFound, WrongStatus: there is no such run, or it has ended.
            Unserialisable: the value cannot be written.
        """
        if not key:
            raise RequestRefused("set_state needs the name of a key")
        payload = NULL if deleted else value_of(value, f"ctx.state[{key!r}]")
        body = msgspec.json.encode(StateBody(payload, deleted, reason))
        await self._post(id, "state", key, body, by, "")

    async def upgrade(self, id: str, *, to: str, by: str = "", reason: str = "") -> None:
        """Let a run go on under the version labelled `to` of its workflow (`""`: the one without a label).

        For a run of a graph `to` is the label or the digest of a deployed version ("": the active one).

        The body is rebuilt with that version's function; where it calls a recorded step otherwise the run is paused
        with the difference. A run that was set aside for its code goes on, one that a person paused stays paused.
        Attempts in flight are begun again, as after a crash: pause the run first where that matters.

        Raises:
            RunNotFound, WrongStatus: there is no such run, or it has ended.
        """
        row = await self.get(id)
        kept = await self.store.definition(row.workflow, to)
        if kept is not None:
            graph = GraphWorkflow(made(msgspec.json.decode(kept.body), self.types))
            to = graph.version
        elif await self._graph_of(row) is not None:
            raise RequestRefused(f"workflow {row.workflow} has no deployed version {to!r}: deploy it first")
        await self._post(id, "upgrade", to, msgspec.json.encode(VerbBody(reason)), by, "")

    async def upgrade_all(self, where: Filter, *, to: str, by: str = "", reason: str = "") -> BulkResult:
        """Let all runs that match go on under a version: as `upgrade`, for runs of one workflow.

        A filter without `status` means those that have not ended. Runs that are under that version already are left
        as they are.

        Raises:
            RequestRefused: the filter names no workflow.
        """
        if not where.workflow:
            raise RequestRefused("upgrade_all needs a filter with workflow=: labels are a workflow's own")
        done, refused = 0, []
        for id in [row.run_id async for row in self.every(able_to("upgrade", where))]:
            try:
                await self.upgrade(id, to=to, by=by, reason=reason)
                done += 1
            except RequestRefused as error:
                refused.append((id, str(error)))
        return BulkResult(done, refused)

    # -- replay -------------------------------------------------------------------------------------------------

    async def replay(
        self,
        id: str,
        workflow: Workflow[..., Any] | Task[..., Any] | None = None,  # Any: whatever they return
        *,
        find: Callable[[str], Workflow[..., Any] | None] | None = None,
    ) -> Replayed:
        """Run the body of a stored run against today's code with what its journal recorded, without any effect.

        The run may be driven meanwhile, by this process or another: it is only read.

        Args:
            id: a run in any status.
            workflow: today's code; by default what this Stepwell knows under the run's workflow and version label.
            find: or what gives the code for the run's version.

        Raises:
            RunNotFound: there is no such run.
        """
        from stepwell.usecases.replaying import Around, replay_run

        row = await self.get(id)
        store, around = self._store_of(id), Around(self.registry, self.types, self._workflows)
        if workflow is not None:
            code = workflow_of(workflow)
            return await replay_run(store, row, lambda _: code, around)
        graph = await self._graph_of(row)
        if graph is not None:
            return await replay_run(store, row, lambda _: graph, around)
        known = find or (lambda version: self._workflow_known(row.workflow, version))
        return await replay_run(store, row, known, around)

    async def _graph_of(self, row: RunRow) -> GraphWorkflow | None:
        """The graph that a run is of, if it is of one."""
        version = (await self.state(row.run_id)).version
        if self._engine is not None and row.workflow not in self._engine.workflows:
            return await self._engine.graphs.fetch(row.workflow, digest_of(version))
        kept = await self.store.definition(row.workflow, digest_of(version))
        return None if kept is None else GraphWorkflow(made(msgspec.json.decode(kept.body), self.types))

    def _workflow_known(self, name: str, version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        if self._engine is not None:
            return self._engine.serving(name, version)
        label = label_of(version)
        known = [one for one in self._workflows if one.name == name]
        exact = [one for one in known if one.label == label]
        fits = exact or ([] if label else known)
        return fits[-1] if fits else None

    async def every(self, where: Filter) -> AsyncIterator[RunRow]:
        """The rows that match, newest first, a page at a time; runs that are started meanwhile are left out."""
        before = self._clock.now() + 1 if where.created_before is None else where.created_before
        page = msgspec.structs.replace(where, created_before=before)
        while True:
            rows = await self.runs(page)
            for row in rows:
                yield row
            if len(rows) < page.limit:
                return
            page = msgspec.structs.replace(page, offset=page.offset + len(rows))

    # -- taking along -------------------------------------------------------------------------------------------

    async def export(self, id: str, *, tree: bool = False) -> bytes:
        """A snapshot of a run as one JSON document: its row, journal, payloads and unconsumed messages.

        Args:
            id: a run in any status; one that moves meanwhile is taken at one moment.
            tree: with all runs that it started, and they theirs.

        Raises:
            RunNotFound: there is no such run.
            RequestRefused: it moves faster than it can be read.
        """
        from stepwell.usecases import snapshots

        store = self._store_of(id)
        rows = [await self.get(id)]
        if tree:
            rows += await self._below(rows[0])
        taken = [await self._moment_of(store, row.run_id) for row in rows]
        digests = {digest for one in taken for digest in snapshots.digests_in(one)}
        blobs = {digest: await store.blob(digest) for digest in sorted(digests)}
        versions = sorted(set().union(*map(snapshots.versions_of, taken)))
        found = [await self.store.definition(name, digest) for name, digest in versions if digest]
        definitions = [one for one in found if one is not None]
        return snapshots.write(taken, blobs, at=self._clock.now(), definitions=definitions)

    async def _below(self, top: RunRow) -> list[RunRow]:
        found, known = [], {top.run_id}
        rows = [row async for row in self.every(Filter(root=top.root, limit=1000))]
        for row in reversed(rows):  # parents are older than their children
            if row.parent in known:
                known.add(row.run_id)
                found.append(row)
        return found

    async def _moment_of(self, store: Store, id: str) -> TakenRun:
        """The run at one moment: what its mailbox held while its journal did not grow."""
        from stepwell.usecases import snapshots

        for _ in range(SNAPSHOT_TRIES):
            before = await self.get(id)
            messages = await store.mailbox(id)
            entries = await store.read(id)
            row = await self.get(id)
            if before.next_seq == row.next_seq == len(entries) + 1:
                return snapshots.taken(row, entries, messages)
        raise RequestRefused(f"run {id} moves faster than it can be read: pause it, export it, and resume it")

    async def import_run(self, data: bytes, id: str | None = None) -> Run[Any]:
        """Create the runs of a snapshot here; one that had not ended goes on in this store.

        Args:
            data: what `export` gave, byte for byte.
            id: another id for the run that was exported.

        Raises:
            RequestRefused: it is no snapshot, one of an unknown format or altered, or the run waits for a child run
                that it does not have.
            RunExists: an id is taken; nothing was created.
            ArgumentError: `id` is not usable.
        """
        from stepwell.usecases import snapshots

        snapshot = snapshots.read(data)
        runs = snapshots.renamed(snapshot.runs, None if id is None else run_id(id))
        snapshots.refuse_orphans(runs)
        for run in runs:
            await self._refuse_taken(run.row.run_id)
        now = self._clock.now()
        for definition in snapshot.definitions:
            if await self.store.definition(definition.name, definition.digest) is None:
                await self.store.put_definition(snapshots.new_definition(definition, now))
        for run in reversed(runs):  # a parent begins to move when its children are there
            await self._create_begun(snapshots.new_run(run, snapshot.blobs, now), self.store)
        return self.handle(runs[0].row.run_id)
