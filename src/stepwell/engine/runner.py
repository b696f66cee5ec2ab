"""What drives one run: takes what has happened, lets the program move, journals what follows, then acts on it.

Everything happens in `_pump`, a plain callback of the loop. One pump takes all that has arrived, decides, delivers
outcomes to the program turn by turn, and appends the resulting entries in one transaction; attempts are launched
when that transaction is on disk (`durability="sync"`). While it is being written the next outcomes gather, so a
busy run commits in groups by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.ctx import Done
from stepwell.authoring.workflow import Workflow
from stepwell.engine import sending
from stepwell.engine.children import ChildBody, ChildDesk
from stepwell.engine.executor import Attempt
from stepwell.engine.feed import Live
from stepwell.engine.inbox import Inbox
from stepwell.engine.ledger import Launches, Ledger, in_store, not_in_store
from stepwell.engine.performing import Performance
from stepwell.engine.steps import StepDesk
from stepwell.engine.streams import StreamDesk
from stepwell.engine.verbs import VerbDesk
from stepwell.engine.waits import ABOUT_WAITS, WaitDesk
from stepwell.model.commands import (
    AnyCommand,
    CancelStep,
    CompleteRun,
    EndCancelled,
    FailRun,
    Pause,
    RecordFact,
    RecordValue,
    RetryRun,
    SetState,
    StartWait,
    WithdrawWait,
)
from stepwell.model.decide import decide
from stepwell.model.entries import (
    NO_PAYLOAD,
    AnyEntry,
    OnChange,
    PauseCause,
    RunCancelRequested,
)
from stepwell.model.ids import StepPath
from stepwell.model.state import State, evolve
from stepwell.programs.matching import Records
from stepwell.programs.protocol import CancelChild, ChildRequest, PublishEvent, Request, SendSignal, StepRequest
from stepwell.stores.protocol import Append, Message, Store, Stored
from stepwell.stores.tables import NewEvent

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine

_log = logging.getLogger("stepwell.engine")

_FOR_WAITS = frozenset({"signal", "answer", "withdraw", "reassign"})


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
        records: Records | None,
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
        self.store = store
        self.epoch = epoch
        self.steps = StepDesk(self)
        self.waits = WaitDesk(self)
        self.inbox = Inbox(self)
        self.ledger = Ledger(self, epoch)
        self._streams: StreamDesk | None = None
        self._children: ChildDesk | None = None
        self.now = 0
        self._is_suspect = claims > 1
        self._told = state.status
        self._sync = state.durability == "sync"
        self.body = Performance(self, records, blobs)
        self._releasing = False
        self._want_release = False
        self._is_cut_off = False
        self._scheduled = False
        self._missed = False
        self._idle_alarm: asyncio.TimerHandle | None = None
        for message in messages:
            self.inbox.receive(message, in_order=True)

    # Parts that most runs never need: thousands of runs are in memory, and what each of them holds costs time.

    @property
    def streams(self) -> StreamDesk:
        """What its attempts emit."""
        if self._streams is None:
            self._streams = StreamDesk(self)
        return self._streams

    @property
    def children(self) -> ChildDesk:
        """The runs that it has started, and the one that has started it."""
        if self._children is None:
            self._children = ChildDesk(self)
        return self._children

    # -- from outside: what has happened ------------------------------------------------------------------------

    def wake(self) -> None:
        """Pump soon."""
        if not self._scheduled and not self.gone:
            self._scheduled = True
            self.engine.loop.call_soon(self._pump, context=self.engine.context)

    @property
    def is_leaving(self) -> bool:
        """Whether it is given up: what comes now is for whoever drives the run next, perhaps this engine again."""
        return self.gone or self._releasing

    @property
    def is_idle(self) -> bool:
        """Whether the run could be dropped from memory without stopping anything."""
        return not (
            self._scheduled
            or self.ledger.on_the_way
            or (self.ledger.entries and self.state.durability != "exit")
            or self.body.is_rebuilding
            or self.inbox.is_fetching
            or self.waits.is_scanning
            or self.steps.busy
        )

    def _pump(self) -> None:
        self._scheduled = False
        if self.gone or self._releasing or self._want_release:
            return
        if self.ledger.on_the_way and self._sync:
            self._missed = True
            return
        self._missed = False
        self.now = max(self.engine.clock.now(), self.state.updated_at)
        try:
            self.steps.take_outcomes()  # first: what is done when the run is cancelled, its body hears of, and can undo
            if self.state.deadline is not None:
                self.waits.check_deadline(self.now)
            self._take_messages()
            if not self.body.set_up():
                return
            self.body.advance()
            while not self.body.must_reload and self.waits.next(self.now):
                self.body.advance()
            self.steps.admit()
            if self._streams is not None:
                self._streams.flush()
        except Exception as error:
            self._set_aside_for(error)
        self._say_notes()
        self._commit()

    def _set_aside_for(self, error: Exception) -> None:
        """A fault of ours, or of code that we called: this run stops, kept and resumable; the others go on."""
        _log.exception("run %s is set aside", self.run_id, exc_info=error)
        if not self.gone and self.state.ended is None and self.state.pause is None:
            self.pause("body_error", f"{type(error).__name__}: {error}")

    # -- what the program asks ----------------------------------------------------------------------------------

    def serve(self, requests: Sequence[Request]) -> None:
        """Act on what the program asked for in its last turn."""
        for request in requests:
            self._take(request)

    def _take(self, request: Request) -> None:
        match request:
            case StepRequest():
                self.steps.request(request)
            case StartWait():
                self.waits.begin(request)
            case WithdrawWait():
                self.waits.withdraw(request)
            case RecordValue() | SetState():
                self.apply(request)
            case RecordFact():
                sending.record(self, request)
            case CancelStep():
                self._cancel_step(request)
            case ChildRequest():
                self.children.begin(request)
            case CancelChild():
                self.children.cancel(request.path)
            case PublishEvent():
                sending.publish(self, request)
            case SendSignal():
                sending.signal(self, request)
            case CompleteRun():
                inline, blob = self.ledger.stow(request.output)
                self.end(CompleteRun(output=inline, output_blob=blob), request.output)
            case FailRun() | EndCancelled():
                self.end(request, NO_PAYLOAD)
            case _:
                assert_never(request)

    # -- decisions ----------------------------------------------------------------------------------------------

    def apply(self, command: AnyCommand) -> Sequence[AnyEntry]:
        """Decide, fold and gather for the next commit."""
        entries = decide(self.state, command, self.now)
        for entry in entries:
            if type(entry) in ABOUT_WAITS:
                self.waits.evolve(entry)
            else:
                evolve(self.state, entry)
            self.ledger.entries.append(entry)
            self.body.recorded(entry)
        return entries

    def publish(self, event: NewEvent) -> None:
        """Publish with the next commit; a run in memory, whose commits nobody else sees, at once."""
        if self.is_volatile:
            self.engine.topics.publish((event,))
        else:
            self.ledger.beside.events.append(event)

    def consume(self, message: Message) -> None:
        """The message is used up by the next commit."""
        self.ledger.beside.consumed.append(message.id)

    def pause(self, cause: PauseCause, reason: str, by: str = "") -> None:
        """Start nothing more; what is in flight goes on."""
        self.apply(Pause(cause=cause, reason=reason, by=by))
        self.steps.pause()
        self.waits.disarm()

    def unpause(self, *, reload: bool = True) -> None:
        """Go on; a body that stands where it cannot is made anew, with today's code and the policy given."""
        self.steps.unpause()
        self.body.must_reload = reload and self.body.is_set_aside

    def retry(self, by: str, reason: str, on_change: OnChange | None) -> None:
        """Go on from what ended the run: the run is read anew, since what is withdrawn changes what came before."""
        self.apply(RetryRun(by=by, reason=reason, on_change=on_change))
        self.body.must_reload = True

    def cancel_body(self, requested: RunCancelRequested) -> None:
        """Let the body hear that it is to end; one that is not there yet hears of it when it is rebuilt."""
        self.body.hear_of_cancel(requested)

    def end(self, command: CompleteRun | FailRun | EndCancelled, output: msgspec.Raw) -> None:
        """The run has come to its end: what is open is cancelled, and its parent is told."""
        for path in list(self.state.steps):
            self._stop_step(path)
        self.apply(command)
        self.steps.drop_all()
        self.waits.disarm()
        if self.state.parent_step is not None:
            self.children.tell_parent(*self.ledger.stow(output))

    def _cancel_step(self, request: CancelStep) -> None:
        self._stop_step(request.path)
        self.apply(request)

    def _stop_step(self, path: StepPath) -> None:
        self.children.cancel(path)
        self.steps.cancel(path)

    def _take_messages(self) -> None:
        while message := self.inbox.take():
            if message.kind in _FOR_WAITS:
                self.waits.keep(message)
                continue
            self.consume(message)
            if message.kind == "child":
                self.children.heard(msgspec.json.decode(message.body, type=ChildBody))
            elif message.kind == "outcome":
                self.steps.heard(message)
            else:
                VerbDesk(self).take(message)

    # -- what attempts want of their run ------------------------------------------------------------------------

    @property
    def is_volatile(self) -> bool:
        """Whether the run is in memory only, beside the engine's store."""
        return self.store is self.engine.volatile

    def emit(self, attempt: Attempt, chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        """Take a chunk of an attempt's stream."""
        return Done() if self.gone else self.streams.emit(attempt, chunk, usage)

    def usage_of(self, attempt: Attempt) -> dict[str, int]:
        """What an attempt that has ended has used; what it has emitted is journaled before its outcome."""
        return {} if self._streams is None else self._streams.ended(attempt)

    def posted(self, message: Message) -> None:
        """A message for this run is in the store."""
        self.engine.mailboxes.heard(message)

    # -- commits ------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        ended = self.state.ended is not None
        if self.ledger.is_empty:
            if self._is_suspect:
                # Its body was rebuilt and waits, for a slot perhaps: whatever ends the workers, it is not this run.
                self._append((), release=False)
            else:
                self._rest()
            return
        if self.body.must_reload:
            self._is_cut_off = True
            self.steps.drop_all()
            self._append((), release=True)
            return
        launches = self.steps.take_launches()
        if self.state.durability == "exit" and not (ended or self._is_needed(launches)):
            self._act(launches)
            self._rest()
            return
        self._append(launches, release=ended)
        if not self._sync and not ended:
            self._rest()

    def _is_needed(self, launches: Launches) -> bool:
        """Whether what has gathered must be in the store before the run's end."""
        return bool(self.state.pause or self.ledger.reaches_out or in_store(launches) or self._stands_still)

    @property
    def _stands_still(self) -> bool:
        """Whether its queue must hear that it waits: perhaps for a child run which the queue keeps back for it."""
        return bool(self.state.queue) and self.state.status == "waiting" and self._told != "waiting"

    def _append(self, launches: Launches, *, release: bool) -> None:
        self._is_suspect = False
        self._told = self.state.status
        self._releasing = release
        state, wake_at = self.state, self._wake_at()
        seen = self.inbox.seen() if release else 0
        heard = self.waits.heard() if release and state.pause is None and state.ended is None else {}
        self.ledger.append(state, launches, at=self.now, wake_at=wake_at, release=release, seen=seen, heard=heard)
        if not self._sync:
            self._act(not_in_store(launches))

    def _wake_at(self) -> int | None:
        if self.state.ended:
            return None
        if self.state.pause is not None:
            return self.state.deadline if self.state.cancel is None else None
        if self._is_cut_off:
            return self.now
        return self.state.next_due if self.state.waits or self.state.attempts_in_flight == 0 else None

    def committed(self, append: Append, launches: Launches) -> None:
        """An append is on disk."""
        try:
            self._go_on(append, launches)
        except Exception as error:  # in a callback of the store nobody else would hear of it
            self._set_aside_for(error)
            self.wake()

    def _go_on(self, append: Append, launches: Launches) -> None:
        self.engine.committed(self, append)
        if self.gone:
            return
        if append.children:
            self.children.committed()
        if append.release:
            self._leave()
            return
        if self._want_release and not self.ledger.on_the_way:
            self._release_now()
            return
        if append.opened:
            self.waits.committed()
        if self._streams is not None:
            self._streams.committed()
        self._act(launches if self._sync else in_store(launches))
        self._rest()

    def _act(self, launches: Launches) -> None:
        for attempt in launches:
            if attempt.over:
                continue
            if attempt.extras is not None and attempt.extras.cache_key:
                self.engine.caching.launch(attempt)
            else:
                self.engine.executor.launch(attempt)

    def _rest(self) -> None:
        """Nothing to write: wait, and be dropped from memory after a while if nothing happens."""
        if self.gone:
            return
        if self._missed or self.inbox.has_some or (self.body.has_deliveries and self.state.pause is None):
            self.wake()
        self.waits.arm()
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()
            self._idle_alarm = None
        early = self.state.is_early(self.now)
        if (early or self.state.status not in ("running", "pending")) and self.is_idle:
            pause = self.state.pause
            at_once = early or (pause is not None and pause.cause != "request")
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
        due = self.state.next_due
        if due is not None and due <= self.engine.clock.now() and self.state.pause is None:
            return False  # its alarm is about to ring: dropped now, it would come straight back
        self.steps.drop_all()  # a retry that comes due before the store has answered must not take a slot
        self._append((), release=True)
        return True

    def release(self) -> None:
        """Give the run up at shutdown; attempts still in flight are left to whoever claims it next."""
        if self.gone or self._releasing or self._want_release:
            return
        self._want_release = True
        if not self.ledger.on_the_way:
            self._release_now()

    def _release_now(self) -> None:
        self.now = max(self.engine.clock.now(), self.state.updated_at)
        if self.body.is_there:
            self.steps.take_outcomes()
        self._is_cut_off = bool(
            self.steps.busy
            or self.body.has_deliveries
            or (self.state.status in ("running", "pending") and not self.state.is_early(self.now))
        )
        self.steps.drop_all()
        self._append((), release=True)

    def abandon(self) -> None:
        """Leave without a word: the run belongs to another worker now."""
        if not self.gone:
            self._leave()

    def _leave(self) -> None:
        self.gone = True
        self.steps.drop_all()
        self.waits.close()
        if self._streams is not None:
            self._streams.close()
        self.ledger.close()
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()
        self.body.close()
        self.engine.left(self)
        # The parts hold the runner and the runner holds them: such a ring is left to the garbage collector, which with
        # thousands of runs took longer than the runs (half of the time of starting sleepers). So the ring is opened.
        del self.steps, self.waits, self._streams, self._children, self.inbox, self.ledger, self.body

    # -- what is said -------------------------------------------------------------------------------------------

    def _say_notes(self) -> None:
        for note in self.body.take_notes():
            self.engine.feed.say(Live(self.run_id, note.kind, self.now, note.fields, note.step))
        if self.body.has_maps:
            self.engine.tick(self)

    def stored(self, append: Append) -> list[Stored]:
        """What a commit added, as readers see it."""
        return [Stored(append.seq + n, append.epoch, entry) for n, entry in enumerate(append.entries)]
