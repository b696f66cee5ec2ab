"""Peers and ours, shape by shape, in one campaign: seconds, rates, and how many times as fast."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks import machine, table
from benchmarks.fresh import ROOT, environment, other_process

PEERS = ("dbos", "langgraph", "prefect")

STEPS = {"chain": 1, "many": 5, "fan": 1, "items": 4, "recovery": 1}
"""Steps for each unit of a shape's size; a recovery is counted in runs."""

TITLES = {
    "chain": "chain of 100 steps (steps/s)",
    "many": "1,000 runs × 5 steps (steps/s)",
    "fan": "fan-out of 1,000 steps (steps/s)",
    "items": "10,000 items × 4 steps (steps/s)",
    "recovery": "kill -9, back at work (runs/s)",
}
OURS: dict[str, tuple[str, int, Callable[[dict[str, float]], float]]] = {
    "chain": ("chain", 100, lambda f: 1 / f["step_seconds"]),
    "many": ("many", 1000, lambda f: f["steps_per_second"]),
    "fan": ("fan", 1000, lambda f: 1000 / f["seconds"]),
    "items": ("items_pipeline", 10_000, lambda f: 40_000 / f["seconds"]),
    "recovery": ("recovery", 1000, lambda f: 1000 / f["at_work_seconds"]),
}


def compare(names: Sequence[str], folder: Path | None, box: float, scale: float = 1.0) -> str:
    """Measure the peers (all of them when none is named) and ours; return a table."""
    before = machine.load()
    cells: dict[tuple[str, str], dict[str, object]] = {}
    notes: list[str] = []
    ours: dict[str, float] = {}
    for shape in TITLES:
        rates = [_ours(shape, folder)]  # before and after: the machine may be busier now than then
        for name in names or PEERS:
            for result in _peer(name, shape, folder, box, scale):
                peer = str(result["peer"])
                if "shape" in result:
                    cells[f"{peer}, {result['variant']}", shape] = result
                elif (note := f"* {peer} is left out: {result['skipped']}") not in notes:
                    notes.append(note)
            rates.append(_ours(shape, folder))
        ours[shape] = median(rates)
    columns = list(dict.fromkeys(peer for peer, _ in cells))
    lines = [_line(shape, ours[shape], columns, cells) for shape in TITLES]
    text = "\n".join(
        [
            *(f"* {line}" for line in machine.described(folder or Path(tempfile.gettempdir()))),
            f"* every cell in a fresh process and store; a shape gets {box:g} s, and is scaled down when it needs more",
            f"* load average {before:.1f} at the beginning and {machine.load():.1f} at the end",
            "* in brackets: how many times as fast ours is",
            *notes,
            "",
            table.markdown(("what", "ours, SQLite FULL", *columns), lines),
            "",
        ]
    )
    print(text)
    return text


def _peer(name: str, shape: str, folder: Path | None, box: float, scale: float) -> list[dict[str, object]]:
    script = Path(__file__).parent / f"{name}_bench.py"
    if not script.exists():
        return [{"peer": name, "skipped": "there is no script for it"}]
    command = [sys.executable, str(script), "--box", str(box), "--scale", str(scale), "--shape", shape]
    if folder is not None:
        command += ["--folder", str(folder)]
    results: list[dict[str, object]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            results.append(json.loads(line))
    if process.returncode and not results:
        results.append({"peer": name, "skipped": f"its script ended with {process.returncode}"})
    return results


def _ours(shape: str, folder: Path | None) -> float:
    function, size, rate = OURS[shape]
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-", dir=folder) as place:
        return rate(other_process(function, Path(place), size))


def _line(
    shape: str, ours: float, columns: Sequence[str], cells: dict[tuple[str, str], dict[str, object]]
) -> tuple[str, ...]:
    line = [TITLES[shape], f"{ours:,.0f}"]
    for column in columns:
        cell = cells.get((column, shape))
        if cell is None or "seconds" not in cell:
            line.append("–" if cell is None else str(cell["skipped"]))
            continue
        size, seconds = int(str(cell["size"])), float(str(cell["seconds"]))
        rate = size * STEPS[shape] / seconds
        scaled = "" if size == cell["full"] else f"; at {size:,} of {cell['full']:,}"
        line.append(f"{rate:,.0f} ({ours / rate:,.0f} ×{scaled})")
    return tuple(line)
