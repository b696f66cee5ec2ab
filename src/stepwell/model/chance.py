"""A run's own chance: numbers that depend on its seed and on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib


def draw(seed: int, purpose: str, number: int) -> float:
    """Return a number from [0, 1), evenly distributed over purposes, equal for equal arguments."""
    digest = hashlib.blake2b(f"{seed}:{number}:{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
