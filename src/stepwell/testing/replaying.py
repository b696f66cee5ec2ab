"""Does each finished journal replay, from its end and from any commit before it, to the same requests and result?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from random import Random
from typing import Any, TypeAlias

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.graph import GraphWorkflow
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.engine.graphs import Compiling
from stepwell.model.commands import CompleteRun, EndCancelled, FailRun, RecordFact
from stepwell.model.entries import (
    AnyEntry,
    DefinitionPatched,
    GraphFact,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunResumed,
    kind_of,
)
from stepwell.model.state import State, replay
from stepwell.nodes.registry import NodeTypes
from stepwell.programs.function import FunctionProgram
from stepwell.programs.graph.program import GraphProgram
from stepwell.programs.matching import Delivery, Records, payload_in
from stepwell.programs.protocol import Request
from stepwell.testing.drawing import Plan
from stepwell.testing.invariants import Book, Violation, books_of
from stepwell.testing.scenes import has_change, registered
from stepwell.testing.scripts import bulky_child, echo, kid, play
from stepwell.testing.world import GRAPH_TASKS, World

PREFIXES = 3
"""How many prefixes of each journal are tried besides the whole."""

_WORKFLOWS = {workflow.name: workflow for workflow in (play, kid, echo, bulky_child)}

_TASKS: dict[str, Task[..., Any]] = {task.name: task for task in GRAPH_TASKS}  # Any: whatever they return

_TYPES = NodeTypes.standard()

Program: TypeAlias = FunctionProgram | GraphProgram


class _Around(Compiling):
    """What graphs need of a process: the simulated tasks, and the workflows that are deployed."""

    def __init__(self, world: World) -> None:
        super().__init__(_TYPES)
        self._definitions = world.disk.content.definitions
        self._graphs: dict[str, GraphWorkflow] = {}

    def task(self, name: str) -> Task[..., Any] | None:  # Any: whatever it returns
        """As `Surroundings` says."""
        return _TASKS.get(name)

    def workflow(self, name: str, version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """As `Surroundings` says; of each graph there is one version."""
        return _WORKFLOWS.get(name) or self.graph(name)

    def graph(self, name: str) -> GraphWorkflow:
        """The graph of this name."""
        if name not in self._graphs:
            (row,) = (row for (of, _), row in self._definitions.items() if of == name)
            self._graphs[name] = GraphWorkflow(self.compiled(msgspec.json.decode(row.body)))
        return self._graphs[name]


def check_replays(world: World, plan: Plan) -> dict[str, list[int]]:
    """Replay every run's journal, and some of its prefixes at commits; per run what it said how to undo, in order.

    Raises:
        Violation: a replay diverged, asked for something new, or came to another end.
    """
    chance = Random(f"replay {plan.seed}")
    calls: dict[str, list[int]] = {}
    around = _Around(world)
    for book in books_of(world):
        entries = [one.entry for one in book.written]
        if replay(entries).started_at is None:
            continue
        calls[book.row.run_id] = _replay(around, world, book, entries, len(entries))
        first = (
            max((n for n, entry in enumerate(entries) if isinstance(entry, RunResumed) and entry.retry), default=1) + 1
        )
        cuts = [
            n
            for n in range(first, len(entries))
            if book.written[n].position != book.written[n - 1].position and replay(entries[:n]).started_at is not None
        ]
        for cut in chance.sample(cuts, min(PREFIXES, len(cuts))):
            _replay(around, world, book, entries, cut)
    return calls


def _replay(around: _Around, world: World, book: Book, entries: list[AnyEntry], cut: int) -> list[int]:
    """Rebuild the body from the first `cut` entries, then let the others happen to it; what it said how to undo."""
    state = replay(entries)
    program = _program(around, world, state, Records(entries[:cut]))
    whole = Records(entries)
    calls: list[int] = []
    # A run that went by a change before it was there is replayed with the code of that time.
    changes = {path.name.removeprefix("patch:") for path, value in whole.values.items() if value.value == "patch"}
    context = copy_context()
    context.run(has_change.set, changes.__contains__)
    context.run(registered.set, calls)
    for path, value in whole.values.items():  # what a value was is chance: give it the chance that it had
        program.recorded.values.setdefault(path, value)
    what = f"{book.name}: replay from entry {cut} of {len(entries)}"
    try:
        assert state.started_at is not None, "only begun runs are replayed"
        context.run(program.begin, state.started_at, program.recorded.variables)
        delivered = len(program.recorded.deliveries)
        for delivery in program.recorded.deliveries:
            if program.ended:
                break
            program.deliver(delivery, _payload(world, delivery))
        if not program.ended:
            program.go_live()
        _need_same_course(program, what)
        if program.ended and cut < len(entries) and not _is_behind(book, entries, cut):
            raise Violation(f"{what} ends although the run had not")
        for delivery in whole.deliveries[delivered:]:
            if program.ended:
                break
            program.deliver(delivery, _payload(world, delivery))
            _need_same_course(program, what)
        requests = program.take_requests()
        _check_end(what, entries[-1], requests, program.ended)
        _check_facts(what, entries, cut, requests)
    finally:
        context.run(program.close)
    return calls


def _is_behind(book: Book, entries: list[AnyEntry], cut: int) -> bool:
    """Whether the journal may know of outcomes that the body had not heard of at this point.

    It does while the run is paused, and when it was given up: what had ended by then was still journaled.
    """
    return replay(entries[:cut]).pause is not None or book.written[cut - 1].epoch != book.written[cut].epoch


def _program(around: _Around, world: World, state: State, records: Records) -> Program:
    given = msgspec.Raw(world.disk.content.blobs[state.input_blob]) if state.input_blob else state.input
    if state.workflow not in _WORKFLOWS:
        return GraphProgram.of_run(around.graph(state.workflow), state, given, around=around, records=records)
    return FunctionProgram(
        _WORKFLOWS[state.workflow],
        Identity(state.run_id, state.workflow, state.parent, state.root),
        given,
        clock=lambda: 0,
        chance=Random(0),
        threads=ThreadPoolExecutor(1),  # no body here is synchronous: it never starts a thread
        records=records,
        on_change=state.on_change,
    )


def _need_same_course(program: Program, what: str) -> None:
    if program.divergence is not None:
        raise Violation(f"{what} diverges: {program.divergence.explain()}")
    if program.deadlock:
        raise Violation(f"{what} stands still: {program.deadlock}")


def _payload(world: World, delivery: Delivery) -> msgspec.Raw:
    payload, blob = payload_in(delivery)
    return msgspec.Raw(world.disk.content.blobs[blob]) if blob else payload


def _check_facts(what: str, entries: list[AnyEntry], cut: int, requests: list[Request]) -> None:
    """A graph that is rebuilt tells what the journal does not know yet, and nothing else."""
    if not isinstance(entries[-1], RunCompleted) or any(isinstance(one, RunResumed) and one.retry for one in entries):
        return
    told = [_fact(one.fact) for one in requests if isinstance(one, RecordFact)]
    known = [_fact(one) for one in entries[cut:] if isinstance(one, GraphFact)]
    if sorted(told) != sorted(known):
        raise Violation(f"{what} tells {told}, and the journal {known}")


def _fact(fact: GraphFact) -> tuple[str, str]:
    return kind_of(fact), str(fact.path) if not isinstance(fact, DefinitionPatched) else ""


def _check_end(what: str, last: AnyEntry, requests: list[Request], ended: bool) -> None:
    end = requests[-1] if requests else None
    match last:
        case RunCompleted() if last.output_blob:
            same = isinstance(end, CompleteRun)
        case RunCompleted():
            same = isinstance(end, CompleteRun) and bytes(end.output) == bytes(last.output)
        case RunFailed() if last.error.type.endswith("DeadlinePassed") and not last.steps:
            same = isinstance(end, EndCancelled) or not ended
        case RunFailed():
            same = isinstance(end, FailRun) and end.error.message == last.error.message and end.steps == last.steps
        case RunCancelled():
            same = isinstance(end, EndCancelled) or not ended
        case _:
            same = False
    if not same:
        raise Violation(f"{what} ends with {end}, and the run with {last}")
