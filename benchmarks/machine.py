"""What was measured on, and how much memory has this process taken?"""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import sys
import time
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


class Neighbours:
    """How much of the machine did everybody else take meanwhile? From the making of this until `share` is asked."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def share(self) -> float:
        """The fraction of all cores that neither this process nor those it has waited for used; 0 where unknown."""
        capacity = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return max(0.0, others / capacity)


def wait_for_quiet(share: float, patience: float) -> None:
    """Wait until others take less than this share of the machine for a second, or until patience ends (seconds)."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        neighbours = Neighbours()
        time.sleep(1)
        if neighbours.share() <= share:
            return


def _busy_seconds() -> float:
    try:
        user, nice, system, _, _, irq, soft, steal, *_ = (
            int(ticks) for ticks in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
        )
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    uses = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


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
