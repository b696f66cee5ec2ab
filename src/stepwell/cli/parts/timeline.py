"""When did what happen? A bar over time for each step and wait, as text that fits the terminal."""

from __future__ import annotations

import shutil
from typing import Final

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.model.durations import spoken
from stepwell.observe.history import Attempt, History, Part, Pause
from stepwell.observe.picture import Node, Picture, count

ROWS: Final = 40
"""How many bars are shown, unless all are asked for."""

NARROWEST: Final = 16
"""Columns that a bar has at least; a terminal too narrow for it gets longer lines."""

_WORK, _WAIT, _BACKOFF, _FAILED, _PAUSED, _OPEN = "█", "░", "·", "✗", "▬", "▶"
_LEVELS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN: Final = str.maketrans("█░·✗▬▶▁▂▃▄▅▆▇×…", "#-.x=>.::++**x.")


def width_of(call: Call) -> int:
    """Columns of the terminal, or of what `COLUMNS` says; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def knows_boxes(call: Call) -> bool:
    """Whether the output can show more than ASCII."""
    try:
        "█░│╮●".encode(call.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def fit(text: str, width: int) -> str:
    """The text, cut to so many columns."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"[:width]


def fit_path(text: str, width: int) -> str:
    """The path of a step, cut to so many columns at its beginning: its end tells more."""
    return text if len(text) <= width else f"…{text[len(text) - max(0, width - 1) :]}"[:width]


def timeline(call: Call, past: History, drawn: Picture, now: int, *, everything: bool = False) -> list[str]:
    """The lines of a run's timeline: a head, a bar for each pause, and one for each node of the picture.

    A bar shows work as `█`, waiting as `░`, the time between two attempts as `·`, a failed attempt's end as `✗`; what
    has not ended goes up to now. The bar of many shows how many were under way at once.
    """
    nodes = [node for node in drawn.nodes if node.parts]
    shown = nodes if everything else nodes[:ROWS]
    if not shown and not past.pauses:
        return []
    width = width_of(call) - 2
    scale = _Scale(past.created_at, max(past.ended_at or now, past.updated_at), 0)
    notes = [_note(node) for node in shown]
    name = min(max((len(node.scope + node.label) for node in shown), default=6), max(12, width // 3))
    note = min(max((len(text) for text in notes), default=0), max(0, width // 4))
    scale.columns = max(NARROWEST, width - name - note - 15)
    lines = [f"{words.moment(scale.begin)[11:]} to {words.moment(scale.end)[11:]}, {spoken(scale.end - scale.begin)}"]
    if past.pauses:
        bar = "".join(_paused(past.pauses, scale))
        total = sum((pause.until or scale.end) - pause.at for pause in past.pauses)
        lines.append(_line("paused", name, click.style(bar, fg="yellow"), total, f"{len(past.pauses)} times", note))
    for node, text in zip(shown, notes, strict=True):
        bar = click.style(_bar(node, scale), fg=_colour(node))
        lines.append(_line(node.scope + node.label, name, bar, (node.ended_at or now) - node.started_at, text, note))
    if len(nodes) > len(shown):
        lines.append(f"… and {len(nodes) - len(shown):,} more (--all shows them)")
    return lines if knows_boxes(call) else [line.translate(_PLAIN) for line in lines]


def _line(label: str, name: int, bar: str, took: int, text: str, note: int) -> str:
    shown = fit_path(label, name)
    noted = f"  {words.dim(fit(text, note))}" if text and note else ""
    return f"{shown}{' ' * (name - len(shown))} {bar} {spoken(took):>9}{noted}"


def _note(node: Node) -> str:
    parts = []
    for status in ("failed", "cancelled", "timed_out", "withdrawn", "running", "retrying", "waiting"):
        number = node.statuses.get(status, 0)
        if number:
            text = status.replace("_", " ")
            parts.append(f"{number:,} {text}" if node.count > 1 else text)
    if node.retries:
        parts.append(count(node.retries, "retry", "retries"))
    return ", ".join(parts)


def _colour(node: Node) -> str | None:
    if node.kind in ("timer", "signal", "event", "input") and node.status in ("satisfied", "waiting"):
        return "blue"
    return words.COLOURS.get({"retrying": "paused", "timed_out": "paused"}.get(node.status, node.status))


class _Scale:
    """From times to columns."""

    def __init__(self, begin: int, end: int, columns: int) -> None:
        self.begin = begin
        self.end = end
        self.columns = columns

    def column(self, at: int) -> int:
        span = max(1, self.end - self.begin)
        return min(self.columns - 1, max(0, (at - self.begin) * self.columns // span))

    def stretch(self, begin: int, end: int | None) -> range:
        """The columns from one time to another, one at least."""
        first = self.column(begin)
        return range(first, max(first, self.column((self.end if end is None else end) - 1)) + 1)


def _bar(node: Node, scale: _Scale) -> str:
    if node.count > 1:
        return _density(node.parts, scale)
    (part,) = node.parts
    cells = [" "] * scale.columns
    if not part.attempts or part.kind == "child":
        for column in scale.stretch(part.started_at, part.ended_at):
            cells[column] = _WORK if part.kind == "child" else _WAIT
    else:
        _attempts(part.attempts, cells, scale)
    if part.ended_at is None:
        cells[-1] = _OPEN
    return "".join(cells)


def _attempts(attempts: list[Attempt], cells: list[str], scale: _Scale) -> None:
    for column in scale.stretch(attempts[0].started_at, attempts[-1].ended_at or attempts[-1].started_at):
        cells[column] = _BACKOFF
    for number, attempt in enumerate(attempts):
        following = attempts[number + 1].started_at if number + 1 < len(attempts) else None
        stretch = scale.stretch(attempt.started_at, attempt.ended_at or following)
        for column in stretch:
            cells[column] = _WORK
        if attempt.outcome in ("failed", "lost"):
            cells[stretch[-1]] = _FAILED


def _density(parts: list[Part], scale: _Scale) -> str:
    """How many were under way in each column, as heights."""
    changes = [0] * (scale.columns + 1)
    for part in parts:
        stretch = scale.stretch(part.started_at, part.ended_at)
        changes[stretch[0]] += 1
        changes[stretch[-1] + 1] -= 1
    heights = []
    height = 0
    for change in changes[:-1]:
        height += change
        heights.append(height)
    highest = max(heights)
    return "".join(_LEVELS[-(-height * 8 // highest)] for height in heights)


def _paused(pauses: list[Pause], scale: _Scale) -> list[str]:
    cells = [" "] * scale.columns
    for pause in pauses:
        for column in scale.stretch(pause.at, pause.until):
            cells[column] = _PAUSED
    return cells


def as_json(drawn: Picture) -> list[dict[str, object]]:
    """The same as data: a row for each node, with the attempts of a single step."""
    return [_row(node) for node in drawn.nodes if node.parts]


def _row(node: Node) -> dict[str, object]:
    row: dict[str, object] = {
        "label": node.scope + node.label,
        "kind": node.kind,
        "status": node.status,
        "started_at": node.started_at,
        "ended_at": node.ended_at,
        "count": node.count,
        "retries": node.retries,
    }
    if node.count > 1:
        return row | {"statuses": node.statuses}
    (part,) = node.parts
    row |= {"step": str(part.path), "child": part.child or None, "due": part.due, "error": part.error or None}
    row["attempts"] = [
        {
            "attempt": attempt.number,
            "started_at": attempt.started_at,
            "ended_at": attempt.ended_at,
            "outcome": attempt.outcome,
            "retry_at": attempt.retry_at,
            "error": attempt.error or None,
        }
        for attempt in part.attempts
    ]
    return row
