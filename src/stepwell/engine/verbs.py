"""What people and other runs want of a run: pause, resume, cancel, retry, taken from its mailbox in order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from stepwell.errors import RequestRefused
from stepwell.model.commands import EndCancelled, RequestCancel, Resume, SetInput
from stepwell.model.entries import NO_PAYLOAD, OnChange, RunCancelRequested
from stepwell.model.lifecycle import RETRYABLE
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
                    runner.retry(message.by, body.reason, body.on_change)
                case "again" if runner.state.ended in RETRYABLE and not runner.state.undone:
                    runner.retry(message.by, body.reason, None)
                case "again" if runner.state.ended is not None:
                    runner.children.tell_parent(runner.state.output, runner.state.output_blob)
                case "again":
                    pass  # it tells its parent when it ends
                case _:
                    _log.warning("run %s: a message of kind %s is not for functions", runner.run_id, message.kind)
        except RequestRefused as refused:
            _log.info("run %s: %s came too late: %s", runner.run_id, message.kind, refused)

    def _set_input(self, message: Message) -> None:
        """Replace the input of a run that waits for further starts."""
        runner = self._runner
        body = msgspec.json.decode(message.body, type=InputBody)
        inline, blob = runner.ledger.stow(body.input)
        if blob:
            runner.payloads[blob] = bytes(body.input)
        runner.apply(SetInput(input=inline, input_blob=blob, by=message.by, begin_at=body.begin_at))

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
