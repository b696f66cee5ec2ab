"""Tasks that need the package `swtint`; the tests say which one. Child processes import this module."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from stepwell import ctx


def paint(colour: str) -> dict[str, str]:
    """What it is run with."""
    import swtint

    said = subprocess.run(["swtint"], capture_output=True, text=True, check=True).stdout.strip()
    return {"colour": colour, "version": swtint.VERSION, "command": said, "prefix": sys.prefix}


async def paint_later(colour: str) -> dict[str, str]:
    """The same, as a coroutine."""
    return paint(colour)


def linger(folder: str) -> None:
    """Says that it has begun, and does not end by itself."""
    import swtint

    ctx.heartbeat()
    ctx.progress(done=1, total=2)
    (Path(folder) / "pid").write_text(f"{os.getpid()} {swtint.VERSION}")
    while True:
        time.sleep(0.05)
