"""Drives a graph without an engine: its requests in, outcomes out, in an order that a seed decides.

A `Driver` serves a `GraphProgram` and keeps the journal that an engine would write, by the same `decide` and `evolve`.
What tasks do is a *script*: a function of name and inputs, so that whoever runs or predicts them comes to the same.
A driver that is given a journal goes on from its end, as a process does after a crash.
"""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.graph import graph_workflow
from stepwell.authoring.task import Task
from stepwell.graph.plan import Plan
from stepwell.model.commands import (
    Begin,
    CancelStep,
    CompleteAttempt,
    FailAttempt,
    SatisfyWait,
    StartAttempt,
    StartWait,
)
from stepwell.model.decide import decide
from stepwell.model.entries import (
    NO_PAYLOAD,
    AnyEntry,
    RunCreated,
    StepCompleted,
    StepFailed,
    StepStarted,
    WaitSatisfied,
    WaitStarted,
)
from stepwell.model.failures import failure_of
from stepwell.model.state import evolve, replay
from stepwell.programs.graph.containers.protocol import Container, OneAtATime
from stepwell.programs.graph.firing import Firing
from stepwell.programs.graph.frame import Frame
from stepwell.programs.graph.locks import Locks
from stepwell.programs.graph.program import GraphProgram
from stepwell.programs.graph.tokens import Tokens, _Joining
from stepwell.programs.graph.undoing import Saga, Undoing
from stepwell.programs.matching import Records, payload_in
from stepwell.programs.protocol import StepRequest

Script = Callable[[str, Mapping[str, Any]], Any]
"""What a task does: gives its output, or raises."""


def scripted(name: str, inputs: Mapping[str, Any]) -> Any:
    """A small number made of the task's name and inputs; a task called `flaky…` fails for some inputs.

    It is the same whenever and wherever it is called.
    """
    number = zlib.crc32(f"{name}{msgspec.json.encode(inputs, order='sorted').decode()}".encode())
    if name.startswith("flaky") and number % 3 == 0:
        raise (ValueError if number % 2 else KeyError)(f"{name} broke")
    return number // 7 % 5


class Around:
    """The process of a driven program: any task is there, and does nothing by itself."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}

    def task(self, name: str) -> Task[..., Any]:
        return _task(name)

    def workflow(self, name: str, version: str) -> None:
        return None

    def environ(self, name: str) -> None:
        return None

    def patched(self, plan: Plan, definition: bytes) -> Plan:
        raise NotImplementedError

    def expansion(self, *given: object) -> Any:
        raise NotImplementedError


@functools.cache
def _task(name: str) -> Task[..., Any]:
    from stepwell.authoring.task import AsyncTask, TaskOptions

    async def work() -> None:
        raise NotImplementedError

    return AsyncTask(work, name, TaskOptions())


def planned(source: Mapping[str, Any]) -> Plan:
    """The plan of a definition that is given as data."""
    return graph_workflow({"stepwell": 1, "id": "graph", **source}).plan


class Driver:
    """One run of a plan. What is chosen next is drawn from `seed`, or told by `order` (readable paths)."""

    def __init__(
        self,
        plan: Plan,
        *,
        input: Mapping[str, Any] | None = None,
        journal: Sequence[AnyEntry] = (),
        script: Script = scripted,
        seed: int = 0,
        order: Sequence[str] = (),
    ) -> None:
        self.script = script
        self._chance = random.Random(seed)
        self._order = list(reversed(order))
        data = msgspec.Raw(msgspec.json.encode(input or {}, order="sorted"))
        first = RunCreated(at=1_000_000, run_id="r", workflow=plan.name, version=plan.version, root="r", input=data)
        self.journal: list[AnyEntry] = list(journal) or [first]
        self.state = replay(self.journal)
        self.now = self.state.updated_at
        self.open: dict[str, StepRequest] = {}
        fresh = self.state.started_at is None
        self.program = GraphProgram(
            plan,
            Identity("r", plan.name, None, "r"),
            self.state.input,
            around=Around(),
            records=None if fresh else Records(self.journal),
        )
        if fresh:
            self._apply(Begin(version=plan.version))
            self.program.begin(self.now)
        else:
            self._rebuild()
        self._serve()

    def _rebuild(self) -> None:
        assert self.state.started_at is not None
        self.program.begin(self.state.started_at, self.program.recorded.variables)
        for delivery in list(self.program.recorded.deliveries):
            if self.program.divergence is None and not self.program.ended:
                self.program.deliver(delivery, payload_in(delivery)[0])
        self.program.go_live()

    # -- serving ----------------------------------------------------------------------------------------------------

    def _apply(self, command: Any) -> tuple[AnyEntry, ...]:
        entries = decide(self.state, command, self.now)
        for entry in entries:
            evolve(self.state, entry)
            self.journal.append(entry)
        return entries

    def _serve(self) -> None:
        assert self.program.divergence is None, self.program.divergence.explain()
        while requests := self.program.take_requests():
            for request in requests:
                if self.state.ended is None:  # a rebuild of an ended run comes to its end again
                    self._take(request)

    def _take(self, request: Any) -> None:
        match request:
            case StepRequest():
                assert str(request.path) not in self.open, f"{request.path} was asked for twice"
                self.open[str(request.path)] = request
                self._start(request)
            case StartWait():
                if request.path not in self.state.waits:
                    self._apply(request)
            case CancelStep():
                self.open.pop(str(request.path), None)
                self._apply(request)
            case _:
                self._apply(request)

    def _start(self, request: StepRequest) -> None:
        self._apply(
            StartAttempt(
                path=request.path,
                step=request.step,
                input=request.input,
                fingerprint=request.fingerprint,
                attempt=request.attempt,
            )
        )

    # -- time -------------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the run has ended; one that cannot go on is a fault."""
        assert not self.program.deadlock, self.program.deadlock
        return self.state.ended is not None

    def choices(self) -> list[str]:
        """What could happen next: the ends of attempts and of waits, by readable path."""
        return [*self.open, *(str(path) for path in self.state.waits)]

    def step(self) -> bool:
        """Let one thing happen; False when nothing can."""
        if self.is_over:
            return False
        choices = self.choices()
        if not choices:
            return False
        path = self._order[-1] if self._order else self._chance.choice(choices)
        assert path in choices, f"{path} is not under way: {choices}"
        self.happen(path)
        if self._order and path not in self.open:  # else it is tried once more
            self._order.pop()
        return True

    def happen(self, path: str) -> None:
        """Let this attempt, or this wait, end."""
        self.now += self._chance.randrange(1, 2_000_000)
        if path in self.open:
            entries, payload = self._end(self.open[path])
        else:
            wait = next(one for one in self.state.waits.values() if str(one.path) == path)
            self.now = max(self.now, wait.due or 0)
            entries, payload = self._apply(SatisfyWait(path=wait.path)), NO_PAYLOAD
        for entry in entries:
            self.program.deliver(entry, payload)  # type: ignore[arg-type]  # an outcome
        self._serve()

    def _end(self, request: StepRequest) -> tuple[Sequence[AnyEntry], msgspec.Raw]:
        """The outcome of a step; one that is tried again begins its next attempt, and there is none yet."""
        path = request.path
        attempt = self.state.steps[path].attempt
        try:
            output = msgspec.Raw(msgspec.json.encode(self.script(request.task.name, decoded(request.input))))
        except Exception as error:
            chance = self._chance.random()
            failed = FailAttempt(path, attempt, failure_of(error), request.task.options.retry, chance)
            (entry,) = self._apply(failed)
            if isinstance(entry, StepFailed) and entry.retry_at is not None:
                self.now = max(self.now, entry.retry_at)
                self._start(request)
                return (), NO_PAYLOAD
            del self.open[str(path)]
            return (entry,), NO_PAYLOAD
        del self.open[str(path)]
        return self._apply(CompleteAttempt(path=path, attempt=attempt, output=output)), output

    def run(self, most: int = 10_000) -> Driver:
        """Go on to the end."""
        for _ in range(most):
            if not self.step():
                break
        return self

    @property
    def outcome(self) -> tuple[str, Any]:
        """How the run ended: its status, and its result or the message of its failure."""
        if self.state.ended == "completed":
            return "completed", decoded(self.state.output)
        return str(self.state.ended), None if self.state.error is None else self.state.error.message


def decoded(data: msgspec.Raw) -> Any:
    """A payload as plain data."""
    return msgspec.json.decode(data) if bytes(data) else None


# -- what a journal says ------------------------------------------------------------------------------------------


def is_moment(entry: AnyEntry) -> bool:
    """Whether an entry is an outcome that the graph hears of: with each a *moment* begins, the first being 0."""
    return isinstance(entry, StepCompleted | WaitSatisfied) or (
        isinstance(entry, StepFailed) and entry.retry_at is None
    )


def moments(journal: Sequence[AnyEntry]) -> Iterator[tuple[int, AnyEntry]]:
    """The entries, each with the number of the moment in which it was written."""
    number = 0
    for entry in journal:
        number += is_moment(entry)
        yield number, entry


def happened(journal: Sequence[AnyEntry]) -> list[str]:
    """The readable paths of what ended, in order."""
    return [str(entry.path) for entry in journal if is_moment(entry)]  # type: ignore[union-attr]  # outcomes have one


def essence(journal: Sequence[AnyEntry]) -> list[tuple[int, bytes]]:
    """What must be the same after a crash: all entries but for times and the numbers of attempts, by moment.

    The order within one moment is left out: what was journaled before the crash stands before the rest.
    """
    found = []
    seen: set[str] = set()
    for number, entry in moments(journal):
        if isinstance(entry, StepStarted | WaitStarted):
            if str(entry.path) in seen:
                continue
            seen.add(str(entry.path))
        data = msgspec.json.decode(msgspec.json.encode(entry))
        for name in ("at", "attempt", "due", "retry_at"):
            data.pop(name, None)
        if isinstance(entry, StepFailed):
            if entry.retry_at is not None:
                continue
            data["error"] = entry.error.message
        found.append((number, msgspec.json.encode(data, order="sorted")))
    return sorted(found)


# -- what a program stands like -----------------------------------------------------------------------------------

_SLOTTED = (Frame, Firing, Tokens, _Joining)
_OPEN = (Container, OneAtATime, Locks, Saga, Undoing)
_LEFT_OUT = frozenset({"body", "node", "outer", "owner", "program", "settings", "tokens._names"})


def portrait(program: GraphProgram) -> Any:
    """All that a program knows, as plain data: two programs with equal portraits go on alike."""
    seen: dict[int, int] = {}
    return _plain([program._root, program.locks, program._variables, sorted(map(str, program.asks._pending))], seen)


def _plain(value: Any, seen: dict[int, int]) -> Any:
    if isinstance(value, str | int | float | bytes | None):
        return value
    if isinstance(value, dict):
        return [[_plain(key, seen), _plain(one, seen)] for key, one in value.items()]
    if isinstance(value, list | tuple) or type(value).__name__ == "deque":
        return [_plain(one, seen) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, _SLOTTED + _OPEN):
        if id(value) in seen:
            return f"<{seen[id(value)]}>"
        seen[id(value)] = len(seen)
        if isinstance(value, _SLOTTED):
            names = {name: getattr(value, name, None) for name in value.__slots__}
        else:
            names = vars(value)
        return [
            type(value).__name__,
            [[name, _plain(one, seen)] for name, one in sorted(names.items()) if name.strip("_") not in _LEFT_OUT],
        ]
    return str(value) if type(value).__name__ == "StepPath" else type(value).__name__
