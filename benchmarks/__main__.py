"""`python -m benchmarks`: measure the rows, print a table, keep it in `benchmarks/results/latest.md`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks import machine, table
from benchmarks.budgets import NOT_HERE, ROWS, Row, Sample
from benchmarks.fresh import ROOT, environment, other_process
from benchmarks.graph_rows import GRAPH_ROWS, YARDSTICKS

RESULTS = Path(__file__).parent / "results"

ALL_ROWS = (*ROWS, *GRAPH_ROWS)

GROUPS = {"graphs": (*YARDSTICKS, *(row.name for row in GRAPH_ROWS))}
"""Rows that are measured together, by a name for them all."""

UNDISTURBED = 0.05
"""Others may take this much of the machine during a sample before it is tried again."""


def main() -> int:
    """Do what the command line says."""
    options = _options()
    if options.source:
        os.environ["STEPWELL_BENCH_SOURCE"] = str(Path(options.source).resolve())
    wanted = {row for name in options.rows for row in GROUPS.get(name, (name,))}
    rows = [row for row in ALL_ROWS if not wanted or row.name in wanted]
    if options.peers is not None:
        from benchmarks.peers.beside import compare

        text = compare(options.peers, options.folder, options.box, options.scale)
        _keep("peers.md", text)
        return 0
    if options.profile:
        return _profile(next(row for row in ALL_ROWS if row.name == options.profile), options.folder, options.scale)
    text = _measured(rows, options.folder, options.scale, options.repeats, options.tries, options.patience)
    print(text)
    _keep("latest.md", text)
    return 0


def _options() -> argparse.Namespace:
    names = [row.name for row in ALL_ROWS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"only these: {', '.join([*GROUPS, *names])}")
    parser.add_argument("--scale", type=float, default=1.0, help="make all sizes smaller; no verdicts then")
    parser.add_argument("--repeats", type=int, help="fresh processes a row (default: as each row says)")
    parser.add_argument("--tries", type=int, default=4, help="a sample that others disturb is taken again, so often")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="wait so long (seconds) before a sample for others to be quiet"
    )
    parser.add_argument("--folder", type=Path, help="where stores are made; give one on the disk that matters")
    parser.add_argument("--profile", metavar="ROW", choices=names, help="say where the time of one row goes")
    parser.add_argument("--source", help="measure the package in this folder instead of src")
    parser.add_argument("--peers", nargs="*", metavar="PEER", help="beside other libraries: all, or dbos, langgraph, …")
    parser.add_argument("--box", type=float, default=60.0, help="longest time of one shape of a peer (seconds)")
    options = parser.parse_args()
    unknown = sorted(set(options.rows) - {*names, *GROUPS})
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join([*GROUPS, *names])}")
    return options


def _measured(
    rows: Sequence[Row], folder: Path | None, scale: float, repeats: int | None, tries: int, patience: float
) -> str:
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-", dir=folder) as place:
        head = [f"* {line}" for line in machine.described(Path(place))]
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime())
        load = machine.load()
        lines, notes, references = [], [], []
        for row in rows:
            try:
                samples = _samples(row, Path(place), scale, repeats or row.repeats, tries, patience)
            except RuntimeError as error:
                lines.append(table.failed(row, error))
                print(f"{row.name}: {error}", file=sys.stderr, flush=True)
                continue
            lines.append(table.cells(row, samples, scale))
            notes += table.notes(row, samples)
            references += [sample.reference for sample in samples]
            print(f"{row.name}: {lines[-1][2]} {lines[-1][4]}", file=sys.stderr, flush=True)
    head += [
        f"* measured {began}, load average {load:.1f} at the beginning and {machine.load():.1f} at the end"
        + ("" if scale == 1 else f", all sizes × {scale:g}"),
        f"* bare SQLite meanwhile: {_bare(references)}",
    ]
    missing = [f"* not measured: {'; '.join(NOT_HERE)}"]
    return "\n".join([*head, "", table.markdown(table.HEAD, lines), "", *notes, *missing, ""])


def _bare(references: Sequence[Mapping[str, float]]) -> str:
    if not references:
        return "not measured"
    commits = [reference["commit_seconds"] * 1e6 for reference in references]
    hundreds = [reference["rows_by_100"] for reference in references]
    thousands = [reference["rows_by_1000"] for reference in references]
    return (
        f"one commit {table.spread(commits, '{:.0f}')} µs, rows/s grouped by 100 {median(hundreds):,.0f}, "
        f"by 1,000 {table.spread(thousands, '{:,.0f}')}"
    )


def _samples(row: Row, place: Path, scale: float, repeats: int, tries: int, patience: float) -> list[Sample]:
    samples = []
    for _ in range(repeats):
        for full in row.sizes:
            size = max(1, round(full * scale))
            samples.append(_undisturbed(row, place, size, scale, tries, patience))
    return samples


def _undisturbed(row: Row, place: Path, size: int, scale: float, tries: int, patience: float) -> Sample:
    """The first sample during which others left the machine alone; that with the least of them after so many tries."""
    best: Sample | None = None
    for _ in range(tries):
        machine.wait_for_quiet(UNDISTURBED, patience)
        sample = _sample(row, place, size, scale)
        if best is None or sample.others < best.others:
            best = sample
        if best.others <= UNDISTURBED:
            break
    assert best is not None, "there is one try at least"
    return best


def _sample(row: Row, place: Path, size: int, scale: float) -> Sample:
    """Fresh store, fresh process, and the reference in one of its own immediately before."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        neighbours = machine.Neighbours()
        reference = _reference(Path(folder), scale)
        figures = other_process(row.function, Path(folder), size)
        return Sample(size, figures, reference, neighbours.share())


def _reference(folder: Path, scale: float) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reference", str(folder), str(min(1.0, scale))],
        cwd=ROOT,
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _profile(row: Row, folder: Path | None, scale: float) -> int:
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-", dir=folder) as place:
        size = max(1, round(row.sizes[-1] * scale))
        print(other_process(row.function, Path(place), size, ["--profile"]))
    return 0


def _keep(name: str, text: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
