"""What a run waits for besides steps: timers that come due, and signals that arrive."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from stepwell.model.commands import SatisfyWait, StartWait, TimeOutWait, WithdrawWait
from stepwell.model.entries import NO_PAYLOAD, NULL, WaitSatisfied, WaitTimedOut
from stepwell.model.ids import StepPath
from stepwell.stores.protocol import Message

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner


class WaitDesk:
    """The waits of one run: an alarm for the earliest that has a time, and signals kept until somebody takes them."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._signals: dict[str, deque[Message]] = {}
        self._takers: dict[str, deque[StepPath]] = {}
        self._due: list[tuple[int, int, StepPath]] = []
        self._begun = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0

    def begin(self, request: StartWait) -> None:
        """The program waits; a wait that the journal has already is only armed again."""
        known = self._runner.state.waits.get(request.path)
        if known is None:
            self._runner.apply(request)
        due = request.due if known is None else known.due
        if due is not None:
            self._begun += 1
            heapq.heappush(self._due, (due, self._begun, request.path))
        if request.wait == "signal":
            self._takers.setdefault(request.name, deque()).append(request.path)
            self._match(request.name)

    def withdraw(self, request: WithdrawWait) -> None:
        """The program no longer waits."""
        self._runner.apply(request)

    def keep(self, message: Message) -> None:
        """A signal has arrived; it is taken at once when somebody waits for it."""
        self._signals.setdefault(message.name, deque()).append(message)
        self._match(message.name)

    def match_all(self) -> None:
        """Give kept signals to waits, first come first served on both sides."""
        for name in list(self._signals):
            self._match(name)

    def _match(self, name: str) -> None:
        kept, takers = self._signals.get(name), self._takers.get(name)
        if not kept or not takers or self._runner.state.pause is not None:
            return
        while kept and takers:
            path = takers.popleft()
            if path in self._runner.state.waits:
                self._give(path, kept.popleft())

    def _give(self, path: StepPath, message: Message) -> None:
        payload = msgspec.Raw(message.body) if message.body else NULL
        inline, blob = self._runner.ledger.stow(payload)
        command = SatisfyWait(path=path, payload=inline, payload_blob=blob, by=message.by)
        for entry in self._runner.apply(command):
            if isinstance(entry, WaitSatisfied):
                self._runner.consume(message)
                self._runner.deliver_later(entry, payload)

    def fire_due(self, now: int) -> None:
        """Satisfy timers and time out signal waits whose time has come, earliest first."""
        if self._runner.state.pause is not None:
            return
        while self._due and self._due[0][0] <= now:
            path = heapq.heappop(self._due)[2]
            wait = self._runner.state.waits.get(path)
            if wait is None:
                continue
            command = SatisfyWait(path=path) if wait.wait == "timer" else TimeOutWait(path=path)
            for entry in self._runner.apply(command):
                if isinstance(entry, WaitSatisfied | WaitTimedOut):
                    self._runner.deliver_later(entry, NO_PAYLOAD)

    def arm(self) -> None:
        """Set one alarm for the earliest due wait."""
        while self._due and self._due[0][2] not in self._runner.state.waits:
            heapq.heappop(self._due)
        if not self._due or self._runner.state.pause is not None:
            self.disarm()
        elif self._alarm is None or self._alarm_at != self._due[0][0]:
            self.disarm()
            self._alarm_at = self._due[0][0]
            self._alarm = self._runner.engine.clock.call_at(self._alarm_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._runner.wake()

    def disarm(self) -> None:
        """Ring no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
