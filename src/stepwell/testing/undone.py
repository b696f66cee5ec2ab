"""Was the work of failed sagas undone: what was made, once, the last first, and nothing else?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from stepwell.model.entries import (
    InputWithdrawn,
    RunCancelled,
    RunFailed,
    StepCompleted,
    StepFailed,
    StepStarted,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import TERMINAL
from stepwell.testing.drawing import Plan
from stepwell.testing.expecting import expect, is_sure
from stepwell.testing.invariants import Book, Written, need
from stepwell.testing.results import meddled_with
from stepwell.testing.world import World

Ending = WaitSatisfied | WaitTimedOut | WaitWithdrawn | InputWithdrawn


@dataclass(frozen=True)
class _Undoing:
    """A compensation: where its first attempt stands, which token it undoes, and where it was completed."""

    path: StepPath
    token: int
    start: Written
    end: Written | None
    has_failed: bool


def _undoings(book: Book) -> list[_Undoing]:
    """The compensations of a run, in the order in which they began."""
    starts: dict[StepPath, Written] = {}
    ends: dict[StepPath, Written] = {}
    failed: set[StepPath] = set()
    for one in book.written:
        entry = one.entry
        if isinstance(entry, StepStarted) and entry.step == "compensation":
            starts.setdefault(entry.path, one)
        elif isinstance(entry, StepCompleted):
            ends[entry.path] = one
        elif isinstance(entry, StepFailed) and entry.retry_at is None:
            failed.add(entry.path)
    return [
        _Undoing(path, msgspec.json.decode(start.entry.input)["token"], start, ends.get(path), path in failed)  # type: ignore[union-attr]  # a StepStarted
        for path, start in starts.items()
    ]


def check_order_of_undoing(book: Book) -> None:
    """One after the other, the last that was made first; when the run as a whole is undone nothing else goes on."""
    made: dict[int, list[int]] = defaultdict(list)  # a body may make the same thing again once it was undone
    where: dict[int, set[tuple[tuple[str, int], ...]]] = defaultdict(set)
    for one in book.written:
        if isinstance(one.entry, StepCompleted) and one.entry.path.name == "make":
            token = msgspec.json.decode(one.entry.output)
            made[token].append(one.seq)
            where[token].add(one.entry.path.scope)

    def made_before(token: int, seq: int) -> int:
        return max((place for place in made[token] if place < seq), default=0)

    by_scope: dict[tuple[tuple[str, int], ...], list[_Undoing]] = defaultdict(list)
    for undoing in _undoings(book):
        token, seq = undoing.token, undoing.start.seq
        need(made_before(token, seq) > 0, f"{book.name}: {token} is undone and was never made")
        by_scope[undoing.path.scope].append(undoing)
    for scope, undoings in by_scope.items():
        for before, after in pairwise(undoings):
            what = f"{book.name}: entry {after.start.seq} undoes {after.token} in {scope}"
            done = before.end is not None and before.end.seq < after.start.seq
            need(done, f"{what} before {before.path} was done")
            place = made_before(after.token, after.start.seq)
            # Parts that go on side by side have an order each; a block inside hands its own on when it is over.
            late = place > before.start.seq or after.token == before.token or where[after.token] != where[before.token]
            earlier = place < made_before(before.token, before.start.seq)
            need(late or earlier, f"{what}, made after {before.token}")
        if scope[:1] == (("undo", 1),):
            for one in book.written[undoings[0].start.seq :]:
                entry = one.entry
                is_step = isinstance(entry, StepStarted) and entry.step != "compensation"
                what = f"{book.name}: entry {one.seq} goes on after the run began to be undone: {entry}"
                need(not is_step and not isinstance(entry, WaitStarted), what)


def check_what_was_undone(book: Book, calls: list[int]) -> None:
    """A run that failed or was cancelled has undone all that it said how to undo, once; unless undoing failed."""
    undoings = _undoings(book)
    began = Counter(undoing.token for undoing in undoings)
    done = Counter(undoing.token for undoing in undoings if undoing.end is not None)
    said = Counter(calls)
    need(began <= said, f"{book.name} undid {began - said} more often than it said: {began} of {said}")
    last = book.written[-1].entry
    if isinstance(last, RunFailed | RunCancelled) and not any(undoing.has_failed for undoing in undoings):
        need(done == said, f"{book.name} has ended as {last}: of {said} only {done} was undone")
    for one in book.written:
        if isinstance(one.entry, RunFailed | RunCancelled) and one.entry.undone:
            after = book.written[one.seq : one.seq + 1]
            need(not after, f"{book.name}: entry {one.seq + 1} follows an end after which nothing can: {after}")


def check_undone(plan: Plan, books: Mapping[str, Book], world: World) -> None:
    """Of a run that nobody meddled with just that was undone, children included, of which its script says so."""
    meddled = meddled_with(world, books)
    for start in plan.starts:
        if start.run_id not in books or start.run_id in meddled or start.deadline or start.graph:
            continue
        if not is_sure(start.script):
            continue
        expected = expect(start.script, start.token).undone
        if expected is None or books[start.run_id].row.status not in TERMINAL:
            continue
        found: list[int] = []
        for book in books.values():
            if book.row.root == start.run_id:
                found += [undoing.token for undoing in _undoings(book) if undoing.end is not None]
        need(tuple(sorted(found)) == expected, f"run {start.run_id}: undone was {found}, and should be {expected}")


# -- children -----------------------------------------------------------------------------------------------------
