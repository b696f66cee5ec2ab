"""One run's program, as its engine sees it: made or rebuilt from the journal, then moved turn by turn."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

import msgspec

from stepwell.authoring.graph import GraphWorkflow
from stepwell.model.commands import Begin, EndCancelled
from stepwell.model.entries import (
    NO_PAYLOAD,
    AnyEntry,
    RunCancelRequested,
    StateSet,
)
from stepwell.model.versions import label_of
from stepwell.programs.matching import Delivery, Records, payload_in
from stepwell.programs.protocol import Note

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner
    from stepwell.graph.definition import Definition
    from stepwell.programs.function import FunctionProgram
    from stepwell.programs.graph.program import GraphProgram

REPLAY_CHUNK = 500
"""Deliveries per callback while a body is rebuilt, so that a long journal does not hold up the loop."""


class Performance:
    """Holds the program of one run, what it is rebuilt from, and what it is still to be told.

    `payloads` are those that stand outside the journal, by content hash. With `must_reload` the program stands where it
    cannot go on: it is not moved any more, and the run is read anew. `patched` is the last definition that a patch has
    brought since then.
    """

    def __init__(self, runner: Runner, records: Records | None, payloads: dict[str, bytes]) -> None:
        self.payloads = payloads
        self.must_reload = False
        self.patched = b""
        self._runner = runner
        self._records = records
        self._program: FunctionProgram | GraphProgram | None = None
        self._replaying: deque[Delivery] | None = None
        self._deliveries: deque[tuple[Delivery, msgspec.Raw]] = deque()

    @property
    def is_there(self) -> bool:
        """Whether there is a program in memory."""
        return self._program is not None

    @property
    def is_rebuilding(self) -> bool:
        """Whether recorded outcomes are still being delivered."""
        return bool(self._replaying)

    @property
    def is_set_aside(self) -> bool:
        """Whether the program stands where it cannot go on."""
        return self._program is not None and self._program.is_set_aside

    @property
    def has_deliveries(self) -> bool:
        """Whether something is still to be told to the program."""
        return bool(self._deliveries)

    @property
    def has_maps(self) -> bool:
        """Whether the body has begun to map."""
        return self._program is not None and bool(self._program.maps)

    @property
    def maps(self) -> dict[str, tuple[int, int, int]]:
        """Per map call of the body: how many items are done, of how many, and how many failed."""
        return {} if self._program is None else dict(self._program.maps)

    def take_notes(self) -> list[Note]:
        """What the body has said since the last call."""
        if self._program is None or not self._program.notes:
            return []
        notes = list(self._program.notes)
        self._program.notes.clear()
        return notes

    # -- making it ----------------------------------------------------------------------------------------------

    def recorded(self, entry: AnyEntry) -> None:
        """While there is no program, what is journaled is part of what it will be made of."""
        if self._records is not None:
            self._records.add(entry)

    def set_up(self) -> bool:
        """Make the program, or go on rebuilding it; False while that takes further callbacks."""
        if self._replaying:
            return self._replay_some()
        state = self._runner.state
        if self._program is not None or state.ended is not None or state.pause is not None or self.must_reload:
            return True
        runner, fresh = self._runner, state.started_at is None
        label = label_of(state.version)
        if label and label != runner.workflow.label and not isinstance(runner.workflow, GraphWorkflow):
            runner.pause("code_change", runner.engine.unserved(state.run_id, state.workflow, state.version))
            return True
        if fresh and state.is_early(runner.now):
            return True
        records, self._records = self._records, None
        self._program = self._made(None if fresh else records)
        if fresh:
            if state.cancel is not None:
                runner.end(EndCancelled(), NO_PAYLOAD)
                return True
            runner.apply(Begin(version=runner.workflow.version))
            self._program.begin(runner.now, state.variables)
            return True
        assert state.started_at is not None, "a run whose body began has its time"
        self._replaying = deque(self._program.recorded.deliveries)
        self._program.begin(state.started_at, self._program.recorded.variables)
        return self._replay_some()

    def _made(self, records: Records | None) -> FunctionProgram | GraphProgram:
        runner, state = self._runner, self._runner.state
        workflow, engine = runner.workflow, runner.engine
        given = self.payload(state.input, state.input_blob)
        if isinstance(workflow, GraphWorkflow):
            from stepwell.programs.graph.program import GraphProgram  # loaded when there is a graph

            return GraphProgram.of_run(workflow, state, given, around=engine.graphs, records=records)
        from stepwell.programs.function import FunctionProgram  # and this when there is a function

        return FunctionProgram(
            workflow,
            runner.identity,
            given,
            clock=engine.now,
            chance=engine.chance,
            threads=engine.bodies,
            records=records,
            on_change=state.on_change,
            strict=engine.strict,
        )

    def _replay_some(self) -> bool:
        program = self._program
        assert program is not None, "only a program is replayed"
        for _ in range(REPLAY_CHUNK):
            if not self._replaying or program.divergence is not None or program.ended:
                self._replaying = None
                self._let_payloads_go()
                program.go_live()
                return True
            delivery = self._replaying.popleft()
            program.deliver(delivery, self.payload(*payload_in(delivery)))
        self._runner.wake()
        return False

    def _let_payloads_go(self) -> None:
        """Keep only the inputs that steps still to come were given from outside."""
        if not self.payloads:
            return
        edited = {edit.input_blob for edit in self._runner.state.edits.values()}
        self.payloads = {digest: data for digest, data in self.payloads.items() if digest in edited}

    def payload(self, inline: msgspec.Raw, blob: str) -> msgspec.Raw:
        """A payload wherever its entry keeps it."""
        return msgspec.Raw(self.payloads[blob]) if blob else inline

    # -- moving it ----------------------------------------------------------------------------------------------

    def deliver_later(self, delivery: Delivery, payload: msgspec.Raw) -> None:
        """The program hears of it in a turn of its own; one that is still to be made hears of it in its turn."""
        if self._program is None and self._records is not None:
            return
        self._deliveries.append((delivery, payload))

    def hear_of_cancel(self, requested: RunCancelRequested) -> None:
        """The run is to end; a program that is not there yet hears of it when it is rebuilt."""
        if self._program is not None:
            self._program.deadlock = ""
            self.deliver_later(requested, NO_PAYLOAD)

    def hear_of_edit(self, edit: StateSet) -> None:
        """A key of `ctx.state` was set from outside; a program that is not there yet hears of it when it is rebuilt."""
        if self._program is not None:
            self.deliver_later(edit, NO_PAYLOAD)

    @property
    def definition(self) -> Definition:
        """What a run of a graph goes on under, patched as it is."""
        runner = self._runner
        assert isinstance(runner.workflow, GraphWorkflow), "only graphs have definitions"
        data = self.patched
        if not data and runner.state.has_patch:
            graph = self._graph
            if graph is not None and not self.is_rebuilding:
                return graph.plan.definition
            data = bytes(self.payload(runner.state.patch, runner.state.patch_blob))
        plan = runner.workflow.plan
        return runner.engine.graphs.patched(plan, data).definition if data else plan.definition

    def cannot_patch(self, definition: bytes) -> str:
        """Why the program cannot go on under a changed definition; "" when it can, or is still to be made."""
        if self._program is None:
            return ""
        graph = self._graph
        return "it is no graph" if graph is None else graph.cannot_patch(definition)

    def lacks_for(self, definition: bytes) -> bool:
        """Whether the program must be made anew to go on under a changed definition."""
        graph = self._graph
        return graph is not None and graph.lacks_for(definition)

    @property
    def _graph(self) -> GraphProgram | None:
        """The program, if it is there and a graph."""
        is_graph = isinstance(self._runner.workflow, GraphWorkflow)
        return cast("GraphProgram", self._program) if is_graph and self._program is not None else None

    def advance(self) -> None:
        """Let the program move until it waits, one delivery a turn."""
        program, state = self._program, self._runner.state
        if program is None or state.pause is not None or self.must_reload:
            return
        self._serve(program)
        while self._deliveries and state.ended is None and state.pause is None:
            delivery, payload = self._deliveries.popleft()
            program.deliver(delivery, payload)
            self._serve(program)

    def _serve(self, program: FunctionProgram | GraphProgram) -> None:
        runner = self._runner
        if program.divergence is not None:
            runner.pause("code_change", program.divergence.explain())
            return
        while runner.state.ended is None and (requests := program.take_requests()):
            runner.serve(requests)
        if program.deadlock and runner.state.ended is None and not self._deliveries:
            runner.pause("deadlock", program.deadlock)

    def close(self) -> None:
        """Drop the program without any effect outside."""
        if self._program is not None:
            self._program.close()
            self._program = None
