"""Hypothesis strategies for journals, for those who write readers of them. This module imports Hypothesis.

A drawn journal is valid by construction. Without a workflow drawn commands are put to `model.decide`, which makes all
entries, as it does for the engine. With a workflow a `Bench` runs it: what its tasks return, which of them fail, which
signals come, and what people do to the run is drawn.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, ResolutionFailed

from stepwell.authoring.workflow import Workflow
from stepwell.errors import StepwellError
from stepwell.model.entries import AnyEntry
from stepwell.testing.drafting import Draft
from stepwell.testing.kit import Bench
from stepwell.testing.runs import BenchRun
from stepwell.testing.stubs import Call, Real, Stub, Target

Values: TypeAlias = "st.SearchStrategy[Any]"  # Any: whatever is drawn

LONGEST_WAIT = timedelta(days=30)
"""How far time goes on at once in a drawn run in which nothing is due."""

RETRIES = 3
"""How often a drawn run is resumed or retried, at most."""


def json_values() -> st.SearchStrategy[Any]:  # Any: JSON
    """Small JSON values as Python has them."""
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | _objects(inner), max_leaves=6)


def _objects(inner: Values) -> Values:
    return st.dictionaries(st.text("abcdefgh", min_size=1, max_size=4), inner, max_size=3)


def journals(
    workflow: Workflow[..., Any] | None = None,  # Any: whatever it returns
    *,
    inputs: Values | None = None,
    results: Mapping[Any, Values] | None = None,  # Any: a task of any signature, or a name
    signals: Mapping[str, Values] | None = None,
    most: int = 40,
) -> st.SearchStrategy[list[AnyEntry]]:
    """Journals of runs, at any moment of their lives: `draw(journals())` is a list of entries, the first one first.

    Readers that want `Stored` get `[Stored(seq, 1, entry) for seq, entry in enumerate(journal, 1)]`.

    Args:
        workflow: whose runs; without it, runs of no workflow in particular, with every kind of entry.
        inputs: its arguments, as tuples or as dicts by name; by its annotations when absent.
        results: what tasks return, by task or name; by their annotations when absent. No task is really run.
        signals: payloads by signal name; any JSON when absent.
        most: how many things happen to a run, at most.
    """
    if workflow is None:
        return _drafts(most)
    return _runs(workflow, inputs, results or {}, signals or {}, most)


@st.composite
def _drafts(draw: st.DrawFn, most: int) -> list[AnyEntry]:
    draft = Draft(draw, json_values())
    for _ in range(draw(st.integers(0, most))):
        moves = draft.moves()
        if not moves:
            break
        draft.pass_time()
        draw(st.sampled_from(moves))()
    return draft.entries


@st.composite
def _runs(
    draw: st.DrawFn,
    workflow: Workflow[..., Any],
    inputs: Values | None,
    results: Mapping[Any, Values],
    signals: Mapping[str, Values],
    most: int,
) -> list[AnyEntry]:
    args, kwargs = _arguments(draw, workflow, inputs)
    outcomes = _Outcomes(draw, {getattr(task, "name", task): values for task, values in results.items()})
    bench = Bench(stubs={"*": outcomes}, seed=draw(st.integers(0, 2**16)))
    bench.open()
    try:
        run = bench.start(workflow, *args, id="run-1", **kwargs)
        for _ in range(draw(st.integers(0, most))):
            if not (moves := _moves(run)):
                break
            _make(draw(st.sampled_from(moves)), draw, bench, run, signals)
        return [stored.entry for stored in run.journal]
    finally:
        bench.abandon()


def _arguments(
    draw: st.DrawFn, workflow: Workflow[..., Any], inputs: Values | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if inputs is None:
        drawn: object = draw(st.builds(lambda *args, **kwargs: (args, kwargs), **_by_annotations(workflow)))
        return drawn  # type: ignore[return-value]  # what the lambda gives
    drawn = draw(inputs)
    match drawn:
        case tuple():
            return drawn, {}
        case dict():
            return (), drawn
        case _:
            raise InvalidArgument(f"journals(inputs=…) draws tuples or dicts of arguments; found {drawn!r}")


def _by_annotations(workflow: Workflow[..., Any]) -> dict[str, Values]:
    hints = typing.get_type_hints(workflow.function)
    parameters = inspect.signature(workflow.function).parameters.values()
    return {one.name: _values_of(hints.get(one.name, Any)) for one in parameters if one.default is one.empty}


def _values_of(hint: object) -> Values:
    """Values of a type hint; any JSON where it says nothing, or nothing that Hypothesis understands."""
    if hint in (Any, object, inspect.Parameter.empty):
        return json_values()
    try:
        strategy: Values = st.from_type(hint)  # type: ignore[arg-type]  # any type form
        strategy.validate()
    except (InvalidArgument, ResolutionFailed, NotImplementedError):
        return json_values()
    return strategy


class _Outcomes(Stub):
    """Stands for every task: what it returns, and whether it fails, is drawn."""

    def __init__(self, draw: st.DrawFn, results: Mapping[str, Values]) -> None:
        self._draw = draw
        self._results = results

    def check(self, target: Target) -> None:
        """It fits anything."""

    async def answer(self, call: Call, real: Real) -> object:
        """See `Stub.answer`."""
        if self._draw(st.integers(0, 5)) == 0:
            raise RuntimeError("a drawn failure")
        values = self._results.get(call.target.name)
        if values is not None:
            return self._draw(values)
        returns = call.target.codec.returns
        return self._draw(_values_of(returns.hint).filter(lambda value: _fits(returns, value)))


def _fits(codec: Any, value: object) -> bool:  # Any: a ValueCodec
    try:
        codec.encode(value)
    except StepwellError:
        return False
    return True


def _moves(run: BenchRun[Any]) -> list[str]:
    """What may happen to a run as it stands; nothing when it has come to its end."""
    match run.status:
        case "completed":
            return []
        case "failed" | "cancelled":
            return ["retry"] if run.kinds.count("run.resumed") < RETRIES else []
        case "paused" | "stuck":
            return ["resume", "resume", "cancel"] if run.kinds.count("run.resumed") < RETRIES else []
        case _:
            # What moves a run along comes more often than what stops it.
            return ["time", "time", "time", *["signal"] * 3 * bool(_signals(run)), "pause", "cancel", "crash"]


def _signals(run: BenchRun[Any]) -> list[str]:
    return [what.removeprefix("signal ") for what in run.waiting_for if what.startswith("signal ")]


def _make(move: str, draw: st.DrawFn, bench: Bench, run: BenchRun[Any], signals: Mapping[str, Values]) -> None:
    match move:
        case "time":
            due = run.due
            if due is None:
                bench.advance(LONGEST_WAIT)
            else:
                bench.advance_to(max(due, bench.now))
        case "signal":
            name = draw(st.sampled_from(_signals(run)))
            run.signal(name, draw(signals.get(name, json_values())))
        case "crash":
            bench.crash()
        case _:
            verb = {"pause": run.pause, "resume": run.resume, "cancel": run.cancel, "retry": run.retry}[move]
            verb()
