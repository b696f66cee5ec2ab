"""The child runs of one run: started with its entries, cancelled with it, heard when they end."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.verbs import VerbBody
from stepwell.errors import CorruptJournal, RequestRefused, RunExists
from stepwell.model.codec import content_hash
from stepwell.model.commands import AnyCommand, CompleteAttempt, FailAttempt, RecordValue, StartAttempt
from stepwell.model.entries import NO_PAYLOAD, RunCreated, StepCompleted, StepFailed
from stepwell.model.failure import RUN_CANCELLED, Failure
from stepwell.model.failures import type_name
from stepwell.model.ids import StepPath
from stepwell.model.retry import ONCE
from stepwell.programs.protocol import ChildRequest
from stepwell.stores.protocol import MessageKind, NewMessage, NewRun, RunRow, Store

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner


_log = logging.getLogger("stepwell.engine")


class ChildBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an ended child run tells its parent."""

    path: StepPath
    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""
    error: Failure | None = None


class ChildDesk:
    """Both ends of the line between a run and the runs that it starts."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._named: list[ChildRequest] = []

    def begin(self, request: ChildRequest) -> None:
        """Start a child run in the transaction that journals its step; one that was started before is only awaited."""
        runner = self._runner
        runner.engine.register(request.workflow)
        if not request.awaited:
            payload = msgspec.Raw(msgspec.json.encode(request.run_id))
            runner.apply(RecordValue(path=request.path, value="start", payload=payload))
            self._create(request)
            return
        if request.path in runner.state.steps:
            if request.workflow.options.id:
                runner.engine.chore(self._check(request))
            return  # it was started before a restart and tells us when it ends
        if runner.state.origin and request.workflow.options.id:
            # The run of that id is the child of the run that this one was forked from, and would never tell us.
            own = f"{request.run_id[:160]}~{content_hash(runner.run_id.encode())[:12]}"
            request = msgspec.structs.replace(request, run_id=own)
        inline, blob = runner.ledger.stow(request.input)
        runner.apply(
            StartAttempt(
                path=request.path,
                step="child",
                input=inline,
                input_blob=blob,
                fingerprint=request.fingerprint,
                child=request.run_id,
                attempt=request.attempt,
                on_cancel=request.workflow.options.on_cancel,
            )
        )
        if request.attempt > 1:
            # It may have failed, be under way, or have completed while nobody waited for it.
            self._post(request.run_id, "again", f"run {runner.run_id} is retried")
        else:
            self._create(request)

    def _create(self, request: ChildRequest) -> None:
        self._runner.ledger.beside.new_runs.append(self._new_run(request))
        if request.workflow.options.id:
            self._named.append(request)

    def committed(self) -> None:
        """What was to be started is there now, or else a run that had its id before."""
        named, self._named = self._named, []
        for request in named:
            self._runner.engine.chore(self._check(request))

    async def _check(self, request: ChildRequest) -> None:
        """See that the run of an id that the body chose is this very child: no other tells this run how it ends."""
        runner = self._runner
        row, created = await runner.engine.insist(lambda: _origin(runner.store, request.run_id))
        if request.awaited and (created.parent, created.parent_step) == (runner.run_id, request.path):
            return
        place = (
            f"{request.workflow.name} was to be started under the run id {request.run_id!r}, which is taken by a run"
        )
        if request.awaited:
            text = f"{place} of {row.workflow} ({row.status}): choose another id for this child"
            error = Failure(type_name(RunExists), text, retryable=False)
            body = msgspec.json.encode(ChildBody(request.path, error=error))
            news = NewMessage(runner.run_id, "child", str(request.path), body, runner.engine.clock.now())
            with contextlib.suppress(RequestRefused):  # it has ended meanwhile
                told = await runner.engine.insist(lambda: runner.store.post(news))
                if told is not None:
                    runner.posted(told)
        elif (row.workflow, row.input_hash) != (request.workflow.name, content_hash(bytes(request.input))):
            _log.warning(
                "run %s: %s of %s or with another input; nothing was started", runner.run_id, place, row.workflow
            )

    def _new_run(self, request: ChildRequest) -> NewRun:
        runner = self._runner
        edit = runner.state.edits.get(request.path)
        given = request.input if edit is None else runner.body.payload(edit.input, edit.input_blob)
        inline, blob = runner.ledger.stow(given)
        own = request.new_identity
        options = request.workflow.options
        queue = request.workflow.queue
        created = RunCreated(
            at=runner.now,
            run_id=request.run_id,
            workflow=request.workflow.name,
            version=request.workflow.version,
            root=request.run_id if own else runner.state.root,
            parent=None if own else runner.run_id,
            parent_step=request.path if request.awaited else None,
            input=inline,
            input_blob=blob,
            seed=runner.engine.chance.getrandbits(48),
            priority=runner.state.priority if options.priority is None else options.priority,
            durability=runner.state.durability,
            labels=dict(options.labels),
            by=runner.run_id,
            queue=queue,
            queue_key=options.queue_key if queue else "",
            deadline=None if options.deadline is None else runner.now + options.deadline,
        )
        return NewRun(
            run_id=created.run_id,
            workflow=created.workflow,
            version=created.version,
            root=created.root,
            parent=created.parent,
            priority=created.priority,
            labels=created.labels,
            input_hash=content_hash(bytes(given)),
            created_at=runner.now,
            wake_at=runner.now,
            entries=(created,),
            queue=queue,
            queue_key=created.queue_key,
            held=bool(queue),
            awaited=request.awaited,
        )

    def heard(self, body: ChildBody) -> None:
        """A child run has ended: its end is its step's outcome."""
        runner = self._runner
        step = runner.state.steps.get(body.path)
        if step is None:
            return
        if body.error is not None:
            command: AnyCommand = FailAttempt(body.path, step.attempt, body.error, ONCE, 0.0)
        else:
            command = CompleteAttempt(body.path, step.attempt, body.output, body.output_blob)
        for entry in runner.apply(command):
            if isinstance(entry, StepCompleted | StepFailed):
                runner.body.deliver_later(entry, runner.body.payload(body.output, body.output_blob))

    def cancel(self, path: StepPath) -> None:
        """Tell the child of this step, if it is one, that nobody waits for it any more."""
        step = self._runner.state.steps.get(path)
        if step is not None and step.step == "child" and step.on_cancel != "abandon":
            parent = self._runner.run_id
            key = f"{parent}:{path}:{step.attempt}"  # a rebuilt body says it again
            self._post(step.child, "cancel", f"run {parent} no longer waits for it", key)

    def tell_parent(self, output: msgspec.Raw, output_blob: str) -> None:
        """Tell the run that waits for this one, if any, how it ended."""
        runner = self._runner
        state = runner.state
        if state.parent is None or state.parent_step is None:
            return
        error = state.error
        if state.ended == "cancelled":
            text = f"child run {runner.run_id} was cancelled"
            error = Failure(RUN_CANCELLED, text, retryable=False)
        body = msgspec.json.encode(ChildBody(state.parent_step, output, output_blob, error))
        runner.ledger.beside.posts.append(
            NewMessage(state.parent, "child", str(state.parent_step), body, runner.now, by=runner.run_id)
        )

    def _post(self, child: str, verb: MessageKind, reason: str, key: str = "") -> None:
        runner = self._runner
        body = msgspec.json.encode(VerbBody(reason=reason))
        runner.ledger.beside.posts.append(NewMessage(child, verb, "", body, runner.now, key=key, by=runner.run_id))


async def _origin(store: Store, run_id: str) -> tuple[RunRow, RunCreated]:
    """A run's row, and how it came into being."""
    row, journal = await store.get(run_id), await store.read(run_id, limit=1)
    if row is None or not isinstance(journal[0].entry, RunCreated):
        raise CorruptJournal(f"run {run_id}: its journal does not begin with its creation")
    return row, journal[0].entry
