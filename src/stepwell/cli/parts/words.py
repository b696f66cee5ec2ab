"""How things are written for people: times, payloads, tables, statuses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import msgspec

import stepwell
from stepwell.model.durations import spoken
from stepwell.model.failure import Failure
from stepwell.model.ids import SECOND

COLOURS: Final = {
    "completed": "green",
    "running": "cyan",
    "waiting": "blue",
    "pending": "blue",
    "paused": "yellow",
    "stuck": "magenta",
    "failed": "red",
    "cancelled": "yellow",
}


_PACKAGE: Final = str(Path(stepwell.__file__).parent)
_EXAMPLES: Final = str(Path(_PACKAGE, "examples"))


def moment(at: int | None) -> str:
    """Microseconds as the local time, `2026-11-20 13:01:02`; empty for None."""
    return "" if at is None else f"{datetime.fromtimestamp(at // SECOND):%Y-%m-%d %H:%M:%S}"


def ago(at: int, now: int) -> str:
    """How long ago, or `in …` for what is to come."""
    return f"{spoken(now - at)} ago" if at <= now else f"in {spoken(at - now)}"


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def status(text: str, width: int = 0) -> str:
    """A status in its colour, padded to `width`."""
    return click.style(text, fg=COLOURS.get(text)) + " " * max(0, width - len(text))


def dim(text: str) -> str:
    """Less important text."""
    return click.style(text, dim=True)


def short(data: bytes | msgspec.Raw, limit: int = 100) -> str:
    """A payload's JSON in one line of at most `limit` characters."""
    text = bytes(memoryview(data)[: limit * 4 + 4]).decode("utf-8", "replace")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def pretty(data: bytes) -> str:
    """A payload's JSON over several lines."""
    return msgspec.json.format(data, indent=2).decode("utf-8", "replace") if data else "null"


def count(number: int, what: str) -> str:
    """`1 step`, `12,345 steps`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Aligned columns; cells may be styled. `right` are the numbers of columns that are aligned to the right."""
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(heads, *rows, strict=True)]
    lines = [_row([dim(head.upper()) for head in heads], widths, right)]
    lines += [_row(row, widths, right) for row in rows]
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    padded = []
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        gap = " " * (width - len(click.unstyle(cell)))
        padded.append(gap + cell if number in right else cell + gap)
    return "  ".join(padded).rstrip()


def fields(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, one a line; values of several lines are indented alike, empty ones left out."""
    shown = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in shown), default=0)
    gap = " " * (width + 4)
    return "\n".join(f"  {dim(name)}{' ' * (width - len(name))}  {_indented(value, gap)}" for name, value in shown)


def _indented(text: str, gap: str) -> str:
    return text.replace("\n", f"\n{gap}")


def traceback_end(failure: Failure, lines: int = 6) -> str:
    """The last lines of a failure's traceback: where it was raised, and what. Stepwell's own frames are left out."""
    kept: list[str] = []
    ours = False
    for line in failure.traceback.rstrip().splitlines():
        if line.startswith("  File "):
            ours = _PACKAGE in line and _EXAMPLES not in line
        elif not line.startswith("    "):
            ours = False
        if not ours:
            kept.append(line.replace("__mp_main__.", ""))
    if not any(line.startswith("  File ") for line in kept):
        return failure.summary()
    return "\n".join((["…"] if len(kept) > lines else []) + kept[-lines:])


def as_json(failure: Failure | None) -> dict[str, object] | None:
    """A failure for `--json`."""
    if failure is None:
        return None
    return {
        "type": failure.type,
        "message": failure.message,
        "timed_out": failure.timed_out,
        "retryable": failure.retryable,
        "traceback": failure.traceback,
    }


def payload(data: bytes | msgspec.Raw) -> msgspec.Raw | None:
    """A payload for `--json`, as it is in the journal."""
    return msgspec.Raw(bytes(memoryview(data))) if len(memoryview(data)) else None
