"""A graph in execution: the plan's bodies as frames, its past as records, its wishes as requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, cast

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.graph import UNTIL, GraphWorkflow
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import ControlFlow, GraphError, StepwellError
from stepwell.graph.plan import Plan, PlanEdge, PlanNode
from stepwell.model.commands import CompleteRun, EndCancelled, FailRun, RecordFact, RecordValue, SetState
from stepwell.model.entries import (
    NO_PAYLOAD,
    DefinitionPatched,
    GraphFact,
    OnChange,
    RunCancelRequested,
    StateSet,
)
from stepwell.model.failures import failure_of
from stepwell.model.ids import StepPath
from stepwell.model.state import State
from stepwell.programs.asks import Asks
from stepwell.programs.exceptions import failed_paths
from stepwell.programs.graph import growing, kinds
from stepwell.programs.graph.containers.loop import Loop
from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.extras import Extras
from stepwell.programs.graph.firing import Firing
from stepwell.programs.graph.frame import Frame
from stepwell.programs.graph.globals import Globals
from stepwell.programs.graph.locks import Locks
from stepwell.programs.graph.undoing import Saga, Undoing, Undone
from stepwell.programs.graph.values import encoded
from stepwell.programs.matching import NO_RECORDS, Delivery, Records
from stepwell.programs.protocol import Divergence, Note, Request, StepExtras

NO_VARIABLES: Mapping[str, msgspec.Raw] = MappingProxyType({})
STEPS_PER_TURN = 5_000_000
"""A turn of more moves than this is taken for a graph that never waits."""

Heard: TypeAlias = Callable[[object, BaseException | None], None]
Move: TypeAlias = Firing | tuple[Frame, PlanEdge, bool] | Callable[[], None]


class Surroundings(Protocol):
    """What a graph's program needs of the process that it runs in."""

    def task(self, name: str) -> Task[..., Any] | None:  # Any: whatever it returns
        """The registered task of this name."""

    def workflow(self, name: str, version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """The workflow of this name; `version` is a label, a digest, or empty for the one that new runs get."""

    def environ(self, name: str) -> str | None:
        """An environment variable."""

    def patched(self, plan: Plan, definition: bytes) -> Plan:
        """The plan of a definition that this run alone has."""

    def expansion(self, plan: Plan, around: Sequence[str], nodes: Any, edges: Any, result: Any) -> Any:  # Any: JSON
        """The compiled body of a sub-graph that was decided while the run is under way."""


class GraphProgram:
    """A `programs.protocol.Program` that is a compiled graph.

    Args:
        plan: what is run.
        identity: who the run is.
        input: the run's input, as the journal has it: one JSON object.
        around: the process's tasks, workflows and environment.
        tasks: those that the graph brings along; they go before the process's own.
        records: what the journal knows; None for a fresh run.
        on_change: overrides the tasks' own policy for this rebuild.
        journals: False when nobody keeps a journal: facts are not even made.
        until: the id of a node of the plan; the run ends when it has completed, and runs only what leads to it.
        event: the envelope of the event that started the run, if one did.
    """

    def __init__(
        self,
        plan: Plan,
        identity: Identity,
        input: msgspec.Raw,
        *,
        around: Surroundings,
        tasks: Registry | None = None,
        records: Records | None = None,
        on_change: OnChange | None = None,
        until: str = "",
        event: msgspec.Raw = NO_PAYLOAD,
        journals: bool = True,
    ) -> None:
        self.deadlock = ""
        self.ended = False
        self.recorded = NO_RECORDS if records is None else records
        self.is_to_be_patched = any(isinstance(one, DefinitionPatched) for one in self.recorded.deliveries)
        self.plan = plan
        self.identity = identity
        self.now = 0
        self.queue: deque[Move] = deque()
        self.locks = Locks()
        self.notes: list[Note] = []
        self.maps: dict[str, tuple[int, int, int]] = {}
        self.around = around
        self._tasks = tasks
        self.asks = Asks(self.recorded, on_change, self, exact=True)
        self.asks.live = records is None
        self._input = input
        self._until = until
        self._event = event
        self.journals = journals
        self._variables: dict[str, object] = {}
        self.globals = Globals({}, self._variables, {}, (), identity, clock=self._time)
        self._extras = Extras(plan, identity, around)
        self._root: Frame | None = None
        self._ending: tuple[object, BaseException | None] | None = None
        self._is_cancelled = False
        self.undone = Undone()
        self._lost: list[BaseException] = []
        self._failures: list[BaseException] = []
        self._has_responded = False

    @classmethod
    def of_run(
        cls, graph: GraphWorkflow, state: State, given: msgspec.Raw, *, around: Surroundings, records: Records | None
    ) -> GraphProgram:
        """The program of a run as it stands; `given` is its input, wherever the journal keeps that."""
        return cls(
            graph.plan,
            Identity(state.run_id, state.workflow, state.parent, state.root),
            given,
            around=around,
            tasks=graph.tasks,
            records=records,
            on_change=state.on_change,
            until=state.labels.get(UNTIL, ""),
            event=state.event,
        )

    # -- what the engine asks -----------------------------------------------------------------------------------

    @property
    def divergence(self) -> Divergence | None:
        """Set when a recorded step is called with another input."""
        return self.asks.divergence

    @property
    def is_set_aside(self) -> bool:
        """Whether it stands where it cannot go on."""
        return self.divergence is not None or bool(self.deadlock)

    def take_requests(self) -> list[Request]:
        """What the graph has asked for since the last call."""
        if not self.asks.requests:
            return []
        requests, self.asks.requests = self.asks.requests, []
        return requests

    def begin(self, at: int, variables: Mapping[str, msgspec.Raw] = NO_VARIABLES) -> None:
        """Run the first turn."""
        self.now = at
        try:
            given = msgspec.json.decode(self._input) if bytes(self._input) else {}
            env = self._environment()
            if self.identity.parent is not None:  # of others it was checked when they were started
                self._extras.check_input(given)
            event = msgspec.json.decode(self._event) if bytes(self._event) else None
            secrets = self.plan.definition.secrets
            self.globals = Globals(given, self._variables, env, secrets, self.identity, event, clock=self._time)
            for name, first in self.plan.vars.items():
                self._set(StepPath((), f"var.{name}", 1), name, first.render(self.globals))
            for name, payload in variables.items():
                self._variables[name] = msgspec.json.decode(payload)
            body = self.plan.body if not self._until else self._extras.until(self._until)
            self._root = Frame(self, body, (), {}, None, self, Saga(None))
            self._root.begin()
        except StepwellError as error:
            self._fail(error)
            return
        self._turn()

    def _environment(self) -> dict[str, str]:
        """The declared variables as they were when the run began; those that were not set then, as they are now.

        Were they read anew by each body, a variable that another deployment changes would change the past.
        """
        known: dict[str, str] = {}
        if not self.plan.definition.env:
            return known
        path = StepPath((), "env", 1)
        while (recorded := self.recorded.value(path)) is not None:
            known |= msgspec.json.decode(recorded.payload)
            path = StepPath((), "env", cast("int", path.occurrence) + 1)
        missing = (name for name in self.plan.definition.env if name not in known)
        new = {name: value for name in missing if (value := self.around.environ(name)) is not None}
        if new:
            self.ask(RecordValue(path=path, value="env", payload=encoded(new, path)))
        return known | new

    def _time(self) -> int:
        return self.now

    def deliver(self, delivery: Delivery, payload: msgspec.Raw) -> None:
        """Run the turn in which this outcome reaches the graph."""
        self.asks.to_come -= 1
        self.now = max(self.now, delivery.at)
        if isinstance(delivery, RunCancelRequested):
            self._is_cancelled = True
            self.undone.heard_of_cancel()
            if self._root is not None and self._ending is None:
                self._root.cancel()
        elif isinstance(delivery, StateSet):
            self._edit(delivery)
            return
        elif isinstance(delivery, DefinitionPatched):
            self._patch(payload)
        elif not self.asks.deliver(delivery, payload):
            return
        self._turn()

    def go_live(self) -> None:
        """What nothing has taken by now is an orphan."""
        self.asks.go_live()
        self.recorded.settle()
        self._find_deadlock()

    def close(self) -> None:
        """Take the graph out of memory."""
        self.asks.close()
        self.queue.clear()
        self.notes.clear()
        self._root = None

    def orphans(self) -> list[StepPath]:
        """Recorded steps that the graph has not asked for."""
        return self.recorded.orphans()

    def fire(self, timer: asyncio.TimerHandle) -> None:
        """Graphs set no timers of a loop."""
        raise NotImplementedError

    # -- turns --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        try:
            self._move()
            while self.asks.has_late and not self.ended and not self.is_set_aside and self.asks.deliver_late():
                self._move()
        except ControlFlow:  # it has diverged
            self.queue.clear()
            return
        if self.asks.live:
            self._find_deadlock()

    def _move(self) -> None:
        moves = 0
        queue = self.queue
        while queue and not self.deadlock:
            moves += 1
            if moves > STEPS_PER_TURN:
                queue.clear()
                self._fail(GraphError(f"the graph made {STEPS_PER_TURN:,} moves without waiting for anything"))
                return
            move = queue.popleft()
            if isinstance(move, tuple):
                frame, edge, live = move
                frame.arrive(edge, live)
            elif isinstance(move, Firing):
                move.begin()
            else:
                move()

    def later(self, move: Callable[[], None]) -> None:
        """Do something when all that came before it is done, still in this turn."""
        self.queue.append(move)

    def _find_deadlock(self) -> None:
        if not self.asks.hears_nothing or self.ended or self.is_set_aside or self.asks.closed:
            return
        locks = self.locks.explain()
        self.deadlock = (
            f"nothing can move this run any more: {locks}; change the definition so that locks are taken in one order, "
            "and upgrade the run, or cancel it"
            if locks
            else "nothing can move this run any more, and it has not ended: this is a fault of the engine; its journal "
            "is kept"
        )

    def lacks(self, text: str) -> None:
        """The graph cannot go on in this process: the run is set aside until somebody resumes it."""
        self.deadlock = text
        self.queue.clear()

    # -- the end ------------------------------------------------------------------------------------------------

    def frame_ended(self, frame: Frame, output: object, error: BaseException | None) -> None:
        """The run's own body has ended."""
        self._ending = (output, error)
        is_over_badly = error is not None or (self._is_cancelled and frame.ending == "cancelling")
        if is_over_badly and frame.saga.calls and not self._failures:
            Undoing(self, frame.saga, self._undone).begin()
        else:
            self._conclude()

    def node_ended(self, frame: Frame, node: PlanNode) -> None:
        """A node of the run's own body has completed."""
        if self._until == node.id:
            frame.finish((frame.outputs.get(node.id),))

    def _undone(self, failures: list[BaseException]) -> None:
        self._failures += failures
        self._conclude()

    def broken(self, failures: list[BaseException]) -> None:
        """What was to undo a scope has failed for good: that ends the run, whatever it comes to."""
        self._failures += failures

    def lost(self, error: BaseException) -> None:
        """A node has failed while its body was ending: a retry of the run is to try it again as well."""
        self._lost.append(error)

    def _conclude(self) -> None:
        assert self._ending is not None, "the body has ended"
        output, error = self._ending
        if self._failures:
            self.ended = True
            steps = _paths(self._failures)
            self.asks.requests.append(FailRun(error=failure_of(self._failures[0]), steps=steps, undoing=True))
        elif error is not None:
            self._fail(error)
        elif self._is_cancelled and self._root is not None and self._root.ending == "cancelling":
            self.ended = True
            self.asks.requests.append(EndCancelled(undone=self.undone.is_since_cancel))
        else:
            try:
                data = encoded(output, StepPath((), "result", 1))
                self._extras.check_result(output)
            except Exception as refused:
                self._fail(refused)
                return
            self.ended = True
            self.asks.requests.append(CompleteRun(output=data))

    def _fail(self, error: BaseException) -> None:
        self.ended = True
        errors = [error, *self._lost]
        undone = self.undone.is_since(errors)
        self.asks.requests.append(FailRun(error=failure_of(error), steps=_paths(errors), undone=undone))

    def end_run(self, response: tuple[object] | None) -> None:
        """End the run, well."""
        assert self._root is not None, "somebody in it asks"
        if response is None:
            self._root.response = None
        self._root.finish(response)

    def end_loop(self, frame: Frame | None) -> None:
        """End the innermost loop around a frame."""
        while frame is not None and isinstance(frame.owner, Container):
            if isinstance(frame.owner, Loop):
                frame.owner.end_here()
                return
            frame = frame.owner.firing.frame

    # -- what nodes ask -----------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Ask the engine for something whose outcome nobody waits for."""
        self.asks.check_open()
        self.asks.requests.append(request)

    def perform(self, firing: Firing) -> None:
        """Do a node's work."""
        kinds.perform(firing)

    def record(self, fact: GraphFact) -> None:
        """Journal a fact, unless the journal has it."""
        if self.journals and not self.recorded.has_fact(fact):
            self.ask(RecordFact(fact))

    def say(self, note: Note) -> None:
        """Tell readers something that is no fact; silent during a rebuild."""
        if self.asks.live and not self.asks.closed:
            self.notes.append(note)

    def timer(self, firing: Firing, path: StepPath, length: int, then: Heard) -> None:
        """Call back when so many microseconds have passed."""
        kinds.wait(firing, path, "timer", "", self.now + length, NO_PAYLOAD, then, None)

    def await_signal(self, firing: Firing, path: StepPath, name: str, then: Heard) -> None:
        """Call back when a signal of this name has come."""
        kinds.wait(firing, path, "signal", name, None, NO_PAYLOAD, then)

    def await_event(self, firing: Firing, path: StepPath, topic: str, then: Heard) -> None:
        """Call back when an event on this topic has come."""
        kinds.wait(firing, path, "event", topic, None, kinds.event_spec(None, 0), then, kinds.EVENT)

    def respond(self, path: StepPath, value: object) -> None:
        """Answer the caller; the first answer counts."""
        if self._has_responded:
            return
        self._has_responded = True
        if self.recorded.value(path) is None:
            self.ask(RecordValue(path=path, value="response", payload=encoded(value, path)))

    # -- variables ----------------------------------------------------------------------------------------------

    def set_variable(self, firing: Firing, name: str, value: object) -> None:
        """A variable of the run gets a value."""
        self._set(firing.beside(name), name, value)

    def _set(self, path: StepPath, name: str, value: object) -> None:
        payload = encoded(value, path)
        self._variables[name] = msgspec.json.decode(payload)
        recorded = self.recorded.state(path)
        if recorded is None or bytes(recorded.payload) != bytes(payload):
            self.ask(SetState(key=name, payload=payload, path=path))

    def _edit(self, edit: StateSet) -> None:
        if edit.deleted:
            self._variables.pop(edit.key, None)
        else:
            self._variables[edit.key] = msgspec.json.decode(edit.payload)

    # -- what the process has -----------------------------------------------------------------------------------

    def task_of(self, node: PlanNode, name: str) -> Task[..., Any] | None:  # Any: whatever it returns
        """The task that a node calls, with what the node says about retries and limits."""
        task = (None if self._tasks is None else self._tasks.get(name)) or self.around.task(name)
        return None if task is None else self.tuned(node, task)

    def tuned(self, node: PlanNode, task: Task[..., Any]) -> Task[..., Any]:  # Any: whatever it returns
        """A task with the node's own retries and limits."""
        return self._extras.tuned(node, task)

    def extras_of(self, firing: Firing, data: msgspec.Raw) -> StepExtras | None:
        """What a step of this node needs besides its task and input."""
        return self._extras.of(firing, data)

    def secrets_in(self, data: msgspec.Raw) -> list[str]:
        """The names of the secrets of which markers are in a step's input."""
        return sorted(self._extras.secrets_in(data).values())

    def check_output(self, node: PlanNode, output: object) -> None:
        """See that an output fits the schema that its node gives."""
        self._extras.check(node, output)

    def workflow_of(self, name: str, version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """The workflow that a node starts a run of."""
        return self.around.workflow(name, version)

    def cannot_patch(self, definition: bytes) -> str:
        """Why this run cannot go on under a changed definition; "" when it can."""
        if self._root is None or self.ended:
            return "the run has not begun, or has ended"
        return growing.cannot_grow(self._root, self.around.patched(self.plan, definition).body)

    def lacks_for(self, definition: bytes) -> bool:
        """Whether a changed definition needs what is not in memory any more: the graph is to be made anew for it."""
        return self._root is not None and growing.has_let_go(
            self._root, self.around.patched(self.plan, definition).body
        )

    # -- changes while it runs ----------------------------------------------------------------------------------

    def _patch(self, payload: msgspec.Raw) -> None:
        """The run's own definition has got further nodes and edges."""
        assert self._root is not None, "a patch comes to a run that has begun"
        self.plan = self.around.patched(self.plan, bytes(payload))
        self._extras = Extras(self.plan, self.identity, self.around)
        growing.grow(self._root, self.plan.body)


def _paths(errors: Sequence[BaseException]) -> tuple[StepPath, ...]:
    return tuple(dict.fromkeys(path for error in errors for path in failed_paths(error)))
