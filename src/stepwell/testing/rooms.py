"""Was there ever more at once in a run of a graph than its definition lets: items of a map, holders of a lock?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from stepwell.model.entries import RunResumed, ScopeClosed, ScopeOpened, StepStarted
from stepwell.model.ids import StepPath
from stepwell.testing.invariants import Book, is_ending
from stepwell.testing.needs import need

Span = tuple[int, int]
"""The first and the last seq of something."""


def check_rooms(book: Book, windows: Mapping[str, int], locks: Mapping[str, str]) -> None:
    """`windows` are, by the id of a container, how many of its items or branches may be under way at once; `locks` are
    those that nodes take, by their ids.
    """
    if any(isinstance(one.entry, RunResumed) and one.entry.retry for one in book.written):
        return
    items: dict[StepPath, dict[tuple[str, int], Span]] = defaultdict(dict)
    held: dict[str, dict[StepPath, Span]] = defaultdict(dict)
    for one in book.written:
        entry = one.entry
        path = getattr(entry, "path", None)
        if path is None or any(label.endswith(".compensate") for label, _ in path.scope):
            continue
        for depth, link in enumerate(path.scope):
            id, _, occurrence = link[0].partition(".")[0].partition("#")
            if id in windows:
                spans = items[StepPath(path.scope[:depth], id, int(occurrence or 1))]
                spans[link] = spans.get(link, (one.seq, 0))[0], one.seq
        lock = locks.get(path.name)
        if lock is not None and isinstance(entry, StepStarted | ScopeOpened):
            held[lock].setdefault(path, (one.seq, len(book.written)))
        elif lock is not None and path in held[lock] and (is_ending(entry) or isinstance(entry, ScopeClosed)):
            held[lock][path] = held[lock][path][0], one.seq
    for container, by_link in items.items():
        most = _most(by_link.values())
        room = windows[container.name]
        need(most <= room, f"{book.name}: {most} of {container} were under way at once; there is room for {room}")
    for lock, by_path in held.items():
        need(_most(by_path.values()) <= 1, f"{book.name}: several had lock {lock} at once: {by_path}")


def _most(spans: Iterable[Span]) -> int:
    """How many of these overlap."""
    points = [point for first, last in spans for point in ((first, 0, 1), (last, 1, -1))]
    most = now = 0
    for _, _, step in sorted(points):
        now += step
        most = max(most, now)
    return most
