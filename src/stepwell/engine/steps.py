"""The steps of one run on their way: asked for, given a slot, in flight, waiting for a retry."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.executor import Attempt, Outcome
from stepwell.engine.instore import OutcomeBody
from stepwell.engine.limits import Needs, Ticket
from stepwell.engine.secrets import with_secrets
from stepwell.errors import GraphError
from stepwell.model.chance import draw
from stepwell.model.codec import content_hash
from stepwell.model.commands import CompleteAttempt, FailAttempt, StartAttempt
from stepwell.model.entries import NO_PAYLOAD, StepCompleted, StepFailed, StepStarted
from stepwell.model.failure import Failure
from stepwell.model.failures import failure_of
from stepwell.model.ids import StepPath
from stepwell.model.retry import ONCE
from stepwell.programs.protocol import StepRequest
from stepwell.stores.protocol import Message

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner


class _Step:
    """A step that the program waits for."""

    __slots__ = ("alarm", "attempt", "request", "ticket")

    def __init__(self, request: StepRequest) -> None:
        self.request = request
        self.ticket: Ticket | None = None
        self.attempt: Attempt | None = None
        self.alarm: asyncio.TimerHandle | None = None


class StepDesk:
    """Takes step requests to their outcomes, by way of slots, attempts and retries."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._steps: dict[StepPath, _Step] = {}
        self._granted: deque[StepPath] = deque()
        self._outcomes: deque[tuple[Attempt, Outcome]] = deque()
        self._launches: list[Attempt] = []

    @property
    def in_flight(self) -> bool:
        """Whether an attempt runs."""
        return any(step.attempt is not None for step in self._steps.values())

    @property
    def busy(self) -> bool:
        """Whether a step runs, or could run as soon as there is a slot."""
        return any(step.attempt is not None or step.ticket is not None for step in self._steps.values())

    def request(self, request: StepRequest) -> None:
        """The program wants a step; one that failed and waits for its retry goes on waiting."""
        step = self._steps[request.path] = _Step(request)
        self._proceed(step)

    def _proceed(self, step: _Step) -> None:
        known = self._runner.state.steps.get(step.request.path)
        if known is not None and not known.in_flight and known.retry_at is not None:
            self._retry_later(step, known.retry_at)
        else:
            self._ask(step)

    def _ask(self, step: _Step) -> None:
        if self._runner.state.pause is not None:
            return
        path = step.request.path
        try:
            needs = self._needs(step.request)
        except Exception as error:  # the author's concurrency_key raised: the step fails, not the engine
            self._begin(step)
            self._fail(path, failure_of(error, retryable=False))
            return
        step.ticket = self._runner.engine.slots.ask(
            needs,
            self._runner.state.priority + step.request.task.options.priority,
            functools.partial(self._grant, path),
        )
        if step.ticket.granted:
            self._granted.append(path)

    def _needs(self, request: StepRequest) -> Needs:
        needs = self._runner.engine.needs(request.task, request.input)
        extras = request.extras
        return needs if extras is None else (*needs, *((one.name, one.limit, one.period) for one in extras.slots))

    def _grant(self, path: StepPath) -> None:
        self._granted.append(path)
        self._runner.wake()

    def admit(self) -> None:
        """Start an attempt of every step that has its slots; none any more once the engine closes."""
        while self._granted and not self._runner.engine.closing:
            step = self._steps.get(self._granted.popleft())
            if step is None or step.ticket is None or step.attempt is not None:
                continue
            if self._runner.state.pause is not None:
                self._give_back(step)
            else:
                self._start(step)

    def _begin(self, step: _Step) -> StepStarted:
        request = step.request
        known = self._runner.state.steps.get(request.path)
        inline, blob = self._runner.ledger.stow(request.input) if known is None else (NO_PAYLOAD, "")
        command = StartAttempt(
            path=request.path,
            step=request.step,
            input=inline,
            input_blob=blob,
            fingerprint=request.fingerprint,
            attempt=request.attempt,
        )
        (entry,) = self._runner.apply(command)
        assert isinstance(entry, StepStarted)
        return entry

    def _start(self, step: _Step) -> None:
        request, entry = step.request, self._begin(step)
        try:
            given = self._input_of(request)
        except GraphError as error:  # a secret is not set: trying again at once would not help
            self._give_back(step)
            self._fail(request.path, failure_of(error, retryable=False))
            return
        started_at = self._runner.state.steps[request.path].started_at
        limit, name = _limit_of(request, started_at, entry.at)
        step.attempt = Attempt(
            request.task,
            request.path,
            entry.attempt,
            given,
            self._runner.identity,
            limit,
            name,
            self,
            self._runner,
            key=request.key,
            extras=request.extras,
        )
        self._launches.append(step.attempt)

    def _input_of(self, request: StepRequest) -> msgspec.Raw:
        """What the attempt is given: what the body said, unless somebody has edited it since."""
        edit = self._runner.state.edits.get(request.path)
        given = request.input if edit is None else self._runner.body.payload(edit.input, edit.input_blob)
        return given if request.extras is None else with_secrets(given, request.extras.secrets)

    def take_launches(self) -> list[Attempt]:
        """The attempts whose start is about to be committed."""
        launches, self._launches = self._launches, []
        return launches

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """An attempt has its outcome."""
        step = self._steps.get(attempt.path)
        if step is not None and step.attempt is attempt:
            step.attempt = None
            self._give_back(step)
            self._outcomes.append((attempt, outcome))
            self._runner.wake()

    def take_outcomes(self) -> None:
        """Journal what has ended."""
        while self._outcomes:
            attempt, outcome = self._outcomes.popleft()
            usage = self._runner.usage_of(attempt)
            if isinstance(outcome, Failure):
                self._fail(attempt.path, outcome)
            else:
                self._complete(attempt.path, attempt.number, outcome, usage)
                if attempt.extras is not None:
                    self._runner.engine.caching.keep(attempt, outcome)

    def _complete(self, path: StepPath, number: int, output: msgspec.Raw, usage: dict[str, int]) -> None:
        inline, blob = self._runner.ledger.stow(output)
        for entry in self._runner.apply(CompleteAttempt(path, number, inline, blob, usage)):
            if isinstance(entry, StepCompleted):
                self._steps.pop(path, None)
                self._runner.body.deliver_later(entry, output)

    def heard(self, message: Message) -> None:
        """A transactional attempt has committed what it wrote: its outcome is what the message says."""
        body = msgspec.json.decode(message.body, type=OutcomeBody)
        step = self._steps.get(body.path)
        if step is not None and step.attempt is not None and step.attempt.number == body.attempt:
            step.attempt.over = True
            step.attempt = None
            self._give_back(step)
        self._complete(body.path, body.attempt, body.output, {})
        if not self._runner.body.is_there:  # it is rebuilt with this outcome, before that is in the store
            self._runner.body.payloads[content_hash(bytes(body.output))] = bytes(body.output)

    def _fail(self, path: StepPath, failure: Failure) -> None:
        state = self._runner.state
        known = state.steps.get(path)
        step = self._steps.get(path)
        if known is None or step is None:
            return
        command = FailAttempt(
            path=path,
            attempt=known.attempt,
            error=failure,
            retry=step.request.task.options.retry if failure.retryable else ONCE,
            chance=draw(state.seed, str(path), known.attempt),
        )
        for entry in self._runner.apply(command):
            if not isinstance(entry, StepFailed):
                continue
            if entry.retry_at is None:
                self._steps.pop(path, None)
                self._runner.body.deliver_later(entry, NO_PAYLOAD)
            else:
                self._retry_later(step, entry.retry_at)

    def _retry_later(self, step: _Step, at: int) -> None:
        if at <= self._runner.engine.clock.now():
            self._ask(step)
            return
        path = step.request.path

        def ring() -> None:
            step.alarm = None
            if self._steps.get(path) is step:
                self._retry_later(step, at)
                self._runner.wake()

        step.alarm = self._runner.engine.clock.call_at(at, ring)

    def cancel(self, path: StepPath) -> None:
        """The program no longer wants this step."""
        step = self._steps.pop(path, None)
        if step is not None:
            self._drop(step)

    def _drop(self, step: _Step) -> None:
        if step.attempt is not None:
            step.attempt.cancel()
            self._runner.usage_of(step.attempt)  # what readers were told is journaled, whatever became of it
            step.attempt = None
        if step.alarm is not None:
            step.alarm.cancel()
            step.alarm = None
        self._give_back(step)

    def _give_back(self, step: _Step) -> None:
        if step.ticket is not None:
            ticket, step.ticket = step.ticket, None
            self._runner.engine.slots.give_back(ticket)

    def pause(self) -> None:
        """Start nothing more; what is in flight goes on."""
        for step in self._steps.values():
            if step.attempt is None:
                self._give_back(step)

    def unpause(self) -> None:
        """Ask again for every step that is neither in flight nor waiting for its retry."""
        self.take_outcomes()  # what has ended meanwhile is neither, and must not be asked for
        for step in tuple(self._steps.values()):
            if step.attempt is None and step.alarm is None and step.ticket is None:
                self._proceed(step)

    def drop_all(self) -> None:
        """Cancel everything, without outcomes."""
        steps, self._steps = self._steps, {}
        for step in steps.values():
            self._drop(step)
        self._granted.clear()
        self._outcomes.clear()
        self._launches.clear()


def _limit_of(request: StepRequest, first_started_at: int, now: int) -> tuple[int | None, str]:
    """The time left for this attempt and the name of the option that sets it."""
    options = request.task.options
    if options.total_timeout is not None:
        left = max(0, first_started_at + options.total_timeout - now)
        if options.timeout is None or left < options.timeout:
            return left, "total_timeout"
    return options.timeout, "timeout"
