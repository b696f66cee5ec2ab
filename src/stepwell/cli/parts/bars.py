"""Bars on a terminal: one for each map, and a line of numbers below."""

from __future__ import annotations

import time
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.screens import NewsText, Rates, standing, standing_nodes
from stepwell.cli.parts.tracker import Tracker

REFRESH_SECONDS: Final = 0.1
BAR: Final = 32
MAPS: Final = 8
"""How many maps are shown, those that go on first."""


class Bars:
    """A `Screen` that draws."""

    def __init__(self, call: Call, shown_failures: int) -> None:
        self._call = call
        self._console = Console(file=call.stderr, highlight=False)
        self._live: Live | None = None
        self._news = NewsText(shown_failures)
        self._rates = Rates()
        self._began = time.monotonic()
        self._shown_at = 0.0

    def begin(self, tracker: Tracker, event: dict[str, Any], text: str) -> None:  # Any: JSON
        """See `Screen`."""
        self._call.say(text)
        self._began = time.monotonic()
        # What tasks print comes out above the bars instead of through them.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=True, redirect_stderr=True)
        self._live.start()

    def refresh(self, tracker: Tracker) -> None:
        """See `Screen`."""
        for line in self._news.take(tracker):
            self.note(line)
        now = time.monotonic()
        if self._live is not None and now - self._shown_at >= REFRESH_SECONDS:
            self._shown_at = now
            self._rates.look(tracker)
            self._live.update(self._picture(tracker), refresh=True)

    def note(self, text: str) -> None:
        """See `Screen`."""
        if self._live is not None:
            self._console.print(Text.from_ansi(text))
        else:
            self._call.say(text)

    def end(self, tracker: Tracker | None) -> None:
        """See `Screen`."""
        if self._live is None:
            return
        if tracker is not None:
            for line in (*self._news.take(tracker), *self._news.rest(self._call)):
                self.note(line)
            self._live.update(self._picture(tracker), refresh=True)
        self._live.stop()
        self._live = None

    def _picture(self, tracker: Tracker) -> RenderableType:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
        grid.add_column(width=max(8, min(BAR, self._console.width - 64)))
        for justify in ("right", "right", "right", "right"):
            grid.add_column(justify=justify, no_wrap=True)
        maps = sorted(tracker.maps.items(), key=lambda one: one[1][0] == one[1][1])[:MAPS]
        for label, (done, total, failed) in maps:
            self._add(grid, label, done, total, failed, *self._rates.of(label, done, total))
        for step, (done_now, total_said, message) in list(tracker.said.items())[-3:]:
            self._add_said(grid, step, done_now, total_said, message)
        lines: list[RenderableType] = [grid] if grid.rows else []
        return Group(*lines, self._numbers(tracker))

    def _add(self, grid: Table, label: str, done: int, total: int, failed: int, rate: str, left: str) -> None:
        grid.add_row(
            Text(label),
            ProgressBar(total=max(total, 1), completed=done if total else 1, finished_style="green"),
            Text(f"{done:,}/{total:,}"),
            Text(f"{failed:,} failed" if failed else "", style="red"),
            Text(rate if done < total else "", style="dim"),
            Text(f"{left} left" if left else "", style="dim"),
        )

    def _add_said(self, grid: Table, step: str, done: float, total: float | None, message: str) -> None:
        label = step or tracker_label(message)
        bar: RenderableType = (
            ProgressBar(total=total, completed=min(done, total)) if total else Text(message, style="dim")
        )
        shown = f"{done:,g}/{total:,g}" if total else f"{done:,g}"
        grid.add_row(Text(label), bar, Text(shown), Text(""), Text(message if total else "", style="dim"), Text(""))

    def _numbers(self, tracker: Tracker) -> Text:
        state = tracker.state
        text = Text(no_wrap=True, overflow="ellipsis")
        if tracker.nodes is not None:
            text.append("nodes ")
            text.append(standing_nodes(tracker.nodes), style="bold")
            text.append(" · ")
        text.append(f"{state.completed:,}", style="bold")
        text.append(" step done" if state.completed == 1 else " steps done")
        for number, what in ((state.attempts_in_flight, "in flight"), (state.retries, "retries")):
            if number:
                text.append(f" · {number:,} {what if number != 1 else what.replace('retries', 'retry')}")
        if state.failed:
            text.append(f" · {state.failed:,} failed", style="red")
        if tracker.child_steps:
            text.append(f" · {tracker.child_steps:,} in child runs")
        colour = words.COLOURS.get(state.status, "white")
        text.append(" · ")
        text.append(standing(tracker), style=colour)
        text.append(f" · {words.clock(time.monotonic() - self._began)}", style="dim")
        return text


def tracker_label(message: str) -> str:
    """What stands before the bar of a run's own progress."""
    return click.unstyle(message)[:24] if message else "progress"
