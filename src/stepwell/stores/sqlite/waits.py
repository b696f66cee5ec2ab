"""Which waits can be found from outside? Those that appends opened and have not closed; an ended run has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Append
from stepwell.stores.sqlite.session import Session
from stepwell.stores.tables import OpenKind, OpenWait


def note(session: Session, lines: Iterable[tuple[int, Sequence[Append]]]) -> None:
    """Open and close what the appends of each run (by number, in order) open and close."""
    opened: dict[str, tuple[object, ...]] = {}
    closed: dict[str, None] = {}
    ended: list[int] = []
    for number, appends in lines:
        if appends[-1].status in TERMINAL:
            ended.append(number)
        for append in appends:
            for wait in append.opened:
                closed.pop(wait.id, None)
                opened[wait.id] = _values(wait, number)
            for id in append.closed:
                opened.pop(id, None)
                closed[id] = None
    if closed:
        session.among("close_waits", list(closed))
    if opened:
        session.insert("open_wait", list(opened.values()))
    if ended:
        session.among("delete_waits", ended)


def open_for(session: Session, opened: Sequence[tuple[OpenWait, int]]) -> None:
    """Open waits of runs, each with its run's number."""
    session.insert("open_wait", [_values(wait, number) for wait, number in opened])


def owners(session: Session, ids: Sequence[str]) -> dict[str, int]:
    """The numbers of the runs whose open waits have these ids."""
    return dict(session.among("open_waits_named", ids)) if ids else {}


def find(
    session: Session, kind: OpenKind, *, id: str, run_id: str, name: str, limit: int, offset: int
) -> list[OpenWait]:
    """Open waits of a kind, oldest first."""
    text, values = [session.queries["waits_of_run" if run_id else "waits"]], list[object]([kind])
    if run_id:
        values.append(run_id)
    for query, value in (("waits_with_id", id), ("waits_with_name", name)):
        if value:
            text.append(session.queries[query])
            values.append(value)
    text.append(session.queries["waits_page"])
    values += (max(0, limit), max(0, offset))
    return [OpenWait(*row) for row in session.connection.execute(" ".join(text), values)]


def _values(wait: OpenWait, number: int) -> tuple[object, ...]:
    return wait.id, number, wait.kind, wait.path, wait.name, wait.at, wait.due, wait.body
