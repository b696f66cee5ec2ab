"""The table: budget, measured, ratio and verdict of each row, honestly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.budgets import LINEAR, Row, Sample

HEAD = ("what", "budget", "measured: median (least – most)", "beside bare SQLite", "verdict")


def spread(values: Sequence[float], form: str) -> str:
    """Median, least and most."""
    middle = form.format(median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(min(values))} – {form.format(max(values))})"


def number_form(value: float) -> str:
    """Three significant digits or so, with thousands set apart."""
    if value >= 100:
        return "{:,.0f}"
    return "{:.1f}" if value >= 10 else "{:.2f}"


def cells(row: Row, samples: Sequence[Sample], scale: float) -> tuple[str, ...]:
    """One line of the table."""
    largest = [sample for sample in samples if sample.size == max(sample.size for sample in samples)]
    shown = [row.shown(sample) for sample in largest]
    measured = f"{spread(shown, number_form(median(shown)))} {row.unit}"
    if row.ratio is not None:
        head, _, tail = row.ratio_text.partition(" ")
        ratio = f"{spread([row.ratio(sample) for sample in largest], head)} {tail}"
    else:
        ratio = "–"
    return row.title, row.budget.text if row.budget else "–", measured, ratio, verdict(row, samples, largest, scale)


def failed(row: Row, error: Exception) -> tuple[str, ...]:
    """The line of a row that could not be measured: what is not there does not hold."""
    why = str(error).strip().splitlines()
    last = "" if len(why) < 2 else f" {why[-1]}"
    return row.title, row.budget.text if row.budget else "–", f"failed: {why[0]}{last}"[:160], "–", "**does not hold**"


def verdict(row: Row, samples: Sequence[Sample], largest: Sequence[Sample], scale: float) -> str:
    """Whether the budget holds at full size; no verdict at any other."""
    if row.budget is None:
        return "–"
    if scale != 1:
        return "no verdict: scaled"
    linearity = row.linearity(samples)
    holds = row.budget.holds(largest) and (linearity is None or linearity <= LINEAR)
    said = "**holds**" if holds else "**does not hold**"
    return f"{said} ({row.scaled})" if row.scaled else said


def notes(row: Row, samples: Sequence[Sample]) -> list[str]:
    """Further figures, one line for each row that has any."""
    largest = [sample for sample in samples if sample.size == max(sample.size for sample in samples)]
    parts = [f"{name} {_of(value, form, largest)}" for name, value, form in row.notes]
    linearity = row.linearity(samples)
    if linearity is not None:
        sizes = ", ".join(
            f"{size:,}: {median(row.shown(s) for s in samples if s.size == size):.2f} {row.unit}"
            for size in sorted({sample.size for sample in samples})
        )
        parts.append(f"{sizes}; an item of the most takes {linearity:.2f} × one of the least (linear: ≤ {LINEAR})")
    others = [sample.others for sample in largest]
    parts.append(f"{len(largest)} processes, others took {min(others):.0%} – {max(others):.0%} of the machine")
    return [f"* {row.title}: {'; '.join(parts)}"]


def _of(value: Callable[[Sample], float], form: str, samples: Sequence[Sample]) -> str:
    head, _, tail = form.partition(" ")
    return f"{spread([value(sample) for sample in samples], head)} {tail}".strip()


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, so that it reads well in a terminal too."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    ruled = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in (head, ruled, *lines)
    )
