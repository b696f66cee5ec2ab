"""Numbers that stand in settings, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def check_number(found: Any, setting: str, least: int, say: Callable[[str, str], None]) -> None:  # Any: JSON
    """Say so when a number as written is too small; templates and what is no number are looked at elsewhere."""
    if isinstance(found, int) and not isinstance(found, bool) and found < least:
        say(setting, f"found {found}; give a whole number from {least} on")
