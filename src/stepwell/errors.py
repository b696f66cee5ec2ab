"""Every error a caller can meet, in three families, each with a stable `code`.

```
StepwellError
├── DefinitionError             your definition: the code or graph is wrong as written
│   ├── TargetError             a target names no workflow or task that can be loaded
│   ├── ArgumentError           the input does not fit the function's signature
│   ├── Unserialisable          a value cannot be written to, or read from, the journal
│   ├── ExpressionError         a template or a condition is wrong, or what it refers to is not there
│   └── WorkflowBodyError       a workflow body did what belongs in a task (I/O, threads, …)
├── RequestRefused              your request: refused, and nothing was changed
│   ├── RunNotFound             no run has this id
│   ├── RunExists               the id is taken by a run with another workflow or input
│   ├── WrongStatus             the run is not in a status in which this can be done
│   ├── RequestNotFound         no open input request has this id
│   ├── NotAllowed              the input request is addressed to others
│   ├── AnswerInvalid           an answer does not fit the form; the input request stays open
│   ├── TriggerNotFound         no trigger has this name
│   ├── WorkflowNotFound        no deployed workflow has this name, or no version of it this label or hash
│   └── LabelTaken              the version label stands for other content
├── StoreError                  our trouble: the store could not do it (`retryable` says if waiting helps)
│   ├── StoreUnusable           not a Stepwell file, newer than this program, no permission, a folder
│   ├── StoreBusy               another process drives this file
│   ├── StoreFull               no room: nothing acknowledged is lost, work goes on when there is room
│   ├── Fenced                  another worker has taken the run over
│   └── CorruptJournal          an entry's checksum or position is wrong; only that run stops
├── RunFailed                   awaiting the result of a run that failed
├── RunCancelled                awaiting the result of a run that was cancelled
├── RunSetAside                 awaiting the result of a run that is paused or stuck and will not go on by itself
├── StepFailed                  raised in a workflow body where a step has failed for good
│   └── StepTimedOut            … because a time limit passed
├── InputWithdrawn              raised in a workflow body where the input request that it waited for was taken back
├── GraphError                  what a run of a graph failed of that no attempt raised: settings, outputs, limits
│   ├── GraphStranded           nothing moves any more, and joins still wait
│   ├── TooManyVisits           a loop, or an edge that goes back, was to be taken more often than its cap allows
│   ├── MapFailed               more items failed than the map tolerates
│   └── ScopeTimedOut           a scope had not ended within its time
├── DeadlinePassed              what a run failed of that had not ended by its deadline
└── StepwellBug                 ours: please report it
```

Control flow inside the engine derives from `BaseException` (see `ControlFlow`), so that `except Exception` in
user code cannot swallow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.model.checking import Problem
    from stepwell.model.failure import Failure

_PROBLEMS_SAID: Final = 20
"""How many problems of one answer an error's text names; `problems` has them all."""


class StepwellError(Exception):
    """Base of all errors; `code` is stable and may be matched by programs, the text may change."""

    code: ClassVar[str] = "error"


class DefinitionError(StepwellError):
    """The definition is wrong as written; running it again unchanged gives the same error."""

    code = "definition"


class TargetError(DefinitionError):
    """A target such as `file.py:name` names nothing that can be run."""

    code = "target"


class ArgumentError(DefinitionError):
    """The input does not fit the signature of the workflow or task; the text names the parameter."""

    code = "argument"


class Unserialisable(DefinitionError):
    """A value cannot be written to the journal, or not read back as the declared type; the text names the place."""

    code = "unserialisable"


class ExpressionError(DefinitionError):
    """A `{{ template }}` or a condition is wrong, or what it refers to is not there; the text names it and the place.

    `path` leads to the text inside the JSON that it stands in, `offset` is the place in that text, from 0. Where one
    value has several of them, `each` has them all (otherwise it is empty), and the text is that of all.
    """

    code = "expression"
    path: tuple[str | int, ...] = ()
    offset: int = 0
    each: tuple[ExpressionError, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        path: tuple[str | int, ...] = (),
        offset: int = 0,
        each: Sequence[ExpressionError] = (),
    ) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset
        self.each = tuple(each)


class WorkflowBodyError(DefinitionError):
    """A workflow body did something that cannot be replayed; the text says how to put it in a task."""

    code = "workflow_body"


class RequestRefused(StepwellError):
    """The request was understood and refused; nothing was changed."""

    code = "refused"


class RunNotFound(RequestRefused):
    """No run has this id."""

    code = "run_not_found"


class RunExists(RequestRefused):
    """The run id is taken by a run of another workflow or with another input."""

    code = "run_exists"


class WrongStatus(RequestRefused):
    """The run's status does not allow this verb."""

    code = "wrong_status"


class RequestNotFound(RequestRefused):
    """No open input request has this id: it was answered, withdrawn, or never there."""

    code = "request_not_found"


class NotAllowed(RequestRefused):
    """The input request is addressed to others."""

    code = "not_allowed"


class AnswerInvalid(RequestRefused):
    """An answer does not fit the input request's form: the text names each field, and the request stays open."""

    code = "answer_invalid"

    def __init__(self, place: str, problems: Sequence[Problem]) -> None:
        said = [str(problem) for problem in problems[:_PROBLEMS_SAID]]
        if len(problems) > len(said):
            said.append(f"and {len(problems) - len(said):,} more")
        super().__init__(f"{place}: {'; '.join(said)}")
        self.place = place
        self.problems = tuple(problems)


class TriggerNotFound(RequestRefused):
    """No trigger has this name."""

    code = "trigger_not_found"


class WorkflowNotFound(RequestRefused):
    """No deployed workflow has this name, or no version of it has this label or hash."""

    code = "workflow_not_found"


class LabelTaken(RequestRefused):
    """The version label stands for other content; versions do not change, so the label is moved or another chosen."""

    code = "label_taken"


class StoreError(StepwellError):
    """The store could not do what was asked; `retryable` says whether waiting may help."""

    code = "store"
    retryable: ClassVar[bool] = False


class StoreUnusable(StoreError):
    """The store's place holds something else, is newer than this program, or may not be written."""

    code = "store_unusable"


class StoreBusy(StoreError):
    """Another live process drives this store."""

    code = "store_busy"
    retryable = True


class StoreFull(StoreError):
    """There is no room to write; the transaction was rolled back and may be offered again."""

    code = "store_full"
    retryable = True


class Fenced(StoreError):
    """The run was taken over by another worker: this worker's epoch or position is old, nothing was written."""

    code = "fenced"


class CorruptJournal(StoreError):
    """An entry's checksum, order or form is wrong; the run is left as it is and other runs go on."""

    code = "corrupt"


class RunFailed(StepwellError):
    """The run whose result was awaited has failed; `failure` is what it recorded."""

    code = "run_failed"

    def __init__(self, run_id: str, failure: Failure) -> None:
        super().__init__(f"run {run_id} failed: {failure.summary()}")
        self.run_id = run_id
        self.failure = failure


class RunCancelled(StepwellError):
    """The run whose result was awaited was cancelled."""

    code = "run_cancelled"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} was cancelled")
        self.run_id = run_id


class RunSetAside(StepwellError):
    """The run whose result was awaited is paused or stuck; it is kept, and `resume` lets it go on."""

    code = "run_set_aside"

    def __init__(self, run_id: str, status: str, reason: str) -> None:
        super().__init__(f"run {run_id} is {status}: {reason}")
        self.run_id = run_id
        self.status = status
        self.reason = reason


class StepFailed(StepwellError):
    """A step has failed for good; raised in the workflow body at the place of the call.

    When the original exception's class is loaded in this process the raised error is an instance of that class
    too, so `except ValueError` works as it reads, on the first execution and on every replay alike.
    """

    code = "step_failed"
    failure: Failure
    step: str

    def __str__(self) -> str:
        return self.failure.message


class StepTimedOut(StepFailed, TimeoutError):
    """A step has failed for good because its attempt, total or heartbeat time limit passed."""

    code = "step_timed_out"


class InputWithdrawn(StepwellError):
    """The input request that a workflow body waited for was taken back; the text says by whom and why."""

    code = "input_withdrawn"


class GraphError(StepwellError):
    """A node of a graph cannot do what it is for: its settings do not fit once filled in, or its output its schema."""

    code = "graph_error"


class GraphStranded(GraphError):
    """Nothing moves in a graph any more while joins still wait; the text names them and what they have."""

    code = "graph_stranded"


class TooManyVisits(GraphError):
    """A loop, or an edge that goes back, was to be taken more often than its cap allows."""

    code = "too_many_visits"


class MapFailed(GraphError):
    """More items of a map failed than it tolerates; the first failure is the cause."""

    code = "map_failed"


class ScopeTimedOut(GraphError, TimeoutError):
    """A scope had not ended within its time."""

    code = "scope_timed_out"


class DeadlinePassed(StepwellError):
    """The run had not ended by its deadline."""

    code = "deadline_passed"


class StepwellBug(StepwellError):
    """Something that cannot happen has happened: please report it with the text."""

    code = "bug"


class ControlFlow(BaseException):
    """Base of the engine's own control flow; user code never catches it by accident."""


class Unwound(ControlFlow):
    """The workflow body is being taken out of memory; it is rebuilt from the journal when the run goes on."""
