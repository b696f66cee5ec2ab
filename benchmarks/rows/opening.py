"""Importing the library and opening a store, in an interpreter that has done nothing else yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import time
started = time.perf_counter()
import asyncio, json, sys
from stepwell import Stepwell

async def main():
    async with Stepwell("sqlite:///" + sys.argv[1]):
        opened = time.perf_counter()
        from benchmarks.machine import MEGABYTE, resident_bytes
        print(json.dumps({"seconds": opened - started, "resident_megabytes": resident_bytes() / MEGABYTE}))

asyncio.run(main())
"""
"""Written out, because this process has imported everything already."""


async def opening(folder: Path, size: int) -> dict[str, float]:
    """Import and open a store that does not exist yet; the first of two tries only warms the file cache."""
    for name in ("warm.db", "store.db"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder / name)], check=True, capture_output=True, text=True
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
