"""What does the engine say of itself? Its warnings are part of the history; a fault that it logs is a violation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from stepwell.testing.invariants import Violation
from stepwell.testing.world import World


class _Ear(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "stepwell.engine":  # what bodies leave unretrieved is their own affair, told whenever
            return
        text = record.getMessage()
        self._world.tell(f"logged: {text}")
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            self.faults.append(f"{text} ({type(error).__name__}: {error})")


@contextmanager
def hearing(world: World) -> Iterator[None]:
    """What the engine logs goes into the history; an exception that it logs as its own fault is a violation."""
    logger = logging.getLogger("stepwell")
    ear = _Ear(world)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(ear)
    try:
        yield
        if ear.faults:
            raise Violation(f"the engine logged a fault of its own: {ear.faults[0]}")
    finally:
        logger.removeHandler(ear)
        logger.propagate = propagates
