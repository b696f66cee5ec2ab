"""OpenTelemetry spans of runs and attempts, made by a reader of the feed.

**One trace, whoever drives.** Ids are not drawn but derived: the trace's from the id of the root run, a run's span's
from its run id, an attempt's from run id, step and number (BLAKE2b of the 16 and 8 bytes that W3C Trace Context has for
them). So the process that goes on with a run after a crash makes children of a span that another process has not yet
exported, and nothing about tracing is journaled. A run's span is made when the run ends, whole, with the times and
events of its journal: a run that sleeps for a month holds no span. Runs with the same id in two stores share a trace
id.

**The tree.** A run's span is the parent of its attempts' spans and of its child runs' spans. When an ended run is
retried, what follows comes below a span of its own, `retry <workflow>`, because the run's span is exported already.

The tracer is the user's provider's own, copied and given the derived ids; its sampler decides for the whole trace by
what it says of the root run's span, so that a share of all traces is a share of whole trees.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from stepwell.model.entries import (
    AnyEntry,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunResumed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    kind_of,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.model.state import State, evolve
from stepwell.observe.telling import StoredEntry, tell
from stepwell.observe.tracing import ReadJournal

EVENTS: Final = 128
"""Events that a run's span has at most, the last ones: as many as OpenTelemetry's SDK keeps by default."""

TRAILS: Final = 10_000
"""Runs whose events are kept in memory until they end; the journal of another one is read when it ends."""

_log = logging.getLogger("stepwell.observe")

_EVENTFUL: Final = ("run.", "wait.", "input.")
_ENDINGS: Final = (RunCompleted, RunFailed, RunCancelled)
_LEFT: Final = "the process stopped driving the run before the attempt had ended"

Attributes = dict[str, str | int]


class Event(NamedTuple):
    """Something that a run's span tells of: an entry's kind, what it says, its step if any, and when (microseconds)."""

    kind: str
    message: str
    step: str
    at: int


Trail = deque[Event]


class _SaidNote(Protocol):
    """Something that is no fact; no span tells of it."""


class Spans:
    """Told what an engine commits and which attempts it launches, it makes spans. Belongs to one event loop.

    Args:
        state_of: the state of a run that is in memory, None for others.
        read: gives the whole journal of a run.
        provider: makes the tracer; None: the program's own.
    """

    def __init__(
        self,
        *,
        state_of: Callable[[str], State | None],
        read: ReadJournal,
        provider: trace.TracerProvider | None = None,
    ) -> None:
        self._state_of = state_of
        self._read = read
        self._ids = _Ids()
        self._tracer: Any = _with_ids(trace.get_tracer("stepwell", tracer_provider=provider), self._ids)
        self._open: dict[tuple[str, StepPath], _OpenAttempt] = {}
        self._trails: OrderedDict[str, Trail] = OrderedDict()
        self._endings: set[asyncio.Task[None]] = set()

    # -- what the engine tells ----------------------------------------------------------------------------------

    def entries(self, run_id: str, stored: Sequence[StoredEntry]) -> None:
        """These entries were committed."""
        for one in stored:
            match one.entry:
                case StepCompleted() | StepFailed() | StepCancelled() as entry:
                    self._end_attempt(run_id, entry)
                case RunCompleted() | RunFailed() | RunCancelled() as entry:
                    self._end_run(run_id, entry)
                case entry:
                    if one.seq <= 2:  # before it stands at most `run.created`: nothing of this run was missed
                        self._trails[run_id] = deque(maxlen=EVENTS)
                        while len(self._trails) > TRAILS:
                            self._trails.popitem(last=False)
                    if run_id in self._trails:
                        _follow(self._trails[run_id], entry)

    def live(self, note: _SaidNote) -> None:
        """This was said."""

    def begin(self, run_id: str, root: str, workflow: str, path: StepPath, number: int, at: int) -> _OpenAttempt | None:
        """An attempt is launched: its span begins. None when the user's tracing fails; the run is not harmed by it."""
        try:
            return self._begin(run_id, root, workflow, path, number, at)
        except Exception:
            _log.exception("attempt %d of step %s of run %s has no span", number, path, run_id)
            return None

    def _begin(self, run_id: str, root: str, workflow: str, path: StepPath, number: int, at: int) -> _OpenAttempt:
        left = self._open.pop((run_id, path), None)
        if left is not None:
            left.leave(at)
        state = self._state_of(run_id)
        attributes: Attributes = {
            "stepwell.run": run_id,
            "stepwell.root": root,
            "stepwell.workflow": workflow,
            "stepwell.step": str(path),
            "stepwell.attempt": number,
        }
        if state is not None and state.queue:
            attributes["stepwell.queue"] = state.queue
        life = state.retried_at if state is not None and state.retried_at is not None else 0
        parent = self._context(root, run_span_id(run_id, life))
        span = self._start(f"step {path.name}", attempt_span_id(run_id, path, number), root, parent, at, attributes)
        opened = self._open[run_id, path] = _OpenAttempt(span)
        return opened

    async def close(self) -> None:
        """End the spans of attempts that are left behind, and wait for those of runs that have just ended."""
        for opened in self._open.values():
            opened.leave(None)
        self._open.clear()
        if self._endings:
            await asyncio.wait(self._endings)

    # -- attempts -----------------------------------------------------------------------------------------------

    def _end_attempt(self, run_id: str, entry: StepCompleted | StepFailed | StepCancelled) -> None:
        opened = self._open.pop((run_id, entry.path), None)
        if opened is None:  # the step of a child run, or one that failed before it was launched
            return
        span = opened.span
        match entry:
            case StepFailed():
                _tell_failure(span, entry.error, entry.at)
                if entry.retry_at is not None:
                    span.set_attribute("stepwell.retry_at", entry.retry_at)
            case StepCancelled():
                span.set_attribute("stepwell.cancelled", True)
            case _:
                pass
        span.end(_nanos(entry.at))

    # -- runs ---------------------------------------------------------------------------------------------------

    def _end_run(self, run_id: str, entry: RunCompleted | RunFailed | RunCancelled) -> None:
        trail = self._trails.pop(run_id, None)
        state = self._state_of(run_id)
        if trail is not None and state is not None:
            self._tell_run(state, trail, entry)
            return
        ending = asyncio.get_running_loop().create_task(self._read_and_tell(run_id, entry))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _read_and_tell(self, run_id: str, ended: RunCompleted | RunFailed | RunCancelled) -> None:
        """The span of a run of which other processes, or this one long ago, have seen a part."""
        state, trail = State(), Trail(maxlen=EVENTS)
        try:
            for one in await self._read(run_id):
                if isinstance(one.entry, _ENDINGS) and one.entry == ended:
                    break
                evolve(state, one.entry)
                if isinstance(one.entry, RunResumed) and one.entry.retry:
                    trail.clear()
                _follow(trail, one.entry)
        except Exception as error:  # the run is not harmed by it
            _log.warning("run %s has no span, because its journal could not be read: %s", run_id, error)
            return
        self._tell_run(state, trail, ended)

    def _tell_run(self, state: State, trail: Trail, entry: RunCompleted | RunFailed | RunCancelled) -> None:
        life = state.retried_at or 0
        what = "retry" if life else "run"
        parent = None
        if life:
            parent = self._context(state.root, run_span_id(state.run_id))
        elif state.parent is not None and state.root != state.run_id:
            parent = self._context(state.root, run_span_id(state.parent))
        attributes: Attributes = {
            "stepwell.run": state.run_id,
            "stepwell.root": state.root,
            "stepwell.workflow": state.workflow,
            "stepwell.version": state.version,
            "stepwell.status": kind_of(entry).partition(".")[2],
            "stepwell.steps.completed": state.completed,
            "stepwell.steps.failed": state.failed,
            "stepwell.steps.retries": state.retries,
        }
        for name, text in (("parent", state.parent), ("queue", state.queue), ("origin", state.origin)):
            if text:
                attributes[f"stepwell.{name}"] = text
        attributes |= {f"stepwell.label.{key}": text for key, text in state.labels.items()}
        links = [Link(self._span_context(state.origin, run_span_id(state.origin)))] if state.origin else []
        at = life or state.created_at
        span = self._start(
            f"{what} {state.workflow}", run_span_id(state.run_id, life), state.root, parent, at, attributes, links
        )
        for event in trail:
            fields: Attributes = {"stepwell.message": event.message}
            span.add_event(event.kind, fields | ({"stepwell.step": event.step} if event.step else {}), _nanos(event.at))
        if isinstance(entry, RunFailed):
            _tell_failure(span, entry.error, entry.at)
        span.end(_nanos(entry.at))

    # -- ids ----------------------------------------------------------------------------------------------------

    def _start(
        self,
        name: str,
        span_id: int,
        root: str,
        parent: Context | None,
        at: int,
        attributes: Attributes,
        links: Sequence[Link] = (),
    ) -> Span:
        self._ids.trace_id, self._ids.span_id = trace_id(root), span_id
        if parent is None:
            # Where the ids cannot be given, a parent that is never exported keeps the trace's id at least.
            parent = Context() if self._ids.are_used else self._context(root, span_id)
        started: Span = self._tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            links=links,
            start_time=_nanos(at),
            record_exception=False,
            set_status_on_exception=False,
        )
        return started

    def _context(self, root: str, span_id: int) -> Context:
        return trace.set_span_in_context(NonRecordingSpan(self._span_context(root, span_id)), Context())

    def _span_context(self, root: str, span_id: int) -> SpanContext:
        number = trace_id(root)
        flags = TraceFlags(TraceFlags.SAMPLED if self._is_sampled(number) else TraceFlags.DEFAULT)
        return SpanContext(number, span_id, is_remote=True, trace_flags=flags)

    def _is_sampled(self, number: int) -> bool:
        sampler = getattr(self._tracer, "sampler", None)
        if sampler is None:
            return True
        return bool(sampler.should_sample(Context(), number, "run", SpanKind.INTERNAL, {}, ()).decision.is_sampled())


class _OpenAttempt:
    """The span of an attempt that runs: see `tracing.AttemptTrace`."""

    __slots__ = ("header", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        context = span.get_span_context()
        self.header = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"

    def enter(self) -> None:
        """Make the span the current one. The context ends with the attempt, so there is nothing to undo."""
        attach(trace.set_span_in_context(self.span))

    def leave(self, at: int | None) -> None:
        """End the span without an outcome: there is none here."""
        nanos = None if at is None else _nanos(at)
        self.span.add_event("left", {"stepwell.message": _LEFT}, nanos)
        self.span.end(nanos)


class _Ids:
    """An id generator, in the SDK's sense, that gives the ids that it was told."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0
        self.are_used = False

    def generate_trace_id(self) -> int:
        """The id of a span without a parent's trace."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """The id of a span."""
        return self.span_id

    def is_trace_id_random(self) -> bool:
        """Whether samplers may take its bits for random: a hash's are as good."""
        return True


def trace_id(root: str) -> int:
    """The trace of a run tree by the id of its root run."""
    return _derived(16, "trace", root)


def run_span_id(run_id: str, life: int = 0) -> int:
    """The span of a run; `life` is the time at which it was last retried, 0 before."""
    return _derived(8, "run", run_id, str(life))


def attempt_span_id(run_id: str, path: StepPath, number: int) -> int:
    """The span of an attempt."""
    return _derived(8, "attempt", run_id, str(path), str(number))


def _derived(size: int, *words: str) -> int:
    digest = hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=size, person=b"stepwell")
    return int.from_bytes(digest.digest()) or 1  # zero is no id


def _with_ids(tracer: trace.Tracer, ids: _Ids) -> trace.Tracer:
    """A tracer of ours that takes its ids from `ids`; others that ask for a tracer of this name get the provider's."""
    if not hasattr(tracer, "id_generator"):  # not the SDK's: it makes its own
        return tracer
    own: Any = copy.copy(tracer)
    own.id_generator = ids
    ids.are_used = True
    mine: trace.Tracer = own
    return mine


def _follow(trail: Trail, entry: AnyEntry) -> None:
    """Add an entry to a run's events, if it says something of the run or of its waits."""
    kind = kind_of(entry)
    if kind.startswith(_EVENTFUL) and kind != "run.created":
        path = getattr(entry, "path", None)
        trail.append(Event(kind, tell(entry), "" if path is None else str(path), entry.at))


def _tell_failure(span: Span, failure: Failure, at: int) -> None:
    """Status and event of a failure, by OpenTelemetry's semantic conventions for exceptions."""
    span.set_status(Status(StatusCode.ERROR, failure.summary()))
    fields: Mapping[str, str] = {
        "exception.type": failure.type,
        "exception.message": failure.message,
        "exception.stacktrace": failure.traceback,
    }
    span.add_event("exception", fields, _nanos(at))


def _nanos(at: int) -> int:
    return at * 1000
