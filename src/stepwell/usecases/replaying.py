"""Would today's code take a stored run the same way? Its body is run with what was recorded, and nothing happens.

No engine, no attempt, no write: calls of the body meet their records or are noted. What is found:

* a call that differs from its record, a result that cannot be read, a failure where the run had none: *diverged*;
* calls that the journal does not know: new ones, which an engine would run. Where their outcome is no secret (a task
  that returns None, a timer) the body goes on with it; where it is one, what comes after is not looked at;
* records that no call took: orphans, which an engine would leave.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.graph import GraphWorkflow
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import AsyncTask, Task, TaskOptions
from stepwell.authoring.workflow import AsyncWorkflow, Workflow
from stepwell.engine.graphs import Compiling
from stepwell.engine.reading import read_run
from stepwell.errors import StepwellError
from stepwell.model.commands import CompleteRun, EndCancelled, FailRun, RecordValue, SetState, StartWait
from stepwell.model.entries import NULL, StepCompleted, WaitSatisfied
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import Status
from stepwell.model.state import State
from stepwell.nodes.registry import NodeTypes
from stepwell.programs.function import FunctionProgram
from stepwell.programs.matching import Delivery, Records, payload_in
from stepwell.programs.protocol import ChildRequest, PublishEvent, Request, SendSignal, StepRequest
from stepwell.stores.protocol import RunRow, Store

if TYPE_CHECKING:
    from stepwell.programs.graph.program import GraphProgram, Surroundings

T = TypeVar("T")

Outcome: TypeAlias = Literal["ok", "diverged", "cannot_load"]

AT_ONCE = 200
"""Deliveries per callback, so that an engine on the same loop goes on meanwhile."""

STAND_INS = 1000
"""Outcomes of new calls that a replay makes up at most."""


class Replayed(msgspec.Struct, frozen=True):
    """What a replay of one run has found.

    `detail` says for people why it diverged or cannot be loaded. For a call that differs, `step` is its readable path,
    `recorded` and `called` are both inputs as JSON, and `place` is its file and line. `new_calls` and `orphans` are
    readable paths. `note` says what else is worth knowing, such as that the run would end with another result.
    """

    run_id: str
    workflow: str
    version: str
    status: Status
    outcome: Outcome = "ok"
    detail: str = ""
    step: str = ""
    recorded: str = ""
    called: str = ""
    place: str = ""
    new_calls: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    note: str = ""


async def replay_run(
    store: Store,
    row: RunRow,
    find: Callable[[str], Workflow[..., Any] | None],  # Any: whatever it returns
    around: Surroundings | None = None,
) -> Replayed:
    """Replay the run of a row; `find` gives the code for its version. `around` is what a graph finds in its process.

    Raises:
        RunNotFound, CorruptJournal, StoreError: the journal cannot be read.
    """
    state, records = await read_run(store, row.run_id)
    found = Replayed(row.run_id, row.workflow, state.version, state.status)
    workflow = find(state.version)
    if workflow is None:
        version = f" version {state.version}" if state.version else ""
        text = f"no code is known here for workflow {row.workflow!r}{version}"
        return msgspec.structs.replace(found, outcome="cannot_load", detail=text)
    input = msgspec.Raw(await store.blob(state.input_blob)) if state.input_blob else state.input
    if state.started_at is None:
        return _unbegun(found, workflow, input)
    threads = ThreadPoolExecutor(1, thread_name_prefix="stepwell-replay")  # it has none before a body needs one
    replay = Replay(workflow, state, records, input, threads, around)
    try:
        await replay.run(store)
        return replay.report(found)
    finally:
        await _on_loop(replay.program.close)
        threads.shutdown(wait=False)


def _unbegun(found: Replayed, workflow: Workflow[..., Any], input: msgspec.Raw) -> Replayed:
    try:
        workflow.codec.decode(input)
    except StepwellError as error:
        return msgspec.structs.replace(found, outcome="diverged", detail=f"the run cannot begin any more: {error}")
    return found


class Replay:
    """One body on its way through its journal."""

    def __init__(
        self,
        workflow: Workflow[..., Any],  # Any: whatever it returns
        state: State,
        records: Records,
        input: msgspec.Raw,
        threads: ThreadPoolExecutor,
        around: Surroundings | None,
    ) -> None:
        self.program = _program(workflow, state, records, input, threads, around)
        self._state = state
        self._records = records
        self._asked: list[tuple[int, StepPath]] = []
        self._plain: deque[Delivery] = deque()
        self._end: CompleteRun | FailRun | EndCancelled | None = None
        self._turn = 0
        self._last_known = 0
        self._last_taken = 0

    async def run(self, store: Store) -> None:
        """Deliver all that was recorded; a payload is in memory while it is delivered."""
        await _on_loop(self._begin)
        deliveries = tuple(self._records.deliveries)
        chunk: list[tuple[Delivery, msgspec.Raw]] = []
        for delivery in deliveries:
            payload, blob = payload_in(delivery)
            chunk.append((delivery, msgspec.Raw(await store.blob(blob)) if blob else payload))
            if blob or len(chunk) >= AT_ONCE:
                await _on_loop(lambda: self._deliver(chunk))
                chunk.clear()
        await _on_loop(lambda: self._deliver(chunk))
        if not self.program.ended and self.program.divergence is None:
            await _on_loop(self.program.go_live)
            await _on_loop(self._go_on)

    def _begin(self) -> None:
        assert self._state.started_at is not None, "only a run that has begun is replayed"
        self.program.begin(self._state.started_at, self._records.variables)
        self._look()

    def _deliver(self, chunk: Sequence[tuple[Delivery, msgspec.Raw]]) -> None:
        for delivery, payload in chunk:
            if self.program.ended or self.program.divergence is not None:
                return
            self.program.deliver(delivery, payload)
            self._look()

    def _go_on(self) -> None:
        """What is recorded beyond new calls is looked at too, as far as their outcome is no secret."""
        for _ in range(STAND_INS):
            if not self._plain or self.program.ended or self.program.divergence is not None:
                return
            if not self.program.orphans():
                return
            self.program.deliver(self._plain.popleft(), NULL)
            self._look()

    def _look(self) -> None:
        """Note what the turn has asked for that the journal does not know."""
        self._turn += 1
        if self._records.taken > self._last_taken:
            self._last_taken, self._last_known = self._records.taken, self._turn
        for request in self.program.take_requests():
            if isinstance(request, CompleteRun | FailRun | EndCancelled):
                self._end = request
            elif (path := self._unknown(request)) is not None:
                self._asked.append((self._turn, path))
                if (outcome := _plain_outcome(request, self._state.updated_at)) is not None:
                    self._plain.append(outcome)

    def _unknown(self, request: Request) -> StepPath | None:
        match request:
            case StepRequest() | StartWait():
                return None if request.path in self._records.by_path else request.path
            case ChildRequest():
                return None if request.awaited and request.path in self._records.by_path else request.path
            case RecordValue() | PublishEvent() | SetState() | SendSignal():
                return request.path
            case _:
                return None

    # -- what it means ------------------------------------------------------------------------------------------

    def report(self, found: Replayed) -> Replayed:
        """What was found, filled in."""
        program, state = self.program, self._state
        difference = program.divergence
        left = () if difference is not None else tuple(map(str, program.orphans()))
        is_held_up = bool(left) and self._end is None and bool(self._asked)
        # A call of the last turns may only have had no time, or no slot, to be journaled.
        is_whole = state.ended == "completed" or is_held_up or difference is not None
        new = tuple(dict.fromkeys(str(path) for turn, path in self._asked if is_whole or turn < self._last_known))
        found = msgspec.structs.replace(found, new_calls=new, orphans=left)
        if difference is not None:
            return msgspec.structs.replace(
                found,
                outcome="diverged",
                detail=difference.explain(),
                step=str(difference.path),
                recorded=difference.recorded.decode("utf-8", "replace"),
                called=difference.called.decode("utf-8", "replace"),
                place=difference.place,
            )
        if is_held_up or (new and self._end is None):
            return msgspec.structs.replace(found, note="what comes after the new calls was not looked at")
        problem, note = self._compare_ends()
        if problem:
            return msgspec.structs.replace(found, outcome="diverged", detail=problem)
        return msgspec.structs.replace(found, note=note)

    def _compare_ends(self) -> tuple[str, str]:
        """What speaks against today's code at the end of the journal, and what is only worth knowing."""
        state, end = self._state, self._end
        if isinstance(end, FailRun) and state.ended != "failed" and not end.steps:
            when = "the run completed" if state.ended == "completed" else "the run had not ended"
            return f"{when}, and today's code fails there: {end.error.summary()}", ""
        match state.ended:
            case "completed" if isinstance(end, CompleteRun):
                is_same = state.output_blob or bytes(end.output) == bytes(state.output)
                return "", "" if is_same else "today's code gives another result"
            case "completed" if isinstance(end, FailRun):
                return f"the run completed, and today's code fails: {end.error.summary()}", ""
            case "completed":
                why = self.program.deadlock or "it waits for what the journal does not have"
                return f"the run completed, and today's code does not come to its end: {why}", ""
            case "failed" if isinstance(end, FailRun) and state.error is not None:
                is_same = end.error.message == state.error.message
                return "", "" if is_same else f"today's code fails otherwise: {end.error.summary()}"
            case "failed":
                return "", "the run failed, and today's code does not fail there"
            case None if isinstance(end, CompleteRun):
                return "", "today's code would complete the run now"
            case None if self.program.deadlock and state.status != "stuck":
                return self.program.deadlock, ""
            case _:
                return "", ""


class Around(Compiling):
    """What a graph that is replayed finds around it: tasks that are not known here are stood in for."""

    def __init__(self, tasks: Registry, types: NodeTypes, workflows: Sequence[Workflow[..., Any]]) -> None:
        super().__init__(types)
        self._tasks = tasks
        self._workflows = {one.name: one for one in workflows}

    def task(self, name: str) -> Task[..., Any]:  # Any: whatever it returns
        """The task, or one of its name."""
        return self._tasks.get(name) or AsyncTask(_stand_in, name, TaskOptions())

    def workflow(self, name: str, version: str) -> Workflow[..., Any]:  # Any: whatever it returns
        """The workflow, or one of its name."""
        return self._workflows.get(name) or AsyncWorkflow(_stand_in, name, "", None)


async def _stand_in(**_: object) -> None:
    """Nobody calls it: a replay makes no attempts."""


def _program(
    workflow: Workflow[..., Any],  # Any: whatever it returns
    state: State,
    records: Records,
    input: msgspec.Raw,
    threads: ThreadPoolExecutor,
    around: Surroundings | None,
) -> FunctionProgram | GraphProgram:
    if isinstance(workflow, GraphWorkflow):
        from stepwell.programs.graph.program import GraphProgram

        assert around is not None, "graphs are replayed where there is a registry"
        return GraphProgram.of_run(workflow, state, input, around=around, records=records)
    return FunctionProgram(
        workflow,
        Identity(state.run_id, state.workflow, state.parent, state.root),
        input,
        clock=lambda: state.updated_at,
        chance=Random(0),
        threads=threads,
        records=records,
        on_change=state.on_change,
    )


def _plain_outcome(request: Request, now: int) -> Delivery | None:
    """How a new call ends, where that is no secret."""
    match request:
        case StepRequest() if _returns_nothing(request.task.function):
            return StepCompleted(at=now, path=request.path, output=NULL)
        case ChildRequest() if request.awaited and _returns_nothing(request.workflow.function):
            return StepCompleted(at=now, path=request.path, output=NULL)
        case StartWait() if request.wait == "timer":
            return WaitSatisfied(at=max(now, request.due or now), path=request.path)
        case _:
            return None


def _returns_nothing(function: Callable[..., object]) -> bool:
    return getattr(function, "__annotations__", {}).get("return", "") in (None, "None", type(None))


async def _on_loop(work: Callable[[], T]) -> T:
    """Do it in a plain callback of the loop, where a body's turns may be run."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)

    loop.call_soon(call, context=contextvars.Context())
    return await done
