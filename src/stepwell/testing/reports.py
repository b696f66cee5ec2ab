"""What is told of one simulated history?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What a seed came to."""

    seed: int
    runs: int
    entries: int
    attempts: int
    commits: int
    processes: int
    batches: int
    seconds: float
    digest: int
    """The same for two executions of one seed, if nothing undrawn has decided anything."""
