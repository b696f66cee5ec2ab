"""A journal in the making: which commands are possible now, with what is open in it; `decide` writes the entries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import msgspec
from hypothesis import strategies as st

from stepwell.model.codec import ValueCodec, content_hash
from stepwell.model.commands import (
    AnswerInput,
    AnyCommand,
    Begin,
    CancelStep,
    CompleteAttempt,
    CompleteRun,
    EditStep,
    EndCancelled,
    FailAttempt,
    FailRun,
    KeepChunks,
    Pause,
    ReassignInput,
    RecordFact,
    RecordValue,
    RemindInput,
    RequestCancel,
    Resume,
    RetryRun,
    SatisfyWait,
    SetInput,
    SetState,
    StartAttempt,
    StartWait,
    TimeOutWait,
    Upgrade,
    WithdrawInput,
    WithdrawWait,
)
from stepwell.model.decide import decide
from stepwell.model.entries import (
    NO_PAYLOAD,
    AnyEntry,
    DefinitionPatched,
    GraphFact,
    NodePassed,
    RunCreated,
    ScopeClosed,
    ScopeOpened,
    StepFailed,
    StepSkipped,
    WaitKind,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import SECOND, StepPath
from stepwell.model.lifecycle import RETRYABLE
from stepwell.model.requests import EventSpec, InputSpec, is_settled, read_input_spec
from stepwell.model.retry import ONCE, Retry
from stepwell.model.state import State, evolve

Move: TypeAlias = Callable[[], None]

BEGINNING = 1_800_000_000 * SECOND
"""When drawn runs are created (microseconds)."""

RETRIES = 2
"""How often an ended run is retried, at most."""

_JSON = ValueCodec(Any, "a drawn value")
_NAMES = st.sampled_from(["charge", "fetch", "mail"])
_PEOPLE = st.sampled_from(["", "Ada", "Grace"])
_SCOPES = st.sampled_from([(), (("task", 1),), (("fetch.map", 1),), (("fetch.map", 1), ("task", 2))])
_MOMENTS = st.integers(0, 100 * SECOND)
_POLICY = Retry(attempts=3, first="1s")
_FACTS: st.SearchStrategy[Callable[[StepPath], GraphFact]] = st.sampled_from(
    [
        lambda path: StepSkipped(at=0, path=path),
        lambda path: NodePassed(at=0, path=path, output=msgspec.Raw(b"true")),
        lambda path: ScopeOpened(at=0, path=path, type="map", total=2),
        lambda path: ScopeClosed(at=0, path=path, ports=("out",)),
        lambda _: DefinitionPatched(at=0, definition=msgspec.Raw(b"{}"), digest="0123456789ab"),
    ]
)
"""What graphs say of their nodes; of any run, since a journal that is drawn is of no workflow in particular."""


class Draft:
    """One run's journal so far. `draw` is Hypothesis's, `values` what payloads are drawn from."""

    def __init__(self, draw: st.DrawFn, values: st.SearchStrategy[Any]) -> None:  # Any: JSON
        self.entries: list[AnyEntry] = []
        self._draw = draw
        self._values = values
        self._state = State()
        self._now = BEGINNING
        self._counts: dict[tuple[object, str], int] = {}
        self._attempts: dict[StepPath, int] = {}
        self._lost: list[StepPath] = []
        self._chunks = 0
        self._retries = 0
        self._add(
            RunCreated(
                at=self._now,
                run_id="run-1",
                workflow="drawn",
                version="1",
                root="run-1",
                input=self._payload(),
                seed=draw(st.integers(0, 2**48 - 1)),
                by=draw(_PEOPLE),
                deadline=draw(st.none() | _MOMENTS.map(lambda wait: BEGINNING + wait)),
            )
        )

    def pass_time(self) -> None:
        """Some time goes by, or none."""
        self._now += self._draw(st.just(0) | _MOMENTS)

    def _add(self, entry: AnyEntry) -> None:
        evolve(self._state, entry)
        self.entries.append(entry)

    def _do(self, command: AnyCommand) -> None:
        for entry in decide(self._state, command, self._now):
            self._now = max(self._now, entry.at)
            if isinstance(entry, StepFailed) and entry.retry_at is None:
                self._lost.append(entry.path)
            self._add(entry)

    def _payload(self) -> msgspec.Raw:
        return _JSON.encode(self._draw(self._values))

    def _path(self, name: str) -> StepPath:
        scope = self._draw(_SCOPES)
        number = self._counts[scope, name] = self._counts.get((scope, name), 0) + 1
        return StepPath(scope, name, number)

    # -- what may happen now ------------------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        """What may happen to the run as it stands; nothing when it has completed."""
        state = self._state
        if state.ended is not None:
            can_go_on = state.ended in RETRYABLE and not state.undone and self._retries < RETRIES
            return [self._retry] if can_go_on else []
        cancel = [] if state.cancel is not None else [lambda: self._do(RequestCancel(by=self._draw(_PEOPLE)))]
        if state.pause is not None:
            return [lambda: self._do(Resume(by=self._draw(_PEOPLE))), *cancel, *self._ends_of_attempts()]
        pause: list[Move] = [lambda: self._do(Pause(by=self._draw(_PEOPLE)))]
        if state.started_at is None:
            if state.cancel is not None:
                return [lambda: self._do(EndCancelled())]
            begin: Move = lambda: self._do(Begin(version="1"))  # noqa: E731  # one of several moves
            return [begin, begin, lambda: self._do(SetInput(input=self._payload())), *pause, *cancel]
        return [
            *self._beginnings(),
            *self._ends_of_attempts(),
            *self._further_attempts(),
            *self._of_waits(),
            *self._notes(),
            *pause,
            *cancel,
            *self._endings(),
        ]

    def _beginnings(self) -> list[Move]:
        return [
            self._start_task,
            self._start_task,
            self._start_child,
            lambda: self._wait("timer"),
            lambda: self._wait("signal"),
            lambda: self._wait("event"),
            lambda: self._wait("input"),
        ]

    def _start_task(self) -> None:
        data = self._payload()
        path = self._path(self._draw(_NAMES))
        self._do(StartAttempt(path=path, input=data, fingerprint=content_hash(bytes(data))))

    def _start_child(self) -> None:
        path, data = self._path("child"), self._payload()
        fingerprint = content_hash(bytes(data))
        self._do(StartAttempt(path=path, step="child", input=data, fingerprint=fingerprint, child=f"run-1/{path}"))

    def _ends_of_attempts(self) -> list[Move]:
        moves: list[Move] = []
        for path, step in self._state.steps.items():
            if step.in_flight:
                moves += [
                    partial(self._complete, path, step.attempt),
                    partial(self._fail, path, step.attempt, is_child=bool(step.child)),
                ]
        return moves

    def _complete(self, path: StepPath, attempt: int) -> None:
        self._do(CompleteAttempt(path, attempt, self._payload()))

    def _fail(self, path: StepPath, attempt: int, *, is_child: bool) -> None:
        error = Failure("ValueError", self._draw(st.text(max_size=8)), ("Exception",))
        chance = self._draw(st.floats(0, 1, exclude_max=True))
        self._do(FailAttempt(path, attempt, error, ONCE if is_child else _POLICY, chance))

    def _further_attempts(self) -> list[Move]:
        moves: list[Move] = []
        for path, step in self._state.steps.items():
            moves.append(partial(self._do, CancelStep(path)))
            if step.child:
                continue
            # After a retry's delay, or because a crash has cut off the one before.
            moves.append(partial(self._try_again, path, step.retry_at))
            if step.in_flight:
                moves.append(partial(self._keep_chunks, path, step.attempt))
            else:
                moves.append(partial(self._edit, path))
        return [*moves, *(partial(self._do, StartAttempt(path=path, attempt=2)) for path in self._withdrawn())]

    def _edit(self, path: StepPath) -> None:
        self._do(EditStep(path, self._payload(), by=self._draw(_PEOPLE)))

    def _withdrawn(self) -> list[StepPath]:
        """Steps whose failures were withdrawn by a retry of the run and that have not begun again."""
        return [path for path in self._attempts if path not in self._state.steps]

    def _try_again(self, path: StepPath, at: int | None) -> None:
        self._now = max(self._now, at or self._now)
        self._do(StartAttempt(path=path))

    def _keep_chunks(self, path: StepPath, attempt: int) -> None:
        chunks = self._draw(st.lists(st.text(max_size=4), min_size=1, max_size=3))
        self._do(KeepChunks(path, attempt, self._chunks + 1, msgspec.Raw(msgspec.json.encode(chunks))))
        self._chunks += len(chunks)

    # -- waits --------------------------------------------------------------------------------------------------

    def _wait(self, kind: WaitKind) -> None:
        name = "" if kind == "timer" else self._draw(_NAMES)
        due = self._draw(_MOMENTS.map(lambda wait: self._now + wait) | (st.nothing() if kind == "timer" else st.none()))
        spec = NO_PAYLOAD
        if kind == "input":
            quorum = self._draw(st.integers(0, 2))
            reminders = tuple(sorted(self._draw(st.lists(_MOMENTS, max_size=2))))
            spec = msgspec.Raw(msgspec.json.encode(InputSpec(f"{name}?", quorum=quorum, reminders=reminders)))
        elif kind == "event":
            spec = msgspec.Raw(msgspec.json.encode(EventSpec(since=self._now)))
        self._do(StartWait(self._path(f"{kind}:{name}" if name else kind), kind, name, due, spec))

    def _of_waits(self) -> list[Move]:
        moves: list[Move] = []
        for path, wait in self._state.waits.items():
            moves.append(partial(self._do, WithdrawWait(path)))
            if wait.wait == "timer":
                moves.append(partial(self._do, SatisfyWait(path)))
                continue
            if wait.due is not None:
                moves.append(partial(self._do, TimeOutWait(path)))
            if wait.wait == "input":
                moves += self._of_request(path)
            else:
                moves.append(partial(self._satisfy, path, is_event=wait.wait == "event"))
        return moves

    def _satisfy(self, path: StepPath, *, is_event: bool) -> None:
        position = max(self._state.cursors.values(), default=0) + 1 if is_event else 0
        self._do(SatisfyWait(path, self._payload(), by=self._draw(_PEOPLE), position=position))

    def _of_request(self, path: StepPath) -> list[Move]:
        moves: list[Move] = [
            lambda: self._answer(path),
            lambda: self._do(WithdrawInput(path, by=self._draw(_PEOPLE))),
            lambda: self._do(ReassignInput(path, who=("Ada",), by=self._draw(_PEOPLE))),
        ]
        if self._state.asked[path].remind_at is not None:
            moves.append(partial(self._do, RemindInput(path)))
        return moves

    def _answer(self, path: StepPath) -> None:
        spec = read_input_spec(self._state.waits[path].spec)
        payload, by = self._payload(), self._draw(_PEOPLE)
        self._do(AnswerInput(path, payload, by))
        answers = [(who, data) for who, data, _ in self._state.asked[path].answers]
        if is_settled(spec, answers):
            self._do(SatisfyWait(path, payload, by=by))

    # -- the rest -----------------------------------------------------------------------------------------------

    def _notes(self) -> list[Move]:
        return [
            lambda: self._do(SetState(self._draw(_NAMES), self._payload(), self._path("ctx.state"))),
            lambda: self._do(RecordValue(self._path("ctx.random"), "random", msgspec.Raw(b"0.5"))),
            lambda: self._do(Upgrade("2", self._draw(_PEOPLE))),
            lambda: self._do(RecordFact(self._draw(_FACTS)(self._path("node")))),
        ]

    def _endings(self) -> list[Move]:
        error = Failure("ValueError", "the body has failed", ("Exception",))
        moves: list[Move] = [
            lambda: self._do(CompleteRun(self._payload())),
            lambda: self._do(FailRun(error, tuple(dict.fromkeys(self._lost)))),
        ]
        return [*moves, lambda: self._do(EndCancelled())] if self._state.cancel is not None else moves

    def _retry(self) -> None:
        self._retries += 1
        self._attempts = dict.fromkeys(self._state.failed_steps, 1)
        self._do(RetryRun(by=self._draw(_PEOPLE)))
        self._lost.clear()
