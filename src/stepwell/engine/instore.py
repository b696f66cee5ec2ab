"""How does a transactional task run? Where the store writes: what it writes and its outcome are committed together.

The outcome is a message in the run's mailbox, which is there if and only if the writes are. It has a key by which the
store knows it: a step that has committed once, whoever heard of it, does not commit again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.engine.clock import Clock
from stepwell.errors import DefinitionError, Fenced, StoreError
from stepwell.model.failures import failure_of
from stepwell.model.ids import StepPath
from stepwell.stores.protocol import Message, NewMessage

if TYPE_CHECKING:
    from stepwell.engine.executor import Attempt

NO_ROOM_SECONDS = 1.0
"""How long until a store that takes no writes is asked again."""

_log = logging.getLogger("stepwell.engine")


class OutcomeBody(msgspec.Struct, frozen=True):
    """What the message of a transactional attempt carries: it is in the mailbox if and only if its writes are."""

    path: StepPath
    attempt: int
    output: msgspec.Raw


class _Unwanted(Exception):
    """The attempt was cancelled before its writes could be committed: they are rolled back."""


class InStore:
    """Runs transactional attempts.

    Args:
        clock: the time of messages.
        call: runs the task of an attempt with a connection and gives its output, encoded; raises what the task raises.
    """

    def __init__(self, clock: Clock, call: Callable[[Attempt, Any], msgspec.Raw]) -> None:  # Any: a connection
        self._clock = clock
        self._call = call

    async def run(self, attempt: Attempt) -> None:
        """See the attempt to its outcome; to none when it is cancelled or its run belongs to another worker."""
        host, run_id = attempt.host, attempt.identity.run_id
        if host.is_volatile:
            attempt.finish(failure_of(_nothing_to_commit_with(attempt), retryable=False))
            return
        work = functools.partial(copy_context().run, functools.partial(self._transact, attempt))
        while True:
            try:
                transacting = host.store.transact(run_id, host.epoch, work)
                transacting.add_done_callback(functools.partial(self._committed, attempt))
                await asyncio.wait((transacting,))
                transacting.result()
                return
            except (asyncio.CancelledError, _Unwanted):
                return
            except Fenced:
                host.abandon()
                return
            except StoreError as error:
                if not error.retryable:
                    attempt.fail(error)
                    return
                _log.error("the store takes no writes for now; step %s is tried again: %s", attempt.path, error)
            except Exception as error:
                attempt.fail(error)
                return
            await asyncio.sleep(NO_ROOM_SECONDS)

    def _committed(self, attempt: Attempt, transacting: asyncio.Future[Message]) -> None:
        """Tell the run, also when the attempt was cancelled too late: the message is in its mailbox."""
        if transacting.cancelled() or transacting.exception() is not None:
            return
        message = transacting.result()
        done = msgspec.json.decode(message.body, type=OutcomeBody)
        if done.attempt == attempt.number:
            attempt.host.posted(message)
        else:  # an earlier attempt had committed it, and nobody wanted its outcome then
            attempt.finish(done.output)

    def _transact(self, attempt: Attempt, connection: Any) -> NewMessage:  # Any: of the store's own kind
        if attempt.over:
            raise _Unwanted
        output = self._call(attempt, connection)
        if attempt.over:
            raise _Unwanted
        body = msgspec.json.encode(OutcomeBody(attempt.path, attempt.number, output))
        return NewMessage(attempt.identity.run_id, "outcome", str(attempt.path), body, self._clock.now(), key="once")


def _nothing_to_commit_with(attempt: Attempt) -> DefinitionError:
    return DefinitionError(
        f"step {attempt.path}: a run with durability='memory' is not in the store, so a transactional task has nothing "
        "to commit with there: start the run with another durability"
    )
