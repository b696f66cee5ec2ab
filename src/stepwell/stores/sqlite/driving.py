"""Who may own runs in this file, and which runs are taken next? One process drives; a dead one is replaced at once.

A driver is recorded with a lease and a generation, and holds the operating system's lock on the side file. Whoever
gets that lock knows that its last holder is dead. A frozen driver keeps the lock but not its lease: the next one
takes over without the lock, under a higher generation, and the frozen one finds its runs given away when it wakes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stepwell.errors import StoreBusy
from stepwell.model.ids import SECOND
from stepwell.stores.protocol import Claimed, Message
from stepwell.stores.sqlite.group import Group, Owned
from stepwell.stores.sqlite.rows import message, run_row
from stepwell.stores.sqlite.session import Session

KEPT_GENERATIONS = 32
"""Former drivers that stay on record."""


def begin(group: Group, worker: str, *, now: int, lease: int, locked: bool) -> None:
    """Record `worker` as the driver under a new generation, and make the runs of all others claimable.

    `locked` says whether this process holds the side file's lock.

    Raises:
        StoreBusy: the recorded driver may be alive.
    """
    session = group.session
    current = session.one("driver")
    if current is not None:
        generation, *_, lease_until, was_locked = current
        if generation == group.holdings.generation:
            session.run("renew", (now + lease, locked, generation))
            group.prove(("lease", (generation,), (now + lease,)))
            return
        known_dead = locked and was_locked
        if not known_dead and lease_until > now:
            raise StoreBusy(_busy(session.path, current))
    session.run("end_driving")
    session.run("begin_driving", (worker, os.getpid(), socket.gethostname(), now, now + lease, locked))
    mine = session.one("driver")
    assert mine is not None
    generation = int(mine[0])
    session.run("forget_drivers", (generation - KEPT_GENERATIONS,))
    session.run("free_runs", (now, now))
    group.at("rows")
    group.prove(("still_driving", (generation,), (1,)))

    def committed() -> None:
        group.holdings.lost()
        group.holdings.worker, group.holdings.generation = worker, generation

    group.after_commit(committed)


def renew(group: Group, worker: str, *, now: int, lease: int, locked: bool) -> bool:
    """Extend the lease; False when `worker` does not drive any more."""
    holdings = group.holdings
    if holdings.worker != worker:
        return False
    kept = group.session.run("renew", (now + lease, locked, holdings.generation)) == 1
    if kept:
        group.prove(("lease", (holdings.generation,), (now + lease,)))
    else:
        group.after_commit(holdings.lost)
    return kept


def end(group: Group) -> None:
    """Give up driving. The runs stay owned until the next driver frees them, which it does first of all."""
    group.session.run("stop_driving", (group.holdings.generation,))
    group.prove(("still_driving", (group.holdings.generation,), None))
    group.after_commit(group.holdings.lost)


def claim(group: Group, worker: str, *, workflows: Sequence[str], now: int, limit: int) -> list[Claimed]:
    """Take the runs that are due: highest priority first, then earliest."""
    group.require_driving(worker)
    session = group.session
    numbers = _due(session, workflows, now=now, limit=limit)
    if not numbers:
        return []
    session.among("take", numbers, head=(worker,))
    group.at("rows")
    rows = {row[0]: run_row(row[1:]) for row in session.among("runs_numbered", numbers)}
    mail: dict[str, list[Message]] = {}
    for columns in sorted(session.among("open_messages_of", numbers)):
        posted = message(columns)
        mail.setdefault(posted.run_id, []).append(posted)
    for number, row in rows.items():
        group.take(row.run_id, Owned(number, row.status, False, row.held_until is not None))
    first = rows[numbers[0]]
    group.prove(("run_position", (numbers[0],), (first.next_seq, first.status, worker, first.updated_at)))
    return [Claimed(rows[number], tuple(mail.get(rows[number].run_id, ()))) for number in numbers]


def next_wake(session: Session, workflows: Sequence[str]) -> int | None:
    """When the first unowned run of these workflows is due."""
    return min((wake_at for _, _, wake_at in session.among("lanes", workflows)), default=None)


def _due(session: Session, workflows: Sequence[str], *, now: int, limit: int) -> list[int]:
    """The numbers of the runs to take: lane by lane, so that only as many are looked at as are taken."""
    lanes: dict[int, list[str]] = {}
    for workflow, priority, wake_at in session.among("lanes", list(dict.fromkeys(workflows))):
        if wake_at <= now:
            lanes.setdefault(priority, []).append(workflow)
    numbers: list[int] = []
    for priority in sorted(lanes, reverse=True):
        left = limit - len(numbers)
        if left <= 0:
            break
        due: list[tuple[int, int]] = []
        for workflow in lanes[priority]:
            due += session.all("due", (workflow, priority, now, left))
        numbers += [number for _, number in sorted(due)[:left]]
    return numbers


def _busy(path: Path, current: Sequence[Any]) -> str:  # columns as SQLite hands them over
    _, worker, pid, host, started_at, lease_until, _ = current
    since, until = (
        datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="seconds") for at in (started_at, lease_until)
    )
    return (
        f"store {path} is driven by process {pid} on {host} since {since} (worker {worker}, lease until {until}): "
        "stop that process, or use another file with --store; "
        "commands that only read, start or signal runs work beside it"
    )
