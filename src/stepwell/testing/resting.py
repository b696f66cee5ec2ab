"""What does an engine still owe, now that everything should be at rest? The rows, journals and mailboxes say it."""

from __future__ import annotations

from dataclasses import dataclass, field

from stepwell.engine.firing import EVENT, rule_of
from stepwell.model.entries import WaitStarted
from stepwell.model.lifecycle import TERMINAL
from stepwell.model.requests import request_id
from stepwell.model.state import State, replay
from stepwell.stores.admission import choose
from stepwell.stores.memory.queues import MemoryLine
from stepwell.stores.protocol import Message, RunRow
from stepwell.stores.rules import ABOUT_A_WAIT
from stepwell.stores.tables import Queue
from stepwell.testing.crowd import Wish
from stepwell.testing.filters import Filter
from stepwell.testing.world import Process

KEPT = frozenset({"signal"})
"""Kinds of messages that may stay in a mailbox for as long as nobody asks for them."""


@dataclass
class Rest:
    """How things stand.

    `owed` is what the engine should do and has not done; `wishes` are what people must do for runs to go on; `due` is
    when the next timer, deadline, reminder or retry comes.
    """

    owed: list[str] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    due: int | None = None

    def at(self, now: int, due: int | None, what: str) -> None:
        """Something is due at this time: it is owed from then on, and waited for until then."""
        if due is None:
            return
        if due <= now:
            self.owed.append(what)
        elif self.due is None or due < self.due:
            self.due = due


def look(driver: Process) -> Rest:
    """Look at all runs from outside."""
    rest = Rest()
    content = driver.world.disk.content
    for row in content.runs.values():
        state, used_up = _state(driver, row)
        mailbox = [
            message
            for message in content.mailbox.values()
            if message.run_id == row.run_id and message.id not in used_up
        ]
        if row.status in TERMINAL and state.ended is not None:
            if row.wake_at is not None or row.owner is not None:
                rest.owed.append(f"run {row.run_id} is {row.status} and is still to be driven")
            continue
        _look_at_owner(driver, row, rest)
        if state.durability != "exit":  # that one takes its messages when it writes
            _look_at_mailbox(row, state, mailbox, rest)
        _look_at_open_waits(driver, row, state, rest)
        _look_at_run(driver, row, state, mailbox, rest)
    _look_at_queues(driver, rest)
    _look_at_triggers(driver, rest)
    return rest


def _state(driver: Process, row: RunRow) -> tuple[State, list[int]]:
    """The run's state, and messages it has used up; one that is journaled only at its end is in its driver's memory."""
    runner = driver.app.engine.runners.get(row.run_id)
    if runner is not None and runner.state.durability == "exit":
        return runner.state, runner.ledger.beside.consumed
    return replay(stored.entry for stored in driver.world.disk.content.journals[row.run_id]), []


def _look_at_owner(driver: Process, row: RunRow, rest: Rest) -> None:
    engine = driver.app.engine
    if row.owner is not None and row.owner != engine.worker:
        rest.owed.append(f"run {row.run_id} belongs to {row.owner}, which is gone")
    elif row.owner is not None and row.run_id not in engine.runners:
        rest.owed.append(f"run {row.run_id} belongs to {driver.name}, which does not hold it in memory")


def _look_at_mailbox(row: RunRow, state: State, mailbox: list[Message], rest: Rest) -> None:
    kept = KEPT | ABOUT_A_WAIT if state.pause is not None else KEPT
    if row.held_until is not None:  # its queue lets nothing but a cancellation through
        mailbox = [message for message in mailbox if message.kind == "cancel"]
    for message in mailbox:
        if message.kind not in kept:
            rest.owed.append(f"run {row.run_id} ({row.status}) has not taken message {message.id} ({message.kind})")


def _look_at_open_waits(driver: Process, row: RunRow, state: State, rest: Rest) -> None:
    """Others find exactly the waits that are open."""
    there = {wait.id for wait in driver.world.disk.content.waits.values() if wait.run_id == row.run_id}
    wanted = {request_id(row.run_id, wait.path) for wait in state.waits.values() if wait.wait in ("input", "event")}
    if there != wanted:
        rest.owed.append(f"run {row.run_id} waits for {sorted(wanted)}, and others find {sorted(there)}")


def _look_at_run(driver: Process, row: RunRow, state: State, mailbox: list[Message], rest: Rest) -> None:
    name = f"run {row.run_id}"
    if row.status != state.status and state.durability != "exit":
        rest.owed.append(f"{name} is {row.status} in its row and {state.status} by its journal")
    if state.pause is not None:
        if state.pause.cause == "request":
            rest.wishes.append(Wish("resume", row.run_id))
        else:
            rest.owed.append(f"{name} was set aside without need: {state.pause.cause}: {state.pause.reason}")
        return
    now = driver.clock.now()
    if row.held_until is not None:  # the queue is looked at as a whole
        if state.deadline is not None:
            rest.at(now, state.deadline, f"{name}: its deadline has passed, and it waits in its queue")
        return
    if state.is_early(now):
        rest.at(now, state.next_due, f"{name} has not begun")
        return
    if state.status == "pending":
        rest.owed.append(f"{name} has not begun")
    content = driver.world.disk.content
    signals = {message.name for message in mailbox if message.kind == "signal"}
    dues = []
    waits_for_something = False
    for wait in state.waits.values():
        waits_for_something = True
        if wait.due is not None:
            dues.append((wait.due, f"{name}: the time of {wait.path} has passed"))
        if wait.wait == "signal" and wait.name in signals:
            rest.owed.append(f"{name} waits at {wait.path} for a signal that is in its mailbox")
        elif wait.wait == "signal" and wait.due is None:
            rest.wishes.append(Wish("signal", row.run_id, wait.name))
        elif wait.wait == "input" and wait.due is None:
            rest.wishes.append(Wish("answer", row.run_id, request_id(row.run_id, wait.path), is_sincere=True))
        elif wait.wait == "event":
            _look_at_event_wait(driver, state, wait, rest)
    for path, asked in state.asked.items():
        if asked.remind_at is not None:
            dues.append((asked.remind_at, f"{name}: somebody was to be reminded of {path}"))
    for step in state.steps.values():
        if step.step == "child":
            waits_for_something = True
            child = content.runs.get(step.child)
            if child is None or child.status in TERMINAL:
                rest.owed.append(f"{name} waits for child {step.child}, which is {child and child.status}")
        elif step.in_flight:
            rest.owed.append(f"{name}: attempt {step.attempt} of {step.path} is in flight")
        elif step.retry_at is not None:
            waits_for_something = True
            dues.append((step.retry_at, f"{name}: {step.path} was to be tried again"))
    if state.deadline is not None and state.cancel is None:
        dues.append((state.deadline, f"{name}: its deadline has passed"))
    if not waits_for_something:
        rest.owed.append(f"{name} is {state.status} and nothing of it is in flight")
    for due, what in dues:
        rest.at(now, due, what)


def _look_at_event_wait(driver: Process, state: State, wait: WaitStarted, rest: Rest) -> None:
    filter = Filter.of(wait, state.created_at)
    cursor = state.cursors.get(filter.subscription, 0)
    for event in driver.world.disk.content.events.values():
        if event.position > cursor and not event.transient and filter.fits(event):
            rest.owed.append(f"run {state.run_id} waits at {wait.path} for event {event.position}, which is there")
            return
    if driver.clock.now() < filter.since:  # the clock was set back: what is published now is from before its creation
        rest.due = filter.since if rest.due is None else min(rest.due, filter.since)
    elif wait.due is None:
        rest.wishes.append(Wish("publish", state.run_id, wait.name, residue=filter.residue))


def _look_at_queues(driver: Process, rest: Rest) -> None:
    """Nobody waits in a queue who might go in."""
    content, now = driver.world.disk.content, driver.clock.now()
    for name in {row.queue for row in content.runs.values() if row.held_until is not None}:
        choice = choose(content.queues.get(name) or Queue(name=name), MemoryLine(content, name, now), now=now, limit=1)
        if choice.numbers:
            rest.owed.append(f"somebody waits in queue {name}, and could be let in")
        rest.at(now, choice.again_at, f"queue {name} was to be looked at")


def _look_at_triggers(driver: Process, rest: Rest) -> None:
    content, now = driver.world.disk.content, driver.clock.now()
    for trigger in content.triggers.values():
        rest.at(now, trigger.next_at, f"trigger {trigger.name} was due")
        if trigger.kind == EVENT:
            topic = rule_of(trigger).topic
            missed = [e.position for e in content.events.values() if e.topic == topic and e.position > trigger.cursor]
            if missed:
                rest.owed.append(f"trigger {trigger.name} has not heard of events {missed}")
