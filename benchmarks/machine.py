"""What was measured on, and how much memory has this process taken?"""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import sys
from pathlib import Path

MEGABYTE = 1_000_000


def described(folder: Path) -> list[str]:
    """Lines about the machine, for the head of a table; `folder` is where the stores are."""
    return [
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"stores on {filesystem(folder)}",
    ]


def load() -> float:
    """The load average of the last minute: above zero when a sample begins, somebody else is using the machine."""
    return os.getloadavg()[0]


def peak_bytes() -> int:
    """The most resident memory that this process has had.

    Not `getrusage`, whose maximum on Linux begins with that of the process that started this one.
    """
    return _status("VmHWM") or _peak_of_getrusage()


def resident_bytes() -> int:
    """The resident memory of this process now (its peak, where the system does not say)."""
    return _status("VmRSS") or _peak_of_getrusage()


def filesystem(folder: Path) -> str:
    """The type of the filesystem that `folder` is on; on `tmpfs` a commit costs nothing and no ratio means much."""
    best, kind = "", "a filesystem of unknown type"
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    place = f"{folder.resolve()}/"
    for line in lines:
        _, mounted, name, *_ = line.split()
        if place.startswith(mounted.rstrip("/") + "/") and len(mounted) >= len(best):
            best, kind = mounted, name
    return kind


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "processor unknown"


def _status(field: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _peak_of_getrusage() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
