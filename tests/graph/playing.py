"""Plays a graph in virtual time: its tasks are stand-ins that note when they began and how they ended.

`play(source, tasks, input)` starts a run, lets the things in `then` happen at their times, and lets time pass until
nothing is due any more. A task without a stand-in takes one second and returns its own name.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import stepwell
from stepwell import ctx, task
from stepwell.authoring.task import Task
from stepwell.model.durations import Duration, micros
from stepwell.model.entries import StepSkipped
from stepwell.testing import Bench, BenchRun
from stepwell.testing.crashing import When

PATTERNS = Path(__file__).resolve().parents[2] / "examples" / "patterns"

WORKED = object()
"""What an act gives that says nothing else: the name of its task."""


@dataclass(frozen=True)
class Act:
    """What an attempt does: it takes so many seconds, then gives a value, what a function gives, or an error.

    The seconds too may be a function of the inputs.
    """

    seconds: float | Callable[..., float] = 1
    gives: object = WORKED


def lasts(seconds: float | Callable[..., float], gives: object = WORKED) -> Act:
    """Work that takes so many seconds of virtual time. `gives` is a value, an error, or a function of the inputs."""
    return Act(seconds, gives)


def breaks(text: str = "broken", *, after: float = 1) -> Act:
    """Work that fails."""
    return Act(after, RuntimeError(text))


@dataclass
class Attempt:
    """One attempt of a task. Times are seconds since the run was started; `ended` is None when it never ended."""

    task: str
    step: str
    number: int
    began: float
    inputs: dict[str, Any]
    run: str = ""
    ended: float | None = None
    how: str = "in flight"
    output: object = None
    turn: int = 0


@dataclass
class Played:
    """What was seen of a run, and the run itself."""

    bench: Bench
    run: BenchRun[Any]
    attempts: list[Attempt]
    start: float
    notes: dict[str, object] = field(default_factory=dict)

    # -- what it came to ----------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The run's status."""
        return self.run.status

    @property
    def result(self) -> Any:
        """The result of a completed run."""
        assert self.status == "completed", f"{self.status}: {self.run.failure}\n{self.run.table()}"
        return self.run._output(self.run.state)

    @property
    def error(self) -> str:
        """The message of a failed run."""
        assert self.status == "failed", f"{self.status}\n{self.run.table()}"
        assert self.run.failure is not None
        return self.run.failure.message

    # -- what its tasks did -------------------------------------------------------------------------------------

    @property
    def order(self) -> list[str]:
        """The tasks in the order in which attempts of them began."""
        return [attempt.task for attempt in self.attempts]

    @property
    def done(self) -> list[tuple[str, float]]:
        """The tasks that succeeded, and when, in that order."""
        ended = [attempt for attempt in self.attempts if attempt.how == "done"]
        return [(one.task, one.ended or 0.0) for one in sorted(ended, key=lambda one: one.ended or 0.0)]

    def of(self, name: str) -> list[Attempt]:
        """The attempts of a task."""
        return [attempt for attempt in self.attempts if attempt.task == name]

    def the(self, name: str) -> Attempt:
        """The only attempt of a task."""
        found = self.of(name)
        assert len(found) == 1, f"{name} ran {len(found)} times\n{self.run.table()}"
        return found[0]

    def times(self, name: str) -> int:
        """How many attempts of a task began."""
        return len(self.of(name))

    def began(self, name: str) -> list[float]:
        """When the attempts of a task began."""
        return [attempt.began for attempt in self.of(name)]

    def ended(self, name: str) -> list[float | None]:
        """When the attempts of a task ended, however."""
        return [attempt.ended for attempt in self.of(name)]

    def how(self, name: str) -> list[str]:
        """How the attempts of a task ended: `done`, `failed`, `cancelled` or `in flight`."""
        return [attempt.how for attempt in self.of(name)]

    def inputs(self, name: str) -> list[dict[str, Any]]:
        """The inputs of the attempts of a task."""
        return [attempt.inputs for attempt in self.of(name)]

    def most_at_once(self, names: Iterable[str]) -> int:
        """How many attempts of these tasks were in flight at once, at most."""
        among = set(names)
        spans = [(one.began, one.ended if one.ended is not None else 1e9) for one in self.attempts if one.task in among]
        return max((sum(begin <= moment < end for begin, end in spans) for moment, _ in spans), default=0)

    @property
    def length(self) -> float:
        """How many seconds it took from the creation of the run to its last entry."""
        return (self.run.journal[-1].entry.at - self.run.state.created_at) / 1_000_000

    @property
    def skipped(self) -> list[str]:
        """The readable paths of the nodes that were seen not to run."""
        return [str(one.entry.path) for one in self.run.journal if isinstance(one.entry, StepSkipped)]

    # -- what people and other programs do ----------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since the run was started."""
        return self.bench.now_micros / 1_000_000 - self.start

    def signal(self, name: str, payload: object = None) -> None:
        """Send the run a signal."""
        self.run.signal(name, payload)

    def publish(self, topic: str, data: object = None, *, transient: bool = False) -> None:
        """Publish an event for whoever listens."""
        self.bench.verb(self.bench.app.publish(topic, data, transient=transient), None)


Happening = tuple[Duration, Callable[[Played], object]]
"""What happens, and how long after the start."""


def play(
    source: str | Path | Mapping[str, Any],
    tasks: Mapping[str, object] | None = None,
    input: Mapping[str, Any] | None = None,
    *,
    then: Sequence[Happening] = (),
    before: Callable[[Bench], object] | None = None,
    others: Sequence[str | Mapping[str, Any]] = (),
    crashes: Sequence[tuple[str, When]] = (),
    until: Duration | None = None,
    seed: int = 0,
) -> Played:
    """Play a graph to its end, or until nothing is due, and give what was seen of it.

    Args:
        source: a file, YAML text, or a mapping.
        tasks: what the attempts of each task do: an `Act`, a function of the inputs (which takes a second), a list of
            those for one attempt after the other (the last one stays), or a value.
        input: the run's input.
        then: what happens at which time.
        before: what happens in the bench before the run is started.
        others: further graphs, which the run may start as child runs.
        crashes: steps at which the process dies (see `Bench.crash_at`).
        until: when to stop looking; without it time passes as long as anything is due.
    """
    texts = [_definition(one) for one in (source, *others)]
    stage = Stage(tasks or {})
    registered = [stage.task(name, names) for name, names in _calls(texts).items()]
    workflows = [stepwell.graph_workflow(text, tasks=registered) for text in texts]
    with Bench(workflows, tasks=registered, seed=seed) as bench:
        for step, when in crashes:
            bench.crash_at(step, when)
        if before is not None:
            before(bench)
        stage.start = bench.now_micros / 1_000_000
        stage.clock = lambda: bench.now_micros / 1_000_000
        run = bench.start(workflows[0], dict(input or {}))
        played = Played(bench, run, stage.attempts, stage.start)
        for moment, happens in sorted(then, key=lambda one: micros(one[0], "then")):
            bench.advance(micros(moment, "then") / 1_000_000 - played.now)
            happens(played)
        if until is None:
            bench.until(run._is_at_rest)
        else:
            bench.advance(micros(until, "until") / 1_000_000 - played.now)
    return played


def pattern(number: int) -> Path:
    """The file of a control-flow pattern."""
    (found,) = PATTERNS.glob(f"{number:02d}-*.yaml")
    return found


class Stage:
    """The stand-ins of one run, and what they noted."""

    def __init__(self, acts: Mapping[str, object]) -> None:
        self.attempts: list[Attempt] = []
        self.start = 0.0
        self.clock: Callable[[], float] = lambda: 0.0
        self._acts = acts

    def task(self, name: str, parameters: Iterable[str]) -> Task[..., Any]:
        """A task with these parameters, all of which may be left out."""

        async def work(**inputs: Any) -> Any:
            return await self._attempt(name, inputs)

        kind = inspect.Parameter.KEYWORD_ONLY
        found = [inspect.Parameter(one, kind, default=None, annotation=Any) for one in sorted(parameters)]
        work.__signature__ = inspect.Signature(found, return_annotation=Any)  # type: ignore[attr-defined]
        work.__annotations__ = {**{one.name: Any for one in found}, "return": Any}
        return task(name=name)(work)

    async def _attempt(self, name: str, inputs: dict[str, Any]) -> object:
        attempt = Attempt(name, ctx.step, ctx.attempt, round(self.clock() - self.start, 6), inputs, run=ctx.run_id)
        act = self._act(attempt)
        self.attempts.append(attempt)
        try:
            seconds = _called(act.seconds, inputs)
            if seconds:
                await asyncio.sleep(seconds)
            output = self._output(act, attempt)
        except asyncio.CancelledError:
            attempt.how = "cancelled"
            raise
        except Exception:
            attempt.how = "failed"
            raise
        else:
            attempt.how, attempt.output = "done", output
            return output
        finally:
            attempt.ended = round(self.clock() - self.start, 6)

    def _act(self, attempt: Attempt) -> Act:
        said = self._acts.get(attempt.task, Act())
        if isinstance(said, list):
            attempt.turn = self._turn(attempt)
            said = said[min(attempt.turn, len(said) - 1)]
        return said if isinstance(said, Act) else Act(1, said)

    def _turn(self, attempt: Attempt) -> int:
        """Which attempt of its task this is, from 0; one that a crash cut off gives its turn to the one after it."""
        before = [one for one in self.attempts if one.task == attempt.task]
        same = [one for one in before if (one.run, one.step) == (attempt.run, attempt.step)]
        if same and same[-1].how == "in flight":
            return same[-1].turn
        return max((one.turn + 1 for one in before), default=0)

    def _output(self, act: Act, attempt: Attempt) -> object:
        if act.gives is WORKED:
            return attempt.task
        if isinstance(act.gives, BaseException):
            raise act.gives.with_traceback(None)
        return _called(act.gives, attempt.inputs)


def _called(what: Any, inputs: Mapping[str, object]) -> Any:
    """A value as it is; what a function gives that takes some of the inputs."""
    if not callable(what):
        return what
    wanted = inspect.signature(what).parameters
    return what(**{name: value for name, value in inputs.items() if name in wanted})


def _definition(source: object) -> object:
    if isinstance(source, Path):
        return source.read_text("utf-8")
    return source


def _calls(sources: Iterable[object]) -> dict[str, set[str]]:
    """The tasks that definitions call, and the names of the inputs that they are given."""
    found: dict[str, set[str]] = {}

    def look(value: object) -> None:
        if isinstance(value, list):
            for one in value:
                look(one)
        elif isinstance(value, dict):
            settings = value.get("with") or {}
            called = value.get("task") or (settings.get("task") if value.get("type") == "task" else None)
            if isinstance(called, dict):
                settings, called = called, called.get("task")
            if isinstance(called, str):
                given = value.get("inputs") or settings.get("inputs") or {}
                found.setdefault(called, set()).update(given if isinstance(given, dict) else ())
            for one in value.values():
                look(one)

    for source in sources:
        look(yaml.safe_load(source) if isinstance(source, str) else source)
    return found
