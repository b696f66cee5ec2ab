"""How a run under way is shown: bars on a terminal, now and then a line when piped, JSON lines with `--json`."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any, Final, Protocol

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.nodes import Nodes
from stepwell.cli.parts.tracker import Failed, Logged, Tracker
from stepwell.model.ids import SECOND
from stepwell.model.requests import request_id
from stepwell.observe.telling import awaited

LINE_SECONDS: Final = 5.0
"""How often, at most, a piped screen tells how far the run is."""

EVENT_SECONDS: Final = 1.0

RATE_SECONDS: Final = 10.0
"""Over how long a rate is measured."""

SHOWN_FAILURES: Final = 5
"""How many failed steps are shown one by one; the further ones are only counted."""


class Screen(Protocol):
    """Where the progress of one run is shown."""

    def begin(self, tracker: Tracker, event: dict[str, Any], text: str) -> None:  # Any: JSON
        """The run is driven from now on; `text` says so to people, `event` to programs."""

    def refresh(self, tracker: Tracker) -> None:
        """Show how far it is, unless that was shown a moment ago."""

    def note(self, text: str) -> None:
        """Say something between the rest."""

    def end(self, tracker: Tracker | None) -> None:
        """Show nothing more; with a tracker show once more how far it came. Idempotent."""


def screen_for(call: Call, *, quiet_failures: bool = False) -> Screen:
    """The screen that fits where the output goes."""
    shown = 0 if quiet_failures else SHOWN_FAILURES
    if call.json:
        return JsonEvents(call)
    if call.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from stepwell.cli.parts.bars import Bars  # it needs rich, which nothing else does

        return Bars(call, shown)
    return Lines(call, shown)


class JsonEvents:
    """One JSON object a line on standard output."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._shown_at = 0.0
        self._shown: object = None

    def begin(self, tracker: Tracker, event: dict[str, Any], text: str) -> None:
        """See `Screen`."""
        self._call.document(event)
        self._shown_at = time.monotonic()

    def refresh(self, tracker: Tracker) -> None:
        """See `Screen`."""
        self._tell_news(tracker)
        if time.monotonic() - self._shown_at >= EVENT_SECONDS:
            self._tell_progress(tracker)

    def note(self, text: str) -> None:
        """See `Screen`."""
        self._call.document({"event": "note", "message": text})

    def end(self, tracker: Tracker | None) -> None:
        """See `Screen`."""
        if tracker is not None:
            self._tell_news(tracker)
            self._tell_progress(tracker)

    def _tell_news(self, tracker: Tracker) -> None:
        while tracker.news:
            match tracker.news.popleft():
                case Failed(step, attempt, error):
                    event = {"event": "step.failed", "step": step, "attempt": attempt, "error": words.as_json(error)}
                case Logged(step, message, fields, level):
                    event = {"event": "log", "step": step, "message": message, "fields": fields}
                    event |= {"level": level} if level else {}
            self._call.document(event)

    def _tell_progress(self, tracker: Tracker) -> None:
        state = tracker.state
        shown = {
            "event": "progress",
            "run": tracker.run_id,
            "status": state.status,
            "steps": counts(tracker),
            **({"nodes": tracker.nodes.as_json()} if tracker.nodes is not None else {}),
            "maps": {label: {"done": d, "total": t, "failed": f} for label, (d, t, f) in tracker.maps.items()},
        }
        if shown != self._shown:
            self._shown, self._shown_at = shown, time.monotonic()
            self._call.document(shown)


class Lines:
    """Plain lines on standard error, few of them."""

    def __init__(self, call: Call, shown_failures: int) -> None:
        self._call = call
        self._news = NewsText(shown_failures)
        self._rates = Rates()
        self._shown_at = 0.0
        self._shown = ""
        self._ended = False

    def begin(self, tracker: Tracker, event: dict[str, Any], text: str) -> None:
        """See `Screen`."""
        self._call.say(text)
        self._shown_at = time.monotonic()

    def refresh(self, tracker: Tracker) -> None:
        """See `Screen`."""
        for line in self._news.take(tracker):
            self._call.say(line)
        self._rates.look(tracker)
        now = time.monotonic()
        if now - self._shown_at < LINE_SECONDS:
            return
        text = self._text(tracker)
        if text != self._shown:
            self._shown, self._shown_at = text, now
            self._call.say(text)

    def note(self, text: str) -> None:
        """See `Screen`."""
        self._call.say(text)

    def end(self, tracker: Tracker | None) -> None:
        """See `Screen`."""
        if tracker is not None and not self._ended:
            for line in self._news.take(tracker):
                self._call.say(line)
            for line in self._news.rest(self._call):
                self._call.say(line)
        self._ended = True

    def _text(self, tracker: Tracker) -> str:
        parts = [self._map(label, *numbers) for label, numbers in tracker.maps.items()]
        return "; ".join([*parts, summary(tracker)])

    def _map(self, label: str, done: int, total: int, failed: int) -> str:
        if done == total:
            return f"{label} {done:,}/{total:,}" + (f", {failed:,} failed" if failed else "")
        rate, left = self._rates.of(label, done, total)
        more = [f"{failed:,} failed" if failed else "", rate, f"{left} left" if left else ""]
        return ", ".join([f"{label} {done:,}/{total:,}", *(one for one in more if one)])


class Rates:
    """How fast each map goes, measured over the last seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def look(self, tracker: Tracker) -> None:
        """Remember how far each map is now."""
        now = time.monotonic()
        for label, (done, _, _) in tracker.maps.items():
            seen = self._seen.setdefault(label, deque())
            seen.append((now, done))
            while len(seen) > 2 and seen[0][0] < now - RATE_SECONDS:
                seen.popleft()

    def of(self, label: str, done: int, total: int) -> tuple[str, str]:
        """The rate, `412/s`, and the time left, `0:09`; empty while unknown."""
        seen = self._seen.get(label)
        if not seen or len(seen) < 2 or seen[-1][0] - seen[0][0] < 0.5 or seen[-1][1] <= seen[0][1]:
            return "", ""
        rate = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
        shown = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 0.1 else f"{rate * 60:.1f}/min"
        return shown, words.clock((total - done) / rate) if total > done else ""


class NewsText:
    """What a run says on the way, as lines for people; failures beyond a number are only counted."""

    def __init__(self, shown_failures: int) -> None:
        self._shown = shown_failures
        self._failures = 0
        self._limit = shown_failures

    def take(self, tracker: Tracker) -> list[str]:
        """The lines that are new; a failure that ended the run is left to the report of its end."""
        lines = []
        reported = {str(path) for path in tracker.state.failed_steps}
        while tracker.news:
            match tracker.news.popleft():
                case Failed(step) if step in reported:
                    pass
                case Failed(step, attempt, error):
                    self._failures += 1
                    if self._failures <= self._limit:
                        tries = f" after {attempt} attempts" if attempt > 1 else ""
                        lines.append(f"{click.style('failed', fg='red')} {step}{tries}: {error.summary()}")
                case Logged(step, message, fields, level) if not step or (level and "/" not in step):
                    rest = " ".join(f"{key}={value}" for key, value in fields.items())
                    lines.append(f"{_log(level)} {message}" + (f"  {words.dim(rest)}" if rest else ""))
                case Logged():
                    pass  # what steps and items say is in the log: it may be a line for each of ten thousand
        return lines

    def rest(self, call: Call) -> list[str]:
        """How many failures were not shown."""
        hidden = self._failures - self._limit
        return [f"{hidden:,} further steps failed"] if hidden > 0 and self._limit else []


def _log(level: str) -> str:
    """The word before a line that was logged: `log`, or what a node says of it."""
    colour = {"warning": "yellow", "error": "red"}.get(level)
    return click.style(level, fg=colour) if colour else words.dim("log")


def standing_nodes(nodes: Nodes) -> str:
    """`4/7 (each, poll)`: how many of a graph's nodes are behind it, and which are under way."""
    running = list(nodes.running)
    shown = ", ".join(running[:3]) + (f" and {len(running) - 3} more" if len(running) > 3 else "")
    return f"{nodes.behind}/{nodes.total}" + (f" ({shown})" if shown else "")


def counts(tracker: Tracker) -> dict[str, int]:
    """The run's steps in numbers."""
    state = tracker.state
    waiting = sum(step.retry_at is not None for step in state.steps.values())
    numbers = {
        "done": state.completed,
        "in_flight": state.attempts_in_flight,
        "to_retry": waiting,
        "failed": state.failed,
        "retries": state.retries,
    }
    return numbers | ({"in_child_runs": tracker.child_steps} if tracker.child_steps else {})


def summary(tracker: Tracker) -> str:
    """One line: steps, retries, status, and what a waiting run waits for."""
    numbers = counts(tracker)
    parts = [f"nodes {standing_nodes(tracker.nodes)}"] if tracker.nodes is not None else []
    parts.append(words.count(numbers["done"], "step") + " done")
    for name, text in (("in_flight", "in flight"), ("to_retry", "to be retried"), ("failed", "failed")):
        if numbers[name]:
            parts.append(f"{numbers[name]:,} {text}")
    if numbers["retries"]:
        parts.append(words.count(numbers["retries"], "retry").replace("retrys", "retries"))
    if tracker.child_steps:
        parts.append(f"{tracker.child_steps:,} in child runs")
    return f"{', '.join(parts)}; {standing(tracker)}"


def standing(tracker: Tracker) -> str:
    """The status; of a waiting run what it waits for, of a paused one why."""
    state = tracker.state
    if state.status == "waiting":
        waits = list(state.waits.values())
        asked = [
            f"{awaited(wait)} (stepwell answer {request_id(state.run_id, wait.path)})"
            for wait in waits
            if wait.wait == "input"
        ]
        others = [awaited(wait) for wait in waits if wait.wait in ("signal", "event")]
        dues = [wait.due for wait in waits if wait.wait == "timer" and wait.due is not None]
        children = sum(step.step == "child" for step in state.steps.values())
        parts = [*asked, *others][:2] + ([f"a timer until {words.moment(min(dues))[11:]}"] if dues else [])
        parts += [words.count(children, "child run")] if children else []
        retries = [step.retry_at for step in state.steps.values() if step.retry_at is not None]
        parts += [f"a retry at {words.moment(min(retries) + SECOND - 1)[11:]}"] if retries and not parts else []
        return f"waiting for {' and '.join(parts)}" if parts else "waiting"
    if state.pause is not None and state.ended is None:
        by = f" by {state.pause.by}" if state.pause.by else ""
        return f"{state.status}{by}" + (f": {state.pause.reason}" if state.pause.reason else "")
    return state.status
