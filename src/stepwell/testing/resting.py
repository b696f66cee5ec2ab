"""What does an engine still owe, now that everything should be at rest? The rows, journals and mailboxes say it."""

from __future__ import annotations

from dataclasses import dataclass, field

from stepwell.model.lifecycle import TERMINAL
from stepwell.model.state import State, replay
from stepwell.stores.protocol import Message, RunRow
from stepwell.testing.world import Process


@dataclass
class Rest:
    """How things stand.

    `owed` is what the engine should do and has not done; `wishes` are what people must do for runs to go on (run id,
    verb, signal's name); `due` is when the next timer, deadline or retry comes.
    """

    owed: list[str] = field(default_factory=list)
    wishes: list[tuple[str, str, str]] = field(default_factory=list)
    due: int | None = None


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
            _look_at_mailbox(row, mailbox, rest)
        _look_at_run(driver, row, state, mailbox, rest)
    return rest


def _state(driver: Process, row: RunRow) -> tuple[State, list[int]]:
    """The run's state, and messages it has used up; one that is journaled only at its end is in its driver's memory."""
    runner = driver.app.engine.runners.get(row.run_id)
    if runner is not None and runner.state.durability == "exit":
        return runner.state, runner.ledger.consumed
    return replay(stored.entry for stored in driver.world.disk.content.journals[row.run_id]), []


def _look_at_owner(driver: Process, row: RunRow, rest: Rest) -> None:
    engine = driver.app.engine
    if row.owner is not None and row.owner != engine.worker:
        rest.owed.append(f"run {row.run_id} belongs to {row.owner}, which is gone")
    elif row.owner is not None and row.run_id not in engine.runners:
        rest.owed.append(f"run {row.run_id} belongs to {driver.name}, which does not hold it in memory")


def _look_at_mailbox(row: RunRow, mailbox: list[Message], rest: Rest) -> None:
    for message in mailbox:
        if message.kind != "signal":
            rest.owed.append(f"run {row.run_id} ({row.status}) has not taken message {message.id} ({message.kind})")


def _look_at_run(driver: Process, row: RunRow, state: State, mailbox: list[Message], rest: Rest) -> None:
    name = f"run {row.run_id}"
    if row.status != state.status and state.durability != "exit":
        rest.owed.append(f"{name} is {row.status} in its row and {state.status} by its journal")
    if state.pause is not None:
        if state.pause.cause == "request":
            rest.wishes.append((row.run_id, "resume", ""))
        else:
            rest.owed.append(f"{name} was set aside without need: {state.pause.cause}: {state.pause.reason}")
        return
    if state.status == "pending":
        rest.owed.append(f"{name} has not begun")
    now = driver.clock.now()
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
            rest.wishes.append((row.run_id, "signal", wait.name))
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
    if not waits_for_something:
        rest.owed.append(f"{name} is {state.status} and nothing of it is in flight")
    for due, what in dues:
        if due <= now:
            rest.owed.append(what)
        elif rest.due is None or due < rest.due:
            rest.due = due
