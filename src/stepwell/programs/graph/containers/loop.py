"""`loop`: a body again and again, one iteration after the other."""

from __future__ import annotations

from stepwell.errors import TooManyVisits
from stepwell.expressions.conditions import compile_condition
from stepwell.expressions.names import ChainNames, MappingNames
from stepwell.model.durations import micros
from stepwell.model.ids import StepPath
from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.frame import Frame


class Loop(Container):
    """The iterations of one loop."""

    def begin(self) -> None:
        """Begin the first iteration, if there is one."""
        settings = self.settings
        self._items = settings.items
        total = len(self._items) if self._items is not None else settings.for_
        self._total: int | None = total
        self._index = 0
        self._results: list[object] = []
        self._last: object = None
        self._outputs: dict[str, object] = {}
        self._is_done = False
        self.opened(total)
        self._next()

    def _locals(self) -> dict[str, object]:
        loop: dict[str, object] = {
            "index": self._index,
            "iteration": self._index + 1,
            "total": self._total,
            "last": self._last,
        }
        if self._items is None or self._index >= len(self._items):
            return {"loop": loop}
        item = self._items[self._index]
        loop["item"] = loop["currentItem"] = item
        return {"loop": loop, "item": item}

    def _holds(self, source: object) -> bool:
        inner = MappingNames({**self._outputs, **self._locals()})
        return compile_condition(source).holds(ChainNames(inner, self.firing.frame))

    def _goes_on(self) -> bool:
        """Whether there is another iteration."""
        settings = self.settings
        if self._is_done or (self._total is not None and self._index >= self._total):
            return False
        if settings.while_ is not None and not self._holds(settings.while_):
            return False
        if settings.do_while is not None and self._index > 0 and not self._holds(settings.do_while):
            return False
        if settings.max is not None and self._index >= settings.max:
            if settings.on_max == "fail":
                raise TooManyVisits(f"loop {self.firing.path} has not ended after {settings.max} iterations, its max")
            return False
        return True

    def _next(self) -> None:
        try:
            goes_on = self._goes_on()
        except Exception as error:
            self.fail(error)
            return
        if not goes_on:
            self.close({"results": self._results, "iterations": self._index, "last": self._last})
        elif self.settings.interval is not None and self._index > 0:
            length = micros(self.settings.interval, f"the interval of loop {self.firing.path}")
            path = StepPath(self.firing.inside(self._index + 1), "interval", 1)
            self.program.timer(self.firing, path, length, lambda *_: self._iterate())
        else:
            self._iterate()

    def _iterate(self) -> None:
        if not self.is_stopping:
            self.open(self.firing.node.bodies["do"], self.firing.inside(self._index + 1), self._locals())

    def ended_well(self, frame: Frame, output: object) -> None:
        """An iteration is over."""
        self._last = output
        if self.settings.collect == "all":
            self._results.append(output)
        self._outputs = frame.outputs
        self._index += 1
        # The next one begins from the queue: thousands of iterations of pure nodes must not pile up on the stack.
        self.program.later(self._next)

    def end_here(self) -> None:
        """A `break`: the present iteration is the last."""
        self._is_done = True
        for frame in tuple(self.frames):
            frame.finish(None)
