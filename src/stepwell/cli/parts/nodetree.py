"""The nodes of a graph's run as a tree: containers with their items, what was skipped, the ports that were taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import click

from stepwell.cli.parts import words
from stepwell.model.durations import spoken
from stepwell.observe.visits import Place, Visit, Visits, told_first

SHOWN: Final = 10
"""Up to how many items, turns or branches of one container are shown one by one, unless all are asked for."""

LINES: Final = 80
"""How many lines there are at most, unless all are asked for."""

_COLOURS: Final = {"retrying": "yellow", "timed_out": "yellow", **words.COLOURS}


def tree_lines(visits: Visits, now: int, *, everything: bool = False) -> list[str]:
    """The tree as text; empty when the run came to no node."""
    lines = list(_Drawing(now, everything).of(visits.root.visits, ""))
    if everything or len(lines) <= LINES:
        return lines
    return [*lines[:LINES], words.dim(f"… and {len(lines) - LINES:,} more lines (--all shows them)")]


class _Drawing:
    def __init__(self, now: int, everything: bool) -> None:
        self._now = now
        self._everything = everything

    def of(self, visits: Sequence[Visit], indent: str, *, is_root: bool = True) -> Iterator[str]:
        for number, visit in enumerate(visits):
            is_last = number == len(visits) - 1
            yield (indent if is_root else f"{indent}{'└' if is_last else '├'} ") + self._line(visit)
            yield from self._inside(visit, indent if is_root else indent + ("  " if is_last else "│ "))

    def _inside(self, visit: Visit, indent: str) -> Iterator[str]:
        places = visit.scopes
        if len(places) == 1 and places[0].label in ("do", "body"):
            yield from self.of(places[0].visits, indent, is_root=False)
            return
        few = self._everything or len(places) <= SHOWN
        chosen, rest = (places, None) if few else told_first(places, SHOWN // 2)
        for number, place in enumerate(chosen):
            is_last = number == len(chosen) - 1 and not rest
            yield f"{indent}{'└' if is_last else '├'} {self._place(place)}"
            yield from self.of(place.visits, indent + ("  " if is_last else "│ "), is_root=False)
        if rest:
            counts = ", ".join(f"{number:,} {_coloured(status)}" for status, number in rest.items())
            yield f"{indent}└ … {sum(rest.values()):,} more: {counts}"

    def _place(self, place: Place) -> str:
        return place.label if place.status in ("completed", "skipped") else f"{place.label}  {_coloured(place.status)}"

    def _line(self, visit: Visit) -> str:
        if visit.status == "skipped":
            reason = f": {visit.reason}" if visit.reason else ""
            return words.dim(f"{visit.name}  skipped{reason}")
        parts = [visit.name, _what(visit)]
        if visit.ports not in ((), ("out",)):
            parts.append("→ " + ", ".join(visit.ports))
        if visit.status != "completed":
            error = f": {visit.error}" if visit.error else ""
            parts.append(_coloured(visit.status) + error)
        if visit.attempts > 1:
            parts.append(f"{visit.attempts} attempts")
        parts.append(words.dim(self._took(visit)))
        return "  ".join(part for part in parts if click.unstyle(part))

    def _took(self, visit: Visit) -> str:
        length = (self._now if visit.ended_at is None else visit.ended_at) - visit.started_at
        return spoken(length) if length > 0 else ""


def _what(visit: Visit) -> str:
    if visit.child:
        return f"child run {visit.child}"
    if not visit.type:
        return ""
    total = "" if visit.total is None else f" of {visit.total:,}"
    failed = sum(place.status == "failed" for place in visit.scopes)
    return f"{visit.type}{total}" + (f", {click.style(f'{failed:,} failed', fg='red')}" if failed else "")


def _coloured(status: str) -> str:
    return click.style(status.replace("_", " "), fg=_COLOURS.get(status))


def as_json(place: Place, *, everything: bool = False) -> list[dict[str, object]]:
    """The same as data; of many places in one container those that need a look, and the others counted."""
    return [_node(visit, everything) for visit in place.visits]


def _node(visit: Visit, everything: bool) -> dict[str, object]:
    document: dict[str, object] = {
        "node": visit.path.name,
        "step": str(visit.path),
        "status": visit.status,
        "ports": list(visit.ports),
        "started_at": visit.started_at,
        "ended_at": visit.ended_at,
        "attempts": visit.attempts,
        "error": visit.error or None,
        "reason": visit.reason or None,
        "child": visit.child or None,
    }
    if not visit.type and not visit.scopes:
        return document
    few = everything or len(visit.scopes) <= SHOWN
    chosen, rest = (visit.scopes, {}) if few else told_first(visit.scopes, SHOWN // 2)
    return document | {
        "type": visit.type or None,
        "total": visit.total,
        "scopes": [
            {"label": place.label, "status": place.status, "nodes": as_json(place, everything=everything)}
            for place in chosen
        ],
        "more": dict(rest),
    }
