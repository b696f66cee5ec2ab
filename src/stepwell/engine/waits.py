"""What a run waits for besides steps: timers, signals, events and people, satisfied one at a time.

One at a time, because the body moves in between: the loser of a race is withdrawn before what it waited for could be
given to it, so a signal, an answer or an event is never used up by a wait that nobody wants any more.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from stepwell.engine.questions import QuestionDesk
from stepwell.engine.topics import Subscription, subscription_for
from stepwell.engine.verbs import VerbDesk
from stepwell.model.commands import RequestCancel, SatisfyWait, StartWait, TimeOutWait, WithdrawWait
from stepwell.model.entries import (
    NO_PAYLOAD,
    NULL,
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
from stepwell.model.requests import read_event_spec
from stepwell.model.state import evolve
from stepwell.stores.protocol import Message

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner

Due = Literal["wait", "reminder"]

ABOUT_WAITS = frozenset(
    {
        WaitStarted,
        WaitSatisfied,
        WaitTimedOut,
        WaitWithdrawn,
        InputAnswered,
        InputReassigned,
        InputReminded,
        InputWithdrawn,
    }
)
"""Kinds of entries that `WaitDesk.evolve` folds."""


class WaitDesk:
    """The waits of one run: an alarm for the earliest that has a time, and what has come until somebody takes it."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._signals: dict[str, deque[Message]] = {}
        self._takers: dict[str, deque[StepPath]] = {}
        self._ready: deque[str] | None = None
        self._sent: deque[Message] | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._due: list[tuple[int, int, StepPath, Due]] = []
        self._begun = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0

    def evolve(self, entry: Any) -> None:  # Any: one of `ABOUT_WAITS`
        """Fold an entry about a wait; those that others must find are put right in the store with it."""
        state = self._runner.state
        wait = state.waits.get(entry.path)
        evolve(state, entry)
        kind = entry.wait if isinstance(entry, WaitStarted) else wait.wait if wait is not None else ""
        if kind in ("input", "event"):
            QuestionDesk(self._runner).noticed(entry)

    # -- what the program asks ----------------------------------------------------------------------------------

    def begin(self, request: StartWait) -> None:
        """The program waits; a wait that the journal has already is only armed again."""
        state = self._runner.state
        is_known = request.path in state.waits
        if not is_known:
            self._runner.apply(request)
        wait = state.waits[request.path]
        if wait.due is not None:
            self._due_at(wait.due, request.path, "wait")
        match wait.wait:
            case "signal":
                self._takers.setdefault(wait.name, deque()).append(wait.path)
                self._look_at(wait.name)
            case "event":
                self._subscribe(wait, is_committed=is_known)
            case "input":
                self._remind_later(wait.path)
            case _:
                pass

    def withdraw(self, request: WithdrawWait) -> None:
        """The program no longer waits."""
        self._runner.apply(request)

    def _due_at(self, due: int, path: StepPath, what: Due) -> None:
        self._begun += 1
        heapq.heappush(self._due, (due, self._begun, path, what))

    def _remind_later(self, path: StepPath) -> None:
        asked = self._runner.state.asked.get(path)
        if asked is not None and asked.remind_at is not None:
            self._due_at(asked.remind_at, path, "reminder")

    def _subscribe(self, wait: WaitStarted, *, is_committed: bool) -> None:
        name, fresh = subscription_for(self._runner, wait)
        subscription = self._subscriptions.get(name)
        if subscription is None:
            subscription = self._subscriptions[name] = fresh
            self._runner.engine.topics.join(subscription)
        subscription.takers.append(wait.path)
        if is_committed:
            subscription.scan()

    def committed(self) -> None:
        """What was opened is in the store: from now on a publisher wakes this run, so what is there can be read."""
        for subscription in self._subscriptions.values():
            if subscription.takers:
                subscription.scan()

    # -- what comes ---------------------------------------------------------------------------------------------

    def keep(self, message: Message) -> None:
        """A signal has arrived, or something about an input request."""
        if message.kind == "signal":
            self._signals.setdefault(message.name, deque()).append(message)
            self._look_at(message.name)
        else:
            self._sent = self._sent or deque()
            self._sent.append(message)

    def _look_at(self, name: str) -> None:
        """There may be a signal of this name and somebody who waits for it."""
        self._ready = self._ready or deque()
        self._ready.append(name)

    @property
    def is_scanning(self) -> bool:
        """Whether events that are there already are being read."""
        return any(subscription.is_scanning for subscription in self._subscriptions.values())

    def heard(self) -> dict[str, int]:
        """Per topic that the run waits for, the position up to which its events have been looked at."""
        state, heard = self._runner.state, dict[str, int]()
        for wait in state.waits.values():
            if wait.wait == "event":
                name = read_event_spec(wait.spec).subscription(wait.name)
                subscription = self._subscriptions.get(name)
                position = state.cursors.get(name, 0) if subscription is None else subscription.heard
                heard[wait.name] = min(position, heard.get(wait.name, position))
        return heard

    def next(self, now: int) -> bool:
        """Satisfy one wait, or act on one message; False when there is nothing to do now."""
        if self._runner.state.pause is not None or self._runner.state.ended is not None:
            return False
        return bool(
            (self._ready and self._give_signal())
            or (self._sent and self._hear())
            or (self._subscriptions and self._give_event())
            or (self._due and self._fire(now))
        )

    def _give_signal(self) -> bool:
        while self._ready:
            name = self._ready[0]
            kept, takers = self._signals.get(name), self._takers.get(name)
            while kept and takers:
                path = takers.popleft()
                if path in self._runner.state.waits:
                    self._satisfy_by(path, kept.popleft())
                    return True
            self._ready.popleft()
        return False

    def _satisfy_by(self, path: StepPath, message: Message) -> None:
        payload = msgspec.Raw(message.body) if message.body else NULL
        inline, blob = self._runner.ledger.stow(payload)
        for entry in self._runner.apply(SatisfyWait(path=path, payload=inline, payload_blob=blob, by=message.by)):
            if isinstance(entry, WaitSatisfied):
                self._runner.consume(message)
                self._runner.body.deliver_later(entry, payload)

    def _hear(self) -> bool:
        assert self._sent is not None, "somebody has looked"
        message = self._sent.popleft()
        self._runner.consume(message)
        QuestionDesk(self._runner).take(message)
        return True

    def _give_event(self) -> bool:
        for subscription in self._subscriptions.values():
            found = subscription.take()
            if found is None:
                continue
            path, event = found
            payload = msgspec.Raw(event.body)
            inline, blob = self._runner.ledger.stow(payload)
            command = SatisfyWait(path, inline, blob, by=event.source, position=event.position)
            for entry in self._runner.apply(command):
                if isinstance(entry, WaitSatisfied):
                    self._runner.body.deliver_later(entry, payload)
            return True
        return False

    # -- time ---------------------------------------------------------------------------------------------------

    def _fire(self, now: int) -> bool:
        """Satisfy a timer, time out another wait, or remind somebody: the earliest that is due."""
        while self._due and self._due[0][0] <= now:
            _, _, path, what = heapq.heappop(self._due)
            wait = self._runner.state.waits.get(path)
            if wait is None:
                continue
            if what == "reminder":
                QuestionDesk(self._runner).remind(path)
                self._remind_later(path)
                return True
            command = SatisfyWait(path=path) if wait.wait == "timer" else TimeOutWait(path=path)
            for entry in self._runner.apply(command):
                if isinstance(entry, WaitSatisfied | WaitTimedOut):
                    self._runner.body.deliver_later(entry, NO_PAYLOAD)
            return True
        return False

    def check_deadline(self, now: int) -> None:
        """Ask the run to end when its deadline has passed."""
        runner = self._runner
        state = runner.state
        if state.deadline is None or state.deadline > now or state.cancel is not None or state.ended is not None:
            return
        VerbDesk(runner).cancel(RequestCancel(by="deadline", reason="its deadline has passed", deadline=True))

    def arm(self) -> None:
        """Set one alarm for the earliest due wait, or for the run's deadline."""
        state = self._runner.state
        while self._due and self._due[0][2] not in state.waits:
            heapq.heappop(self._due)
        at = self._due[0][0] if self._due and state.pause is None else None
        if state.deadline is not None and state.cancel is None and state.ended is None:
            at = state.deadline if at is None else min(at, state.deadline)
        if state.begin_at is not None and state.is_early(self._runner.now) and state.pause is None:
            at = state.begin_at if at is None else min(at, state.begin_at)
        if at is None:
            self.disarm()
        elif self._alarm is None or self._alarm_at != at:
            self.disarm()
            self._alarm_at = at
            self._alarm = self._runner.engine.clock.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._runner.wake()

    def disarm(self) -> None:
        """Ring no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def close(self) -> None:
        """Want no more of anything."""
        self.disarm()
        for subscription in self._subscriptions.values():
            self._runner.engine.topics.leave(subscription)
        self._subscriptions.clear()
