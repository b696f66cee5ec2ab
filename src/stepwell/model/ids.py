"""Names of things: runs, workers, and the typed path that finds a step inside its run."""

from __future__ import annotations

import re
from typing import NewType

import msgspec

from stepwell.errors import ArgumentError

RunId = NewType("RunId", str)
WorkerId = NewType("WorkerId", str)
Micros = NewType("Micros", int)
"""Microseconds since 1970-01-01T00:00:00Z, as an integer: exact, ordered, and free of time zones."""

SECOND = 1_000_000
"""Microseconds in a second."""

_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:#/~+=@-]{0,199}")


def run_id(text: str) -> RunId:
    """Return `text` as a run id.

    Raises:
        ArgumentError: it is empty, longer than 200 characters, or holds anything but letters, digits and
            `_ . : # / ~ + = @ -` (it never becomes a file path).
    """
    if not _RUN_ID.fullmatch(text):
        raise ArgumentError(
            f"run id {text[:220]!r} is not usable: use 1 to 200 letters, digits or any of _ . : # / ~ + = @ - "
            "beginning with a letter, digit or _"
        )
    return RunId(text)


class StepPath(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, cache_hash=True, gc=False):
    """Where a step stands in its run: scope, name, and which call of that name in that scope.

    `scope` is the chain that led to the call, outermost first, each link `(label, number)` with numbers from 1:
    `("task", 2)` is the second asyncio task made in the enclosing scope, `("fetch.map", 1)` the first such map
    call. `occurrence` counts calls of `name` within the scope from 1, or is the text given as `key=`.
    `revision` is 0 except for a step that was run again under `on_change="rerun"` beside an older record.
    """

    scope: tuple[tuple[str, int], ...]
    name: str
    occurrence: int | str
    revision: int = 0

    def __str__(self) -> str:
        """The readable form, such as `task:2/fetch#1`; a key reads `fetch[sku-7]`, a revision `fetch#1~1`."""
        scope = "".join(f"{label}:{number}/" for label, number in self.scope)
        which = f"#{self.occurrence}" if isinstance(self.occurrence, int) else f"[{self.occurrence}]"
        return f"{scope}{self.name}{which}" + (f"~{self.revision}" if self.revision else "")
