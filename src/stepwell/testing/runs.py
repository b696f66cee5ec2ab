"""A run in a bench: what it came to, what it waits for, what its journal shows, and the verbs."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from stepwell.authoring.graph import GraphWorkflow
from stepwell.errors import RunCancelled, RunFailed, RunSetAside
from stepwell.graph.plan import PlanBody
from stepwell.model.durations import Duration
from stepwell.model.entries import OnChange, kind_of
from stepwell.model.failure import Failure
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL, Status
from stepwell.model.requests import InputRequest
from stepwell.model.state import State, replay
from stepwell.stores.protocol import RunRow, Stored
from stepwell.testing.checks import UNSET, CheckFailed, StepRecord, compare, steps_of, table, waits_of
from stepwell.testing.crashing import Named, name_of

if TYPE_CHECKING:
    from stepwell.testing.kit import Bench

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BenchRun(Generic[T]):
    """A handle on one run of a bench. What it shows is what is journaled; it can be read after the bench has closed."""

    def __init__(self, bench: Bench, id: str) -> None:
        self.id = id
        self._bench = bench

    # -- what it came to ----------------------------------------------------------------------------------------

    def result(self, *, within: Duration | None = None) -> T:
        """The result, letting time pass until the run has ended, as far as `within`, or as long as anything is due.

        Raises:
            RunFailed, RunCancelled: it ended so.
            RunSetAside: it is paused or stuck and does not go on by itself.
            CheckFailed: it has not ended, and waits for what only somebody else can do.
        """
        if not self._bench.until(self._is_at_rest, within=within):
            waits = ", ".join(self.waiting_for) or "nothing that comes by itself"
            raise CheckFailed(
                f"run {self.id} has not ended at {self._bench.now}; it waits for {waits}\n\n{self.table()}"
            )
        state = self.state
        match state.status:
            case "completed":
                return self._output(state)
            case "failed":
                error: Exception = RunFailed(self.id, state.error or Failure("", "no error was recorded"))
            case "cancelled":
                error = RunCancelled(self.id)
            case _:
                error = RunSetAside(self.id, state.status, state.pause.reason if state.pause is not None else "")
        error.add_note(f"\n{self.table()}")
        raise error

    def _is_at_rest(self) -> bool:
        return self.status in TERMINAL | SET_ASIDE

    def _output(self, state: State) -> T:
        data = self._payload(state.output, state.output_blob)
        workflow = self._bench.workflow(state.workflow, state.version)
        return cast("T", msgspec.json.decode(data) if workflow is None else workflow.codec.returns.decode(data))

    def _payload(self, inline: msgspec.Raw, blob: str) -> bytes:
        return self._bench.data_of(self.id).blobs[blob] if blob else bytes(inline)

    @property
    def status(self) -> Status:
        """The run's status."""
        return self.row.status

    @property
    def row(self) -> RunRow:
        """The run's row."""
        return self._bench.data_of(self.id).runs[self.id]

    @property
    def state(self) -> State:
        """The fold of the run's journal."""
        return replay(stored.entry for stored in self.journal)

    @property
    def input(self) -> bytes:
        """The run's input as JSON."""
        state = self.state
        return self._payload(state.input, state.input_blob)

    @property
    def failure(self) -> Failure | None:
        """The error of a failed run."""
        return self.state.error

    # -- what it waits for --------------------------------------------------------------------------------------

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What it waits for now, in the order in which it began to.

        `timer`, `signal approved`, `retry of charge#1`, `child run parent/child#1`, `step charge#1` (in flight), or
        `resume` when it is paused.
        """
        return waits_of(self.state)

    @property
    def due(self) -> datetime | None:
        """When something in the run is due next: a timer, a deadline, a retry (UTC)."""
        due = self.state.next_due
        return None if due is None else _EPOCH + timedelta(microseconds=due)

    # -- what its journal shows ---------------------------------------------------------------------------------

    @property
    def journal(self) -> list[Stored]:
        """The entries, with their seq."""
        return list(self._bench.data_of(self.id).journals[self.id])

    @property
    def kinds(self) -> list[str]:
        """The kinds of the entries: `["run.created", "run.started", …]`."""
        return [kind_of(stored.entry) for stored in self.journal]

    def steps(self, step: Named | None = None) -> list[StepRecord]:
        """The run's steps in the order in which they began; of one task, child workflow, name or path when given."""
        return steps_of(self.journal, self._payload, None if step is None else self._names(step))

    def _names(self, step: Named) -> Collection[str]:
        """What a step is called; in a graph a task's steps are called as the nodes that call it."""
        graph = None if isinstance(step, str) else self._bench.workflow(self.row.workflow, self.state.version)
        if isinstance(step, str) or not isinstance(graph, GraphWorkflow):
            return (name_of(step),)
        return tuple(_calling(graph.plan.body, step.name))

    def ran(
        self,
        step: Named,
        *,
        times: int | None = None,
        attempts: int | None = None,
        input: object = UNSET,
        output: object = UNSET,
    ) -> list[StepRecord]:
        """Check that a step ran, and how; returns the steps that were looked at.

        Args:
            step: a task, a child workflow, or the name or readable path of a step.
            times: how many steps there are of it (otherwise: at least one).
            attempts: how many attempts each of them took.
            input: the arguments of each, by name, as plain JSON values.
            output: what each returned, as plain JSON.

        Raises:
            CheckFailed: it is otherwise; the text ends with the journal.
        """
        records = self.steps(step)
        wrong = compare(records, name_of(step), times=times, attempts=attempts, input=input, output=output)
        if wrong:
            raise CheckFailed(f"run {self.id}: {wrong}\n\n{self.table()}")
        return records

    def did_not_run(self, step: Named) -> None:
        """Check that no attempt of a step began. Raises CheckFailed."""
        self.ran(step, times=0)

    @property
    def children(self) -> list[BenchRun[Any]]:  # Any: whatever they return
        """The runs that this one has started, in the order in which they were created."""
        return [run for run in self._bench.runs if run.row.parent == self.id]

    def table(self) -> str:
        """The journal for people."""
        return table(self.journal, self.state, self._bench.now_micros)

    # -- questions ----------------------------------------------------------------------------------------------

    @property
    def questions(self) -> list[InputRequest]:
        """The run's open input requests, oldest first."""
        return self._bench.wait_for(self._bench.app.inbox(run=self.id))

    def answer(self, value: object = None, *, by: str = "", prompt: str = "") -> None:
        """Answer the run's open question; with `prompt`, the one whose prompt contains that. See `Stepwell.answer`.

        Raises:
            CheckFailed: not exactly one such question is open.
            AnswerInvalid: the value does not fit what was asked for; the question stays open.
            NotAllowed: it is addressed to others.
        """
        id = self._question(prompt).id
        self._ask(self._bench.app.answer(id, value, by=by))

    def withdraw(self, *, by: str = "", reason: str = "", prompt: str = "") -> None:
        """Take the run's open question back; with `prompt`, as for `answer`. See `Stepwell.withdraw`."""
        id = self._question(prompt).id
        self._ask(self._bench.app.withdraw(id, by=by, reason=reason))

    def _question(self, prompt: str) -> InputRequest:
        found = [question for question in self.questions if prompt in question.prompt]
        if len(found) == 1:
            return found[0]
        wanted = f" that says {prompt!r}" if prompt else ""
        there = "; ".join(repr(question.prompt) for question in self.questions) or "none"
        number = "no question" if not found else f"{len(found)} questions"
        raise CheckFailed(f"run {self.id} has {number}{wanted} open (open: {there})\n\n{self.table()}")

    # -- verbs --------------------------------------------------------------------------------------------------

    def signal(self, name: str, payload: object = None, *, key: str = "", by: str = "") -> bool:
        """See `Stepwell.signal`."""
        return self._bench.verb(self._bench.app.signal(self.id, name, payload, key=key, by=by), True)

    def pause(self, *, by: str = "", reason: str = "") -> None:
        """See `Stepwell.pause`."""
        self._ask(self._bench.app.pause(self.id, by=by, reason=reason))

    def resume(self, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """See `Stepwell.resume`."""
        self._ask(self._bench.app.resume(self.id, by=by, reason=reason, on_change=on_change))

    def cancel(self, *, by: str = "", reason: str = "") -> None:
        """See `Stepwell.cancel`."""
        self._ask(self._bench.app.cancel(self.id, by=by, reason=reason))

    def retry(self, *, by: str = "", reason: str = "", on_change: OnChange | None = None) -> None:
        """See `Stepwell.retry`."""
        self._ask(self._bench.app.retry(self.id, by=by, reason=reason, on_change=on_change))

    def _ask(self, verb: Coroutine[Any, Any, None]) -> None:
        self._bench.verb(verb, None)

    def __repr__(self) -> str:
        return f"<run {self.id}: {self.status}>"


def _calling(body: PlanBody, task: str) -> Iterator[str]:
    """The nodes of a body, and of those in it, that call a task or start a workflow of this name."""
    for node in body.nodes:
        if task in (node.task, node.settings.source.get("workflow") if node.type.kind == "child" else ""):
            yield node.id
        for inner in node.bodies.values():
            yield from _calling(inner, task)
