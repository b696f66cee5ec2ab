"""Who compiles graphs in a simulation? Whoever reads a definition first; all its processes share the plan.

A plan is immutable, and compiling is most of what a small graph costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from stepwell.engine.graphs import Compiling
from stepwell.graph.plan import Plan
from stepwell.testing.vertices import Json


@contextmanager
def compiled_once() -> Iterator[None]:
    """While this lasts, engines compile each definition once, all together."""
    known: dict[bytes, Plan] = {}
    compiled = Compiling.compiled

    def once(self: Compiling, data: Json) -> Plan:
        key = msgspec.json.encode(data)
        if key not in known:
            known[key] = compiled(self, data)
        return known[key]

    Compiling.compiled = once  # type: ignore[method-assign]  # for a while
    try:
        yield
    finally:
        Compiling.compiled = compiled  # type: ignore[method-assign]  # as it was
