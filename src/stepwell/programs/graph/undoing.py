"""What is to be undone when a scope fails: the bodies that completed nodes give under `compensate`, the last first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


class Undone:
    """How much of a run was undone, and since when: what a retry of the run could not go on from.

    A retry takes the failures back that led to the run's end, and what came of them, but not what was done about them:
    going on from there would take for done what was undone. What was undone before them is no obstacle.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.active = 0
        self._cancelled_at: int | None = None

    def date(self, error: BaseException) -> None:
        """Remember how much had been undone when an error first came up."""
        if not hasattr(error, "undone_before"):
            error.undone_before = self.begun  # type: ignore[attr-defined]  # it travels with the error

    def heard_of_cancel(self) -> None:
        """The run is to end."""
        if self._cancelled_at is None:
            self._cancelled_at = -1 if self.active else self.begun

    @property
    def is_since_cancel(self) -> bool:
        """Whether work was undone since the run was asked to end."""
        return self._cancelled_at is not None and self._cancelled_at < self.begun

    def is_since(self, errors: Iterable[BaseException]) -> bool:
        """Whether work was undone since the first of these came up, or what is behind them."""
        dates = [self.begun]
        for error in errors:
            one: BaseException | None = error
            while one is not None:
                dates.append(getattr(one, "undone_before", self.begun))
                one = one.__cause__
        return min(dates) < self.begun


class Undoing:
    """Runs what a saga has, one after the other, the last first.

    It goes on to its end whatever happens, except that one that fails for good stops it: those before it are not run.
    `then` is given the failures.
    """

    def __init__(self, program: GraphProgram, saga: Saga, then: Callable[[list[BaseException]], None]) -> None:
        self._program = program
        self._saga = saga
        self._then = then
        self._is_begun = False

    def begin(self) -> None:
        """Undo the next, if there is one."""
        from stepwell.programs.graph.frame import Frame

        undone = self._program.undone
        if not self._saga.calls:
            self._over([])
            return
        undone.active += not self._is_begun
        undone.begun += 1
        self._is_begun = True
        firing, output = self._saga.calls.pop()
        body = firing.node.bodies["compensate"]
        links = firing.inside(1, "compensate")
        locals = {firing.node.id: output}
        Frame(self._program, body, links, locals, firing.frame, self, Saga(None), is_undoing=True).begin()

    def frame_ended(self, frame: Frame, output: object, error: BaseException | None) -> None:
        """As `Owner` says."""
        if error is not None:
            self._over([error])
        else:
            self._program.later(self.begin)

    def _over(self, failures: list[BaseException]) -> None:
        self._program.undone.active -= self._is_begun
        self._then(failures)

    def node_ended(self, frame: Frame, node: PlanNode) -> None:
        """As `Owner` says."""
