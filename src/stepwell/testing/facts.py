"""Do the facts in a graph's journal fit its definition: parents first, nothing twice, undone just what was done?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from stepwell.model.entries import (
    AnyEntry,
    InputWithdrawn,
    NodePassed,
    RunCancelled,
    RunCancelRequested,
    RunFailed,
    RunResumed,
    ScopeClosed,
    ScopeOpened,
    StateSet,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.ids import StepPath
from stepwell.model.versions import digest_of
from stepwell.testing.invariants import Book, Written, books_of
from stepwell.testing.needs import need
from stepwell.testing.rooms import check_rooms
from stepwell.testing.vertices import Json
from stepwell.testing.world import World

Scope = tuple[tuple[str, int], ...]
Beginning = StepStarted | WaitStarted | NodePassed | ScopeOpened | StepSkipped | ValueRecorded
Ending = (
    StepCompleted
    | StepFailed
    | StepCancelled
    | StepSkipped
    | NodePassed
    | ScopeClosed
    | WaitSatisfied
    | WaitTimedOut
    | WaitWithdrawn
    | InputWithdrawn
    | ValueRecorded
)


def check_facts(world: World) -> None:
    """Look at the journals of all runs of graphs.

    Raises:
        Violation: a promise was broken.
    """
    for book in books_of(world):
        row = world.disk.content.definitions.get((book.row.workflow, digest_of(book.row.version)))
        if row is None:
            continue
        shape = _Shape()
        shape.take(msgspec.json.decode(row.body))
        _check_order(book, shape)
        _check_inputs(book)
        _check_once(book, shape)
        _check_races(book, shape)
        _check_scopes(book)
        _check_undoing(book, shape)
        _check_retries(book)
        check_rooms(book, shape.windows, shape.locks)


@dataclass
class _Shape:
    """A definition, flat; all ids in a simulated one are different.

    `needs` are the sources of each node, `joins` how many of them must be settled before it begins (0: all).
    `again` are those that may run several times in one instance of their body, `races` those that a node decides.
    """

    needs: dict[str, list[str]] = field(default_factory=dict)
    joins: dict[str, int] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)
    scopes: dict[str, bool] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    races: set[str] = field(default_factory=set)

    def take(self, body: Json) -> None:
        """Take in a body and those in it."""
        cycles = [edge for edge in body.get("edges", ()) if edge.get("back")]
        back = {edge["to"] for edge in cycles}
        self.again |= back | {edge["from"] for edge in cycles}
        for id, node in _nodes(body):
            self.needs[id] = [] if id in back else [_source(one) for one in _listed(node.get("needs"))]
            join = node.get("join", "all")
            kind = next(iter(join)) if isinstance(join, dict) else join
            self.joins[id] = 0 if kind in ("all", "all_strict", "general") else 1
            if kind == "each":
                self.again.add(id)
            if "compensate" in node:
                ((undo, _),) = _nodes(node["compensate"])
                self.undone[undo] = id
            kind, given = _kind_of(node)
            if given.get("concurrency"):
                self.windows[id] = given["concurrency"]
            if "critical" in node or given.get("critical"):
                self.locks[id] = node.get("critical") or given["critical"]
            if kind == "race" and given.get("decide", "first") == "first":
                self.races.add(id)
            if kind == "scope":
                self.scopes[id] = given.get("compensate", "auto") == "auto"
            for inner in _bodies(given):
                self.take(inner)


def _listed(needs: Json) -> list[Json]:
    return needs if isinstance(needs, list) else [] if needs is None else [needs]


def _source(need: Json) -> str:
    return str(need["from"] if isinstance(need, dict) else need)


def _nodes(body: Json) -> list[tuple[str, Json]]:
    nodes = body.get("nodes", body)
    return [(one["id"], one) for one in nodes] if isinstance(nodes, list) else [*nodes.items()]


def _kind_of(node: Json) -> tuple[str, Json]:
    if "type" in node:
        return node["type"], node.get("with", {})
    kind = next((one for one in ("map", "loop", "parallel", "race", "try", "scope") if one in node), "")
    return kind, node.get(kind, {})


def _bodies(given: Json) -> Iterator[Json]:
    if not isinstance(given, dict):
        return
    for name in ("do", "finally"):
        if name in given:
            yield given[name]
    yield from given.get("branches", {}).values()
    for catch in given.get("catch", ()):
        yield catch["do"]


# -- order --------------------------------------------------------------------------------------------------------


def _check_order(book: Book, shape: _Shape) -> None:
    """What comes before a node, by its edges and its join, is settled in the journal before the node begins."""
    settled: dict[Scope, set[str]] = defaultdict(set)
    for one in book.written:
        entry = one.entry
        path = getattr(entry, "path", None)
        if path is None:
            continue
        needs = shape.needs.get(path.name, ())
        if isinstance(entry, Beginning) and needs and not (isinstance(entry, StepSkipped) and entry.reason):
            there = [source for source in needs if source in settled[path.scope]]
            wanted = shape.joins[path.name] or len(needs)
            need(
                len(there) >= wanted or (not there and isinstance(entry, StepSkipped)),
                f"{book.name}: entry {one.seq} ({type(entry).__name__}) begins {path}; of {needs} only {there} is "
                "settled",
            )
        if isinstance(entry, Ending) and not (isinstance(entry, StepFailed) and entry.retry_at is not None):
            settled[path.scope].add(path.name)


def _check_inputs(book: Book) -> None:
    """Each number that a step is given and another one has returned was journaled before."""
    outputs: dict[int, int] = {}
    for one in book.written:
        if isinstance(one.entry, StepCompleted) and not one.entry.output_blob:
            value = msgspec.json.decode(one.entry.output)
            if isinstance(value, int) and value > 1_000_000:  # no token that was drawn
                outputs.setdefault(value, one.seq)
    for one in book.written:
        if isinstance(one.entry, StepStarted) and one.entry.input:
            for number in _numbers(msgspec.json.decode(one.entry.input)):
                there = outputs.get(number, 0) < one.seq
                need(there, f"{book.name}: entry {one.seq} gives {one.entry.path} {number}, which is journaled later")


def _numbers(data: Json) -> Iterator[int]:
    match data:
        case int():
            yield data
        case list():
            for one in data:
                yield from _numbers(one)
        case dict():
            for one in data.values():
                yield from _numbers(one)


# -- facts --------------------------------------------------------------------------------------------------------


def _check_once(book: Book, shape: _Shape) -> None:
    """In one life of a run a fact is told once, and of a node that was skipped nothing else is; no node runs twice."""
    told: dict[tuple[type, StepPath], int] = {}
    began: dict[StepPath, int] = {}
    skipped: dict[StepPath, int] = {}
    for one in book.written:
        entry = one.entry
        where = f"{book.name}: entry {one.seq}"
        if isinstance(entry, RunResumed) and entry.retry:
            told.clear()
            began.clear()
            skipped.clear()
        if isinstance(entry, StepSkipped | NodePassed | ScopeOpened | ScopeClosed | StateSet | ValueRecorded):
            if entry.path is None:  # a person has set it
                continue
            key = (type(entry), entry.path)
            need(key not in told, f"{where} tells {type(entry).__name__} of {entry.path} again: {told.get(key)}")
            told[key] = one.seq
        if isinstance(entry, StepSkipped):
            need(entry.path not in began, f"{where} skips {entry.path}, which began in {began.get(entry.path)}")
            skipped[entry.path] = one.seq
        elif isinstance(entry, StepStarted | WaitStarted | NodePassed | ScopeOpened):
            need(entry.path not in skipped, f"{where} begins {entry.path}, skipped in {skipped.get(entry.path)}")
            began[entry.path] = one.seq
            is_first = entry.path.occurrence == 1 or entry.path.name not in shape.needs
            need(is_first or entry.path.name in shape.again, f"{where} begins {entry.path}, where once is all")


def _check_races(book: Book, shape: _Shape) -> None:
    """Of the branches of a race that a node decides, only that of the first that was done goes on."""
    won: dict[StepPath, str] = {}
    for one in book.written:
        entry = one.entry
        if isinstance(entry, RunResumed) and entry.retry:
            won.clear()
        if not isinstance(entry, StepStarted | WaitStarted | StepCompleted | WaitSatisfied | NodePassed):
            continue
        if any(label.endswith(".finally") for label, _ in entry.path.scope):  # that is done in any case
            continue
        for container, (label, _) in zip(containers_of(entry.path), entry.path.scope, strict=False):
            if container.name not in shape.races:
                continue
            branch = label.partition(".")[2]
            if isinstance(entry, StepCompleted | NodePassed | WaitSatisfied) and (
                entry.path.name in shape.needs and entry.path.scope[-1][0] == label
            ):
                won.setdefault(container, branch)
            is_late = isinstance(entry, StepStarted | WaitStarted) and won.get(container, branch) != branch
            need(not is_late, f"{book.name}: entry {one.seq} begins {entry.path}, and {won.get(container)} has won")


@dataclass
class _Open:
    """What is open inside containers, and beside them on their behalf."""

    steps: set[StepPath] = field(default_factory=set)

    def hear(self, entry: AnyEntry) -> None:
        """Take in an entry."""
        match entry:
            case StepStarted() | WaitStarted():
                self.steps.add(entry.path)
            case StepFailed() if entry.retry_at is not None:
                pass
            case (
                StepCompleted()
                | StepFailed()
                | StepCancelled()
                | WaitSatisfied()
                | WaitTimedOut()
                | WaitWithdrawn()
                | InputWithdrawn()
            ):
                self.steps.discard(entry.path)
            case _:
                pass


def _check_scopes(book: Book) -> None:
    """Nothing happens in a container before it is opened or after it is closed, and nothing of it stays open then."""
    opened: set[StepPath] = set()
    closed: dict[StepPath, int] = {}
    open_ones = _Open()
    written = book.written
    for index, one in enumerate(written):
        entry = one.entry
        if isinstance(entry, RunResumed) and entry.retry:
            closed.clear()
        if isinstance(entry, ScopeOpened):
            opened.add(entry.path)
        elif isinstance(entry, ScopeClosed):
            closed[entry.path] = one.seq
        open_ones.hear(entry)
        if isinstance(entry, StepStarted | WaitStarted | NodePassed | ScopeOpened):
            for container in containers_of(entry.path):
                what = f"{book.name}: entry {one.seq} begins {entry.path}"
                need(container in opened, f"{what}, and {container} was not opened")
                need(container not in closed, f"{what}, and {container} was closed in {closed.get(container)}")
        if index + 1 == len(written) or written[index + 1].position != one.position:
            _check_closed(book, one, closed, open_ones.steps)


def _check_closed(book: Book, one: Written, closed: Mapping[StepPath, int], open_ones: set[StepPath]) -> None:
    for path in open_ones:
        beside = StepPath(path.scope, path.name.removesuffix(".timeout"), path.occurrence)
        is_left = beside != path and beside in closed
        is_left |= any(container in closed for container in containers_of(path))
        need(not is_left, f"{book.name}: {path} is still open after entry {one.seq}, and what it belongs to is closed")


def containers_of(path: StepPath) -> Iterator[StepPath]:
    """The containers that a step is in; what undoes a node is done when that has ended, and is in none of its own."""
    if any(label.endswith(".compensate") for label, _ in path.scope):
        return
    for depth, (label, _) in enumerate(path.scope):
        id = label.partition(".")[0]
        name, _, occurrence = id.partition("#")
        yield StepPath(path.scope[:depth], name, int(occurrence or 1))


# -- undoing ------------------------------------------------------------------------------------------------------


@dataclass
class _Saga:
    """What was done in one instance of a scope, or of the run, and what has undone it, both in order."""

    done: list[StepPath] = field(default_factory=list)
    undone: list[StepPath] = field(default_factory=list)
    has_failed: bool = False


def _check_undoing(book: Book, shape: _Shape) -> None:
    """A scope that fails, or a run, undoes all that was done in it, the last first, and nothing else; once each.

    Of a run that was retried only that nothing was undone twice, or without having been done.
    """
    sagas: dict[StepPath | None, _Saga] = defaultdict(_Saga)
    is_retried = any(isinstance(one.entry, RunResumed) and one.entry.retry for one in book.written)
    makers = {*shape.undone.values()}
    seen: set[StepPath] = set()
    inputs: dict[StepPath, int] = {}
    outputs: dict[StepPath, int] = {}
    current: dict[StepPath, _Saga] = {}
    for one in book.written:
        entry = one.entry
        where = f"{book.name}: entry {one.seq}"
        match entry:
            case StepStarted() if entry.step == "compensation" and entry.attempt == 1:
                target = _undoes(entry.path)
                inputs[entry.path] = msgspec.json.decode(entry.input)["token"]
                need(target in outputs, f"{where} undoes {target}, which was not done")
                need(inputs[entry.path] == outputs[target], f"{where} undoes {target} with {inputs[entry.path]}")
                need(target not in seen, f"{where} undoes {target} again")
                seen.add(target)
                if not is_retried:
                    saga = next((one for one in sagas.values() if target in one.done), None)
                    need(saga is not None, f"{where} undoes {target}, which is for nobody to undo")
                    assert saga is not None, "just checked"
                    need(saga.done[-1:] == [target], f"{where} undoes {target} and not {saga.done[-1:]}")
                    current[entry.path] = saga
            case StepCompleted() if entry.path in current:
                current[entry.path].done.pop()
            case StepFailed() if entry.path in current and entry.retry_at is None:
                current[entry.path].has_failed = True
            case StepCompleted() if entry.path.name in makers:
                outputs[entry.path] = msgspec.json.decode(entry.output)
                sagas[_scope_of(entry.path, shape)].done.append(entry.path)
            case ScopeClosed() if entry.path.name in shape.scopes and not is_retried:
                saga = sagas.pop(entry.path, _Saga())
                if "out" in entry.ports:
                    around = _scope_of(entry.path, shape)
                    sagas[around].done += saga.done if shape.scopes[entry.path.name] else []
                elif shape.scopes[entry.path.name] and not saga.has_failed:
                    need(not saga.done, f"{where} closes {entry.path}, and {saga.done} is not undone")
            case RunFailed() | RunCancelled() if not is_retried:
                saga = sagas[None]
                stopped = isinstance(entry, RunFailed) and entry.undoing
                need(stopped or not saga.done, f"{where} ends the run, and {saga.done} is not undone")
            case _:
                pass


def _check_retries(book: Book) -> None:
    """A run goes on only if nothing was undone since what is taken back: what was undone would count as done."""
    failed: dict[StepPath, int] = {}
    cancelled = 0
    undone = 0
    for one in book.written:
        match one.entry:
            case StepStarted() if one.entry.step == "compensation":
                undone = one.seq
            case StepFailed() if one.entry.retry_at is None:
                failed[one.entry.path] = one.seq
            case RunCancelRequested():
                cancelled = cancelled or one.seq
            case RunResumed() if one.entry.retry and not one.entry.undoing:
                taken_back = [failed[path] for path in one.entry.retried if path in failed]
                since = min([*taken_back, *([cancelled] if cancelled else [])], default=one.seq)
                what = f"{book.name}: entry {one.seq} goes on from {since}, and entry {undone} has undone something"
                need(undone < since, what)
                cancelled = 0
            case _:
                pass


def _undoes(path: StepPath) -> StepPath:
    """Which step a compensation undoes: the link of its scope says so."""
    label, _ = path.scope[-1]
    name, _, occurrence = label.removesuffix(".compensate").partition("#")
    return StepPath(path.scope[:-1], name, int(occurrence or 1))


def _scope_of(path: StepPath, shape: _Shape) -> StepPath | None:
    """The innermost scope that a step is in; None: the run itself."""
    return next((one for one in reversed([*containers_of(path)]) if one.name in shape.scopes), None)
