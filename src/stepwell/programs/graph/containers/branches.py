"""Several bodies at once: all of them (`parallel`), or the one that wins (`race`)."""

from __future__ import annotations

from collections import deque

from stepwell.graph.plan import PlanNode
from stepwell.nodes.protocol import OUT
from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.frame import Frame

_COMPENSATE = "compensate"


class _Branches(Container):
    """Frames by the names of branches."""

    def branches(self) -> list[str]:
        """The branches in the order in which they are written."""
        return [name for name in self.firing.node.bodies if name != _COMPENSATE]

    def open_branch(self, name: str) -> None:
        """Begin a branch."""
        self.open(self.firing.node.bodies[name], self.firing.inside(1, name), {})

    def name_of(self, frame: Frame) -> str:
        """Which branch a frame is."""
        label, _ = frame.links[-1]
        return label[len(self.firing.label) + 1 :]


class Parallel(_Branches):
    """All branches at once, or as many as `concurrency` allows."""

    def begin(self) -> None:
        """Begin the branches."""
        names = self.branches()
        self._results: dict[str, object] = {}
        self._waiting = deque(names)
        self._left = len(names)
        self.opened(len(names))
        if not names:
            self.close({})
        self._fill()

    def _fill(self) -> None:
        room = self.settings.concurrency or len(self.firing.node.bodies)
        while self._waiting and len(self.frames) < room and not self.is_stopping:
            self.open_branch(self._waiting.popleft())

    def ended_well(self, frame: Frame, output: object) -> None:
        """One more branch is done."""
        self._results[self.name_of(frame)] = output
        self._left -= 1
        if not self._left:
            self.close({name: self._results[name] for name in self.branches()})
        else:
            self._fill()


class Race(_Branches):
    """Several branches of which one counts."""

    def begin(self) -> None:
        """Begin the branches."""
        self._winner: Frame | None = None
        self._errors: list[BaseException] = []
        names = self.branches()
        self._to_come = len(names)
        self.opened(len(names))
        if not names:
            self.close({"winner": None, "result": None})
        for name in names:
            if self._winner is None and not self.is_stopping:
                self.open_branch(name)
                self._to_come -= 1

    def node_ended(self, frame: Frame, node: PlanNode) -> None:
        """The first node to complete decides, unless the end of a branch does."""
        if self._winner is None and self.settings.decide == "first":
            self._decide(frame)

    def _decide(self, winner: Frame) -> None:
        self._winner = winner
        for other in tuple(self.frames):
            if other is not winner:
                other.cancel()

    def ended_well(self, frame: Frame, output: object) -> None:
        """The winner is at its end, or a loser has gone."""
        if self._winner is None:
            self._decide(frame)
        if frame is self._winner:
            name = self.name_of(frame)
            ports = (OUT, name) if name in self.firing.node.outs else (OUT,)
            self.close({"winner": name, "result": output}, ports)

    def ended_badly(self, frame: Frame, error: BaseException) -> None:
        """A branch that fails is out of the race; the race has failed when the winner does, or all do."""
        if frame is self._winner:
            self.fail(error)
            return
        self._errors.append(error)
        if self._winner is None and not self.frames and not self._to_come:
            for lost in self._errors[1:]:
                self.program.lost(lost)
            self.fail(self._errors[0])
