"""What must hold of queues, schedules, event triggers and edits from outside, whatever died in between."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from stepwell.engine.firing import EVENT, SCHEDULE, rule_of, schedule_of
from stepwell.model.entries import StateSet
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Append, NewRun, RunRow
from stepwell.stores.tables import Admission, TriggerRow
from stepwell.testing.drawing import Plan
from stepwell.testing.invariants import Book, books_of, need
from stepwell.testing.world import Accepted, Committed, World
from stepwell.triggers.schedule import occasions


def check_flow(world: World, plan: Plan) -> None:
    """Compare the history with what queues and triggers promise.

    Raises:
        Violation: a promise was broken.
    """
    books = {book.row.run_id: book for book in books_of(world)}
    _check_queues(world)
    _check_rates(world)
    _check_triggers(world, plan, books)
    _check_edits(world, books)


# -- queues -------------------------------------------------------------------------------------------------------


@dataclass
class _Line:
    """The runs of all queues at one moment of the history."""

    queue: dict[str, str] = field(default_factory=dict)
    key: dict[str, str] = field(default_factory=dict)
    parent: dict[str, str] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    status: dict[str, str] = field(default_factory=dict)
    let_in: dict[str, int] = field(default_factory=dict)

    def created(self, run: NewRun, at: int) -> None:
        if run.run_id in self.status:
            return
        self.status[run.run_id] = run.status
        self.queue[run.run_id], self.key[run.run_id] = run.queue, run.queue_key
        if run.parent is not None:
            self.parent[run.run_id] = run.parent
        if run.awaited:
            self.awaited.add(run.run_id)
        if run.queue and not (run.held and run.owner is None):
            self.let_in[run.run_id] = at

    def under_way(self, queue: str, key: str | None = None) -> list[str]:
        return [
            run
            for run in self.let_in
            if self.queue[run] == queue and self.status[run] not in TERMINAL and key in (None, self.key[run])
        ]

    def stands_still(self, runs: list[str]) -> bool:
        """Whether each of these waits, and has a child that it waits for and that has not ended."""
        return all(
            self.status[run] == "waiting"
            and any(self.parent.get(child) == run and self.status[child] not in TERMINAL for child in self.awaited)
            for run in runs
        )


def _check_queues(world: World) -> None:
    """Nobody goes into a queue over its limits, but one awaited run where all others wait for such; nobody twice."""
    line = _Line()
    for event, at in zip(world.history, world.stamps, strict=True):
        if not isinstance(event, Committed):
            continue
        for run in _new_runs(event):
            line.created(run, at)
        if isinstance(event.argument, Append):
            line.status[event.argument.run_id] = event.argument.status
        if isinstance(event.result, Admission):
            for run_id in event.result.admitted:
                _check_admission(world, line, str(event.argument), run_id)
                line.let_in[run_id] = at


def _check_rates(world: World) -> None:
    """No more went in within any period than may, by the clock of who let them in."""
    if any("its clock jumps" in getattr(event, "text", "") for event in world.history):
        return
    content = world.disk.content
    for queue in content.queues.values():
        times = sorted(
            at
            for row in content.runs.values()
            if row.queue == queue.name and (at := content.terms[row.run_id].let_in_at) is not None
        )
        for before, after in zip(times, times[queue.rate or len(times) :], strict=False):
            need(after - before >= queue.period, f"queue {queue.name}: {queue.rate} and one went in from {before} on")


def _new_runs(event: Committed) -> Iterator[NewRun]:
    match event.argument:
        case NewRun():
            if isinstance(event.result, RunRow):
                yield event.argument
        case Append():
            yield from event.argument.children
        case tuple():
            yield from event.argument if event.result else ()
        case _:
            pass


def _check_admission(world: World, line: _Line, name: str, run_id: str) -> None:
    what = f"run {run_id} is let into queue {name}"
    need(line.queue.get(run_id) == name, f"{what}, and waits in {line.queue.get(run_id)!r}")
    need(run_id not in line.let_in, f"{what} a second time")
    queue = world.disk.content.queues.get(name)
    if queue is None:
        return
    key = line.key[run_id]
    for limit, runs in (
        (queue.concurrency, line.under_way(name)),
        (queue.concurrency_per_key if key else None, line.under_way(name, key)),
    ):
        is_over = limit is not None and len(runs) >= limit
        is_allowed = run_id in line.awaited and line.stands_still(runs)
        need(not is_over or is_allowed, f"{what}, where {runs} are under way and {limit} may be")


# -- triggers -----------------------------------------------------------------------------------------------------


def _check_triggers(world: World, plan: Plan, books: Mapping[str, Book]) -> None:
    for accepted in world.history:
        if isinstance(accepted, Accepted) and accepted.verb == "trigger":
            need(accepted.name in world.disk.content.triggers, f"trigger {accepted.name} was accepted and is not there")
    for trigger in world.disk.content.triggers.values():
        for firing in world.disk.content.firings.get(trigger.name, {}).values():
            there = not firing.run_id or firing.run_id in books
            need(there, f"trigger {trigger.name} says that it started {firing.run_id}, which is not there")
        if trigger.kind == SCHEDULE:
            _check_schedule(world, trigger)
        elif trigger.kind == EVENT:
            _check_event_trigger(world, trigger)


def _check_schedule(world: World, trigger: TriggerRow) -> None:
    """Each occasion fires once at most, and none that is none; where nothing may be left out, each fires."""
    schedule = schedule_of(trigger)
    expected = list(occasions(schedule, trigger.created_at, schedule.end or 0))
    firings = world.disk.content.firings.get(trigger.name, {}).values()
    found = Counter(firing.occasion for firing in firings if firing.run_id)
    need(all(times == 1 for times in found.values()), f"trigger {trigger.name} fired more than once: {found}")
    need(set(found) <= set(expected), f"trigger {trigger.name} fired at {set(found) - set(expected)}")
    if schedule.catch_up == "all":
        dealt_with = {firing.occasion for firing in firings}
        need(set(expected) <= dealt_with, f"trigger {trigger.name} left out {set(expected) - dealt_with}")
        if schedule.overlap == "allow":
            need(set(expected) == set(found), f"trigger {trigger.name} did not fire {set(expected) - set(found)}")


def _check_event_trigger(world: World, trigger: TriggerRow) -> None:
    """Each event that was published since the trigger was made starts one run."""
    topic = rule_of(trigger).topic
    made = next(
        event.position
        for event in world.history
        if isinstance(event, Committed) and getattr(event.argument, "name", "") == trigger.name
    )
    first: dict[int, int] = defaultdict(lambda: 0)
    for happened in world.history:
        position = getattr(getattr(happened, "result", None), "position", None)
        if isinstance(happened, Committed) and isinstance(position, int):
            first[position] = happened.position
    expected = {
        f"{trigger.name}@{event.position}"
        for event in world.disk.content.events.values()
        if event.topic == topic and first.get(event.position, 0) > made
    }
    found = {firing.run_id for firing in world.disk.content.firings.get(trigger.name, {}).values()}
    need(expected <= found, f"trigger {trigger.name} did not fire {expected - found}")


# -- edits --------------------------------------------------------------------------------------------------------


def _check_edits(world: World, books: Mapping[str, Book]) -> None:
    """What was set from outside is journaled once, or still in the mailbox of a run that has ended, or was too late."""
    for accepted in world.history:
        if not isinstance(accepted, Accepted) or accepted.verb != "set":
            continue
        book = books[accepted.run_id]
        times = sum(
            isinstance(one.entry, StateSet)
            and one.entry.path is None
            and msgspec.json.decode(one.entry.payload) == accepted.payload
            for one in book.written
        )
        ended = any(one.position > accepted.position or book.row.status in TERMINAL for one in book.written[-1:])
        need(times == 1 or (times == 0 and ended), f"{book.name}: {accepted.payload} was set {times} times")
