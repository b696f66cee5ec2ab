"""Input requests of one run: what the inbox shows of them, and what people do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.feed import Live
from stepwell.model import cloudevents
from stepwell.model.commands import AnswerInput, ReassignInput, RemindInput, SatisfyWait, WithdrawInput
from stepwell.model.entries import (
    AnyEntry,
    InputAnswered,
    InputReassigned,
    InputReminded,
    InputWithdrawn,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.ids import StepPath
from stepwell.model.requests import InputRequest, is_settled, read_input_spec, request_id
from stepwell.model.state import State
from stepwell.stores.protocol import Message
from stepwell.stores.tables import NewEvent, OpenWait

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner

ASKED = "stepwell.input.asked"
REMINDER = "stepwell.input.reminder"


class AnswerBody(msgspec.Struct, frozen=True):
    """What an answer message carries: which wait, and the answer as JSON."""

    step: StepPath
    value: msgspec.Raw


class RequestBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a withdraw or reassign message carries."""

    step: StepPath
    reason: str = ""
    who: tuple[str, ...] = ()


class QuestionDesk:
    """Keeps the rows by which others find a run's open waits, and takes what people send."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    # -- what others see ----------------------------------------------------------------------------------------

    def noticed(self, entry: AnyEntry) -> None:
        """An entry has just been folded in: put right what is seen from outside."""
        match entry:
            case WaitStarted() if entry.wait == "input":
                self._show(entry.path)
                self._announce(ASKED, entry.path)
            case WaitStarted() if entry.wait == "event":
                self._show(entry.path)
            case InputAnswered() | InputReassigned():
                self._show(entry.path)
            case InputReminded():
                self._announce(REMINDER, entry.path)
            case WaitSatisfied() | WaitTimedOut() | WaitWithdrawn() | InputWithdrawn():
                id = request_id(self._runner.run_id, entry.path)
                self._runner.ledger.beside.opened.pop(id, None)
                self._runner.ledger.beside.closed.append(id)
            case _:
                pass

    def request(self, path: StepPath) -> InputRequest | None:
        """The open input request at a path, as the inbox shows it."""
        return input_request(self._runner.state, path)

    def _show(self, path: StepPath) -> None:
        found = open_wait(self._runner.state, path)
        if found is not None:
            self._runner.ledger.beside.opened[found.id] = found

    def _announce(self, topic: str, path: StepPath) -> None:
        """Tell the world: a mail about an open question is a workflow that listens to these events."""
        found = self.request(path)
        if found is None:
            return
        runner = self._runner
        number = runner.state.asked[path].reminded
        id = f"{found.id}-{found.asked_at:x}-{number}"  # a retried run may ask at the same place once more
        data = msgspec.Raw(msgspec.json.encode(found))
        source = f"stepwell/runs/{runner.run_id}"
        body = cloudevents.envelope(topic, data, id=id, source=source, at=runner.now, subject=found.id)
        runner.publish(NewEvent(topic, source, id, body, runner.now))
        runner.engine.feed.say(
            Live(runner.run_id, "reminder" if topic == REMINDER else "asked", runner.now, {"id": found.id}, str(path))
        )

    # -- what people send ---------------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        """Act on an answer, withdrawal or reassignment; one for a request that has ended changes nothing."""
        runner = self._runner
        if message.kind == "answer":
            self._answer(message)
            return
        body = msgspec.json.decode(message.body, type=RequestBody)
        if message.kind == "reassign":
            runner.apply(ReassignInput(body.step, body.who, message.by, body.reason))
            self._settle(body.step, message.by)  # those who may still answer are perhaps too few to agree
            return
        for entry in runner.apply(WithdrawInput(body.step, message.by, body.reason)):
            if isinstance(entry, InputWithdrawn):
                runner.body.deliver_later(entry, msgspec.Raw(b"null"))

    def _answer(self, message: Message) -> None:
        runner = self._runner
        body = msgspec.json.decode(message.body, type=AnswerBody)
        runner.apply(AnswerInput(body.step, body.value, message.by))
        self._settle(body.step, message.by)

    def _settle(self, path: StepPath, by: str) -> None:
        """End the request when its answers are enough, or can no longer be."""
        runner = self._runner
        wait, asked = runner.state.waits.get(path), runner.state.asked.get(path)
        if wait is None or asked is None:
            return
        spec = read_input_spec(wait.spec)
        if not is_settled(spec, [(by, value) for by, value, _ in asked.answers]):
            return
        payload = _listed(asked.answers) if spec.quorum else msgspec.Raw(asked.answers[0][1])
        inline, blob = runner.ledger.stow(payload)
        for entry in runner.apply(SatisfyWait(path, inline, blob, by=by)):
            if isinstance(entry, WaitSatisfied):
                runner.body.deliver_later(entry, payload)

    def remind(self, path: StepPath) -> None:
        """The time of a reminder has come."""
        self._runner.apply(RemindInput(path))


def input_request(state: State, path: StepPath) -> InputRequest | None:
    """The open input request at a path of a run, as the inbox shows it."""
    wait, asked = state.waits.get(path), state.asked.get(path)
    if wait is None or asked is None:
        return None
    spec = read_input_spec(wait.spec)
    return InputRequest(
        id=request_id(state.run_id, path),
        run_id=state.run_id,
        workflow=state.workflow,
        path=str(path),
        step=path,
        prompt=spec.prompt,
        schema=msgspec.json.decode(spec.schema, type=dict),
        who=spec.who,
        quorum=spec.quorum,
        agree=spec.agree,
        answers=tuple((by, at) for by, _, at in asked.answers),
        asked_at=wait.at,
        due=wait.due,
    )


def open_wait(state: State, path: StepPath) -> OpenWait | None:
    """The row by which others find the open wait at a path; None for one that is no input request and for no event."""
    wait, found = state.waits.get(path), input_request(state, path)
    if wait is None or (found is None and wait.wait != "event"):
        return None
    return OpenWait(
        id=request_id(state.run_id, path),
        run_id=state.run_id,
        kind="event" if found is None else "input",
        path=str(path),
        name=wait.name if found is None else found.prompt,
        at=wait.at,
        due=wait.due,
        body=b"{}" if found is None else msgspec.json.encode(found),
    )


def open_waits(state: State) -> tuple[OpenWait, ...]:
    """The rows of all open waits of a run that others must be able to find."""
    found = (open_wait(state, path) for path in state.waits)
    return tuple(one for one in found if one is not None)


def _listed(answers: list[tuple[str, bytes, int]]) -> msgspec.Raw:
    return msgspec.Raw(
        msgspec.json.encode([{"value": msgspec.Raw(value), "by": by, "at": at} for by, value, at in answers])
    )
