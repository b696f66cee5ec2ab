"""Did runs that nobody meddled with come to what their scripts and graphs say?"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stepwell.model.entries import RunCompleted
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Message, NewMessage
from stepwell.testing.drawing import Plan
from stepwell.testing.expecting import expect, is_sure
from stepwell.testing.foretelling import Foretold, foretell
from stepwell.testing.invariants import Book
from stepwell.testing.needs import need
from stepwell.testing.world import Committed, World


def meddled_with(world: World, books: Mapping[str, Book]) -> set[str]:
    """The roots of the runs that people have cancelled or retried; what else they do changes no sure script."""
    return {
        books[event.argument.run_id].row.root
        for event in world.history
        if isinstance(event, Committed)
        and isinstance(event.argument, NewMessage)
        and isinstance(event.result, Message)
        and event.argument.kind in ("cancel", "retry")
    }


def check_results(world: World, plan: Plan, books: Mapping[str, Book]) -> None:
    """A run that nobody meddled with ends as its script says, whatever happened to its processes."""
    meddled = meddled_with(world, books)
    for start in plan.starts:
        book = books.get(start.run_id)
        if book is None or start.run_id in meddled or start.deadline is not None:
            continue
        if not (is_sure(start.script) if start.graph is None else start.graph.is_sure):
            continue
        if book.row.status not in TERMINAL:  # nobody was told that it was accepted: created by a process that closed
            continue
        last = book.written[-1].entry
        if start.graph is not None:
            foretold = foretell(start.graph, start.token)
            outcome = (
                Foretold(True, msgspec.json.decode(last.output)) if isinstance(last, RunCompleted) else Foretold(False)
            )
            need(outcome == foretold, f"{book.name} came to {outcome} ({last}), and its graph to {foretold}")
            continue
        expected = expect(start.script, start.token).result
        found = int(msgspec.json.decode(last.output)) if isinstance(last, RunCompleted) else None
        need(found == expected, f"{book.name} came to {found} ({book.row.status}), and its script to {expected}")
