"""Which status may follow which, as data: checked on every change, drawn in the docs."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal["pending", "running", "waiting", "paused", "stuck", "completed", "failed", "cancelled"]

MEANING: Final[dict[Status, str]] = {
    "pending": "accepted; its body has not begun",
    "running": "its body has begun; an attempt is in flight or about to be",
    "waiting": "everything in it waits for a timer, a signal, a retry or a child run",
    "paused": "a person or a policy stopped it; it goes on when resumed",
    "stuck": "the engine set it aside because it cannot go on by itself; it is kept and can be resumed",
    "completed": "ended with a result",
    "failed": "ended with an error; it can be retried",
    "cancelled": "ended because it was cancelled",
}

NEXT: Final[dict[Status, frozenset[Status]]] = {
    "pending": frozenset({"running", "paused", "cancelled", "stuck", "failed"}),
    "running": frozenset({"waiting", "paused", "stuck", "completed", "failed", "cancelled"}),
    "waiting": frozenset({"running", "paused", "stuck", "completed", "failed", "cancelled"}),
    "paused": frozenset({"running", "waiting", "pending", "cancelled"}),
    "stuck": frozenset({"running", "waiting", "pending", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset({"running", "pending"}),
    "cancelled": frozenset({"running", "pending"}),
}

TERMINAL: Final[frozenset[Status]] = frozenset({"completed", "failed", "cancelled"})
SET_ASIDE: Final[frozenset[Status]] = frozenset({"paused", "stuck"})
RETRYABLE: Final[frozenset[Status]] = frozenset({"failed", "cancelled"})
