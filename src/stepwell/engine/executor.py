"""Where one attempt runs: on the loop, in a thread, in a child process, or on an executor given by name.

Only the executor touches the world. It reports each attempt's outcome once: encoded output, or a failure as data.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Protocol, TypeAlias

import msgspec

from stepwell.authoring.context import AttemptContext, Identity, current
from stepwell.authoring.ctx import Done
from stepwell.authoring.task import Task
from stepwell.engine.chunks import refusing
from stepwell.engine.clock import Clock
from stepwell.engine.envelope import Envelope, decode_note, decode_reply, encode, run_step
from stepwell.engine.feed import Feed, Live
from stepwell.engine.instore import InStore
from stepwell.engine.limits import Limits
from stepwell.engine.processes import ProcessPool, WorkerDied
from stepwell.errors import DefinitionError, Unserialisable
from stepwell.model.durations import spoken
from stepwell.model.entries import PAYLOAD_LIMIT
from stepwell.model.failure import Failure
from stepwell.model.failures import failure_of
from stepwell.model.ids import StepPath
from stepwell.observe.outbox import hand_over, levels, unpacked
from stepwell.observe.tracing import AttemptSpans, AttemptTrace
from stepwell.stores.protocol import Message, Store

Outcome: TypeAlias = "msgspec.Raw | Failure"

CLEANUP_GRACE = 5_000_000
"""How long a timed-out coroutine may clean up before its outcome is reported all the same (microseconds)."""

_log = logging.getLogger("stepwell.engine")


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
        "host",
        "identity",
        "input",
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
    ) -> None:
        self.task = task
        self.path = path
        self.number = number
        self.input = input
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
        self.finish(_failure(error))

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


class Executor:
    """Runs attempts for one engine, on the loop that it is opened on."""

    def __init__(
        self, clock: Clock, feed: Feed, limits: Limits, executors: Mapping[str, FuturesExecutor] | None = None
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._limits = limits
        self._named = dict(executors or {})
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPool | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._in_store = InStore(clock, self._call_in_store)
        self.spans: AttemptSpans | None = None

    def launch(self, attempt: Attempt) -> None:
        """Start the attempt; its outcome is reported later, never from inside this call."""
        options = attempt.task.options
        if self.spans is not None:
            who = attempt.identity
            attempt.trace = self.spans.begin(
                who.run_id, who.root, who.workflow, attempt.path, attempt.number, self._clock.now()
            )
        if attempt.limit is not None or options.heartbeat is not None:
            self._set_alarms(attempt)
        where = options.executor or ("loop" if attempt.task.is_async else "thread")
        if options.transactional:
            self._on_task(attempt, self._in_store.run(attempt))
        elif where == "loop":
            self._on_task(attempt, self._on_loop(attempt))
        elif where == "thread":
            self._in_thread(attempt)
        elif where == "process":
            self._on_task(attempt, self._in_process(attempt))
        else:
            self._on_named(attempt, where)

    async def close(self, grace: float) -> None:
        """Stop what still runs, without outcomes; threads that do not look at `ctx.cancelled` are left behind."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            await self._processes.close(grace=grace)

    # -- time limits --------------------------------------------------------------------------------------------

    def _set_alarms(self, attempt: Attempt) -> None:
        now = self._clock.now()
        if attempt.limit is not None:
            limit = attempt.limit
            text = f"attempt {attempt.number} of step {attempt.path} passed its {attempt.limit_name} of {spoken(limit)}"
            self._watch(attempt, now + limit, _timed_out(text, attempt.limit_name != "total_timeout"))
        if attempt.task.options.heartbeat is not None:
            self._beat(attempt)

    def _watch(self, attempt: Attempt, due: int, failure: Failure) -> None:
        def ring() -> None:
            if self._clock.now() < due:
                attempt.alarm(self._clock.call_at(due, ring))
                return
            attempt.expire(failure)
            attempt.alarm(self._clock.call_at(due + CLEANUP_GRACE, lambda: attempt.finish(failure)))

        attempt.alarm(self._clock.call_at(due, ring))

    def _beat(self, attempt: Attempt) -> None:
        silence = attempt.task.options.heartbeat
        if silence is None or attempt.over:
            return
        if attempt.beat_alarm is not None:
            attempt.beat_alarm.cancel()
        what = f"attempt {attempt.number} of step {attempt.path}"
        text = f"{what} was silent for longer than its heartbeat of {spoken(silence)}"
        due = self._clock.now() + silence

        def ring() -> None:
            if self._clock.now() < due:  # an alarm may ring early: see `Clock`
                attempt.beat_alarm = self._clock.call_at(due, ring)
            else:
                attempt.expire(_timed_out(text, True))

        attempt.beat_alarm = self._clock.call_at(due, ring)

    def _note(self, attempt: Attempt, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "heartbeat":
            self._beat(attempt)
        elif not attempt.over:
            self._feed.say(
                Live(attempt.identity.run_id, kind, self._clock.now(), fields, str(attempt.path), attempt.number)
            )

    def _emit(self, attempt: Attempt, chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        return attempt.host.emit(attempt, chunk, usage)

    def _emit_from_thread(self, attempt: Attempt, chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        """Hand a chunk to the loop and wait until it is taken."""

        async def emit() -> None:
            await attempt.host.emit(attempt, chunk, usage)

        work = emit()
        try:
            taken = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop has closed: the engine is gone and nobody listens
            work.close()
        else:
            taken.result()
        return Done()

    def _emit_from_process(
        self, attempt: Attempt, fields: Mapping[str, Any]
    ) -> asyncio.Future[None] | None:  # Any: JSON
        """Take a chunk that a child process has sent; the result, when there is one, says when it may send more."""
        try:
            waiting = attempt.host.emit(attempt, fields["chunk"], fields["usage"])
        except Exception as error:  # there nobody would hear of it any more
            attempt.expire(_failure(error))
            return None
        return waiting if isinstance(waiting, asyncio.Future) else None

    def _note_from_thread(self, attempt: Attempt, kind: str, fields: Mapping[str, object]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._note, attempt, kind, dict(fields))
        except RuntimeError:  # the loop has closed: the engine is gone and nobody listens
            pass

    # -- on the loop --------------------------------------------------------------------------------------------

    def _on_task(self, attempt: Attempt, coroutine: Any) -> None:  # Any: a coroutine that returns None
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        attempt.stopper(task.cancel)

    def _enter(
        self,
        attempt: Attempt,
        note: Callable[[Attempt, str, dict[str, object]], None],
        emit: Callable[[Attempt, object, Mapping[str, int]], Awaitable[None]] | None = None,
        connection: Any = None,  # Any: of the store's own kind
    ) -> None:
        """From here on this context is the attempt's."""
        tell = functools.partial(note, attempt)
        context = AttemptContext(attempt.identity, attempt.path, attempt.number, tell, attempt.is_cancelled)
        context.emit = None if emit is None else functools.partial(emit, attempt)
        context.connection = connection
        current.set(context)
        if attempt.trace is not None:
            attempt.trace.enter()

    async def _on_loop(self, attempt: Attempt) -> None:
        self._enter(attempt, self._note, self._emit)
        codec = attempt.task.codec
        try:
            args, kwargs = codec.decode(attempt.input)
            value = await attempt.task.function(*args, **kwargs)  # type: ignore[misc]  # `is_async` says it is one
            outcome: Outcome = _sized(codec.returns.encode(value), attempt)
        except asyncio.CancelledError as error:
            if attempt.expired is None:
                if attempt.cancelled or self._is_being_cancelled():
                    return
                outcome = failure_of(error)
            else:
                outcome = attempt.expired
        except Exception as error:
            outcome = _failure(error)
        attempt.finish(outcome)

    def _is_being_cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    # -- in a thread --------------------------------------------------------------------------------------------

    def _in_thread(self, attempt: Attempt) -> None:
        if self._threads is None:
            # Slots bound how many attempts run; the spare ones are for threads that timed out and cannot be stopped.
            self._threads = ThreadPoolExecutor(self._limits.threads + 1000, thread_name_prefix="stepwell-task")
        context = copy_context()
        future = self._threads.submit(context.run, self._thread_main, attempt)
        attempt.stopper(lambda: self._abandon(attempt, future))
        future.add_done_callback(lambda done: self._from_thread(attempt, done))

    def _abandon(self, attempt: Attempt, future: Future[Outcome]) -> None:
        future.cancel()
        if attempt.expired is not None:
            self._loop.call_soon(attempt.finish, attempt.expired)

    def _thread_main(self, attempt: Attempt) -> Outcome:
        self._enter(attempt, self._note_from_thread, self._emit_from_thread)
        codec = attempt.task.codec
        try:
            args, kwargs = codec.decode(attempt.input)
            return _sized(codec.returns.encode(attempt.task.function(*args, **kwargs)), attempt)
        except Exception as error:
            return _failure(error)
        except BaseException as error:  # SystemExit in a task ends the attempt, not the engine
            return failure_of(error)

    def _from_thread(self, attempt: Attempt, done: Future[Outcome]) -> None:
        if done.cancelled():
            return
        try:
            self._loop.call_soon_threadsafe(attempt.finish, done.result())
        except RuntimeError:  # the loop has closed: the step is left for recovery
            _log.debug("step %s ended after its engine had closed", attempt.path)

    # -- in the store's own transaction -------------------------------------------------------------------------

    def _call_in_store(self, attempt: Attempt, connection: Any) -> msgspec.Raw:  # Any: of the store's own kind
        """Call a transactional task, in the thread that writes."""
        refuse = refusing(attempt.path, "a transactional task holds up all that writes; emit from another task")
        self._enter(attempt, self._note_from_thread, lambda _, chunk, usage: refuse(chunk, usage), connection)
        codec = attempt.task.codec
        args, kwargs = codec.decode(attempt.input)
        return _sized(codec.returns.encode(attempt.task.function(*args, **kwargs)), attempt)

    # -- elsewhere ----------------------------------------------------------------------------------------------

    def _envelope(self, attempt: Attempt, levels: dict[str, int]) -> bytes:
        return encode(
            Envelope(
                task=attempt.task.location,
                run_id=attempt.identity.run_id,
                step=str(attempt.path),
                attempt=attempt.number,
                input=attempt.input,
                identity=attempt.identity,
                levels=levels,
                traceparent=attempt.trace.header if attempt.trace is not None else "",
            )
        )

    async def _in_process(self, attempt: Attempt) -> None:
        if self._processes is None:
            self._processes = ProcessPool(self._limits.processes)

        context = copy_context()  # handlers of the standard library's `logging` look at it
        context.run(self._enter, attempt, self._note)

        def heard(data: bytes) -> asyncio.Future[None] | None:
            note = decode_note(data)
            if note.kind == "chunk":
                return self._emit_from_process(attempt, note.fields)
            if note.kind == "record":
                context.run(hand_over, unpacked(note.fields))
            else:
                self._note(attempt, note.kind, note.fields)
            return None

        try:
            reply = await self._processes.run(self._envelope(attempt, levels()), on_note=heard)
        except asyncio.CancelledError:
            if attempt.expired is not None:
                attempt.finish(attempt.expired)
            return
        except WorkerDied as died:
            attempt.finish(failure_of(died))
            return
        attempt.finish(_outcome(reply, attempt))

    def _on_named(self, attempt: Attempt, name: str) -> None:
        executor = self._named.get(name)
        if executor is None:
            known = ", ".join(sorted({"thread", "process", *self._named}))
            error = DefinitionError(
                f"task {attempt.task.name}: executor {name!r} is not known here (known: {known}); give it to "
                "Stepwell(executors={…})"
            )
            self._loop.call_soon(attempt.finish, failure_of(error, retryable=False))
            return
        future = executor.submit(run_step, self._envelope(attempt, {}))
        attempt.stopper(future.cancel)

        def done(ended: Future[bytes]) -> None:
            if ended.cancelled():
                outcome: Outcome | None = attempt.expired
            else:
                error = ended.exception()
                outcome = _outcome(ended.result(), attempt) if error is None else failure_of(error)
            if outcome is not None:
                self._loop.call_soon_threadsafe(attempt.finish, outcome)

        future.add_done_callback(done)


def _outcome(data: bytes, attempt: Attempt) -> Outcome:
    reply = decode_reply(data)
    if reply.failure is not None:
        return reply.failure
    try:
        return _sized(reply.output, attempt)
    except Unserialisable as error:
        return _failure(error)


def _sized(output: msgspec.Raw, attempt: Attempt) -> msgspec.Raw:
    size = len(memoryview(output))
    if size > PAYLOAD_LIMIT:
        raise Unserialisable(
            f"the result of step {attempt.path} is {size:,} bytes of JSON; the limit is {PAYLOAD_LIMIT:,}: write it to "
            "a file or an object store and return its name"
        )
    return output


def _failure(error: Exception) -> Failure:
    return failure_of(error, retryable=not isinstance(error, DefinitionError))


def _timed_out(text: str, retryable: bool) -> Failure:
    return Failure(
        type="TimeoutError", message=text, kinds=("OSError", "Exception"), retryable=retryable, timed_out=True
    )
