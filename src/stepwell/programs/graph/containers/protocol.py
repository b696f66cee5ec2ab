"""What every container does: open frames, hear of their ends, and end itself when nothing in it moves any more."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from stepwell.graph.plan import PlanBody, PlanNode
from stepwell.model.entries import ScopeClosed, ScopeOpened
from stepwell.nodes.protocol import OUT
from stepwell.programs.graph.frame import Frame, Links

if TYPE_CHECKING:
    from stepwell.programs.graph.firing import Firing
    from stepwell.programs.graph.undoing import Saga


class Gate(Protocol):
    """Lets the nodes of a body run when it is their turn."""

    def ask(self, firing: Firing) -> None:
        """Let it run, now or later."""

    def give_back(self, firing: Firing) -> None:
        """It has ended."""


class Container:
    """The work of one firing of a container node.

    A subclass opens frames with `open`, hears of each end in `ended_well` and `ended_badly`, and ends with `close` or
    `fail`. When the node is stopped, its frames are; when they have ended, so has it.
    """

    def __init__(self, firing: Firing, settings: Any) -> None:  # Any: an instance of the type's `Settings`
        self.firing = firing
        self.settings = settings
        self.program = firing.frame.program
        self.frames: dict[Frame, None] = {}
        self.is_stopping = False
        self._verdict: tuple[object, tuple[str, ...]] | BaseException | None = None

    # -- for subclasses -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the first frames."""
        raise NotImplementedError

    def ended_well(self, frame: Frame, output: object) -> None:
        """A frame has come to its end."""
        raise NotImplementedError

    def ended_badly(self, frame: Frame, error: BaseException) -> None:
        """A frame has failed: so does the container, once its other frames have ended."""
        self.fail(error)

    def node_ended(self, frame: Frame, node: PlanNode) -> None:
        """A node of a frame has completed."""

    def complete_now(self) -> None:
        """End with what is there."""

    def opened(self, total: int | None = None) -> None:
        """Journal that the container begins."""
        self.program.record(ScopeOpened(at=0, path=self.firing.path, type=self.firing.node.type.name, total=total))

    def open(
        self,
        body: PlanBody,
        links: Links,
        locals: Mapping[str, object],
        *,
        saga: Saga | None = None,
        gate: Gate | None = None,
        is_undoing: bool = False,
    ) -> Frame:
        """Begin an instance of a body."""
        around = self.firing.frame
        frame = Frame(
            self.program,
            body,
            links,
            locals,
            around,
            self,
            around.saga if saga is None else saga,
            gate=gate,
            is_undoing=is_undoing,
        )
        self.frames[frame] = None
        frame.begin()
        return frame

    def close(self, output: object, ports: tuple[str, ...] = (OUT,)) -> None:
        """The container has its outcome; what is still under way in it is cancelled first."""
        self._conclude((output, ports))

    def fail(self, error: BaseException) -> None:
        """The container has failed; what is still under way in it may end first, as the definition says."""
        self._conclude(error, drain=self.program.plan.on_failure == "drain")

    # -- ends ---------------------------------------------------------------------------------------------------

    def _conclude(self, verdict: tuple[object, tuple[str, ...]] | BaseException | None, *, drain: bool = False) -> None:
        if self.is_stopping:
            return
        self._verdict = verdict
        self.is_stopping = True
        for frame in tuple(self.frames):
            frame.stop("cancelling", drain=drain)
        self._end_when_empty()

    def frame_ended(self, frame: Frame, output: object, error: BaseException | None) -> None:
        """As `Owner` says."""
        if self.frames.pop(frame, frame) is frame:
            return
        if self.is_stopping:
            if error is not None:
                self.program.lost(error)
            self._end_when_empty()
        elif error is not None:
            self.ended_badly(frame, error)
        else:
            self.ended_well(frame, output)

    def _end_when_empty(self) -> None:
        if self.frames or not self.is_stopping or self.firing.is_over:
            return
        verdict = self._verdict
        if verdict is None:
            self.over()
        elif isinstance(verdict, BaseException):
            self.program.record(ScopeClosed(at=0, path=self.firing.path))
            self.firing.fail(verdict)
        else:
            output, ports = verdict
            self.program.record(ScopeClosed(at=0, path=self.firing.path, ports=ports))
            self.firing.succeed(output, ports)
        self.release()  # last: who waits for it begins at once, unless this end was the end of that too

    def over(self) -> None:
        """The container was stopped, and nothing in it moves any more."""
        self.program.record(ScopeClosed(at=0, path=self.firing.path))
        self.firing.give_up()

    def release(self) -> None:
        """Give back what the container holds besides frames."""

    def stop(self, *, drain: bool) -> None:
        """The node is to end without an outcome."""
        if self.is_stopping:
            self._verdict = None
            if not drain:
                for frame in tuple(self.frames):
                    frame.stop("cancelling", drain=False)
            return
        self._conclude(None, drain=drain)


class OneAtATime:
    """A gate that lets one node run at a time, in the order in which they asked."""

    def __init__(self) -> None:
        self._waiting: deque[Firing] = deque()
        self._inside: Firing | None = None

    def ask(self, firing: Firing) -> None:
        """As `Gate` says."""
        if self._inside is None:
            self._inside = firing
            firing.frame.program.queue.append(firing)
        else:
            self._waiting.append(firing)

    def give_back(self, firing: Firing) -> None:
        """As `Gate` says."""
        if firing is not self._inside:
            if firing in self._waiting:
                self._waiting.remove(firing)
            return
        self._inside = None
        while self._waiting and self._inside is None:
            following = self._waiting.popleft()
            if not following.is_over:
                self.ask(following)
