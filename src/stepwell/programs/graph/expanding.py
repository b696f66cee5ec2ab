"""A sub-graph that a task decided on while the run is under way: checked, compiled, and run as the body of its node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.graph.plan import PlanBody
from stepwell.nodes.protocol import Expand
from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.frame import Frame

if TYPE_CHECKING:
    from stepwell.programs.graph.firing import Firing


def expand(firing: Firing, value: dict[str, Any]) -> None:  # Any: JSON
    """Run the sub-graph that a step has returned; it is in the journal as the step's output.

    Raises:
        InvalidDefinition: it has problems.
    """
    expansion = msgspec.convert(value, Expand)
    frame = firing.frame
    names = [*expansion.inputs, *_names_around(frame)]
    body = frame.program.around.expansion(frame.program.plan, names, expansion.nodes, expansion.edges, expansion.result)
    firing.container = _Expansion(firing, body, expansion.inputs)
    firing.container.begin()


def _names_around(frame: Frame | None) -> list[str]:
    names: list[str] = []
    while frame is not None:
        names += [*frame.locals, *frame.outputs]
        frame = frame.outer
    return names


class _Expansion(Container):
    """The instance of a sub-graph."""

    def __init__(self, firing: Firing, body: PlanBody, inputs: dict[str, Any]) -> None:  # Any: JSON
        super().__init__(firing, None)
        self._body = body
        self._inputs = inputs

    def begin(self) -> None:
        """Begin it."""
        self.opened(len(self._body.nodes))
        self.open(self._body, self.firing.inside(1), self._inputs)

    def ended_well(self, frame: Frame, output: object) -> None:
        """Its result is the node's output."""
        self.close(output)
