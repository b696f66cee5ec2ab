"""Which rows are there, what is promised of each, and does a set of samples keep the promise?

The budgets are ratios to bare SQLite of the same minute wherever the disk or the machine decides, and plain figures
elsewhere. A verdict is made from medians.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

Figures: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Sample:
    """What one fresh process measured, what bare SQLite did immediately before, and what others took of the machine."""

    size: int
    figures: Figures
    reference: Figures
    others: float


@dataclass(frozen=True)
class Budget:
    """A promise about a row: `value` of a sample is at most (or at least) `bound`."""

    text: str
    value: Callable[[Sample], float]
    bound: float
    at_least: bool = False

    def holds(self, samples: Sequence[Sample]) -> bool:
        """Whether the median of the samples keeps it."""
        found = median(map(self.value, samples))
        return found >= self.bound if self.at_least else found <= self.bound


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: what it is called on the command line.
        function: the name of the function in `benchmarks.rows` that measures it.
        sizes: how large; with several, each gets its samples and the last is judged.
        shown: the figure, how it is written, and its unit.
        ratio: the figure beside bare SQLite, and how that is written; None where the disk has no part.
        notes: further figures, as text made from the samples of the largest size.
        budget: None for a row that is only for information.
        repeats: how many fresh processes.
    """

    name: str
    title: str
    function: str
    sizes: tuple[int, ...]
    shown: Callable[[Sample], float]
    unit: str
    ratio: Callable[[Sample], float] | None = None
    ratio_text: str = ""
    budget: Budget | None = None
    notes: tuple[tuple[str, Callable[[Sample], float], str], ...] = ()
    repeats: int = 5
    scaled: str = ""

    def linearity(self, samples: Sequence[Sample]) -> float | None:
        """Time per item at the largest size, divided by that at the smallest; None for a single size."""
        if len(self.sizes) == 1:
            return None
        by_size = sorted({sample.size for sample in samples})
        first, last = (
            median(self.shown(sample) for sample in samples if sample.size == size) / size
            for size in (by_size[0], by_size[-1])
        )
        return last / first


def figure(name: str, factor: float = 1.0) -> Callable[[Sample], float]:
    """A measured figure, in another unit perhaps."""
    return lambda sample: sample.figures[name] * factor


PEAK = ("peak memory", figure("peak_megabytes"), "{:.0f} MB")
"""A note of most rows."""


def _in_commits(name: str) -> Callable[[Sample], float]:
    return lambda sample: sample.figures[name] / sample.reference["commit_seconds"]


def _by_rows(name: str, group: int, rows: float) -> Callable[[Sample], float]:
    """A time, divided by that of inserting `rows` rows for each of the sample's size, grouped."""
    return lambda sample: sample.figures[name] * sample.reference[f"rows_by_{group}"] / (sample.size * rows)


def _rate(name: str, group: int) -> Callable[[Sample], float]:
    return lambda sample: sample.figures[name] / sample.reference[f"rows_by_{group}"]


def _beyond_a_commit(sample: Sample) -> float:
    return sample.figures["p99_seconds"] - sample.reference["commit_seconds"]


LINEAR = 1.25
"""An item of the largest size takes at most this times what one of the smallest takes, or the row is not linear."""

_STEP = _in_commits("step_seconds")
_CHAIN_NOTE = (("first chain of a process", figure("first_step_seconds", 1e6), "{:.0f} µs"),)


def _chain(name: str, title: str, budget: Budget | None = None) -> Row:
    return Row(
        name=name,
        title=title,
        function=name.replace("-", "_"),
        sizes=(100,),
        shown=figure("step_seconds", 1e6),
        unit="µs a step",
        ratio=_STEP,
        ratio_text="{:.2f} × one commit",
        budget=budget,
        notes=_CHAIN_NOTE,
    )


def _items(name: str, title: str) -> Row:
    return Row(
        name=name,
        title=title,
        function=name.replace("-", "_"),
        sizes=(2500, 5000, 10_000),
        shown=figure("seconds"),
        unit="s",
        ratio=_by_rows("seconds", 1000, 8),
        ratio_text="{:.1f} × the same rows bare, by 1,000",
        budget=Budget("≤ 3 s; linear; < 100 MB", _items_worst, 1.0),
        notes=(PEAK,),
        repeats=3,
    )


def _recovery(name: str, title: str) -> Row:
    return Row(
        name=name,
        title=title,
        function=name.replace("-", "_"),
        sizes=(10_000,),
        shown=figure("at_work_seconds"),
        unit="s",
        budget=Budget("≤ 5 s", figure("at_work_seconds"), 5.0),
        notes=(
            ("until all have ended", figure("ended_seconds"), "{:.1f} s"),
            PEAK,
        ),
        repeats=3,
    )


def _items_worst(sample: Sample) -> float:
    return max(sample.figures["seconds"] / 3, sample.figures["peak_megabytes"] / 100)


ROWS: tuple[Row, ...] = (
    _chain(
        "chain",
        "chain of 100 no-op steps, SQLite FULL",
        Budget("≤ 1.25 × one bare commit a step", _STEP, 1.25),
    ),
    _chain("chain-async", '… `durability="async"`'),
    _chain("chain-exit", '… `durability="exit"`'),
    _chain("chain-volatile", '… `durability="memory"`'),
    _chain("chain-in-memory", "… memory store"),
    Row(
        name="many",
        title="1,000 runs × 5 steps at once, SQLite FULL",
        function="many",
        sizes=(1000,),
        shown=figure("steps_per_second"),
        unit="steps/s",
        ratio=_rate("steps_per_second", 1000),
        ratio_text="{:.3f} × bare rows/s by 1,000",
        budget=Budget(
            "≥ 25,000 steps/s per 100,000 bare grouped rows/s: ≥ 0.25",
            _rate("steps_per_second", 1000),
            0.25,
            at_least=True,
        ),
        notes=(
            ("beside bare rows/s by 100", _rate("steps_per_second", 100), "{:.3f}"),
            ("first pass of a process", figure("first_steps_per_second"), "{:,.0f} steps/s"),
            PEAK,
        ),
    ),
    Row(
        name="fan",
        title="fan-out of 1,000 steps in one run",
        function="fan",
        sizes=(1000,),
        shown=figure("seconds", 1e3),
        unit="ms",
        ratio=_by_rows("seconds", 1000, 2),
        ratio_text="{:.1f} × the same rows bare, by 1,000",
        budget=Budget("≤ 60 ms", figure("seconds"), 0.06),
        notes=(("first of a process", figure("first_seconds", 1e3), "{:.0f} ms"),),
    ),
    _items("items-pipeline", "10,000 items × 4 steps in one run, a coroutine per item"),
    _items("items-maps", "10,000 items × 4 steps in one run, four maps"),
    Row(
        name="opening",
        title="import and open a new SQLite store",
        function="opening",
        sizes=(1,),
        shown=figure("seconds", 1e3),
        unit="ms",
        budget=Budget("≤ 150 ms", figure("seconds"), 0.15),
        notes=(("resident", figure("resident_megabytes"), "{:.0f} MB"),),
        repeats=7,
    ),
    Row(
        name="signal",
        title="signal to the step after it, same process (p99 of 1,000)",
        function="signal",
        sizes=(1000,),
        shown=figure("p99_seconds", 1e3),
        unit="ms",
        ratio=_in_commits("p99_seconds"),
        ratio_text="{:.1f} × one commit",
        budget=Budget("p99 ≤ 5 ms + one commit", _beyond_a_commit, 0.005),
        notes=(
            ("p50", figure("p50_seconds", 1e3), "{:.2f} ms"),
            ("p50 in commits", _in_commits("p50_seconds"), "{:.1f}"),
        ),
    ),
    _recovery("recovery", "10,000 runs in flight, kill -9, until all are back at work"),
    _recovery("recovery-default", "… with default limits (2,000 runs in memory)"),
    Row(
        name="folding",
        title="journal of 30,000 entries folded",
        function="folding",
        sizes=(30_000,),
        shown=figure("fold_seconds", 1e3),
        unit="ms",
        budget=Budget("≤ 100 ms", figure("fold_seconds"), 0.1),
        notes=(
            ("read and checked from SQLite", figure("read_seconds", 1e3), "{:.0f} ms"),
            ("body rebuilt", figure("rebuild_seconds", 1e3), "{:.0f} ms"),
        ),
    ),
    Row(
        name="sleeping",
        title="50,000 runs put to sleep by an engine: timers that are due start",
        function="sleeping",
        sizes=(50_000,),
        shown=figure("starts_per_second"),
        unit="starts/s",
        budget=Budget("≥ 5,000/s; no memory per run", figure("starts_per_second"), 5000, at_least=True),
        notes=(
            ("memory of an engine, per sleeping run", figure("bytes_per_run"), "{:.1f} bytes"),
            ("put to sleep", figure("made_per_second"), "{:,.0f} runs/s"),
        ),
        repeats=1,
    ),
    Row(
        name="million",
        title="a million sleeping runs; 50,000 of them timed when all are due",
        function="million",
        sizes=(1_000_000,),
        shown=figure("starts_per_second"),
        unit="starts/s",
        budget=Budget("≥ 5,000/s; no memory per run", figure("starts_per_second"), 5000, at_least=True),
        notes=(
            ("memory of an engine, per sleeping run", figure("bytes_per_run"), "{:.2f} bytes"),
            ("engine with a million asleep", figure("megabytes"), "{:.0f} MB"),
            ("… while they start", figure("due_megabytes"), "{:.0f} MB"),
            ("opened in", figure("open_seconds", 1e3), "{:.0f} ms"),
            ("first start after", figure("first_seconds", 1e3), "{:.0f} ms"),
            ("store", figure("store_bytes_per_run"), "{:.0f} bytes a run"),
            ("created", figure("created_per_second"), "{:,.0f} runs/s"),
        ),
        repeats=1,
    ),
    Row(
        name="listeners",
        title="100,000 runs wait for signals, none in memory: signal to the step after it (p99 of 2,000)",
        function="listeners",
        sizes=(100_000,),
        shown=figure("p99_seconds", 1e3),
        unit="ms",
        ratio=_in_commits("p99_seconds"),
        ratio_text="{:.1f} × one commit",
        notes=(
            ("p50", figure("p50_seconds", 1e3), "{:.2f} ms"),
            ("engine", figure("megabytes"), "{:.0f} MB"),
        ),
        repeats=1,
    ),
)

NOT_HERE = ("server ready, idle server (there is no server yet)",)
"""Budgets of the design that nothing can be measured for yet."""
