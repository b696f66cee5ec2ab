"""What people and other runs want of a run: pause, resume, cancel, retry, edits, taken from its mailbox in order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from stepwell.authoring.graph import GraphWorkflow
from stepwell.errors import DefinitionError, RequestRefused, WrongStatus
from stepwell.model.commands import (
    EditStep,
    EndCancelled,
    RecordFact,
    RequestCancel,
    Resume,
    RetryRun,
    SetInput,
    SetState,
    Upgrade,
)
from stepwell.model.decide import decide
from stepwell.model.entries import NO_PAYLOAD, NULL, DefinitionPatched, OnChange, RunCancelRequested, StateSet
from stepwell.model.lifecycle import RETRYABLE
from stepwell.model.versions import label_of, version_text
from stepwell.stores.protocol import Message

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner

_log = logging.getLogger("stepwell.engine")


class VerbBody(msgspec.Struct, frozen=True):
    """What a pause, resume, cancel or retry message carries."""

    reason: str = ""
    on_change: OnChange | None = None


class InputBody(msgspec.Struct, frozen=True):
    """What an `input` message carries: the input that replaces the run's, and before when it does not begin."""

    input: msgspec.Raw
    begin_at: int | None = None


class RetryBody(VerbBody, frozen=True):
    """What a retry carries besides: by readable path of a step, the input that its next attempts are given."""

    inputs: dict[str, msgspec.Raw] = {}


class PatchBody(msgspec.Struct, frozen=True):
    """What a patch message carries: the whole new definition as canonical JSON, and its digest.

    `base` is the digest of the definition that `nodes` and `edges` were added to. Where the run has another one by
    then, since somebody else has patched it too, they are added to that.
    """

    definition: msgspec.Raw
    digest: str
    reason: str = ""
    base: str = ""
    nodes: msgspec.Raw = NULL
    edges: msgspec.Raw = NULL


class StateBody(msgspec.Struct, frozen=True):
    """What is to become of the key of `ctx.state` that a state message is about (its name)."""

    payload: msgspec.Raw = NULL
    deleted: bool = False
    reason: str = ""


class VerbDesk:
    """Turns accepted verbs into commands."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def take(self, message: Message) -> None:
        """Act on one verb; it was accepted when it came, so one that no longer fits is used up without effect."""
        if message.kind == "input":
            self._set_input(message)
            return
        body = msgspec.json.decode(message.body, type=VerbBody) if message.body else VerbBody()
        runner = self._runner
        try:
            match message.kind:
                case "pause":
                    runner.pause("request", body.reason, message.by)
                case "resume":
                    runner.apply(Resume(by=message.by, reason=body.reason, on_change=body.on_change))
                    runner.unpause()
                case "cancel":
                    self.cancel(RequestCancel(by=message.by, reason=body.reason))
                case "retry":
                    self._retry(msgspec.json.decode(message.body, type=RetryBody), message.by)
                case "state":
                    self._set_state(message.name, msgspec.json.decode(message.body, type=StateBody), message.by)
                case "upgrade" if isinstance(runner.workflow, GraphWorkflow):
                    self._upgrade_to(message.name, body.reason, message.by)
                case "upgrade":
                    self._upgrade(message.name, body.reason, message.by)
                case "patch":
                    self._patch(msgspec.json.decode(message.body, type=PatchBody), message.by)
                case "again" if runner.state.ended in RETRYABLE and not runner.state.undone:
                    runner.retry(message.by, body.reason, None)
                case "again" if runner.state.ended is not None:
                    runner.children.tell_parent(runner.state.output, runner.state.output_blob)
                case "again":
                    pass  # it tells its parent when it ends
                case _:
                    _log.warning("run %s: a message of kind %s is not for functions", runner.run_id, message.kind)
        except RequestRefused as refused:
            level = logging.WARNING if message.kind == "patch" else logging.INFO
            _log.log(level, "run %s: %s came too late: %s", runner.run_id, message.kind, refused)

    def _set_input(self, message: Message) -> None:
        """Replace the input of a run that waits for further starts."""
        runner = self._runner
        body = msgspec.json.decode(message.body, type=InputBody)
        inline, blob = runner.ledger.stow(body.input)
        if blob:
            runner.body.payloads[blob] = bytes(body.input)
        runner.apply(SetInput(input=inline, input_blob=blob, by=message.by, begin_at=body.begin_at))

    def _retry(self, body: RetryBody, by: str) -> None:
        runner = self._runner
        decide(runner.state, RetryRun(), runner.now)  # refused before anything is edited
        failed = {str(path): path for path in runner.state.failed_steps}
        for step in body.inputs:
            if step not in failed:
                raise WrongStatus(f"run {runner.run_id}: step {step} is not among those whose failure ended the run")
        for step, data in body.inputs.items():
            inline, blob = runner.ledger.stow(data)
            runner.apply(EditStep(failed[step], inline, blob, by=by, reason=body.reason))
        runner.retry(by, body.reason, body.on_change)

    def _set_state(self, key: str, body: StateBody, by: str) -> None:
        state = self._runner.state
        if state.ended is not None and (state.ended not in RETRYABLE or state.undone):
            raise WrongStatus(f"run {state.run_id} is {state.ended}; its state stays as it is")
        command = SetState(key=key, payload=body.payload, deleted=body.deleted, by=by, reason=body.reason)
        for entry in self._runner.apply(command):
            if isinstance(entry, StateSet):
                self._runner.body.hear_of_edit(entry)

    def _upgrade(self, label: str, reason: str, by: str) -> None:
        """Go on under the function of another label; what stopped the body, but not a person, is over with that."""
        runner = self._runner
        known = runner.engine.versions.get((runner.state.workflow, label))
        version = version_text(label, "") if known is None else known.version
        pause = runner.state.pause
        if label_of(runner.state.version) == label and (pause is None or pause.cause == "request"):
            return  # it is under that version already
        runner.apply(Upgrade(version, by=by, reason=reason))
        if pause is not None and pause.cause != "request":
            runner.apply(Resume(by=by, reason=f"upgraded to {version or 'the version without a label'}"))
        runner.body.must_reload = True

    def _upgrade_to(self, version: str, reason: str, by: str) -> None:
        """Let a graph's run go on under another definition of it."""
        runner = self._runner
        if runner.state.version == version or runner.state.has_patch:
            return
        pause = runner.state.pause
        runner.apply(Upgrade(version, by=by, reason=reason))
        if pause is not None and pause.cause != "request":
            runner.apply(Resume(by=by, reason=f"upgraded to {version}"))
        runner.body.must_reload = True

    def _patch(self, body: PatchBody, by: str) -> None:
        """Let a graph's run go on under a definition of its own."""
        runner = self._runner
        body = self._on_top(body)
        refusal = runner.body.cannot_patch(bytes(body.definition))
        if refusal:
            raise WrongStatus(f"run {runner.run_id} cannot be patched: {refusal}")
        inline, blob = runner.ledger.stow(body.definition)
        fact = DefinitionPatched(at=0, definition=inline, definition_blob=blob, digest=body.digest, by=by)
        must_reload = runner.body.lacks_for(bytes(body.definition))
        for entry in runner.apply(RecordFact(msgspec.structs.replace(fact, reason=body.reason))):
            runner.body.patched = bytes(body.definition)
            if must_reload:
                runner.body.must_reload = True
            elif isinstance(entry, DefinitionPatched):
                runner.body.deliver_later(entry, body.definition)

    def _on_top(self, body: PatchBody) -> PatchBody:
        """The patch as it is on top of what the run has become since it was asked for.

        Raises:
            WrongStatus: they do not go together.
        """
        current = self._runner.body.definition
        if body.base == current.digest:
            return body
        from stepwell.graph.expansion import grown

        try:
            data = grown(current, msgspec.json.decode(body.nodes), msgspec.json.decode(body.edges))
            made = self._runner.engine.graphs.compiled(data).definition
        except DefinitionError as error:
            raise WrongStatus(f"run {self._runner.run_id} cannot be patched: {error}") from error
        whole = msgspec.Raw(msgspec.json.encode(made.canonical))
        return msgspec.structs.replace(body, definition=whole, digest=made.digest)

    def cancel(self, command: RequestCancel) -> None:
        """Ask the body to end; a run whose body cannot hear of it ends at once."""
        runner = self._runner
        pause = runner.state.pause
        # A body that diverged or broke cannot be asked to end; one that was paused, or waits for ever, can.
        body_can_hear = pause is None or pause.cause in ("request", "deadlock")
        if pause is not None:
            runner.apply(Resume(by=command.by, reason="to be cancelled"))
            runner.unpause(reload=False)
        for entry in runner.apply(command):
            if not body_can_hear:
                runner.end(EndCancelled(), NO_PAYLOAD)
            elif isinstance(entry, RunCancelRequested):
                runner.cancel_body(entry)
