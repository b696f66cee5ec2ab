"""Graphs as message pipelines: data in, data out, in memory and at once; nothing is journaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.graph import GraphWorkflow
from stepwell.engine.graphs import Compiling
from stepwell.errors import RequestRefused, RunFailed
from stepwell.model.commands import CompleteRun, FailRun, StartWait
from stepwell.programs.protocol import ChildRequest, PublishEvent, SendSignal, StepRequest
from stepwell.usecases.base import UseCases

if TYPE_CHECKING:
    from stepwell.programs.graph.program import GraphProgram


_OUTWARD = StepRequest | ChildRequest | PublishEvent | SendSignal | StartWait


class Pipelines(UseCases):
    """Runs that are over before anybody could look at them."""

    def evaluate(self, graph: GraphWorkflow, input: Mapping[str, object] | bytes) -> Any:  # Any: its result
        """What a graph makes of an input, in the caller's thread: no run, no store, no engine.

        For graphs of `set`, `transform`, `condition`, `switch`, `router` and containers of such; what would need an
        attempt, a wait or another run is refused.

        Args:
            graph: see `graph_workflow`.
            input: the input, or its JSON.

        Raises:
            ArgumentError: the input does not fit the graph's schema.
            RequestRefused: the graph needs an engine.
            RunFailed: a node failed, and nothing caught that.
        """
        from stepwell.programs.graph.program import GraphProgram  # loaded when there is a graph

        codec = graph.codec
        data = codec.parse(input) if isinstance(input, bytes) else codec.encode((input,), {})
        program = GraphProgram(graph.plan, _nobody(graph.name), data, around=_Alone(self.types), journals=False)
        program.begin(self._clock.now())
        return _result(graph, program)


def _nobody(name: str) -> Identity:
    return Identity("evaluated", name, None, "evaluated")


def _result(graph: GraphWorkflow, program: GraphProgram) -> Any:  # Any: as above
    requests = program.take_requests()
    outward = next((one for one in requests if isinstance(one, _OUTWARD)), None)
    if outward is not None:
        raise RequestRefused(f"graph {graph.name} needs an engine for node {outward.path}: start a run of it")
    for request in reversed(requests):
        if isinstance(request, CompleteRun):
            return msgspec.json.decode(request.output)
        if isinstance(request, FailRun):
            raise RunFailed(f"an evaluation of {graph.name}", request.error)
    why = program.deadlock or "a node of it does not end in the turn in which it begins"
    raise RequestRefused(f"graph {graph.name} needs an engine: {why}; start a run of it")


class _Alone(Compiling):
    """What an evaluation finds around it: no tasks and no workflows."""

    def task(self, name: str) -> None:
        """As `Surroundings` says."""

    def workflow(self, name: str, version: str) -> None:
        """As `Surroundings` says."""
