"""Drives a workflow body without an engine: requests in, outcomes out, in an order that a seed decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.workflow import Workflow
from stepwell.model.commands import (
    Begin,
    CancelStep,
    CompleteAttempt,
    CompleteRun,
    EndCancelled,
    FailAttempt,
    FailRun,
    RecordValue,
    SatisfyWait,
    SetState,
    StartAttempt,
    StartWait,
    TimeOutWait,
    WithdrawWait,
)
from stepwell.model.decide import decide
from stepwell.model.entries import (
    NO_PAYLOAD,
    AnyEntry,
    OnChange,
    RunCreated,
    StepCompleted,
    StepFailed,
    WaitSatisfied,
    WaitTimedOut,
)
from stepwell.model.failures import failure_of
from stepwell.model.retry import ONCE
from stepwell.model.state import evolve, replay
from stepwell.programs.function import FunctionProgram
from stepwell.programs.matching import Delivery, Records
from stepwell.programs.protocol import StepRequest

THREADS = ThreadPoolExecutor(8)


class Driver:
    """One run of `workflow`. `started` lists the readable paths of steps that were begun anew by this driver."""

    def __init__(
        self,
        workflow: Workflow[..., Any],
        journal: Sequence[AnyEntry] = (),
        *,
        seed: int = 0,
        on_change: OnChange | None = None,
        signals: dict[str, list[Any]] | None = None,
    ) -> None:
        self.chance = random.Random(seed)
        self.workflow = workflow
        self.started: list[str] = []
        self.signals = {name: list(values) for name, values in (signals or {}).items()}
        first = RunCreated(
            at=1_000_000, run_id="r", workflow=workflow.name, version="v", root="r", input=workflow.codec.encode((), {})
        )
        self.journal: list[AnyEntry] = list(journal) or [first]
        self.state = replay(self.journal)
        self.now = self.state.updated_at
        self.requests: dict[Any, StepRequest] = {}
        fresh = self.state.started_at is None
        self.program = FunctionProgram(
            workflow,
            Identity("r", workflow.name, None, "r"),
            self.state.input,
            clock=lambda: self.now,
            chance=self.chance,
            threads=THREADS,
            records=None if fresh else Records(self.journal),
            on_change=on_change,
        )
        if fresh:
            self.apply(Begin(version="v"))
            self.program.begin(self.now)
        else:
            assert self.state.started_at is not None
            self.program.begin(self.state.started_at)
            for delivery in self.program.recorded.deliveries:
                if self.program.divergence is None:
                    self.program.deliver(delivery, _payload(delivery))
            self.program.go_live()
        self.take_requests()

    def apply(self, command: Any) -> tuple[AnyEntry, ...]:
        entries = decide(self.state, command, self.now)
        for entry in entries:
            evolve(self.state, entry)
            self.journal.append(entry)
        return entries

    def take_requests(self) -> None:
        while requests := self.program.take_requests():
            for request in requests:
                if self.state.ended is not None:  # a replay of an ended run comes to its end again
                    continue
                self._take(request)

    def _take(self, request: Any) -> None:
        match request:
            case StepRequest():
                self.started.append(str(request.path))
                self.requests[request.path] = request
                self.apply(
                    StartAttempt(
                        path=request.path,
                        input=request.input,
                        fingerprint=request.fingerprint,
                        attempt=request.attempt,
                    )
                )
            case StartWait():
                if request.path not in self.state.waits:
                    self.apply(request)
            case CancelStep():
                self.requests.pop(request.path, None)
                self.apply(request)
            case WithdrawWait() | RecordValue() | SetState() | CompleteRun() | FailRun() | EndCancelled():
                self.apply(request)
            case _:
                raise AssertionError(request)

    @property
    def is_over(self) -> bool:
        return self.state.ended is not None or self.program.divergence is not None or bool(self.program.deadlock)

    def step(self) -> bool:
        """Let one thing happen, chosen by chance; False when nothing can."""
        if self.is_over:
            return False
        choices: list[Any] = [*self.requests.values()]
        choices += [w for w in self.state.waits.values() if w.wait == "timer" or self.signals.get(w.name)]
        if not choices:
            return False
        chosen = self.chance.choice(choices)
        if isinstance(chosen, StepRequest):
            self.now += self.chance.randrange(1, 2_000_000)
            self._finish(chosen)
        else:
            self._satisfy(chosen)
        self.take_requests()
        return True

    def _finish(self, request: StepRequest) -> None:
        del self.requests[request.path]
        task = request.task
        args, kwargs = task.codec.decode(request.input)
        attempt = self.state.steps[request.path].attempt
        try:
            coroutine = task.function(*args, **kwargs)
            try:
                coroutine.send(None)
            except StopIteration as stop:
                output = task.codec.returns.encode(stop.value)
            command: Any = CompleteAttempt(path=request.path, attempt=attempt, output=output)
        except Exception as error:
            command = FailAttempt(request.path, attempt, failure_of(error), ONCE, 0.5)
            output = NO_PAYLOAD
        for entry in self.apply(command):
            self.program.deliver(entry, output)  # type: ignore[arg-type]

    def _satisfy(self, wait: Any) -> None:
        payload = NO_PAYLOAD
        if wait.wait == "timer":
            self.now = max(self.now, wait.due)
        elif wait.due is not None and wait.due <= self.now:
            for entry in self.apply(TimeOutWait(path=wait.path)):
                self.program.deliver(entry, payload)  # type: ignore[arg-type]
            return
        else:
            payload = msgspec.Raw(msgspec.json.encode(self.signals[wait.name].pop(0)))
        for entry in self.apply(SatisfyWait(path=wait.path, payload=payload)):
            self.program.deliver(entry, payload)  # type: ignore[arg-type]

    def run(self, most: int = 10_000) -> Driver:
        for _ in range(most):
            if not self.step():
                break
        return self

    def close(self) -> None:
        self.program.close()

    @property
    def result(self) -> Any:
        assert self.state.ended == "completed", (self.state.status, self.state.error, self.program.deadlock)
        return self.workflow.codec.returns.decode(self.state.output)


def _payload(delivery: Delivery) -> msgspec.Raw:
    match delivery:
        case StepCompleted():
            return delivery.output
        case WaitSatisfied():
            return delivery.payload
        case StepFailed() | WaitTimedOut():
            return NO_PAYLOAD
        case _:
            return NO_PAYLOAD
