"""One try of a step: what it needs, whether it is still wanted, and how it ends, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.task import Task
from stepwell.errors import DefinitionError
from stepwell.model.failure import Failure
from stepwell.model.failures import failure_of
from stepwell.model.ids import StepPath
from stepwell.nodes.parts.errors import NodeFailed
from stepwell.stores.protocol import Message, Store

if TYPE_CHECKING:
    from stepwell.observe.tracing import AttemptTrace
    from stepwell.programs.protocol import StepExtras

Outcome: TypeAlias = "msgspec.Raw | Failure"


class Host(Protocol):
    """The run that an attempt belongs to, as far as attempts know it."""

    store: Store

    @property
    def epoch(self) -> int:
        """Under which the run is driven."""

    @property
    def is_volatile(self) -> bool:
        """Whether the run is in memory only, beside the engine's store."""

    def emit(self, attempt: Attempt, chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        """Take a chunk of an attempt's stream, on the loop."""

    def posted(self, message: Message) -> None:
        """A message for the run is in the store."""

    def abandon(self) -> None:
        """The run belongs to another worker."""


class Desk(Protocol):
    """Who wants an attempt's outcome."""

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Called once, on the loop, unless the attempt was cancelled."""


class Attempt:
    """One try of a step, from launch to outcome."""

    __slots__ = (
        "_alarms",
        "_stop",
        "beat_alarm",
        "cancelled",
        "context",
        "desk",
        "expired",
        "extras",
        "host",
        "identity",
        "input",
        "is_cached",
        "key",
        "limit",
        "limit_name",
        "number",
        "over",
        "path",
        "task",
        "trace",
    )

    def __init__(
        self,
        task: Task[..., Any],  # Any: whatever it returns
        path: StepPath,
        number: int,
        input: msgspec.Raw,
        identity: Identity,
        limit: int | None,
        limit_name: str,
        desk: Desk,
        host: Host,
        key: str = "",
        extras: StepExtras | None = None,
    ) -> None:
        self.task = task
        self.path = path
        self.number = number
        self.input = input
        self.key = key
        self.extras = extras
        self.is_cached = False
        self.identity = identity
        self.limit = limit
        self.limit_name = limit_name
        self.desk = desk
        self.host = host
        self.cancelled = False
        self.over = False
        self.expired: Failure | None = None
        self.beat_alarm: asyncio.TimerHandle | None = None
        self.trace: AttemptTrace | None = None
        self._alarms: tuple[asyncio.TimerHandle, ...] = ()
        self._stop: Callable[[], object] | None = None

    def is_cancelled(self) -> bool:
        """Whether the outcome is no longer wanted."""
        return self.cancelled

    def cancel(self) -> None:
        """Stop it as far as its executor can; no outcome is reported. Idempotent."""
        self.cancelled = True
        self.over = True
        self._quiet()
        if self._stop is not None:
            self._stop()
            self._stop = None

    def finish(self, outcome: Outcome) -> None:
        """Report the outcome, once."""
        if self.over:
            return
        self.over = True
        self._quiet()
        self._stop = None  # it has the asyncio task, whose context has this attempt
        self.desk.ended(self, self.expired or outcome)

    def fail(self, error: Exception) -> None:
        """Report a failure, once; what is wrong with a definition is not tried again."""
        self.finish(attempt_failure(error))

    def stopper(self, stop: Callable[[], object]) -> None:
        """Set what stops it."""
        self._stop = stop

    def expire(self, failure: Failure) -> None:
        """A time limit has passed: stop the work; the failure is its outcome."""
        if self.over or self.expired is not None:
            return
        self.expired = failure
        self.cancelled = True
        if self._stop is not None:
            self._stop()
        else:
            self.finish(failure)

    def alarm(self, handle: asyncio.TimerHandle) -> None:
        """Hold an alarm until the attempt is over."""
        self._alarms = (*self._alarms, handle)

    def _quiet(self) -> None:
        for handle in self._alarms:
            handle.cancel()
        if self.beat_alarm is not None:
            self.beat_alarm.cancel()
            self.beat_alarm = None


def attempt_failure(error: Exception) -> Failure:
    """What an attempt ended with, as data; what is wrong with a definition is not tried again."""
    if isinstance(error, NodeFailed):
        return error.failure()
    return failure_of(error, retryable=not isinstance(error, DefinitionError))
