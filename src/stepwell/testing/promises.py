"""What must hold of people, events, races, sagas, children, streams and transactions, whatever died in between."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from stepwell.engine.questions import AnswerBody
from stepwell.model.entries import (
    InputAnswered,
    InputReassigned,
    InputReminded,
    InputWithdrawn,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunResumed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepStarted,
    StreamBlock,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import TERMINAL
from stepwell.model.requests import is_settled, read_input_spec
from stepwell.model.versions import digest_of
from stepwell.stores.protocol import Append, Message
from stepwell.stores.tables import Event, NewEvent
from stepwell.testing.drawing import Plan
from stepwell.testing.filters import Filter
from stepwell.testing.invariants import Book, Written, books_of, need, task_at
from stepwell.testing.results import check_results
from stepwell.testing.scripts import chunk
from stepwell.testing.undone import check_order_of_undoing, check_undone, check_what_was_undone
from stepwell.testing.world import Accepted, Committed, Session, World

Ending = WaitSatisfied | WaitTimedOut | WaitWithdrawn | InputWithdrawn


def check_promises(world: World, plan: Plan, calls: Mapping[str, list[int]]) -> None:
    """Compare the finished journals with the history; `calls` are, per run, the tokens that it said how to undo.

    Raises:
        Violation: a promise was broken.
    """
    books = {book.row.run_id: book for book in books_of(world)}
    _check_answers(world, books)
    _check_events(world, books)
    for book in books.values():
        _check_questions(book)
        _check_races(book)
        if (book.row.workflow, digest_of(book.row.version)) not in world.disk.content.definitions:
            check_order_of_undoing(book)
            check_what_was_undone(book, calls.get(book.row.run_id, []))
        _check_children(book, books)
        _check_blocks(book)
    check_undone(plan, books, world)
    check_results(world, plan, books)
    _check_sessions(world, books)
    _check_bookings(world, books)
    need(not world.disk.content.waits, f"all runs have ended, and waits are open: {list(world.disk.content.waits)}")


def _posts(world: World, *kinds: str) -> Iterator[tuple[Committed, Message]]:
    for event in world.history:
        if isinstance(event, Committed) and isinstance(event.result, Message) and event.result.kind in kinds:
            yield event, event.result


def _accepted(world: World, *verbs: str) -> Iterator[Accepted]:
    return (event for event in world.history if isinstance(event, Accepted) and event.verb in verbs)


# -- people -------------------------------------------------------------------------------------------------------


def _check_answers(world: World, books: Mapping[str, Book]) -> None:
    """An accepted answer is journaled once, or left over; one to a question that asks one person is the only one."""
    sent: dict[int, Message] = {}
    for _, message in _posts(world, "answer"):
        body = msgspec.json.decode(message.body, type=AnswerBody)
        sent[msgspec.json.decode(body.value)["number"]] = message
    journaled: Counter[int] = Counter()
    for book in books.values():
        for one in book.written:
            if isinstance(one.entry, InputAnswered):
                journaled[msgspec.json.decode(one.entry.payload)["number"]] += 1
    for accepted in _accepted(world, "answer", "answer twice", "answer as a stranger"):
        need(accepted.payload in sent, f"run {accepted.run_id}: answer {accepted.payload} was accepted and is nowhere")
    for number, times in journaled.items():
        need(number in sent and times == 1, f"answer {number} is journaled {times} times; sent: {number in sent}")
    for number, message in sent.items():
        left = message.id in world.disk.content.mailbox
        need(
            left != (number in journaled),
            f"run {message.run_id}: answer {number} (message {message.id}) is journaled {journaled[number]} times "
            f"and {'still' if left else 'not'} in the mailbox",
        )
        ended = books[message.run_id].row.status in TERMINAL
        need(not left or ended, f"run {message.run_id}: answer {number} is still in the mailbox of a run that goes on")


def _check_questions(book: Book) -> None:
    """A question ends when its answers settle it, not earlier or later; only those asked count; reminders come once."""
    waits: dict[StepPath, WaitStarted] = {}
    who: dict[StepPath, tuple[str, ...]] = {}
    answers: dict[StepPath, list[tuple[str, bytes]]] = {}
    reminded: dict[StepPath, int] = {}
    for one in book.written:
        entry = one.entry
        where = f"{book.name}: entry {one.seq}"
        match entry:
            case WaitStarted() if entry.wait == "input":
                waits[entry.path], answers[entry.path], reminded[entry.path] = entry, [], 0
                who[entry.path] = read_input_spec(entry.spec).who
            case InputAnswered():
                is_late = entry.path not in waits or entry.by in [by for by, _ in answers[entry.path]]
                need(entry.late == is_late, f"{where}: {entry.by} answers {entry.path}, late={entry.late}")
                if not entry.late:
                    answers[entry.path].append((entry.by, bytes(entry.payload)))
            case InputReassigned():
                need(entry.path in waits, f"{where} reassigns {entry.path}, which is not open")
                who[entry.path] = entry.who
            case InputReminded():
                need(entry.path in waits, f"{where} reminds of {entry.path}, which is not open")
                spec = read_input_spec(waits[entry.path].spec)
                reminded[entry.path] += 1
                need(entry.number == reminded[entry.path], f"{where}: reminder {entry.number} of {entry.path}")
                due = waits[entry.path].at + spec.reminders[entry.number - 1]
                need(entry.at >= due, f"{where} reminds of {entry.path} {due - entry.at} µs early")
            case WaitSatisfied() if entry.path in waits:
                spec = msgspec.structs.replace(read_input_spec(waits[entry.path].spec), who=who[entry.path])
                given = answers[entry.path]
                need(is_settled(spec, given), f"{where} ends {entry.path}, which is not settled by {given}")
                del waits[entry.path]
            case WaitTimedOut() | WaitWithdrawn() | InputWithdrawn():
                waits.pop(entry.path, None)
            case _:
                pass


# -- events -------------------------------------------------------------------------------------------------------


def _check_events(world: World, books: Mapping[str, Book]) -> None:
    """What was accepted is published once; each subscription takes the events that fit, in order, each once."""
    events = list(world.disk.content.events.values())
    identities = Counter((event.source, event.id) for event in events)
    need(all(count == 1 for count in identities.values()), "an event is published twice")
    for accepted in _accepted(world, "publish", "publish again", "publish in passing"):
        there = any(event.id == accepted.name and _data(event) == accepted.payload for event in events)
        need(there, f"event {accepted.name} ({accepted.payload}) was accepted and is not in the store")
    published = _publications(world)
    for book in books.values():
        _check_published_by(book, events)
        for subscription in _subscriptions(book):
            _check_subscription(book, subscription, events, published)


def _data(event: Event) -> Any:  # Any: JSON
    return msgspec.json.decode(event.body)["data"]


def _publications(world: World) -> dict[int, int]:
    """Per position of an event the place in the history at which it was committed."""
    places: dict[int, int] = {}
    by_identity = {(event.source, event.id): event.position for event in world.disk.content.events.values()}
    for happened in world.history:
        if not isinstance(happened, Committed):
            continue
        if isinstance(happened.argument, NewEvent) and isinstance(happened.result, Event):
            places[happened.result.position] = happened.position
        elif isinstance(happened.argument, Append):
            for event in happened.argument.events:
                places.setdefault(by_identity[event.source, event.id], happened.position)
    return places


def _check_published_by(book: Book, events: list[Event]) -> None:
    """What the body published is there, once, and nothing else under its name."""
    said = Counter(
        msgspec.json.decode(one.entry.payload)
        for one in book.written
        if isinstance(one.entry, ValueRecorded) and one.entry.value == "publish"
    )
    source = f"stepwell/runs/{book.row.run_id}"
    found = Counter(event.id for event in events if event.source == source and not event.topic.startswith("stepwell."))
    need(said == found, f"{book.name} says that it published {said}, and {found} is there")


class _Subscription:
    """The waits of one run with one filter, and what became of them."""

    def __init__(self, filter: Filter) -> None:
        self.filter = filter
        self.waits: list[tuple[Written, Written | None]] = []

    def open_at(self, place: int) -> list[tuple[Written, Written | None]]:
        """Those that are open at a place in the history: started before, ended after or never."""
        return [
            (start, end)
            for start, end in self.waits
            if start.position < place and (end is None or end.position > place)
        ]


def _subscriptions(book: Book) -> list[_Subscription]:
    found: dict[str, _Subscription] = {}
    opened: dict[StepPath, tuple[_Subscription, int]] = {}
    created_at = book.written[0].entry.at
    for one in book.written:
        entry = one.entry
        if isinstance(entry, WaitStarted) and entry.wait == "event":
            filter = Filter.of(entry, created_at)
            subscription = found.setdefault(filter.subscription, _Subscription(filter))
            opened[entry.path] = subscription, len(subscription.waits)
            subscription.waits.append((one, None))
        elif isinstance(entry, Ending) and entry.path in opened:
            subscription, index = opened.pop(entry.path)
            subscription.waits[index] = subscription.waits[index][0], one
    return list(found.values())


def _check_subscription(
    book: Book, subscription: _Subscription, events: list[Event], published: Mapping[int, int]
) -> None:
    by_position = {event.position: event for event in events}
    ends = [end for _, end in subscription.waits if end is not None and isinstance(end.entry, WaitSatisfied)]
    ends.sort(key=lambda end: end.seq)
    taken = [end.entry.position for end in ends if isinstance(end.entry, WaitSatisfied)]
    what = f"{book.name}, subscription {subscription.filter.subscription}"
    need(taken == sorted(set(taken)), f"{what}: events {taken} were taken twice or out of order")
    fitting = [event for event in events if subscription.filter.fits(event)]
    for position in taken:
        need(by_position[position] in fitting, f"{what}: event {position} was taken and does not fit")
    last = max(taken, default=0)
    passed = [event.position for event in fitting if not event.transient and event.position < last]
    need(set(passed) <= set(taken), f"{what}: events {sorted(set(passed) - set(taken))} were passed over: {taken}")
    for start, end in subscription.waits:
        if end is None or not isinstance(end.entry, WaitSatisfied):
            continue
        event = by_position[end.entry.position]
        fresh = not event.transient or event.at >= start.entry.at
        need(fresh, f"{what}: {end.entry.path} got event {event.position}, which was over when it began to wait")
    for event in fitting:  # one in passing is for those whose wait is on disk when it comes
        waiting = subscription.open_at(published[event.position]) if event.transient else []
        missed = [
            end
            for start, end in waiting
            if event.at >= start.entry.at and end is not None and event.position < _took(end)
        ]
        need(event.position in taken or not missed, f"{what}: event {event.position} in passing was missed by {missed}")


def _took(end: Written) -> int:
    return end.entry.position if isinstance(end.entry, WaitSatisfied) else 0


# -- races --------------------------------------------------------------------------------------------------------


def _check_races(book: Book) -> None:
    """Of branches that are one wait and nothing else, one at most has got what it waited for."""
    satisfied: dict[tuple[tuple[str, int], ...], list[StepPath]] = defaultdict(list)
    for one in book.written:
        entry = one.entry
        if isinstance(entry, RunResumed) and entry.retry:
            satisfied.clear()
        if not isinstance(entry, WaitSatisfied | WaitTimedOut | InputWithdrawn):
            continue
        scope = entry.path.scope
        if len(scope) >= 2 and scope[-2][0] == "select" and scope[-1][0].startswith("wait"):
            won = satisfied[scope[:-1]]
            won.append(entry.path)
            need(len(won) == 1, f"{book.name}: several branches of one select have won: {[*map(str, won)]}")


# -- children -----------------------------------------------------------------------------------------------------


def _check_children(book: Book, books: Mapping[str, Book]) -> None:
    """A parent hears of an end that has been; its policy says what becomes of a child that it gives up."""
    children = {
        one.entry.path: one.entry for one in book.written if isinstance(one.entry, StepStarted) and one.entry.input
    }
    for one in book.written:
        entry = one.entry
        if not isinstance(entry, StepCompleted | StepFailed | StepCancelled):
            continue
        start = children.get(entry.path)
        if start is None or not start.child or start.child not in books:
            continue
        child = books[start.child]
        if not isinstance(entry, StepCancelled):
            ended = any(
                written.position < one.position and isinstance(written.entry, RunCompleted | RunFailed | RunCancelled)
                for written in child.written
            )
            need(ended, f"{book.name}: entry {one.seq} tells the end of {start.child}, which had not ended")
        elif start.on_cancel == "wait":
            need(
                _closes(book, one),
                f"{book.name}: entry {one.seq} gives {start.child} up, for whose end it should have waited",
            )
    for start in children.values():
        if start.on_cancel == "abandon" and start.child in books:
            asked = [
                written
                for written in books[start.child].written
                if isinstance(written.entry, RunCancelRequested) and written.entry.by == book.row.run_id
            ]
            need(not asked, f"{book.name} should have let {start.child} go on, and cancelled it")


def _closes(book: Book, one: Written) -> bool:
    """Whether an entry is among those that close what a run leaves open when it ends."""
    for after in book.written[one.seq :]:
        if isinstance(after.entry, RunCompleted | RunFailed | RunCancelled):
            return True
        if not isinstance(after.entry, StepCancelled | WaitWithdrawn):
            return False
    return False


# -- streams ------------------------------------------------------------------------------------------------------


def _check_blocks(book: Book) -> None:
    """An attempt's chunks are journaled while it is in flight, without a gap; what has ended has all of them."""
    inputs: dict[StepPath, dict[str, Any]] = {}  # Any: JSON
    in_flight: dict[StepPath, int] = {}
    chunks: Counter[tuple[StepPath, int]] = Counter()
    for one in book.written:
        entry = one.entry
        where = f"{book.name}: entry {one.seq}"
        match entry:
            case StepStarted() if task_at(entry.path) == "talk":
                if entry.input:
                    inputs[entry.path] = msgspec.json.decode(entry.input)
                in_flight[entry.path] = entry.attempt
            case StreamBlock():
                key = (entry.path, entry.attempt)
                need(in_flight.get(entry.path) == entry.attempt, f"{where}: {entry.path} emits and is not in flight")
                need(entry.first == chunks[key] + 1, f"{where}: chunk {entry.first} of {key} follows {chunks[key]}")
                values = msgspec.json.decode(entry.chunks)
                given = inputs[entry.path]
                right = [
                    chunk(given["token"], entry.attempt, entry.first + n, given.get("padding", 0))
                    for n in range(len(values))
                ]
                need(values == right, f"{where}: {entry.path} emitted {values}, and not {right}")
                chunks[key] += len(values)
            case StepCompleted() | StepFailed() if task_at(entry.path) == "talk":
                total = inputs[entry.path]["chunks"]
                found = chunks[entry.path, entry.attempt]
                need(found == total, f"{where}: {entry.path} has ended with {found} of {total} chunks journaled")
                in_flight.pop(entry.path, None)
                used = entry.usage if isinstance(entry, StepCompleted) else {"tokens": 2 * total}
                need(used == ({"tokens": 2 * total} if total else used), f"{where}: {entry.path} says it used {used}")
            case StepCancelled():
                in_flight.pop(entry.path, None)
            case _:
                pass


def _check_sessions(world: World, books: Mapping[str, Book]) -> None:
    """A reader gets each attempt's chunks once and in order; one that reads to a run's end gets all of them."""
    for session in world.history:
        if not isinstance(session, Session):
            continue
        heard: Counter[tuple[str, int]] = Counter()
        what = f"{session.process} reads {session.run_id}"
        for step, attempt, number, value in session.chunks:
            heard[step, attempt] += 1
            need(heard[step, attempt] == number, f"{what}: chunk {number} of {step} comes {heard[step, attempt]}th")
            need(value.split(":")[1:2] == [str(attempt)], f"{what}: chunk {number} of {step} is {value}")
        book = books[session.run_id]
        if session.ended is None or book.written[-1].position > session.ended:
            continue
        if any(isinstance(one.entry, RunPaused) for one in book.written):  # a stream ends when a run is set aside too
            continue
        journaled: Counter[tuple[str, int]] = Counter()
        for one in book.written:
            if isinstance(one.entry, StreamBlock):
                journaled[str(one.entry.path), one.entry.attempt] += len(msgspec.json.decode(one.entry.chunks))
        need(journaled <= heard, f"{what}: {journaled - heard} was left out")


# -- transactions -------------------------------------------------------------------------------------------------


def _check_bookings(world: World, books: Mapping[str, Book]) -> None:
    """A transactional step's row is there once, if and only if it is completed or its outcome was on its way."""
    rows: list[tuple[str, int, int]] = []
    database = world.disk.content.database
    if database is not None and database.execute("SELECT 1 FROM sqlite_master WHERE name = 'booked'").fetchall():
        rows = database.execute("SELECT key, attempt, token FROM booked").fetchall()
    messages = {
        event.result.id: event.result
        for event in world.history
        if isinstance(event, Committed) and event.name == "transact" and isinstance(event.result, Message)
    }
    told = Counter(f"{message.run_id}:{message.name}" for message in messages.values())
    found = Counter(key for key, _, _ in rows)
    need(found == told, f"the outcomes of {told} were posted, and the rows of {found} are there")
    need(all(count == 1 for count in found.values()), f"steps wrote more than once: {found}")
    for book in books.values():
        for one in book.written:
            entry = one.entry
            if isinstance(entry, StepCompleted) and task_at(entry.path) == "book":
                key = f"{book.row.run_id}:{entry.path}"
                need(found[key] == 1, f"{book.name}: entry {one.seq} completes {entry.path}, and its row is not there")
