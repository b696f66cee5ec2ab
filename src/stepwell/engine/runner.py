"""What drives one run: takes what has happened, lets the program move, journals what follows, then acts on it.

Everything happens in `_pump`, a plain callback of the loop. One pump takes all that has arrived, decides, delivers
outcomes to the program turn by turn, and appends the resulting entries in one transaction; attempts are launched
when that transaction is on disk (`durability="sync"`). While it is being written the next outcomes gather, so a
busy run commits in groups by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.workflow import Workflow
from stepwell.engine.executor import Attempt
from stepwell.engine.feed import Live
from stepwell.engine.steps import StepDesk
from stepwell.engine.waits import WaitDesk
from stepwell.errors import Fenced, RequestRefused, StoreError
from stepwell.model.codec import content_hash
from stepwell.model.commands import (
    AnyCommand,
    Begin,
    CancelStep,
    CompleteAttempt,
    CompleteRun,
    EndCancelled,
    FailAttempt,
    FailRun,
    Pause,
    RecordValue,
    RequestCancel,
    Resume,
    RetryRun,
    SetState,
    StartAttempt,
    StartWait,
    WithdrawWait,
)
from stepwell.model.decide import decide
from stepwell.model.entries import (
    INLINE_LIMIT,
    NO_PAYLOAD,
    AnyEntry,
    OnChange,
    PauseCause,
    RunCancelRequested,
    RunCreated,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import TERMINAL
from stepwell.model.retry import ONCE
from stepwell.model.state import State, evolve
from stepwell.programs.function import FunctionProgram
from stepwell.programs.matching import Delivery, Records
from stepwell.programs.protocol import ChildRequest, StepRequest
from stepwell.stores.protocol import Append, Message, NewMessage, NewRun, Store, Stored

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine

_log = logging.getLogger("stepwell.engine")

REPLAY_CHUNK = 500
"""Deliveries per callback while a body is rebuilt, so that a long journal does not hold up the loop."""

CLAIMS_WITHOUT_PROGRESS = 5
"""A run claimed this often without its journal growing is set aside as stuck."""


class VerbBody(msgspec.Struct, frozen=True):
    """What a pause, resume, cancel or retry message carries."""

    reason: str = ""
    on_change: OnChange | None = None


class ChildBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an ended child run tells its parent."""

    path: StepPath
    output: msgspec.Raw = NO_PAYLOAD
    output_blob: str = ""
    error: Failure | None = None


class Runner:
    """Drives one run for one engine, from claim to release."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        workflow: Workflow[..., Any],  # Any: whatever it returns
        state: State,
        epoch: int,
        *,
        history: Sequence[AnyEntry],
        blobs: dict[str, bytes],
        messages: Sequence[Message],
        claims: int = 0,
    ) -> None:
        self.engine = engine
        self.state = state
        self.run_id = state.run_id
        self.identity = Identity(state.run_id, state.workflow, state.parent, state.root)
        self.workflow = workflow
        self.gone = False
        self.steps = StepDesk(self)
        self.waits = WaitDesk(self)
        self.store = store
        self._epoch = epoch
        self._is_suspect = claims > 1
        self._sync = state.durability == "sync"
        self._history: list[AnyEntry] | None = list(history)
        self._payloads = blobs
        self._program: FunctionProgram | None = None
        self._replaying: deque[Delivery] = deque()
        self._known_messages: set[int] = set()
        self._messages: deque[Message] = deque()
        self._fetching: set[int] = set()
        self._deliveries: deque[tuple[Delivery, msgspec.Raw]] = deque()
        self._entries: list[AnyEntry] = []
        self._consumed: list[int] = []
        self._new_runs: list[NewRun] = []
        self._posts: list[NewMessage] = []
        self._blobs: dict[str, bytes] = {}
        self._next_seq = state.seq + 1
        self._last_message = 0
        self._committing = 0
        self._releasing = False
        self._want_release = False
        self._must_reload = False
        self._is_cut_off = False
        self._scheduled = False
        self._missed = False
        self._refusals: list[tuple[Append, list[Attempt]]] = []
        self._retry_alarm: asyncio.TimerHandle | None = None
        self._idle_alarm: asyncio.TimerHandle | None = None
        self._now = 0
        for message in messages:
            self.receive(message, in_order=True)

    # -- from outside: what has happened ------------------------------------------------------------------------

    def receive(self, message: Message, *, in_order: bool = False) -> None:
        """A message of the run's mailbox; one that is known already is ignored.

        `in_order` says that every earlier one was received before: only such a message proves that none is missing
        up to it. One that this process has posted may overtake another that is still to be read from the store.
        """
        if in_order:
            self._last_message = max(self._last_message, message.id)
        if message.id in self._known_messages:
            return
        self._known_messages.add(message.id)
        blob = msgspec.json.decode(message.body, type=ChildBody).output_blob if message.kind == "child" else ""
        if blob:
            self._fetching.add(message.id)
            self.engine.fetch(self.store, blob, lambda data: self._receive_with(message, blob, data))
        else:
            self._messages.append(message)
            self.wake()

    def _receive_with(self, message: Message, blob: str, data: bytes) -> None:
        self._fetching.discard(message.id)
        self._payloads[blob] = data
        self._messages.append(message)
        self.wake()

    def wake(self) -> None:
        """Pump soon."""
        if not self._scheduled and not self.gone:
            self._scheduled = True
            self.engine.loop.call_soon(self._pump, context=self.engine.context)

    @property
    def is_idle(self) -> bool:
        """Whether the run could be dropped from memory without stopping anything."""
        return not (
            self._scheduled
            or self._committing
            or (self._entries and self.state.durability != "exit")
            or self._replaying
            or self._fetching
            or self.steps.busy
        )

    def _pump(self) -> None:
        self._scheduled = False
        if self.gone or self._releasing or self._want_release:
            return
        if self._committing and self._sync:
            self._missed = True
            return
        self._missed = False
        self._now = max(self.engine.clock.now(), self.state.updated_at)
        try:
            self._take_messages()
            if not self._set_up():
                return
            self.steps.take_outcomes()
            self.waits.fire_due(self._now)
            self._advance()
            self.steps.admit()
        except Exception as error:
            self._set_aside_for(error)
        self._say_notes()
        self._commit()

    def _set_aside_for(self, error: Exception) -> None:
        """A fault of ours, or of code that we called: this run stops, kept and resumable; the others go on."""
        _log.exception("run %s is set aside", self.run_id, exc_info=error)
        if self.state.ended is None and self.state.pause is None:
            self._pause("body_error", f"{type(error).__name__}: {error}")

    # -- the body -----------------------------------------------------------------------------------------------

    def _set_up(self) -> bool:
        """Make the program, or go on rebuilding it; False while that takes further callbacks."""
        if self._replaying:
            return self._replay_some()
        if self._program is not None or self.state.ended is not None or self.state.pause is not None:
            return True
        state = self.state
        fresh = state.started_at is None
        history = [*(self._history or ()), *self._entries]
        self._history = None
        body_input = self._payload(state.input, state.input_blob)
        self._program = FunctionProgram(
            self.workflow,
            self.identity,
            body_input,
            clock=self.engine.clock.now,
            chance=self.engine.chance,
            threads=self.engine.bodies,
            records=None if fresh else Records(history),
            on_change=state.on_change,
        )
        if fresh:
            if state.cancel is not None:
                self._end(EndCancelled(), NO_PAYLOAD)
                return True
            self.apply(Begin(version=self.workflow.version))
            self._program.begin(self._now)
            return True
        assert state.started_at is not None, "a run whose body began has its time"
        self._replaying.extend(self._program.recorded.deliveries)
        self._program.begin(state.started_at)
        return self._replay_some()

    def _replay_some(self) -> bool:
        program = self._program
        assert program is not None, "only a program is replayed"
        for _ in range(REPLAY_CHUNK):
            if not self._replaying or program.divergence is not None or program.ended:
                self._replaying.clear()
                self._payloads = {}
                program.go_live()
                return True
            delivery = self._replaying.popleft()
            program.deliver(delivery, self._payload_of(delivery))
        self.wake()
        return False

    def _payload_of(self, delivery: Delivery) -> msgspec.Raw:
        match delivery:
            case StepCompleted():
                return self._payload(delivery.output, delivery.output_blob)
            case StepFailed() | RunCancelRequested():
                return NO_PAYLOAD
            case _:
                return self._payload(getattr(delivery, "payload", NO_PAYLOAD), getattr(delivery, "payload_blob", ""))

    def _payload(self, inline: msgspec.Raw, blob: str) -> msgspec.Raw:
        return msgspec.Raw(self._payloads[blob]) if blob else inline

    def _advance(self) -> None:
        """Let the program move until it waits, one delivery a turn."""
        program = self._program
        if program is None or self.state.pause is not None or self._must_reload:
            return
        self._serve(program)
        while self._deliveries and self.state.ended is None and self.state.pause is None:
            delivery, payload = self._deliveries.popleft()
            program.deliver(delivery, payload)
            self._serve(program)

    def _serve(self, program: FunctionProgram) -> None:
        if program.divergence is not None:
            self._pause("code_change", program.divergence.explain())
            return
        while self.state.ended is None and (requests := program.take_requests()):
            for request in requests:
                self._take(request)
        if program.deadlock and self.state.ended is None and not self._deliveries:
            self._pause("deadlock", program.deadlock)

    def _take(self, request: object) -> None:
        match request:
            case StepRequest():
                self.steps.request(request)
            case StartWait():
                self.waits.begin(request)
            case WithdrawWait():
                self.waits.withdraw(request)
            case RecordValue() | SetState():
                self.apply(request)
            case CancelStep():
                self._cancel_step(request)
            case ChildRequest():
                self._start_child(request)
            case CompleteRun():
                inline, blob = self.stow(request.output)
                self._end(CompleteRun(output=inline, output_blob=blob), request.output)
            case FailRun() | EndCancelled():
                self._end(request, NO_PAYLOAD)
            case _:
                raise AssertionError(request)

    # -- decisions ----------------------------------------------------------------------------------------------

    def apply(self, command: AnyCommand) -> Sequence[AnyEntry]:
        """Decide, fold and gather for the next commit."""
        entries = decide(self.state, command, self._now)
        for entry in entries:
            evolve(self.state, entry)
            self._entries.append(entry)
        return entries

    def deliver_later(self, delivery: Delivery, payload: msgspec.Raw) -> None:
        """The program hears of it in a turn of its own."""
        self._deliveries.append((delivery, payload))

    def stow(self, payload: msgspec.Raw) -> tuple[msgspec.Raw, str]:
        """What an entry carries for a payload: itself, or the hash under which it is kept."""
        if len(memoryview(payload)) <= INLINE_LIMIT:
            return payload, ""
        data = bytes(payload)
        digest = content_hash(data)
        self._blobs[digest] = data
        return NO_PAYLOAD, digest

    def consume(self, message: Message) -> None:
        """The message is used up by the next commit."""
        self._consumed.append(message.id)

    def _pause(self, cause: PauseCause, reason: str, by: str = "") -> None:
        self.apply(Pause(cause=cause, reason=reason, by=by))
        self.steps.pause()
        self.waits.disarm()

    def _end(self, command: CompleteRun | FailRun | EndCancelled, output: msgspec.Raw) -> None:
        for path in list(self.state.steps):
            self._stop_step(path)
        self.apply(command)
        self.steps.drop_all()
        self.waits.disarm()
        if self.state.parent is not None and self.state.parent_step is not None:
            self._tell_parent(self.state.parent, self.state.parent_step, output)

    def _tell_parent(self, parent: str, step: StepPath, output: msgspec.Raw) -> None:
        error = self.state.error
        if self.state.ended == "cancelled":
            error = Failure("stepwell.errors.RunCancelled", f"child run {self.run_id} was cancelled", retryable=False)
        inline, blob = self.stow(output)
        body = ChildBody(step, inline if inline is not NO_PAYLOAD else NO_PAYLOAD, blob, error)
        self._posts.append(NewMessage(parent, "child", str(step), msgspec.json.encode(body), self._now, by=self.run_id))

    # -- messages -----------------------------------------------------------------------------------------------

    def _take_messages(self) -> None:
        while self._messages:
            message = self._messages.popleft()
            if message.kind == "signal":
                self.waits.keep(message)
            else:
                self._take_verb(message)

    def _take_verb(self, message: Message) -> None:
        self.consume(message)
        try:
            if message.kind == "child":
                self._take_child(msgspec.json.decode(message.body, type=ChildBody))
                return
            body = msgspec.json.decode(message.body, type=VerbBody) if message.body else VerbBody()
            match message.kind:
                case "pause":
                    self._pause("request", body.reason, message.by)
                case "resume":
                    self.apply(Resume(by=message.by, reason=body.reason, on_change=body.on_change))
                    self._unpause()
                    # A body that stands where it cannot go on is made anew, with today's code and the policy given.
                    self._must_reload = self._program is not None and self._program.is_set_aside
                case "cancel":
                    self._cancel(message.by, body.reason)
                case "retry":
                    self.apply(RetryRun(by=message.by, reason=body.reason, on_change=body.on_change))
                case _:
                    _log.warning("run %s: a message of kind %s is not for functions", self.run_id, message.kind)
        except RequestRefused as refused:
            # It was accepted when it came and the run has moved since: nothing is left to do.
            _log.info("run %s: %s came too late: %s", self.run_id, message.kind, refused)

    def _unpause(self) -> None:
        self.steps.unpause()
        self.waits.match_all()

    def _cancel(self, by: str, reason: str) -> None:
        body_can_hear = self._program is not None or (self.state.pause is None or self.state.pause.cause == "request")
        if self.state.pause is not None:
            body_can_hear = body_can_hear and self.state.pause.cause in ("request", "deadlock")
            self.apply(Resume(by=by, reason="to be cancelled"))
            self._unpause()
        for entry in self.apply(RequestCancel(by=by, reason=reason)):
            if not body_can_hear:
                self._end(EndCancelled(), NO_PAYLOAD)
            elif isinstance(entry, RunCancelRequested) and self._program is not None:
                self._program.deadlock = ""
                self.deliver_later(entry, NO_PAYLOAD)

    # -- child runs ---------------------------------------------------------------------------------------------

    def _start_child(self, request: ChildRequest) -> None:
        if not request.awaited:
            payload = msgspec.Raw(msgspec.json.encode(request.run_id))
            self.apply(RecordValue(path=request.path, value="start", payload=payload))
            self._new_runs.append(self._new_run(request))
            return
        if request.path in self.state.steps:
            return  # it was started before a restart and tells us when it ends
        inline, blob = self.stow(request.input)
        self.apply(
            StartAttempt(
                path=request.path,
                step="child",
                input=inline,
                input_blob=blob,
                fingerprint=request.fingerprint,
                child=request.run_id,
                attempt=request.attempt,
            )
        )
        if request.attempt > 1:
            body = msgspec.json.encode(VerbBody(reason=f"run {self.run_id} is retried"))
            self._posts.append(NewMessage(request.run_id, "retry", "", body, self._now, by=self.run_id))
        else:
            self._new_runs.append(self._new_run(request))

    def _new_run(self, request: ChildRequest) -> NewRun:
        self.engine.register(request.workflow)
        inline, blob = self.stow(request.input)
        own = request.new_identity
        created = RunCreated(
            at=self._now,
            run_id=request.run_id,
            workflow=request.workflow.name,
            version=request.workflow.version,
            root=request.run_id if own else self.state.root,
            parent=None if own else self.run_id,
            parent_step=request.path if request.awaited else None,
            input=inline,
            input_blob=blob,
            seed=self.engine.chance.getrandbits(48),
            priority=self.state.priority,
            durability=self.state.durability,
            by=self.run_id,
        )
        return NewRun(
            run_id=created.run_id,
            workflow=created.workflow,
            version=created.version,
            root=created.root,
            parent=created.parent,
            priority=created.priority,
            labels={},
            input_hash=content_hash(bytes(request.input)),
            created_at=self._now,
            wake_at=self._now,
            entries=(created,),
        )

    def _take_child(self, body: ChildBody) -> None:
        step = self.state.steps.get(body.path)
        if step is None:
            return
        if body.error is not None:
            command: AnyCommand = FailAttempt(body.path, step.attempt, body.error, ONCE, 0.0)
        else:
            command = CompleteAttempt(body.path, step.attempt, body.output, body.output_blob)
        for entry in self.apply(command):
            if isinstance(entry, StepCompleted | StepFailed):
                self.deliver_later(entry, self._payload(body.output, body.output_blob))

    def _cancel_step(self, request: CancelStep) -> None:
        self._stop_step(request.path)
        self.apply(request)

    def _stop_step(self, path: StepPath) -> None:
        step = self.state.steps.get(path)
        if step is not None and step.step == "child":
            body = msgspec.json.encode(VerbBody(reason=f"run {self.run_id} no longer waits for it"))
            self._posts.append(NewMessage(step.child, "cancel", "", body, self._now, by=self.run_id))
        self.steps.cancel(path)

    # -- commits ------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        ended = self.state.status in TERMINAL
        if not (self._entries or self._consumed or self._posts):
            if self._is_suspect:
                # Its body was rebuilt and waits, for a slot perhaps: whatever ends the workers, it is not this run.
                self._append([], release=False)
                return
            self._rest()
            return
        if self._must_reload:
            self._is_cut_off = True
            self.steps.drop_all()
            self._append([], release=True)
            return
        reaches_out = bool(self._new_runs or self._posts)  # other runs exist only by a commit, and are waited for
        if self.state.durability == "exit" and not (ended or reaches_out or self.state.pause is not None):
            self._act(self.steps.take_launches())
            self._rest()
            return
        self._append(self.steps.take_launches(), release=ended)
        if not self._sync and not ended:
            self._rest()

    def _append(self, launches: list[Attempt], *, release: bool) -> None:
        entries, self._entries = self._entries, []
        if self._history is not None:
            self._history.extend(entries)
        append = Append(
            run_id=self.run_id,
            epoch=self._epoch,
            seq=self._next_seq,
            entries=entries,
            status=self.state.status,
            wake_at=self._wake_at(),
            at=self._now,
            finished_at=self._now if self.state.ended else None,
            release=release,
            progress=not _is_only_again(entries),
            seen=self._seen() if release else 0,
            consumed=tuple(self._consumed),
            children=tuple(self._new_runs),
            posts=tuple(self._posts),
            blobs=self._blobs,
        )
        self._consumed, self._new_runs, self._posts, self._blobs = [], [], [], {}
        self._next_seq += len(entries)
        self._is_suspect = False
        self._committing += 1
        self._releasing = release
        self.engine.hint(len(launches))
        if self._refusals:
            self._refusals.append((append, launches))
        else:
            self._offer(append, launches)
        if not self._sync:
            self._act(launches)

    def _seen(self) -> int:
        """Up to which message nothing is missing and nothing still waits to be taken."""
        untaken = min((*self._fetching, *(message.id for message in self._messages)), default=None)
        return self._last_message if untaken is None else min(self._last_message, untaken - 1)

    def _wake_at(self) -> int | None:
        if self.state.pause is not None or self.state.ended:
            return None
        if self._is_cut_off:
            return self._now
        return self.state.next_due if self.state.waits or self.state.attempts_in_flight == 0 else None

    def _offer(self, append: Append, launches: list[Attempt]) -> None:
        future = self.store.append(append)
        if future.done():
            self._committed(append, launches, future)
        else:
            future.add_done_callback(lambda done: self._committed(append, launches, done))

    def _committed(self, append: Append, launches: list[Attempt], done: asyncio.Future[None]) -> None:
        error = done.exception()
        if error is not None:
            self._refused(append, launches, error)
            return
        self._committing -= 1
        self.engine.committed(self, append)
        if append.release:
            self._leave()
            return
        if self._want_release and not self._committing:
            self._release_now()
            return
        if self._sync:
            self._act(launches)
        self._rest()

    def _refused(self, append: Append, launches: list[Attempt], error: BaseException) -> None:
        if self.gone:
            return
        is_for_now = isinstance(error, StoreError) and error.retryable
        if is_for_now or (self._refusals and isinstance(error, Fenced)):
            # Appends that were on their way behind a refused one meet the fence because of it: offer all again, in
            # order, when the last of them has been answered.
            self._refusals.append((append, launches))
            if is_for_now:
                self.engine.degraded(error)  # type: ignore[arg-type]  # it is a StoreError
            if self._retry_alarm is None:
                clock = self.engine.clock
                self._retry_alarm = clock.call_at(clock.now() + self.engine.store_retry, self._offer_again)
            return
        _log.warning("run %s leaves this engine: %s", self.run_id, error)
        self._committing -= 1
        self._leave()

    def _offer_again(self) -> None:
        self._retry_alarm = None
        if self.gone:
            return
        if len(self._refusals) < self._committing:  # some are still on their way
            clock = self.engine.clock
            self._retry_alarm = clock.call_at(clock.now() + self.engine.store_retry, self._offer_again)
            return
        refused, self._refusals = sorted(self._refusals, key=lambda one: one[0].seq), []
        for append, launches in refused:
            self._offer(append, launches)

    def _act(self, launches: list[Attempt]) -> None:
        for attempt in launches:
            if not attempt.over:
                self.engine.executor.launch(attempt)

    def _rest(self) -> None:
        """Nothing to write: wait, and be dropped from memory after a while if nothing happens."""
        if self._missed or self._messages or (self._deliveries and self.state.pause is None):
            self.wake()
        self.waits.arm()
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()
            self._idle_alarm = None
        if self.state.status not in ("running", "pending") and self.is_idle:
            pause = self.state.pause
            at_once = pause is not None and pause.cause != "request"
            wait = 0 if at_once else self.engine.warm_wait
            clock = self.engine.clock
            self._idle_alarm = clock.call_at(clock.now() + wait, self._cool_down)

    def _cool_down(self) -> None:
        self._idle_alarm = None
        self.drop_if_idle()

    def drop_if_idle(self) -> bool:
        """Give the run up and drop its body, when nothing in it moves; it comes back when something is due."""
        if self.gone or self._releasing or not self.is_idle or self.state.durability == "memory":
            return False
        self._append([], release=True)
        return True

    def release(self) -> None:
        """Give the run up at shutdown; attempts still in flight are left to whoever claims it next."""
        if self.gone or self._releasing or self._want_release:
            return
        self._want_release = True
        if not self._committing:
            self._release_now()

    def _release_now(self) -> None:
        self._now = max(self.engine.clock.now(), self.state.updated_at)
        if self._program is not None:
            self.steps.take_outcomes()
        self._is_cut_off = bool(self.steps.busy or self._deliveries or self.state.status in ("running", "pending"))
        self.steps.drop_all()
        self._append([], release=True)

    def abandon(self) -> None:
        """Leave without a word: the run belongs to another worker now."""
        if not self.gone:
            self._leave()

    def _leave(self) -> None:
        self.gone = True
        self.steps.drop_all()
        self.waits.disarm()
        for alarm in (self._idle_alarm, self._retry_alarm):
            if alarm is not None:
                alarm.cancel()
        if self._program is not None:
            self._program.close()
            self._program = None
        self.engine.left(self)

    # -- what is said -------------------------------------------------------------------------------------------

    def _say_notes(self) -> None:
        program = self._program
        if program is None:
            return
        for note in program.notes:
            self.engine.feed.say(Live(self.run_id, note.kind, self._now, note.fields))
        program.notes.clear()
        if program.maps:
            self.engine.tick(self)

    def map_progress(self) -> dict[str, tuple[int, int, int]]:
        """Per map call of the body: how many items are done, of how many, and how many failed."""
        return {} if self._program is None else dict(self._program.maps)

    def stored(self, append: Append) -> list[Stored]:
        """What a commit added, as readers see it."""
        return [Stored(append.seq + n, append.epoch, entry) for n, entry in enumerate(append.entries)]


def _is_only_again(entries: Sequence[AnyEntry]) -> bool:
    """Whether these entries do nothing but start again what was in flight when a worker died."""
    return bool(entries) and all(isinstance(entry, StepStarted) and entry.attempt > 1 for entry in entries)
