"""What must hold however often processes died: journals against the order in which the world saw everything.

Each check names a promise. `position` is a place in the world's history, across all processes; a commit's position
is the moment at which the entry was on disk, whatever its process knew of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from stepwell.model.entries import (
    AnyEntry,
    InputWithdrawn,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunResumed,
    StateSet,
    StepCancelled,
    StepCompleted,
    StepEdited,
    StepFailed,
    StepStarted,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import TERMINAL
from stepwell.model.state import replay
from stepwell.stores.protocol import Append, Message, RunRow
from stepwell.testing.drawing import Plan
from stepwell.testing.needs import Violation as Violation
from stepwell.testing.needs import need as need
from stepwell.testing.virtual import BASE
from stepwell.testing.world import Accepted, Committed, Effect, Happened, World

NO_TASKS = frozenset({"play", "kid", "graph", "bulky_child", "book"})
"""Names of steps whose attempts the world does not see begin: child runs, and what runs where the store writes."""


def task_at(path: StepPath) -> str:
    """What is called there: a step of a function has the name of its task, a node of a graph an id that begins so."""
    name, _, number = path.name.partition("-")
    return path.name if "." in number else name  # what has a point belongs to a node, such as its delay


def is_ending(entry: AnyEntry) -> bool:
    """Whether a step is over with this entry, one way or another."""
    return isinstance(entry, StepCompleted | StepCancelled) or (
        isinstance(entry, StepFailed) and entry.retry_at is None
    )


@dataclass(frozen=True)
class Written:
    """An entry as it got into a journal."""

    seq: int
    epoch: int
    position: int
    process: str
    entry: AnyEntry


@dataclass
class Book:
    """Everything about one run."""

    row: RunRow
    written: list[Written]
    effects: list[Effect]

    @property
    def name(self) -> str:
        """How a violation names the run."""
        return f"run {self.row.run_id}"

    @property
    def is_sync(self) -> bool:
        """Whether every outcome is on disk before anything that depends on it."""
        return replay([self.written[0].entry]).durability == "sync"


def books_of(world: World) -> list[Book]:
    """One book per run, with the commits in which its entries were written."""
    places: dict[tuple[str, int], Committed] = {}
    effects: dict[str, list[Effect]] = defaultdict(list)
    for event in world.history:
        if isinstance(event, Effect):
            effects[event.run_id].append(event)
        elif isinstance(event, Committed) and isinstance(event.argument, Append):
            for child in event.argument.children:
                places.setdefault((child.run_id, 1), event)
            for n in range(len(event.argument.entries)):
                need((event.argument.run_id, event.argument.seq + n) not in places, f"{event} writes over an entry")
                places[event.argument.run_id, event.argument.seq + n] = event
        elif isinstance(event, Committed) and event.name == "advance" and isinstance(event.argument, tuple):
            for run in event.argument if event.result else ():
                places.setdefault((run.run_id, 1), event)
        elif isinstance(event, Committed) and event.name == "create":
            assert isinstance(event.result, RunRow), "create gives a row"
            places.setdefault((event.result.run_id, 1), event)
    content = world.disk.content
    return [
        Book(
            row,
            [
                Written(stored.seq, stored.epoch, *_place(places, world, row.run_id, stored.seq), stored.entry)
                for stored in content.journals[row.run_id]
            ],
            effects[row.run_id],
        )
        for row in content.runs.values()
    ]


def _place(places: dict[tuple[str, int], Committed], world: World, run_id: str, seq: int) -> tuple[int, str]:
    event = places.get((run_id, seq))
    need(event is not None, f"run {run_id}: entry {seq} is in the journal and nobody wrote it")
    assert event is not None, "just checked"
    return event.position, event.process


def check_history(world: World, plan: Plan) -> None:
    """Compare the finished journals with the history.

    Raises:
        Violation: a promise was broken.
    """
    books = books_of(world)
    jumps = any(isinstance(event, Happened) and "clock jumps" in event.text for event in world.history)
    for book in books:
        _check_journal(book)
        _check_steps(book, jumps)
        _check_waits(book, world, jumps)
        _check_effects(book, world)
        if book.is_sync:
            _check_order(book)
    _check_messages(world, {book.row.run_id: book for book in books})
    _check_signals(world, {book.row.run_id: book for book in books})
    _check_children(world, {book.row.run_id: book for book in books})


# -- the journal by itself ----------------------------------------------------------------------------------------


def _check_journal(book: Book) -> None:
    """No gap in seq, epochs never fall, nothing follows an end but a retry, the row says what the journal says."""
    name = book.name
    need([one.seq for one in book.written] == list(range(1, book.row.next_seq)), f"{name}: gap in its journal")
    epochs = [one.epoch for one in book.written]
    need(epochs == sorted(epochs), f"{name}: an old epoch wrote after a newer one: {epochs}")
    ended = False
    for one in book.written:
        is_retry = isinstance(one.entry, RunResumed) and one.entry.retry
        is_edit = isinstance(one.entry, StateSet | StepEdited)  # for the life that begins with a retry
        need(not ended or is_retry or is_edit, f"{name}: entry {one.seq} follows the run's end: {one.entry}")
        if ended and is_edit:
            continue
        need(not is_retry or ended, f"{name}: entry {one.seq} retries a run that has not ended")
        ended = isinstance(one.entry, RunCompleted | RunFailed | RunCancelled)
    if book.row.status in TERMINAL:
        is_end = isinstance(book.written[-1].entry, RunCompleted | RunFailed | RunCancelled)
        need(is_end, f"{name} has ended, and its journal goes on: {book.written[-1].entry}")
    state = replay(one.entry for one in book.written)
    need(state.status == book.row.status, f"{name}: its row says {book.row.status}, its journal {state.status}")
    need(not (state.steps or state.waits), f"{name} has ended and left open: {[*state.steps, *state.waits]}")


def _check_steps(book: Book, jumps: bool) -> None:
    """A step is completed once and never started again; attempts count up by one; retries come no earlier than said."""
    last: dict[StepPath, int] = {}
    completed: set[StepPath] = set()
    in_flight: dict[StepPath, int] = {}
    retry_at: dict[StepPath, int] = {}
    paused = False
    for one in book.written:
        entry = one.entry
        where = f"{book.name}: entry {one.seq}"
        match entry:
            case RunPaused():
                paused = True
            case RunResumed():
                paused = False
            case StepStarted():
                need(entry.path not in completed, f"{where} starts {entry.path}, which is completed")
                need(not paused, f"{where} starts an attempt of {entry.path} while the run is paused")
                expected = last.get(entry.path, 0) + 1
                need(entry.attempt == expected, f"{where}: {entry.path} attempt {entry.attempt} and not {expected}")
                early = retry_at.pop(entry.path, entry.at) - entry.at
                need(early <= 0 or jumps, f"{where} starts {entry.path} {early} µs before its retry is due")
                last[entry.path] = in_flight[entry.path] = entry.attempt
            case StepCompleted() | StepFailed():
                flying = in_flight.pop(entry.path, None)
                need(flying == entry.attempt, f"{where}: outcome of attempt {entry.attempt}, but {flying} is in flight")
                if isinstance(entry, StepCompleted):
                    completed.add(entry.path)
                elif entry.retry_at is not None:
                    retry_at[entry.path] = entry.retry_at
            case StepCancelled():
                in_flight.pop(entry.path, None)
                retry_at.pop(entry.path, None)
            case _:
                pass


def _check_waits(book: Book, world: World, jumps: bool) -> None:
    """A wait ends once, and not during a pause; a timer does not ring before its time (by its process's clock)."""
    open_waits: dict[StepPath, WaitStarted] = {}
    paused = False
    for one in book.written:
        entry = one.entry
        if isinstance(entry, WaitSatisfied | WaitTimedOut | InputWithdrawn):
            need(not paused, f"{book.name}: entry {one.seq} ends {entry.path} while the run is paused")
        match entry:
            case RunPaused():
                paused = True
            case RunResumed():
                paused = False
            case WaitStarted():
                need(entry.path not in open_waits, f"{book.name}: entry {one.seq} starts {entry.path} again")
                open_waits[entry.path] = entry
            case WaitSatisfied() | WaitTimedOut() | WaitWithdrawn() | InputWithdrawn():
                wait = open_waits.pop(entry.path, None)
                need(wait is not None, f"{book.name}: entry {one.seq} ends {entry.path}, which is not open")
                assert wait is not None, "just checked"
                rang = isinstance(entry, WaitTimedOut) or (isinstance(entry, WaitSatisfied) and wait.wait == "timer")
                if rang and wait.due is not None and not jumps:
                    early = wait.due - (BASE + world.stamps[one.position])
                    need(early <= 0, f"{book.name}: {entry.path} rang {early} µs early")
            case _:
                pass


# -- the world against the journal --------------------------------------------------------------------------------


def _check_effects(book: Book, world: World) -> None:
    """No code of a step runs after its outcome was journaled; what is journaled is what the world did."""
    closed = _closings(book)
    drivers = _drivers(world)
    by_attempt: dict[tuple[str, int], list[Effect]] = defaultdict(list)
    for effect in book.effects:
        by_attempt[effect.key, effect.attempt].append(effect)
        path = effect.key.removeprefix(book.row.run_id + ":")
        need(
            _is_frozen_out(effect, drivers)
            or not any(start < effect.position < end for start, end in closed.get(path, ())),
            f"{book.name}: {path} attempt {effect.attempt} ran in {effect.process} after its outcome was journaled",
        )
    for one in book.written:
        entry = one.entry
        if not isinstance(entry, StepCompleted) or task_at(entry.path) in NO_TASKS:
            continue
        key = f"{book.row.run_id}:{entry.path}"
        values = [
            effect.value for effect in by_attempt[key, entry.attempt] if effect.ended and effect.ended < one.position
        ]
        need(bool(values), f"{book.name}: {entry.path} attempt {entry.attempt} is journaled and never returned")
        if task_at(entry.path) != "bulky":
            output = msgspec.json.decode(entry.output)
            need(output in values, f"{book.name}: {entry.path} returned {values} and {output} is journaled")
    if book.is_sync:
        for (key, attempt), effects in by_attempt.items():
            need(len(effects) == 1, f"{book.name}: attempt {attempt} of {key} ran {len(effects)} times")
    _check_overlaps(book, world)


_EVER = float("inf")


def _closings(book: Book) -> dict[str, list[tuple[int, float]]]:
    """Per path, the spans of the history in which the journal says that it has ended."""
    spans: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for one in book.written:
        entry = one.entry
        if isinstance(entry, StepCompleted) or (
            isinstance(entry, StepFailed) and entry.retry_at is None and book.is_sync
        ):
            spans[str(entry.path)].append((one.position, _EVER))
        elif isinstance(entry, StepStarted) and (before := spans.get(str(entry.path))) and before[-1][1] == _EVER:
            before[-1] = (before[-1][0], one.position)  # a retry of the run has withdrawn the failure
    return spans


def _check_overlaps(book: Book, world: World) -> None:
    """Two attempts of a step are in flight at once only when the first one's process lost the run."""
    by_key: dict[str, list[Effect]] = defaultdict(list)
    for effect in book.effects:
        by_key[effect.key].append(effect)
    drivers = _drivers(world)
    for key, effects in by_key.items():
        for before, after in pairwise(effects):
            if _is_frozen_out(before, drivers) or _is_frozen_out(after, drivers):
                continue
            over = before.ended is not None and before.ended < after.position
            need(
                over or before.process != after.process,
                f"{book.name}: attempts {before.attempt} and {after.attempt} of {key} overlap in {after.process}",
            )
            need(before.attempt < after.attempt or not book.is_sync, f"{book.name}: attempts of {key} go backwards")


def _drivers(world: World) -> list[tuple[int, str]]:
    """Where each process that drove began to."""
    return [
        (event.position, event.process)
        for event in world.history
        if isinstance(event, Committed) and event.name == "drive"
    ]


def _is_frozen_out(effect: Effect, drivers: list[tuple[int, str]]) -> bool:
    """Whether the attempt's process had been launched on it while it drove, and was taken over before it ran.

    No engine can prevent that: the process was frozen between the two. Its outcome is refused, and the attempt that
    ran instead has the same idempotency key.
    """
    driving = [process for position, process in drivers if position < effect.position]
    return driving[-1:] != [effect.process]


def _check_order(book: Book) -> None:
    """An attempt starts in the world only when its start, and all that its input came from, is on disk."""
    started = {
        (f"{book.row.run_id}:{one.entry.path}", one.entry.attempt): one
        for one in book.written
        if isinstance(one.entry, StepStarted)
    }
    outputs: dict[int, Written] = {}
    for one in book.written:
        if (
            isinstance(one.entry, StepCompleted)
            and not one.entry.output_blob
            and task_at(one.entry.path) != "bulky_child"
        ):
            outputs.setdefault(msgspec.json.decode(one.entry.output), one)
    returned = {effect.value: effect for effect in book.effects if effect.value is not None}
    for effect in book.effects:
        start = started.get((effect.key, effect.attempt))
        what = f"{book.name}: {effect.key} attempt {effect.attempt}"
        need(start is not None and start.position < effect.position, f"{what} ran before its start was on disk")
        assert start is not None, "just checked"
        if effect.token in returned:
            source = outputs.get(effect.token)
            need(source is not None and source.seq < start.seq, f"{what} used an outcome that was not on disk")
        need(
            start.process == effect.process,
            f"{what} was started by {start.process} and ran in {effect.process}",
        )


# -- messages -----------------------------------------------------------------------------------------------------


def _posts(world: World) -> Iterator[tuple[Committed, Message]]:
    for event in world.history:
        if isinstance(event, Committed) and isinstance(event.result, Message):
            yield event, event.result


def _check_messages(world: World, books: dict[str, Book]) -> None:
    """Every accepted run is there; every accepted verb was taken once, and did what it says or came too late."""
    mailbox = world.disk.content.mailbox
    taken: dict[int, Committed] = {}
    for event in world.history:
        if isinstance(event, Committed) and isinstance(event.argument, Append):
            for number in event.argument.consumed:
                need(number not in taken, f"message {number} was taken twice")
                taken[number] = event
    for event in world.history:
        if isinstance(event, Accepted) and event.verb == "start":
            need(event.run_id in books, f"run {event.run_id} was accepted and is not in the store")
    for event, message in _posts(world):
        book = books[message.run_id]
        if message.id in mailbox:
            later = any(one.position > event.position for one in book.written)
            need(message.kind != "retry" or later, f"{book.name}: its retry (message {message.id}) was not taken")
            continue
        need(message.id in taken, f"{book.name}: message {message.id} ({message.kind}) has vanished")
        append = taken[message.id].argument
        assert isinstance(append, Append), "messages are taken by appends"
        _check_verb(book, message, append)


def _check_verb(book: Book, message: Message, append: Append) -> None:
    before = replay(one.entry for one in book.written if one.seq < append.seq)
    kinds = [type(entry) for entry in append.entries]
    what = f"{book.name}: {message.kind} (message {message.id}) was taken and did nothing"
    match message.kind:
        case "pause":
            need(RunPaused in kinds or before.pause is not None or before.ended is not None, what)
        case "cancel":
            need(RunCancelRequested in kinds or before.cancel is not None or before.ended is not None, what)
        case "retry":
            done = any(isinstance(entry, RunResumed) and entry.retry for entry in append.entries)
            # It was accepted before the run ended anew, so that nothing is left to go on from.
            need(done or before.ended not in ("failed", "cancelled") or before.undone, what)
        case "resume":
            need(RunResumed in kinds or RunPaused in kinds or before.pause is None, what)
        case "child":
            need(StepCompleted in kinds or StepFailed in kinds or message.name not in map(str, before.steps), what)
        case _:
            pass


def _check_signals(world: World, books: dict[str, Book]) -> None:
    """Each signal is taken at most once, in the order of acceptance; one not taken is still there."""
    sent: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for _, message in _posts(world):
        if message.kind == "signal":
            sent[message.run_id, message.name][int(msgspec.json.decode(message.body))] = message.id
    for event in world.history:
        if isinstance(event, Accepted) and event.verb == "signal":
            there = event.payload in sent[event.run_id, event.name]
            need(there, f"run {event.run_id}: signal {event.name} {event.payload} was accepted and is nowhere")
    for (run_id, name), ids in sent.items():
        taken = []
        waits: set[StepPath] = set()
        for one in books[run_id].written:
            entry = one.entry
            if isinstance(entry, WaitStarted) and entry.wait == "signal" and entry.name == name:
                waits.add(entry.path)
            if isinstance(entry, WaitSatisfied) and entry.path in waits:
                payload = int(msgspec.json.decode(entry.payload))
                need(payload in ids, f"run {run_id}: {entry.path} got {payload}, which nobody sent")
                taken.append(ids[payload])
        need(taken == sorted(set(taken)), f"run {run_id}: signals {name} were taken as {taken}, twice or out of order")
        left = [number for number in ids.values() if number in world.disk.content.mailbox]
        need(not set(left) & set(taken), f"run {run_id}: signals {name} {left} were taken and are still there")
        need(len(left) + len(taken) == len(ids), f"run {run_id}: of signals {name} {ids} only {taken} and {left} exist")
        need(not left or not taken or min(left) > max(taken), f"run {run_id}: signal {name} {left} was passed over")


# -- runs among each other ----------------------------------------------------------------------------------------


def _check_children(world: World, books: dict[str, Book]) -> None:
    """A child comes into being with its parent's entry; one that its parent gave up is asked to end."""
    for book in books.values():
        if book.row.parent is not None:
            born = book.written[0].position
            told = any(
                one.position == born and _names_child(one.entry, book.row.run_id)
                for one in books[book.row.parent].written
            )
            need(told, f"{book.name} was created, and not by the commit in which its parent says so")
        children = {
            one.entry.path: one.entry.child
            for one in book.written
            if isinstance(one.entry, StepStarted) and one.entry.child and one.entry.on_cancel != "abandon"
        }
        last = {
            one.entry.path: one
            for one in book.written
            if isinstance(one.entry, StepStarted | StepCancelled | StepCompleted | StepFailed)
        }
        for path, child in children.items():
            need(child in books, f"{book.name} has started child {child}, which does not exist")
            given_up = last[path]
            if not isinstance(given_up.entry, StepCancelled):
                continue
            written = books[child].written
            asked = any(isinstance(one.entry, RunCancelRequested) for one in written)
            if replay(one.entry for one in written if one.position < given_up.position).ended is not None:
                continue
            # A claim brings the message; whoever drives the child already may bring it to its end before reading it,
            # and one claimed after its end (its parent asks again how it ended) cannot be cancelled any more.
            claimed = any(
                event.position > given_up.position
                and any(one.row.run_id == child and one.row.status not in TERMINAL for one in event.result)
                for event in world.history
                if isinstance(event, Committed) and event.name == "claim" and isinstance(event.result, list)
            )
            need(
                asked or not claimed,
                f"{book.name} gave {child} up, and it went on as if nothing had happened",
            )


def _names_child(entry: AnyEntry, child: str) -> bool:
    if isinstance(entry, ValueRecorded) and entry.value == "start":
        return bool(msgspec.json.decode(entry.payload) == child)
    return isinstance(entry, StepStarted) and entry.child == child
