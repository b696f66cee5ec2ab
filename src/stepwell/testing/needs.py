"""How is a broken promise told?"""

from __future__ import annotations


class Violation(AssertionError):
    """A promise was broken."""


def need(holds: bool, what: str) -> None:
    """Raise `Violation` with `what` unless it holds."""
    if not holds:
        raise Violation(what)
