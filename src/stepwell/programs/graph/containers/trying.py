"""`try`: a body, what to do when it fails, and what to do in any case."""

from __future__ import annotations

from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.errors import caught_names, described, is_timeout
from stepwell.programs.graph.frame import Frame


class Try(Container):
    """One attempt at a body with its handlers."""

    def begin(self) -> None:
        """Begin the body."""
        self._stage = "do"
        self._outcome: tuple[object] | BaseException | None = None
        self.opened()
        self._open("do", {})

    def _open(self, name: str, locals: dict[str, object]) -> None:
        self._stage = name
        self.open(self.firing.node.bodies[name], self.firing.inside(1, name), locals)

    def ended_well(self, frame: Frame, output: object) -> None:
        """A stage is done."""
        if self._stage == "finally":
            self._conclude_with(self._outcome)
        else:
            self._finally((output,))

    def ended_badly(self, frame: Frame, error: BaseException) -> None:
        """A stage has failed: the body's failure may be caught, that of another is what the node fails with."""
        if self._stage == "do":
            names, timed_out = caught_names(error), is_timeout(error)
            for number, catch in enumerate(self.settings.catch):
                if catch.takes(names, timed_out) and f"catch.{number}" in self.firing.node.bodies:
                    what = described(error)
                    self._open(f"catch.{number}", {"error": what} | ({catch.as_: what} if catch.as_ else {}))
                    return
        if self._stage == "finally":
            self._conclude_with(error)
        else:
            self._finally(error)

    def _finally(self, outcome: tuple[object] | BaseException | None) -> None:
        self._outcome = outcome
        if "finally" in self.firing.node.bodies:
            self._open("finally", {})
        else:
            self._conclude_with(outcome)

    def _conclude_with(self, outcome: tuple[object] | BaseException | None) -> None:
        if isinstance(outcome, BaseException):
            self.fail(outcome)
        elif outcome is not None:
            self.close(outcome[0])
        else:
            self.is_stopping = True
            self.over()

    def stop(self, *, drain: bool) -> None:
        """The node is to end: its body is stopped, what stands under `finally` is done first all the same."""
        if self._stage == "finally" or self.is_stopping or "finally" not in self.firing.node.bodies:
            if self._stage != "finally" or self.is_stopping:
                super().stop(drain=drain)
            else:
                self._outcome = None
            return
        self._outcome = None
        frames, self.frames = tuple(self.frames), {}
        self._stage = "stopping"
        self._left = len(frames)
        for frame in frames:
            self.frames[frame] = None
            frame.stop("cancelling", drain=drain)

    def frame_ended(self, frame: Frame, output: object, error: BaseException | None) -> None:
        """As `Owner` says; a body that was stopped is followed by `finally`."""
        if self._stage == "stopping":
            self.frames.pop(frame, None)
            self._open("finally", {})
            return
        super().frame_ended(frame, output, error)
