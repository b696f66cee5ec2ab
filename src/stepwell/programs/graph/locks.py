"""Critical sections: of all in a run that name one lock, one at a time is under way, first come first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.programs.graph.firing import Firing


class Locks:
    """The locks of one run, by name."""

    def __init__(self) -> None:
        self._holders: dict[str, object] = {}
        self._waiting: dict[str, deque[tuple[object, Callable[[], None]]]] = {}

    def take_then(self, name: str, holder: object, then: Callable[[], None]) -> bool:
        """Take a lock at once, or be called when it is there."""
        if name not in self._holders:
            self._holders[name] = holder
            return True
        self._waiting.setdefault(name, deque()).append((holder, then))
        return False

    def take(self, name: str, firing: Firing) -> bool:
        """The same for a node, which begins when its turn has come."""

        def granted() -> None:
            if firing.is_over:
                self.give_back(name)
            else:
                firing.lock = name
                firing.frame.program.queue.append(firing)

        return self.take_then(name, firing, granted)

    def explain(self) -> str:
        """Who waits for which lock that somebody else has; "" when nobody does."""
        return "; ".join(
            f"{_called(waiter)} waits for lock {name!r}, which {_called(self._holders[name])} has"
            for name, waiting in self._waiting.items()
            for waiter, _ in waiting
        )

    def give_back(self, name: str) -> None:
        """The holder is done."""
        waiting = self._waiting.get(name)
        if waiting:
            holder, then = waiting.popleft()
            self._holders[name] = holder
            then()
        else:
            self._holders.pop(name, None)

    def give_back_from(self, name: str, holder: object) -> None:
        """The same, if `holder` has the lock at all."""
        if self._holders.get(name) is holder:
            self.give_back(name)


def _called(holder: object) -> str:
    firing = getattr(holder, "firing", holder)
    return f"node {getattr(firing, 'path', '?')}"
