"""Are there to be OpenTelemetry spans? All that the rest of the engine knows of them; nothing is imported until then.

How a run stays in one trace, whichever processes drive it, is told in `spans`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stepwell.errors import DefinitionError
from stepwell.model.ids import StepPath
from stepwell.model.state import State
from stepwell.observe.telling import StoredEntry

if TYPE_CHECKING:
    from stepwell.observe.spans import Spans


class AttemptTrace(Protocol):
    """The span of one attempt, as whoever runs it knows it."""

    header: str
    """The span for other processes: a `traceparent` as W3C Trace Context defines it."""

    def enter(self) -> None:
        """Make the span the current one of the calling context, so that the task's own spans come below it."""


class AttemptSpans(Protocol):
    """Who is told of attempts that are about to run."""

    def begin(self, run_id: str, root: str, workflow: str, path: StepPath, number: int, at: int) -> AttemptTrace | None:
        """An attempt is launched at this time (microseconds); None: it has no span."""


ReadJournal = Callable[[str], Awaitable[Sequence[StoredEntry]]]
"""Gives the whole journal of a run by its id."""


def spans_for(wanted: bool | None, *, state_of: Callable[[str], State | None], read: ReadJournal) -> Spans | None:
    """A reader that makes spans; None when there are to be none.

    Args:
        wanted: whether there are to be spans; None: if the program has set a tracer provider up.
        state_of: the state of a run that is in memory.
        read: see `ReadJournal`.

    Raises:
        DefinitionError: spans are wanted, and OpenTelemetry's API is not installed.
    """
    if wanted is False or (wanted is None and not has_provider()):
        return None
    try:
        from stepwell.observe.spans import Spans
    except ImportError as error:
        raise DefinitionError(
            f"tracing=True needs OpenTelemetry, which cannot be imported ({error}): install the package "
            "opentelemetry-sdk, or the extra stepwell[otel]"
        ) from error
    return Spans(state_of=state_of, read=read)


def has_provider() -> bool:
    """Whether this program has set up a tracer provider. It must have imported OpenTelemetry for that."""
    api: Any = sys.modules.get("opentelemetry.trace")  # Any: it may not be there
    if api is None:
        return False
    return not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


def continue_trace(header: str) -> None:
    """Make the span that `AttemptTrace.header` stands for the current one here, where OpenTelemetry is installed."""
    try:
        from opentelemetry.context import attach
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:  # this process has none, so nobody here makes spans
        return
    attach(TraceContextTextMapPropagator().extract({"traceparent": header}))
