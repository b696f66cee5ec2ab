"""One execution of a node: from its conditions and locks by way of its work to the ports by which it is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stepwell.errors import ControlFlow, GraphError
from stepwell.expressions.conditions import Condition
from stepwell.expressions.names import Failed
from stepwell.graph.plan import PlanNode
from stepwell.model.durations import micros
from stepwell.model.entries import NodePassed
from stepwell.model.ids import StepPath
from stepwell.nodes.protocol import ERROR, OUT, TIMEOUT
from stepwell.programs.graph.errors import described, is_timeout
from stepwell.programs.graph.values import encoded

if TYPE_CHECKING:
    from stepwell.programs.graph.containers.protocol import Container
    from stepwell.programs.graph.frame import Frame, Links


class Firing:
    """A node that runs in a frame. `path` is where its step stands; `open` is what it waits for."""

    __slots__ = (
        "_after",
        "container",
        "frame",
        "has_left",
        "is_over",
        "lock",
        "node",
        "open",
        "outlasts",
        "path",
        "phase",
        "was_delayed",
    )

    def __init__(self, frame: Frame, node: PlanNode, path: StepPath) -> None:
        self.frame = frame
        self.node = node
        self.path = path
        self.open: dict[StepPath, bool] = {}  # whether it is a wait
        self.container: Container | None = None
        self.outlasts: StepPath | None = None  # the child run that it does not end before
        self._after: Callable[[], None] | None = None
        self.lock = ""
        self.phase = 0
        self.is_over = False
        self.has_left = False
        self.was_delayed = False

    @property
    def label(self) -> str:
        """The node's id as a link of a scope; a node that runs again has its occurrence with it."""
        return self.node.id if self.path.occurrence == 1 else f"{self.node.id}#{self.path.occurrence}"

    def inside(self, number: int, branch: str = "") -> Links:
        """The scope of what is inside this node: item, turn or phase `number`, of a branch if it has several."""
        return (*self.frame.links, (f"{self.label}.{branch}" if branch else self.label, number))

    def beside(self, suffix: str) -> StepPath:
        """The path of something that belongs to this node, such as its delay."""
        return StepPath(self.path.scope, f"{self.node.id}.{suffix}", self.path.occurrence)

    # -- begin --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Do what the node is for, or find out that it is to wait, or to be skipped."""
        if self.is_over:
            return
        try:
            self._begin()
        except ControlFlow:
            raise
        except Exception as error:
            self.fail(error)

    def _begin(self) -> None:
        node, frame = self.node, self.frame
        if frame.hold(self) or not self._has_lock():
            return
        if not self.was_delayed:
            if node.condition is not None and not self._holds(node.condition):
                frame.record_skip(node, "its condition is false", self.path)
                self.end(None, ())
                return
            if node.delay is not None:
                self._wait_first(micros(node.delay.render(frame), f"the delay of {node.id}"))  # type: ignore[arg-type]  # it says what it takes
                return
        frame.begins(node)
        if node.mock is not None:
            self._mock()
        else:
            frame.program.perform(self)

    def _holds(self, condition: Condition) -> bool:
        return condition.holds(self.frame)

    def _has_lock(self) -> bool:
        name = self.node.critical
        if not name or self.lock:
            return True
        if self.frame.program.locks.take(name, self):
            self.lock = name
            return True
        return False

    def _wait_first(self, length: int) -> None:
        def over(_: object, error: BaseException | None) -> None:
            self.was_delayed = True
            self.begin()

        self.frame.program.timer(self, self.beside("delay"), length, over)

    def _mock(self) -> None:
        mock = self.node.mock
        assert mock is not None, "it was asked for"
        if mock.error:
            raise GraphError(mock.error)
        output = None if mock.output is None else mock.output.render(self.frame)
        self.passed(output, (mock.port,))

    # -- end ----------------------------------------------------------------------------------------------------

    def passed(self, output: object, ports: tuple[str, ...]) -> None:
        """The node has its outcome without an attempt; that is journaled."""
        program = self.frame.program
        if program.journals:
            program.record(NodePassed(at=0, path=self.path, ports=ports, output=encoded(output, self.path)))
        self.succeed(output, ports)

    def succeed(self, output: object, ports: tuple[str, ...] = (OUT,)) -> None:
        """The node's work is done."""
        if self.is_over:
            return
        node = self.node
        try:
            if node.output_schema is not None:
                self.frame.program.check_output(node, output)
            unknown = [port for port in ports if port != OUT and port not in node.outs]
            if unknown and len(unknown) == len(ports) and node.type.kind in ("task", "action"):
                raise GraphError(f"node {node.id} was left by port {unknown[0]!r}, and no edge leads from there")
        except Exception as error:
            self.fail(error)
            return
        if "compensate" in node.bodies:
            self.frame.saga.add(self, output)
        self.end(output, ports)

    def leave(self, output: object, ports: tuple[str, ...]) -> None:
        """What comes after the node begins, although the node goes on."""
        self.has_left = True
        self.frame.leave(self, output, ports)

    def end(self, output: object, ports: tuple[str, ...], *, keep: bool = False) -> None:
        """The node has ended and is left by `ports`."""
        if self.is_over:
            return
        self._settle()
        if not self.has_left:
            self.frame.leave(self, output, ports, keep=keep)
        self.frame.over(self)

    def fail(self, error: BaseException) -> None:
        """The node has failed: by its own ports if they are wired, else its body has failed with it."""
        if self.is_over:
            return
        node, frame = self.node, self.frame
        timed_out = is_timeout(error)
        frame.program.undone.date(error)
        if not hasattr(error, "node"):
            error.node = node.id  # type: ignore[attr-defined]  # read back by `described`: where it began
        if not frame.ending and not self.has_left:
            for port, fits in (
                (TIMEOUT, timed_out and TIMEOUT in node.outs),
                (ERROR, ERROR in node.outs or node.on_error == "port"),
                (OUT, node.on_error == "continue"),
            ):
                if fits:
                    self.withdraw()
                    output = {"error": described(error)}
                    self.end(output if port == OUT else Failed(output), (port,), keep=True)
                    return
        self._settle()
        if frame.ending:
            frame.program.lost(error)
        frame.fail(error)
        frame.over(self)

    def _settle(self) -> None:
        self.is_over = True
        self.withdraw()
        if self.lock:
            self.frame.program.locks.give_back(self.lock)
            self.lock = ""

    # -- being ended --------------------------------------------------------------------------------------------

    def withdraw(self) -> None:
        """Wait for nothing any more."""
        asks = self.frame.program.asks
        for path, is_wait in self.open.items():
            if is_wait:
                asks.withdraw(path)
            else:
                asks.cancel_step(path)
        self.open.clear()

    def cancel(self) -> None:
        """End this node alone: for what comes after it its path is dead."""
        self.stop(drain=False)

    def stop(self, *, drain: bool) -> None:
        """End; with `drain` an attempt that is under way may end first."""
        if self.is_over:
            return
        if self.container is not None:
            self.container.stop(drain=drain)
            return
        if drain:
            for path in [path for path, is_wait in self.open.items() if is_wait]:
                del self.open[path]
                self.frame.program.asks.withdraw(path)
            if self.open:
                return
        self.outlast(self.give_up)

    def outlast(self, then: Callable[[], None]) -> None:
        """Do something that ends the node: at once, or when the child run has ended that it is to wait for."""
        if self.outlasts is None or self.outlasts not in self.open:
            then()
            return
        is_asked, self._after = self._after is not None, then
        if not is_asked:
            self.frame.program.asks.end_child(self.outlasts)

    def outlasted(self) -> bool:
        """The child run has ended; whether that was only waited for."""
        after, self._after = self._after, None
        if after is not None:
            after()
        return after is not None

    def give_up(self) -> None:
        """The node ends without an outcome."""
        if not self.is_over:
            self._settle()
            self.frame.cancelled(self)

    def complete_now(self) -> None:
        """End a map with the results that it has; what else the node is does not hear of it."""
        if self.container is not None:
            self.container.complete_now()
