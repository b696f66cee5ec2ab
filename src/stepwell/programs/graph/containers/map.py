"""`map`: a body for each item in a sliding window, results in the order of the items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwell.errors import GraphError, MapFailed
from stepwell.expressions.conditions import Condition
from stepwell.expressions.names import ChainNames, MappingNames
from stepwell.expressions.templates import compile_value
from stepwell.model.ids import StepPath
from stepwell.nodes.map import MapSettings, completion
from stepwell.nodes.protocol import OUT
from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.errors import described
from stepwell.programs.graph.frame import Frame


class Map(Container):
    """The items of one map, or of a `parallel` over items or a count."""

    settings: Any  # Any: a map's settings, or those of a parallel with one body

    def begin(self) -> None:
        """Begin as many items as there is room for."""
        settings = self.settings
        if not isinstance(settings, MapSettings):
            settings = MapSettings(items=settings.items, count=settings.count, concurrency=settings.concurrency)
        self._map: MapSettings = settings
        self._items: list[object] = settings.elements()
        self._results: list[object] = [None] * len(self._items)
        self._errors: list[dict[str, object]] = []
        self._causes: list[BaseException] = []
        self._index_of: dict[Frame, int] = {}
        self._next = 0
        self._done = 0
        self._filling = False
        self._is_closed = False
        self._keys: set[str] = set()
        self._key = (
            compile_value(settings.key, f"the key of map {self.firing.path}") if settings.key is not None else None
        )
        self._when: Condition | None = None
        if settings.complete_when is not None:
            self._when = completion(settings.complete_when)
        self.opened(len(self._items))
        if settings.accept:
            self._listen(1)
        if not settings.sync:
            self.firing.leave(self._output(), (OUT,))
        self._fill()

    # -- items --------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        if self._filling:  # an item that ended at once called back in here: the loop below goes on
            return
        self._filling = True
        try:
            room = self._map.concurrency or len(self._items) + 1
            while self._next < len(self._items) and len(self.frames) < room and not self.is_stopping:
                index, self._next = self._next, self._next + 1
                self._begin_item(index)
        finally:
            self._filling = False
        if not self.frames and not self.is_stopping and self._next >= len(self._items) and not self._stays_open():
            self._finish()

    def _stays_open(self) -> bool:
        return bool(self._map.stay_open and self._map.accept and not self._is_closed)

    def _begin_item(self, index: int) -> None:
        item = self._items[index]
        own = {"index": index, "total": len(self._items), "item": item, "currentItem": item}
        locals: dict[str, object] = {"item": item, "map": own, "parallel": own}
        number, branch = index + 1, ""
        if self._key is not None:
            branch = str(self._key.render(ChainNames(MappingNames(locals), self.firing.frame)))
            if branch in self._keys:
                raise GraphError(f"map {self.firing.path}: two items have the key {branch!r}")
            self._keys.add(branch)
            number = 1
        frame = Frame(
            self.program,
            self.firing.node.bodies["do"],
            self.firing.inside(number, branch),
            locals,
            self.firing.frame,
            self,
            self.firing.frame.saga,
        )
        self.frames[frame] = None
        self._index_of[frame] = index
        frame.begin()

    def ended_well(self, frame: Frame, output: object) -> None:
        """An item is done."""
        self._results[self._index_of.pop(frame)] = output
        self._one_more()

    def ended_badly(self, frame: Frame, error: BaseException) -> None:
        """An item has failed, which the map may tolerate."""
        self._errors.append({"index": self._index_of.pop(frame), "error": described(error)})
        self._causes.append(error)
        if len(self._errors) > self._map.tolerated(len(self._items)):
            self._give_up()
        else:
            self._one_more()

    def _give_up(self) -> None:
        first, *others = self._causes
        for error in others:
            self.program.lost(error)
        if self._map.tolerated(len(self._items)) == 0:
            self.fail(first)
            return
        failed = MapFailed(
            f"map {self.firing.path}: {len(self._errors)} of {len(self._items)} items failed, tolerated are "
            f"{self._map.tolerate}; the first: {first}"
        )
        failed.__cause__ = first
        self.fail(failed)

    def _one_more(self) -> None:
        self._done += 1
        counts = self.program.maps
        counts[self.firing.node.id] = (self._done, len(self._items), len(self._errors))
        if self._when is not None and not self.firing.has_left and self._is_complete(self._when):
            self._complete()
        else:
            self._fill()

    def _is_complete(self, when: Condition) -> bool:
        own = {
            "done": self._done,
            "succeeded": self._done - len(self._errors),
            "failed": len(self._errors),
            "total": len(self._items),
            "results": self._results,
        }
        return when.holds(ChainNames(MappingNames({"map": own}), self.firing.frame))

    def _complete(self) -> None:
        """The condition holds: the rest is cancelled, or goes on and is ignored."""
        if self._map.rest == "cancel":
            self._finish()
            return
        self._next = len(self._items)
        self._is_closed = True
        self.firing.leave(self._output(), (OUT,))
        if not self.frames:
            self._finish()

    def complete_now(self) -> None:
        """End with the results that are there."""
        if not self.is_stopping:
            self._finish()

    def _finish(self) -> None:
        self._errors.sort(key=lambda one: one["index"])  # type: ignore[arg-type,return-value]  # an int
        self.close(self._output())

    def _output(self) -> dict[str, object]:
        return {
            "results": list(self._results),
            "errors": list(self._errors),
            "total": len(self._items),
            "succeeded": self._done - len(self._errors),
            "failed": len(self._errors),
        }

    # -- items that come while it runs --------------------------------------------------------------------------

    def _listen(self, number: int) -> None:
        path = StepPath(self.firing.inside(number, "accept"), self._map.accept, 1)
        self.program.await_signal(self.firing, path, self._map.accept, self._heard(number))

    def _heard(self, number: int) -> Callable[[object, BaseException | None], None]:
        def heard(payload: object, error: BaseException | None) -> None:
            if self.is_stopping or error is not None or self._is_closed:
                return
            if payload is None:
                self._is_closed = True
            else:
                new = payload if isinstance(payload, list) else [payload]
                self._items.extend(new)
                self._results.extend([None] * len(new))
                self.opened(len(self._items))
                self._listen(number + 1)
            self._fill()

        return heard
