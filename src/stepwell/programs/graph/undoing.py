"""What is to be undone when a scope fails: the bodies that completed nodes give under `compensate`, the last first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stepwell.graph.plan import PlanNode

if TYPE_CHECKING:
    from stepwell.programs.graph.firing import Firing
    from stepwell.programs.graph.frame import Frame
    from stepwell.programs.graph.program import GraphProgram


class Saga:
    """The completed nodes of one scope that can be undone. One that `merges` leaves them to the scope around it."""

    def __init__(self, around: Saga | None, *, merges: bool = False) -> None:
        self.calls: list[tuple[Firing, object]] = []
        self._around = around if merges else None

    def add(self, firing: Firing, output: object) -> None:
        """A node has completed that says how it is undone."""
        if not firing.frame.is_undoing:
            self.calls.append((firing, output))

    def done(self) -> None:
        """The scope has ended well: if the one around it fails, this is undone too."""
        if self._around is not None:
            self._around.calls += self.calls
        self.calls = []


class Undoing:
    """Runs what a saga has, one after the other, the last first.

    It goes on to its end whatever happens, except that one that fails for good stops it: those before it are not run.
    `then` is given the failures.
    """

    def __init__(self, program: GraphProgram, saga: Saga, then: Callable[[list[BaseException]], None]) -> None:
        self._program = program
        self._saga = saga
        self._then = then

    def begin(self) -> None:
        """Undo the next, if there is one."""
        from stepwell.programs.graph.frame import Frame

        if not self._saga.calls:
            self._then([])
            return
        firing, output = self._saga.calls.pop()
        body = firing.node.bodies["compensate"]
        links = firing.inside(1, "compensate")
        locals = {firing.node.id: output}
        Frame(self._program, body, links, locals, firing.frame, self, Saga(None), is_undoing=True).begin()

    def frame_ended(self, frame: Frame, output: object, error: BaseException | None) -> None:
        """As `Owner` says."""
        if error is not None:
            self._then([error])
        else:
            self._program.later(self.begin)

    def node_ended(self, frame: Frame, node: PlanNode) -> None:
        """As `Owner` says."""
