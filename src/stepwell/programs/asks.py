"""What a body has asked for and still waits for: each call meets its record, or becomes a request to the engine."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

import msgspec

from stepwell.errors import ControlFlow, DefinitionError, StepwellError, Unserialisable, Unwound
from stepwell.errors import InputWithdrawn as Withdrawn
from stepwell.model.commands import CancelStep, StartWait, WithdrawWait
from stepwell.model.entries import (
    NULL,
    PAYLOAD_LIMIT,
    InputWithdrawn,
    OnChange,
    StepCompleted,
    StepFailed,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
)
from stepwell.model.ids import StepPath
from stepwell.programs.exceptions import error_of
from stepwell.programs.matching import Changed, Record, Records
from stepwell.programs.protocol import CancelChild, ChildRequest, Divergence, Request, StepRequest
from stepwell.programs.window import Ended

Outcome = StepCompleted | StepFailed | WaitSatisfied | WaitTimedOut | InputWithdrawn
Asking = TypeVar("Asking", StepRequest, ChildRequest)


class Diverged(ControlFlow):
    """The call cannot go on: the program is set aside."""


class Timers(Protocol):
    """The loop that the body's timers belong to."""

    def fire(self, timer: asyncio.TimerHandle) -> None:
        """Make a timer's callback ready to run."""


class Decoder(Protocol):
    """Reads a payload of the journal."""

    def decode(self, data: msgspec.Raw) -> object:
        """The value."""


class Pending:
    """Somebody in the body waits for an outcome: a future, a callback of a map, or a timer of the loop."""

    __slots__ = ("codec", "ended", "future", "timer")

    def __init__(
        self,
        codec: Decoder | None = None,
        future: asyncio.Future[Any] | None = None,  # Any: whatever is awaited
        ended: Ended | None = None,
        timer: asyncio.TimerHandle | None = None,
    ) -> None:
        self.codec = codec
        self.future = future
        self.ended = ended
        self.timer = timer

    def settle(self, value: object, error: BaseException | None) -> None:
        """Hand the outcome to whoever waits."""
        if self.ended is not None:
            self.ended(value, error)
        elif self.future is not None and not self.future.done():
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)


class Asks:
    """The open calls of one body. `requests` is what the engine takes after each turn.

    `live` turns true when all recorded outcomes have been delivered; `to_come` counts those that have not. With
    `closed` nothing has an effect any more. With `exact` a call finds only the record at its very path: in a graph the
    path says which node it is, wherever its neighbours have gone.
    """

    def __init__(self, recorded: Records, on_change: OnChange | None, timers: Timers, *, exact: bool = False) -> None:
        self.recorded = recorded
        self.requests: list[Request] = []
        self.divergence: Divergence | None = None
        self.live = not recorded.by_path and not recorded.deliveries
        self.to_come = len(recorded.deliveries)
        self.closed = False
        self._on_change = on_change
        self._match = recorded.match_here if exact else recorded.match
        self._exact = exact
        self._loop = timers
        self._pending: dict[StepPath, Pending] = {}
        self._late: list[Record] = []
        self._borrowed: dict[StepPath, Record] = {}
        self._returned: list[Record] = []
        self._payloads: dict[StepPath, msgspec.Raw] = {}
        self._timers: dict[int, StepPath] = {}

    @property
    def is_empty(self) -> bool:
        """Whether the body waits for nothing that could come from outside."""
        return not (self._pending or self._late or self.requests)

    @property
    def hears_nothing(self) -> bool:
        """Whether no outcome can come any more, whatever has been asked for besides."""
        return not (self._pending or self._late)

    @property
    def knows_no_more(self) -> bool:
        """Whether the journal has nothing from after this moment: no body has come by here before."""
        return self.live or (self.to_come <= 0 and self.recorded.is_used_up)

    def check_open(self) -> None:
        """Let no call of a body have an effect that is being dropped or has diverged."""
        if self.closed:
            raise Unwound
        if self.divergence is not None:
            raise Diverged

    def close(self) -> None:
        """Forget everything."""
        self.closed = True
        self._pending.clear()
        self.requests.clear()

    # -- asking -------------------------------------------------------------------------------------------------

    def step(self, request: Asking, names: tuple[str, ...], policy: OnChange, pending: Pending, place: str) -> StepPath:
        """Ask for a step or a child run, or take its record; returns the path under which its outcome will come.

        Raises:
            DefinitionError: its input has changed and the policy is to fail.
            Diverged: … and the policy is to stop and ask.
        """
        self.check_open()
        record = None
        if self.recorded.has_left:
            found = self._match(request.path, request.fingerprint, names, live=self.live)
            record = self._resolve(found, request, policy, place) if isinstance(found, Changed) else found
        if record is None:
            path = self.recorded.free_path(request.path)
            self._pending[path] = pending
            self.requests.append(request if path is request.path else _revised(request, path))
            return path
        self._pending[record.path] = pending
        if record.path != request.path and not self.live:
            self._borrowed[record.path] = record
        if record.passed:
            self._late.append(record)
        elif record.outcome is None and not record.cancelled:
            self.requests.append(_again(request, record))
        return record.path

    def _resolve(
        self, changed: Changed, request: StepRequest | ChildRequest, policy: OnChange, place: str
    ) -> Record | None:
        policy = self._on_change or policy
        record = changed.record
        recorded = bytes(getattr(record.start, "input", b"")) or b"(kept as a blob)"
        divergence = Divergence(record.path, policy, recorded, bytes(request.input), place)
        match policy:
            case "rerun":
                return None  # the record stays: another call may still be the one that it belongs to
            case "reuse":
                record.consumed = True
                return record
            case "fail":
                raise DefinitionError(divergence.explain())
            case _:
                self.divergence = divergence
                raise Diverged

    def cancel_step(self, path: StepPath) -> None:
        """The body no longer waits for this step."""
        if self._pending.pop(path, None) is None or self.closed:
            return
        record = None if self.live else self._borrowed.pop(path, None)
        if record is None:
            self.requests.append(CancelStep(path=path))
        else:
            self._give_back(record)

    def _give_back(self, record: Record) -> None:
        """A call that took a record made elsewhere does not want it any more: it may be another call's after all.

        That other call had the same input, and this one was never started: it was waiting for a slot.
        """
        self.recorded.give_back(record)
        self._late = [late for late in self._late if late is not record]
        self.requests = [one for one in self.requests if getattr(one, "path", None) != record.path]
        self._returned.append(record)

    def go_live(self) -> None:
        """All that was recorded is delivered: what was given back, and no call has taken, nobody wants."""
        self.live = True
        self.requests += [CancelStep(path=record.path) for record in self._returned if not record.consumed]
        self._borrowed.clear()
        self._returned.clear()

    def cancel_child(self, path: StepPath, future: asyncio.Future[Any]) -> None:  # Any: what the child returns
        """Ask for the end of the child run at `path`, and go on waiting for it with `future`."""
        pending = self._pending.get(path)
        if pending is None or self.closed:
            future.set_result(None)
            return
        pending.future = future
        self.requests.append(CancelChild(path))

    def end_child(self, path: StepPath) -> None:
        """Ask for the end of the child run at `path`; who waits for its outcome goes on waiting."""
        if path in self._pending and not self.closed:
            self.requests.append(CancelChild(path))

    def wait(self, request: StartWait, pending: Pending, now: int = 0) -> StepPath:
        """Begin to wait, or take the record of the wait; returns the path under which its outcome will come.

        `now` is the time of this turn (microseconds), for a timer.
        """
        record = self._recorded_wait(request, now)
        if record is not None and self._asks_otherwise(record, request):
            self.requests.append(WithdrawWait(path=record.path))
            record = None
        path = self.recorded.free_path(request.path) if record is None else record.path
        self._pending[path] = pending
        if pending.timer is not None:
            self._timers[id(pending.timer)] = path
        if record is not None and record.passed:
            self._late.append(record)
        elif record is None or (record.outcome is None and not record.cancelled):
            self.requests.append(request if path is request.path else msgspec.structs.replace(request, path=path))
        return path

    def _asks_otherwise(self, record: Record, request: StartWait) -> bool:
        """Whether an open wait is for something else in today's code: another filter, another question."""
        start = record.start
        is_open = record.outcome is None and not record.cancelled
        return is_open and isinstance(start, WaitStarted) and bytes(start.spec) != bytes(request.spec)

    def _recorded_wait(self, request: StartWait, now: int) -> Record | None:
        """A signal may have moved anywhere, a timer within its scope."""
        if not self.recorded.has_left:
            return None
        if request.wait == "timer" and not self._exact:
            return self.recorded.take_timer(request.path, request.due or 0, now)
        found = self._match(request.path, "", (request.path.name,), live=self.live)
        return None if isinstance(found, Changed) else found

    def withdraw(self, path: StepPath) -> None:
        """The body no longer waits."""
        if self._pending.pop(path, None) is not None and not self.closed:
            self.requests.append(WithdrawWait(path=path))

    def withdraw_timer(self, timer: asyncio.TimerHandle) -> None:
        """The body has cancelled a timer of an earlier turn."""
        path = self._timers.pop(id(timer), None)
        if path is not None:
            self.withdraw(path)

    # -- outcomes -----------------------------------------------------------------------------------------------

    def deliver(self, outcome: Outcome, payload: msgspec.Raw) -> bool:
        """Hand an outcome to whoever waits for it; False when nobody does (yet)."""
        pending = self._pending.pop(outcome.path, None)
        if pending is None:
            record = self.recorded.by_path.get(outcome.path)
            if record is not None and not record.consumed:
                record.passed = True
                self._payloads[outcome.path] = payload
            return False
        self._settle(pending, outcome, payload)
        return True

    @property
    def has_late(self) -> bool:
        """Whether a call has been made whose outcome has had its turn already."""
        return bool(self._late)

    def deliver_late(self) -> bool:
        """Hand over one outcome whose turn had passed before its (moved) call was made; False when there is none."""
        while self._late:
            record = self._late.pop(0)
            pending = self._pending.pop(record.path, None)
            outcome = record.outcome
            if pending is not None and isinstance(outcome, Outcome):
                self._settle(pending, outcome, self._payloads.pop(record.path, NULL))
                return True
        return False

    def _settle(self, pending: Pending, outcome: Outcome, payload: msgspec.Raw) -> None:
        try:
            self._hand_over(pending, outcome, payload)
        except Diverged:  # a map went on to its next item, and that call is not the recorded one
            pass

    def _hand_over(self, pending: Pending, outcome: Outcome, payload: msgspec.Raw) -> None:
        match outcome:
            case StepCompleted() | WaitSatisfied():
                if pending.timer is not None:
                    self._timers.pop(id(pending.timer), None)
                    self._loop.fire(pending.timer)
                    return
                try:
                    value = pending.codec.decode(payload) if pending.codec is not None else None
                except StepwellError as error:
                    if self.live or not isinstance(outcome, StepCompleted) or self._on_change == "fail":
                        pending.settle(None, error)
                        return
                    self.divergence = Divergence(outcome.path, "pause", bytes(payload), b"", "", unreadable=str(error))
                    raise Diverged from error
                else:
                    pending.settle(value, None)
            case StepFailed():
                pending.settle(None, error_of(outcome.error, outcome.path))
            case InputWithdrawn():
                why = f": {outcome.reason}" if outcome.reason else ""
                pending.settle(None, Withdrawn(f"{outcome.by or 'somebody'} took the question back{why}"))
            case _:
                what, _, name = outcome.path.name.partition(":")
                missing = f"{what} {name!r} did not come" if what != "ask" else "nobody answered"
                pending.settle(None, TimeoutError(f"{missing} in time"))


def _revised(request: Asking, path: StepPath) -> Asking:
    """The same call where another one has left its record: a child run needs an id of its own then."""
    if isinstance(request, ChildRequest):
        return msgspec.structs.replace(request, path=path, run_id=f"{request.run_id}~{path.revision}")
    return msgspec.structs.replace(request, path=path)


def _again(request: Asking, record: Record) -> Asking:
    """The same call, which goes on with what is recorded."""
    again = msgspec.structs.replace(request, path=record.path, attempt=record.started_attempts + 1)
    child = getattr(record.start, "child", "")
    return msgspec.structs.replace(again, run_id=child) if child and isinstance(again, ChildRequest) else again


def check_size(data: msgspec.Raw, place: str, name: object) -> None:
    """Refuse a payload that is too large for the journal.

    Raises:
        Unserialisable: `place` and `name` are named.
    """
    size = len(memoryview(data))
    if size > PAYLOAD_LIMIT:
        raise Unserialisable(
            f"{place} {name} is {size:,} bytes of JSON; the limit is {PAYLOAD_LIMIT:,}: write it to a file or an "
            "object store in a task and pass its name"
        )
