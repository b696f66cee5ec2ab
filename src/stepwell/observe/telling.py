"""What does an entry say? One line for people, for logs and lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from stepwell.model.durations import spoken
from stepwell.model.entries import (
    AnyEntry,
    DefinitionPatched,
    GraphFact,
    InputReassigned,
    InputReminded,
    NodePassed,
    RunCreated,
    RunFailed,
    RunPaused,
    RunResumed,
    ScopeClosed,
    ScopeOpened,
    StateSet,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StreamBlock,
    WaitSatisfied,
    WaitStarted,
    kind_of,
)
from stepwell.model.ids import SECOND
from stepwell.model.requests import read_input_spec

PREVIEW: Final = 120
"""Characters of a payload that are shown."""

OUT: Final = "out"
"""The port by which a node is left when all went as usual."""

_PAYLOADS: Final = ("input", "output", "payload", "chunks")


class StoredEntry(Protocol):
    """An entry as it stands in a journal."""

    @property
    def seq(self) -> int:
        """Its position, from 1."""

    @property
    def entry(self) -> AnyEntry:
        """The fact."""


def timestamp(at: int) -> str:
    """Microseconds since the epoch as ISO 8601 in UTC: `2026-11-20T13:01:02.000123Z`."""
    seconds, micros = divmod(at, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06}Z"


def preview_of(entry: AnyEntry) -> str:
    """The beginning of the payload that an entry carries, as one line of JSON; empty when it carries none."""
    payload = next((getattr(entry, name) for name in _PAYLOADS if hasattr(entry, name)), msgspec.Raw())
    raw = bytes(memoryview(payload)[: PREVIEW * 4 + 4])
    text = raw.decode("utf-8", "ignore")
    return text if len(text) <= PREVIEW else text[: PREVIEW - 1] + "…"


def tell(entry: AnyEntry) -> str:
    """What an entry says, in one line for people, without what its kind and its step's path say already."""
    match entry:
        case RunCreated():
            child = f" by run {entry.parent}" if entry.parent else f" by {entry.by}" if entry.by else ""
            return f"workflow {entry.workflow}, version {entry.version}{child}"
        case RunPaused():
            cause = "" if entry.cause == "request" else f" ({entry.cause.replace('_', ' ')})"
            return f"paused{cause}{_who(entry.by)}{_why(entry.reason)}"
        case RunResumed():
            verb = f"retried, {_count(len(entry.retried), 'step')} again" if entry.retry else "resumed"
            policy = f", changed calls: {entry.on_change}" if entry.on_change else ""
            return f"{verb}{_who(entry.by)}{policy}{_why(entry.reason)}"
        case RunFailed():
            steps = f" (step {', '.join(map(str, entry.steps))})" if entry.steps else ""
            return f"failed{steps}: {entry.error.summary()}"
        case StepStarted():
            kind = " of a compensation" if entry.step == "compensation" else ""
            return f"child run {entry.child}" if entry.child else f"attempt {entry.attempt}{kind}"
        case StepCompleted():
            return f"attempt {entry.attempt} completed{_by_port(entry.port)}"
        case StepFailed():
            rest = f", next in {spoken(max(0, entry.retry_at - entry.at))}" if entry.retry_at else " for good"
            return f"attempt {entry.attempt} failed{rest}: {entry.error.summary()}"
        case WaitStarted():
            due = f", due {timestamp(entry.due)}" if entry.due is not None else ""
            return f"waits for {awaited(entry)}{due}"
        case InputReassigned():
            return f"reassigned to {', '.join(entry.who) or 'anybody'}{_who(entry.by)}{_why(entry.reason)}"
        case InputReminded():
            return f"reminded for the {entry.number}. time"
        case StreamBlock():
            return f"chunks from {entry.first} of attempt {entry.attempt}"
        case WaitSatisfied():
            return f"satisfied{_who(entry.by)}"
        case StepSkipped() | NodePassed() | ScopeOpened() | ScopeClosed() | DefinitionPatched():
            return _of_graph(entry)
        case StateSet():
            return f"{entry.key} {'deleted' if entry.deleted else 'set'}{_who(entry.by)}"
        case _:
            by, reason = getattr(entry, "by", ""), getattr(entry, "reason", "")
            return f"{kind_of(entry).partition('.')[2].replace('_', ' ')}{_who(by)}{_why(reason)}"


def _of_graph(entry: GraphFact) -> str:
    match entry:
        case StepSkipped():
            return f"skipped: {entry.reason or 'no path that was taken leads here'}"
        case NodePassed():
            return f"passed{_by_port(*entry.ports)}"
        case ScopeOpened():
            total = "" if entry.total is None else f" of {entry.total:,}"
            return f"{entry.type or 'container'}{total} opened"
        case ScopeClosed():
            return f"closed{_by_port(*entry.ports)}" if entry.ports else "closed: it failed, or was cancelled"
        case DefinitionPatched():
            return f"nodes and edges added{_who(entry.by)}, definition {entry.digest[:12]}{_why(entry.reason)}"


def _by_port(*ports: str) -> str:
    """How a node was left, unless as usual."""
    return "" if ports == (OUT,) else f", left by {', '.join(ports)}" if ports else ", left by no port"


def awaited(wait: WaitStarted) -> str:
    """What a wait waits for: `timer`, `signal 'approve'`, `event 'shop.changed'`, `an answer to 'Publish?'`."""
    match wait.wait:
        case "timer":
            return "timer"
        case "input":
            prompt = read_input_spec(wait.spec).prompt
            return f"an answer to {prompt if len(prompt) <= PREVIEW else prompt[: PREVIEW - 1] + '…'!r}"
        case _:
            return f"{wait.wait} {wait.name!r}"


def _who(by: str) -> str:
    return f" by {by}" if by else ""


def _why(reason: str) -> str:
    return f": {reason}" if reason else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
