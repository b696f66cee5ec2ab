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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.context import AttemptContext, current
from stepwell.authoring.ctx import Done
from stepwell.engine.attempt import Attempt as Attempt
from stepwell.engine.attempt import Host as Host
from stepwell.engine.attempt import Outcome as Outcome
from stepwell.engine.attempt import attempt_failure
from stepwell.engine.chunks import refusing
from stepwell.engine.clock import Clock
from stepwell.engine.envelope import Envelope, decode_note, decode_reply, encode, run_step
from stepwell.engine.feed import Feed, Live
from stepwell.engine.instore import InStore
from stepwell.engine.limits import Limits
from stepwell.errors import DefinitionError, Unserialisable
from stepwell.model.durations import spoken
from stepwell.model.entries import PAYLOAD_LIMIT
from stepwell.model.failure import Failure
from stepwell.model.failures import failure_of
from stepwell.observe.tracing import AttemptSpans
from stepwell.stores.shelves import RunShelf

if TYPE_CHECKING:
    from stepwell.engine.pools import Pools

CLEANUP_GRACE = 5_000_000
"""How long a timed-out coroutine may clean up before its outcome is reported all the same (microseconds)."""

_log = logging.getLogger("stepwell.engine")


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
        self._pools: Pools | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._in_store = InStore(clock, self._call_in_store)
        self.spans: AttemptSpans | None = None
        self.environments_root: str | Path | None = None

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
        if self._pools is not None:
            await self._pools.close(grace=grace)

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
            attempt.expire(attempt_failure(error))
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
        context.key = attempt.key
        context.shelf = RunShelf(attempt.host.store, attempt.identity.run_id, attempt.host.epoch)
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
            outcome = attempt_failure(error)
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
            return attempt_failure(error)
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
                key=attempt.key,
                levels=levels,
                traceparent=attempt.trace.header if attempt.trace is not None else "",
            )
        )

    async def _in_process(self, attempt: Attempt) -> None:
        from stepwell.engine.pools import EnvironmentMissing, Pools, WorkerDied  # loaded when it is wanted
        from stepwell.observe.outbox import hand_over, levels, unpacked

        if self._pools is None:
            self._pools = Pools(self._limits.processes, self.environments_root)

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
            pool = await self._pools.of(attempt.task, attempt.identity.run_id)
            reply = await pool.run(self._envelope(attempt, levels()), on_note=heard)
        except asyncio.CancelledError:
            if attempt.expired is not None:
                attempt.finish(attempt.expired)
            return
        except (WorkerDied, EnvironmentMissing) as error:
            failure = failure_of(error.with_traceback(None), retryable=isinstance(error, WorkerDied))  # the way is ours
            attempt.finish(failure)
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
        return attempt_failure(error)


def _sized(output: msgspec.Raw, attempt: Attempt) -> msgspec.Raw:
    size = len(memoryview(output))
    if size > PAYLOAD_LIMIT:
        raise Unserialisable(
            f"the result of step {attempt.path} is {size:,} bytes of JSON; the limit is {PAYLOAD_LIMIT:,}: write it to "
            "a file or an object store and return its name"
        )
    return output


def _timed_out(text: str, retryable: bool) -> Failure:
    return Failure(
        type="TimeoutError", message=text, kinds=("OSError", "Exception"), retryable=retryable, timed_out=True
    )
