"""Another process for each thing that is measured: `python -m benchmarks.fresh FUNCTION PLACE SIZE` prints its figures.

The last line of its output is a JSON object of numbers; everything before it is passed over.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("steps", "opening", "waiting", "recovery", "scale", "graphs")
LONGEST_SECONDS = 600
LONGEST_INSIDE_SECONDS = 150
"""A process that a measurement starts gives up first, so that nothing is left behind."""

_INSIDE = "STEPWELL_BENCH_INSIDE"


def other_process(function: str, place: Path, size: int, options: Sequence[str] = ()) -> dict[str, float]:
    """Run a function of a row in a process of its own and return its figures.

    Raises:
        RuntimeError: it failed or took too long; the text is what it said.
    """
    longest = LONGEST_INSIDE_SECONDS if _INSIDE in os.environ else LONGEST_SECONDS
    try:
        done = subprocess.run(
            _command(function, place, size, options),
            cwd=ROOT,
            env={**environment(), _INSIDE: "1"},
            capture_output=True,
            text=True,
            timeout=longest,
        )
    except subprocess.TimeoutExpired as expired:
        said = (expired.stderr or b"").decode(errors="replace")
        raise RuntimeError(f"{function} did not end within {longest} s:\n{said}") from None
    if done.returncode:
        raise RuntimeError(f"{function} failed:\n{done.stdout}{done.stderr}")
    if options:
        sys.stderr.write(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def killed_process(function: str, place: Path, size: int) -> None:
    """Run a function in a process of its own until it says `ready`, then kill it as a power cut would.

    Raises:
        RuntimeError: it ended before.
    """
    with subprocess.Popen(
        _command(function, place, size), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    if line.strip() != "ready":
        raise RuntimeError(f"{function} ended before it could be killed: {line!r}")


def _command(function: str, place: Path, size: int, options: Sequence[str] = ()) -> list[str]:
    return [sys.executable, "-m", "benchmarks.fresh", function, str(place), str(size), *options]


def environment() -> dict[str, str]:
    """What a process of ours starts with: this checkout first, so that `python -m benchmarks` needs no installation."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if os.environ.get("STEPWELL_BENCH_SOURCE"):
        paths.insert(0, os.environ["STEPWELL_BENCH_SOURCE"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def main() -> None:
    """Run one function; with `--profile` say on stderr where the time of the main thread went."""
    function, place, size, *options = sys.argv[1:]
    found = next(
        getattr(module, function)
        for name in MODULES
        if hasattr(module := importlib.import_module(f"benchmarks.rows.{name}"), function)
    )
    if "--profile" not in options:
        print(json.dumps(asyncio.run(found(Path(place), int(size)))))
        return
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.enable()
    figures = asyncio.run(found(Path(place), int(size)))
    profile.disable()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(45)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
