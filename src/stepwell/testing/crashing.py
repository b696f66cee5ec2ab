"""Where a bench's process dies: at a named step, before it, after it, or when its outcome is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import ArgumentError
from stepwell.model.entries import AnyEntry, kind_of
from stepwell.model.ids import StepPath
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.stores.protocol import Append, Message, NewMessage, NewRun, RunRow
from stepwell.stores.tables import Event, NewEvent

T = TypeVar("T")

When: TypeAlias = Literal["before", "after", "committed"]
Named: TypeAlias = "Task[..., Any] | Workflow[..., Any] | str"  # Any: whatever they return
"""A step: its task, the workflow of a child run, or its name or readable path (`charge`, `charge#2`, `signal:go`)."""

BEGINNINGS = frozenset({"step.started", "wait.started"})
ENDS = frozenset({"step.completed", "step.failed", "wait.satisfied", "wait.timed_out"})


def name_of(step: Named) -> str:
    """What the step is called."""
    return step if isinstance(step, str) else step.name


def is_named(path: StepPath, name: str) -> bool:
    """Whether a path is meant by a step's name, with or without what it waits for, or by its readable form."""
    return name in (path.name, str(path), path.name.partition(":")[2])


class CrashPoint:
    """A step at which the process dies, and how often it still will.

    Args:
        step: see `Named`.
        when: `before`: the attempt's (or wait's) beginning is on disk, and nothing of it has happened. `after`: it has
            happened, and its outcome is not on disk. `committed`: its outcome is on disk, and nothing that follows
            from it has begun.
        times: at how many attempts.
    """

    def __init__(self, step: Named, when: When, times: int) -> None:
        if when not in get_args(When):
            raise ArgumentError(f"crash_at(when={when!r}): use 'before', 'after' or 'committed'")
        if isinstance(times, bool) or times < 1:
            raise ArgumentError(f"crash_at(times={times!r}): give a whole number from 1")
        self.step = name_of(step)
        self.when = when
        self.left = times
        self.has_struck = False

    def strikes(self, moment: Literal["before the commit", "after the commit"], entries: Iterable[AnyEntry]) -> bool:
        """Whether the process dies now, with these entries about to be written, or just written."""
        if not self.left or (moment == "before the commit") != (self.when == "after"):
            return False
        kinds = BEGINNINGS if self.when == "before" else ENDS
        if not any(kind_of(entry) in kinds and is_named(entry.path, self.step) for entry in _with_path(entries)):
            return False
        self.left -= 1
        self.has_struck = True
        return True


def _with_path(entries: Iterable[AnyEntry]) -> Iterable[Any]:  # Any: entries that have a path
    return (entry for entry in entries if getattr(entry, "path", None) is not None)


class BenchStore(MemoryStore):
    """The store of one life of a bench's process: its data outlive it. `die` is called when a crash point strikes."""

    def __init__(self, data: MemoryData, points: list[CrashPoint], die: Callable[[], None]) -> None:
        super().__init__(data, url="bench://", is_shared=False)
        self.is_dead = False
        self._points = points
        self._die = die

    def append(self, append: Append) -> asyncio.Future[None]:
        """See `Store.append`."""
        if self.is_dead or self._strikes("before the commit", append.entries):
            return _unanswered()
        done = super().append(append)
        if done.exception() is None and self._strikes("after the commit", append.entries):
            return _unanswered()
        return done

    def create(self, run: NewRun) -> asyncio.Future[RunRow]:
        """See `Store.create`."""
        return _unanswered() if self.is_dead else super().create(run)

    def post(self, message: NewMessage) -> asyncio.Future[Message | None]:
        """See `Store.post`."""
        return _unanswered() if self.is_dead else super().post(message)

    def publish(self, event: NewEvent) -> asyncio.Future[Event | None]:
        """See `Store.publish`."""
        return _unanswered() if self.is_dead else super().publish(event)

    def transact(
        self,
        run_id: str,
        epoch: int,
        work: Callable[[Any], NewMessage],  # Any: as the protocol says
    ) -> asyncio.Future[Message]:
        """See `Store.transact`."""
        return _unanswered() if self.is_dead else super().transact(run_id, epoch, work)

    def _strikes(self, moment: Literal["before the commit", "after the commit"], entries: Iterable[AnyEntry]) -> bool:
        entries = tuple(entries)
        struck = [point for point in self._points if point.strikes(moment, entries)]
        if struck:
            self.is_dead = True
            self._die()
        return bool(struck)


def _unanswered() -> asyncio.Future[Any]:  # Any: nobody will see it
    return asyncio.get_running_loop().create_future()
