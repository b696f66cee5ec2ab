"""Which benches does a test open? The pytest plug-in asks, and shows their journals when the test fails."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class Shown(Protocol):
    """Something that can show the journals of its runs."""

    def report(self) -> str:
        """The journals, for people; empty when there are none."""


opened: ContextVar[list[Shown] | None] = ContextVar("stepwell_benches", default=None)
"""Benches are added here when they are opened, if somebody has put a list."""
