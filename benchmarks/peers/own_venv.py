"""A peer's script runs in two halves: outside it makes a virtual environment, inside it measures one shape.

Outside, each shape is first tried small; when the full size would not fit the time box it is scaled down, and the
result says so. Every cell has a fresh process and a fresh folder. Results are JSON lines on stdout.

Used by path (`python benchmarks/peers/dbos_bench.py`), so it needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

SIZES = {"chain": 100, "many": 1000, "fan": 1000, "items": 10_000, "recovery": 1000}
"""The shapes, and how large they are in full."""

PROBE = 50
"""A shape is first tried at this fraction of its size."""

Shape = Callable[[str, Path, int], float | None]
"""Measures one shape: variant, folder and size in; seconds out. `be_killed` says `ready` and waits for its end."""


def main(
    name: str,
    requirements: Sequence[str],
    variants: Sequence[str],
    shapes: dict[str, Shape],
    largest: dict[str, int] | None = None,
) -> None:
    """Be the outside, or with `--inside` the inside, of a peer's script.

    `shapes` are functions by the names in `SIZES`; a peer that can recover has `be_killed` and `recover` instead of
    `recovery`. `largest` bounds sizes that the peer is known not to survive.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--inside", nargs=3, metavar=("VARIANT", "SHAPE", "SIZE"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--box", type=float, default=60.0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--shape", choices=list(SIZES), help="only this one")
    options = parser.parse_args()
    if options.inside:
        variant, shape, size = options.inside
        # Time and memory of the interpreter's start are not the shape's: it measures itself.
        print(json.dumps({"seconds": shapes[shape](variant, options.folder, int(size))}), flush=True)
        return
    try:
        python = _environment(name, requirements)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout or "").strip().splitlines()[-1:]
        print(json.dumps({"peer": name, "skipped": f"it cannot be installed here: {' '.join(last)[:200]}"}))
        return
    version = _version(python, requirements[0])
    for variant in variants:
        for shape, full in SIZES.items():
            if options.shape not in (None, shape):
                continue
            if shape not in shapes and not (shape == "recovery" and "recover" in shapes):
                result: dict[str, object] = {"skipped": "has no such thing"}
            else:
                bound = min(full, (largest or {}).get(shape, full))
                result = _cell(python, variant, shape, max(1, round(bound * options.scale)), options)
            print(
                json.dumps({"peer": f"{name} {version}", "variant": variant, "shape": shape, "full": full, **result}),
                flush=True,
            )


def cache_folder() -> Path:
    """Where virtual environments are kept between runs."""
    given = os.environ.get("STEPWELL_BENCH_CACHE")
    return Path(given) if given else Path(tempfile.gettempdir()) / "stepwell-bench-peers"


def _environment(name: str, requirements: Sequence[str]) -> Path:
    place = cache_folder() / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = place / "bin" / "python"
    done = place / "installed"
    if done.exists() and done.read_text() == "\n".join(requirements):
        return python
    venv.create(place, with_pip=True, clear=True)
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
        check=True,
        capture_output=True,
        text=True,
    )
    done.write_text("\n".join(requirements))
    return python


def _version(python: Path, requirement: str) -> str:
    package = requirement.partition("=")[0].partition(">")[0].partition("[")[0]
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return subprocess.run([str(python), "-c", code, package], check=True, capture_output=True, text=True).stdout.strip()


def _cell(python: Path, variant: str, shape: str, full: int, options: argparse.Namespace) -> dict[str, object]:
    """Grow the shape until it is in full size, or would take longer than the box: the largest that was measured."""
    box: float = options.box
    size = max(1, full // PROBE)
    result: dict[str, object] = {}
    while True:
        try:
            seconds = _once(python, variant, shape, size, options.folder, box)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, RuntimeError) as error:
            return result or {"skipped": _said(error)}
        result = {"size": size, "seconds": seconds}
        # What grows faster than its size is seen on the way: never more than ten times as large at once.
        larger = min(full, size * 10, int(size * box / max(seconds, 1e-9)))
        if larger < min(full, size * 1.5):
            return result
        size = larger
        if size == result["size"]:
            return result


def _said(error: Exception) -> str:
    said = getattr(error, "stderr", None) or b""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    last = " ".join(text.strip().splitlines()[-1:])[:200]
    return f"failed: {last or type(error).__name__}"


def _once(python: Path, variant: str, shape: str, size: int, folder: Path | None, box: float) -> float:
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-peer-", dir=folder, ignore_cleanup_errors=True) as place:
        if shape != "recovery":
            return _inside(python, variant, shape, size, place, box)
        _kill(python, variant, size, place, box)
        return _inside(python, variant, "recover", size, place, box)


def _command(python: Path, variant: str, shape: str, size: int, place: str) -> list[str]:
    return [str(python), os.path.abspath(sys.argv[0]), "--inside", variant, shape, str(size), "--folder", place]


def _inside(python: Path, variant: str, shape: str, size: int, place: str, box: float) -> float:
    done = subprocess.run(
        _command(python, variant, shape, size, place),
        check=True,
        capture_output=True,
        text=True,
        timeout=box + 60,
        cwd=place,
        env={**os.environ, "HOME": place},
    )
    line = next(line for line in reversed(done.stdout.splitlines()) if line.startswith('{"seconds"'))
    return float(json.loads(line)["seconds"])


def _kill(python: Path, variant: str, size: int, place: str, box: float) -> None:
    """Start `be_killed`, and end it as a power cut would as soon as it says that all is in flight."""
    deadline = time.monotonic() + box + 60
    with subprocess.Popen(
        _command(python, variant, "be_killed", size, place),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=place,
        env={**os.environ, "HOME": place},
    ) as process:
        assert process.stdout is not None
        said = any(line.strip() == "ready" for line in process.stdout) if time.monotonic() < deadline else False
        os.kill(process.pid, signal.SIGKILL)
    if not said:
        raise RuntimeError("it ended before it could be killed")
