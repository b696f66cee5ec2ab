"""How one attempt of a step runs elsewhere: an envelope of JSON goes out, a reply of JSON comes back.

`run_step` is all that another process or machine needs to be able to import. It is what our child processes run
and what any `concurrent.futures.Executor`, a cluster's included, is given. Only bytes cross the wire and nothing
is pickled: the function travels by name, its parameters and result through the codec of its signature. The name
comes from the registry of the engine that wrote the envelope, never from user data.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from stepwell.authoring.context import AttemptContext, Identity, attempt_context
from stepwell.authoring.ctx import Done
from stepwell.engine import scripts
from stepwell.engine.chunks import counted, encoded, refusing
from stepwell.errors import TargetError
from stepwell.model.codec import CallCodec
from stepwell.model.entries import NO_PAYLOAD
from stepwell.model.failure import Failure
from stepwell.model.failures import failure_of
from stepwell.observe.outbox import set_levels
from stepwell.observe.tracing import continue_trace

_FILE: Final = "file:"

_NOBODY_HEARS: Final = (
    "its executor was given by name (Stepwell(executors=…)), and no chunk finds its way back from there; let the task "
    "run in a thread, or in a process of Stepwell's own with executor='process'"
)


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step's attempt needs elsewhere; one JSON object.

    `task` is where the function is found: `module:qualname`, or `file:/absolute/path.py:qualname` for one that
    a script defines (`Task.location`). `input` is a JSON object of parameters,
    `identity` what the task sees as `ctx.identity`, `key` the step's own idempotency key, if it has one. `levels` are
    those that loggers are to have (see `observe.outbox`), `traceparent` is the attempt's span, when there are spans.
    """

    task: str
    run_id: str
    step: str
    attempt: int
    input: msgspec.Raw
    identity: Identity | None = None
    key: str = ""
    levels: dict[str, int] = {}
    traceparent: str = ""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the attempt ended: with `output` when `failure` is None."""

    output: msgspec.Raw = NO_PAYLOAD
    failure: Failure | None = None


class Note(msgspec.Struct, frozen=True):
    """What a running attempt tells: `fields` are its values as JSON.

    `kind` is `heartbeat`, `progress`, `log` or `chunk`, or `record` for what it said through the standard library's
    `logging`.
    """

    kind: str
    fields: dict[str, Any]  # Any: whatever JSON the task gave


def encode(message: Envelope | Reply | Note) -> bytes:
    """Return the message as one JSON object.

    A note is no fact: what JSON cannot hold in it is written as its `repr`, so that logging never fails a task.
    """
    if not isinstance(message, Note):
        return msgspec.json.encode(message)
    try:
        return msgspec.json.encode(message, enc_hook=repr)
    except (TypeError, ValueError):
        return msgspec.json.encode(Note(message.kind, {"repr": ascii(message.fields)}))


def decode_reply(reply: bytes) -> Reply:
    """Return what `run_step` returned, as data."""
    return msgspec.json.decode(reply, type=Reply)


def decode_note(note: bytes) -> Note:
    """Return what `run_step` gave to `note`, as data."""
    return msgspec.json.decode(note, type=Note)


def run_step(
    envelope: bytes,
    note: Callable[[bytes], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> bytes:
    """Run the attempt in this thread and return an encoded `Reply`; never raises, whatever the task raises.

    An async function gets an event loop of its own. The attempt runs in a copy of the current context, so context
    variables that it sets are gone afterwards. `note` is given encoded notes, in the thread that made them; it may hold
    the attempt up. Without it `ctx.emit` is refused, since its chunks would be lost.
    """
    context = contextvars.copy_context()
    try:
        return encode(Reply(output=context.run(_attempt, envelope, note, cancelled)))
    except _Refused as refused:
        return encode(Reply(failure=failure_of(refused.error, retryable=False)))
    except BaseException as error:  # SystemExit of a task must not end the process that serves it
        return encode(Reply(failure=failure_of(error)))


class _Refused(Exception):
    """The attempt could not begin, or its result not be written: trying again unchanged would not help."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _attempt(
    envelope: bytes, note: Callable[[bytes], None] | None, cancelled: Callable[[], bool] | None
) -> msgspec.Raw:
    try:
        work = msgspec.json.decode(envelope, type=Envelope)
        function, codec = _resolve(work.task)
        args, kwargs = codec.decode(work.input)
    except Exception as error:
        raise _Refused(error) from None
    _set_attempt_context(work, note, cancelled or _never)
    if work.levels:
        set_levels(work.levels)
    if work.traceparent:
        continue_trace(work.traceparent)
    result = function(*args, **kwargs)
    if isinstance(result, Awaitable):
        result = asyncio.run(_awaited(result))
    try:
        return codec.returns.encode(result)
    except Exception as error:
        raise _Refused(error) from None


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _set_attempt_context(work: Envelope, note: Callable[[bytes], None] | None, cancelled: Callable[[], bool]) -> None:
    say = note or _discard

    def tell(kind: str, fields: dict[str, object]) -> None:
        say(encode(Note(kind, fields)))

    def emit(chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        tell("chunk", {"chunk": encoded(chunk, work.step), "usage": counted(usage, work.step)})
        return Done()

    context = AttemptContext(
        work.identity or Identity(work.run_id, "", None, work.run_id), work.step, work.attempt, tell, cancelled
    )
    context.key = work.key
    context.emit = refusing(work.step, _NOBODY_HEARS) if note is None else emit
    attempt_context.set(context)


def _resolve(task: str) -> tuple[Callable[..., Any], CallCodec]:
    """The plain function of a task and the codec of its signature.

    Raises:
        TargetError: nothing of this name can be imported, or it is not callable.
    """
    place, _, name = task.rpartition(":")
    if not place or not name:
        raise TargetError(f"task {task!r} names no function: expected module:name or file:/path.py:name")
    try:
        found: Any = _load(place)  # Any: whatever bears the name
    except (Exception, SystemExit) as error:
        raise TargetError(
            f"task {task!r} could not be loaded in process {os.getpid()}: {type(error).__name__}: {error}; "
            'what a script does when it is started belongs under `if __name__ == "__main__":`'
        ) from error
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise TargetError(
            f"task {task!r}: {place} has no {name} in process {os.getpid()}: the function must be defined at the top "
            "level of its module, and the file must not have changed since the engine was started"
        ) from None
    if not callable(found):
        raise TargetError(f"task {task!r} names a {type(found).__name__}, not a function")
    if hasattr(found, "function") and hasattr(found, "codec"):
        return found.function, found.codec
    return found, CallCodec(found, name)


def _load(place: str) -> object:
    if place.startswith(_FILE):
        return scripts.load_script(place.removeprefix(_FILE))
    return importlib.import_module(place)


def _discard(note: bytes) -> None:
    """Notes of an attempt to which nobody listens."""


def _never() -> bool:
    return False
