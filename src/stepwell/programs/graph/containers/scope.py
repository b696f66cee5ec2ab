"""`scope`: a body that is undone, limited, locked or cancelled as one."""

from __future__ import annotations

from stepwell.errors import ScopeTimedOut
from stepwell.model.durations import micros
from stepwell.model.ids import StepPath
from stepwell.nodes.protocol import TIMEOUT
from stepwell.programs.graph.containers.protocol import Container, OneAtATime
from stepwell.programs.graph.frame import Frame
from stepwell.programs.graph.undoing import Saga, Undoing

CANCELLED = "cancelled"


class Scope(Container):
    """One instance of a scope."""

    def begin(self) -> None:
        """Wait for the lock, then begin the body."""
        self._undoing: Undoing | None = None
        self._outcome: tuple[object, tuple[str, ...]] | BaseException | None = None
        self._is_closing = False
        lock = self.settings.critical
        if lock and not self.program.locks.take_then(lock, self, self._begin):
            return
        self._begin()

    def _begin(self) -> None:
        if self.is_stopping or self._is_closing:
            self.release()
            return
        settings, firing = self.settings, self.firing
        around = firing.frame.saga
        self._saga = Saga(around, merges=True) if settings.compensate == "auto" else Saga(None)
        self.opened()
        if settings.timeout is not None:
            length = micros(settings.timeout, f"the timeout of scope {firing.path}")
            self.program.timer(firing, firing.beside("timeout"), length, lambda *_: self._late())
        on = settings.cancel_on
        if on is not None:
            path = StepPath(firing.inside(1, "cancel_on"), on.signal or on.event, 1)
            if on.signal:
                self.program.await_signal(firing, path, on.signal, lambda *_: self._called_off())
            else:
                self.program.await_event(firing, path, on.event, lambda *_: self._called_off())
        gate = OneAtATime() if settings.interleave else None
        self.open(firing.node.bodies["do"], firing.inside(1), {}, saga=self._saga, gate=gate)

    def _late(self) -> None:
        error = ScopeTimedOut(f"scope {self.firing.path} has not ended within {self.settings.timeout}")
        self._wind_up((None, (TIMEOUT,)) if TIMEOUT in self.firing.node.outs else error)

    def _called_off(self) -> None:
        self._wind_up((None, (CANCELLED,)))

    def _wind_up(self, outcome: tuple[object, tuple[str, ...]] | BaseException | None) -> None:
        """Cancel the body, undo what it did, and end like this (None: the node itself was stopped)."""
        if self._is_closing:
            if outcome is None:
                self._outcome = None
            return
        self._is_closing = True
        self._outcome = outcome
        self.firing.withdraw()
        if self.frames:
            for frame in tuple(self.frames):
                frame.cancel()
        else:
            self._undo()

    def ended_well(self, frame: Frame, output: object) -> None:
        """The body is done, or it was cancelled and is now undone."""
        if self._is_closing:
            self._undo()
            return
        self._is_closing = True
        self._saga.done()
        self.close(output)

    def ended_badly(self, frame: Frame, error: BaseException) -> None:
        """What the body did is undone; then the scope has failed."""
        if self._is_closing:
            self.program.lost(error)
        else:
            self._is_closing = True
            self._outcome = error
            self.firing.withdraw()
        self._undo()

    def _undo(self) -> None:
        saga = getattr(self, "_saga", None)
        if saga is None or not saga.calls or self.settings.compensate == "none":
            self._finish()
            return
        self._undoing = Undoing(self.program, saga, self._undone)
        self._undoing.begin()

    def _undone(self, failures: list[BaseException]) -> None:
        if failures:
            self.program.broken(failures)
        self._finish()

    def _finish(self) -> None:
        outcome = self._outcome
        if outcome is None:
            self.is_stopping = True
            self.over()
            self.release()
        elif isinstance(outcome, BaseException):
            self.fail(outcome)
        else:
            self.close(*outcome)

    def stop(self, *, drain: bool) -> None:
        """The node is to end: its body is stopped, and what it did undone."""
        if drain and not self._is_closing:
            self._is_closing = True
            self._outcome = None
            self.firing.withdraw()
            if self.frames:
                for frame in tuple(self.frames):
                    frame.stop("cancelling", drain=True)
            else:
                self._undo()
            return
        self._wind_up(None)

    def release(self) -> None:
        """Let the next one have the lock."""
        if self.settings.critical:
            self.program.locks.give_back_from(self.settings.critical, self)
