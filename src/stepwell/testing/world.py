"""The simulated machine: processes that can be killed and frozen, and the history of all that happened on it.

The history is one list in the order of events, across all processes. It is what no process could forget or forge, and
what `invariants` compares the journals with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias, TypeVar

import msgspec

from stepwell.app import Stepwell
from stepwell.authoring.registry import Registry
from stepwell.authoring.task import Task
from stepwell.engine.limits import Limits
from stepwell.errors import StepwellError, StoreError
from stepwell.model.entries import kind_of
from stepwell.stores.protocol import Append, Message, NewMessage, NewRun, RunRow
from stepwell.stores.tables import Admission, NewEvent
from stepwell.stores.tables import Event as StoredEvent
from stepwell.testing.plots import QUEUES
from stepwell.testing.scenes import book, has_change, make, talk, undo
from stepwell.testing.scripts import TASKS, blend, bulky, bulky_child, echo, kid, play
from stepwell.testing.unreliable import Disk, UnreliableStore
from stepwell.testing.virtual import OutOfTime, SimLoop, VirtualClock, VirtualTime

T = TypeVar("T")

GRAPH_TASKS: tuple[Task[..., Any], ...] = (*TASKS.values(), blend, bulky, make, undo, talk, book)
"""What nodes of simulated graphs may call. (Any: whatever they return.)"""

BATCHES = 100_000
"""Batches of callbacks after which a simulation is given up; a thousand are usual."""

TRACE = 150
"""Events that a report of a violation shows."""


@dataclass
class Effect:
    """An attempt as the world saw it. `ended` is its position in the history, None if its process died in it."""

    position: int
    process: str
    run_id: str
    key: str
    attempt: int
    name: str
    token: int
    ended: int | None = None
    value: int | None = None
    how: str = ""


@dataclass(frozen=True)
class Committed:
    """The shared data changed. `result` is a message for a post, a row for a created run."""

    position: int
    process: str
    name: str
    argument: object
    result: object


@dataclass(frozen=True)
class Accepted:
    """Somebody was told that what they wanted is accepted."""

    position: int
    verb: str
    run_id: str
    name: str
    payload: int


@dataclass
class Session:
    """One reading of a run's stream, from its beginning: chunks as (step, attempt, number, value).

    `ended` is its position in the history, None if its process ended before the stream did.
    """

    position: int
    run_id: str
    process: str
    chunks: list[tuple[str, int, int, str]]
    ended: int | None = None


@dataclass(frozen=True)
class Happened:
    """Anything else worth telling a reader."""

    position: int
    text: str


Event: TypeAlias = Effect | Committed | Accepted | Session | Happened


class ProcessDied(Exception):
    """The process that was asked has been killed."""


class World:
    """Everything outside the processes: time, the disk, and the history."""

    def __init__(self, seed: int, *, dawdle: float) -> None:
        self.time = VirtualTime(f"schedule {seed}", dawdle=dawdle)
        self.chance = Random(f"world {seed}")
        self.history: list[Event] = []
        self.stamps: list[int] = []
        self.processes: list[Process] = []
        self.disk = Disk(self.time, Random(f"disk {seed}"), self)
        self.commits = 0
        self.last_change = 0
        self.before_commit: dict[int, Callable[[], None]] = {}
        self.after_commit: dict[int, Callable[[], None]] = {}

    def _add(self, event: Event) -> None:
        self.history.append(event)
        self.stamps.append(self.time.micros)

    def tell(self, text: str) -> None:
        """Note something for readers of the history."""
        self._add(Happened(len(self.history), text))

    def accepted(self, verb: str, run_id: str, name: str = "", payload: int = 0) -> None:
        """Somebody was told that this is accepted."""
        self._add(Accepted(len(self.history), verb, run_id, name, payload))

    def session(self, run_id: str, process: str) -> Session:
        """Somebody begins to read a stream."""
        session = Session(len(self.history), run_id, process, [])
        self._add(session)
        return session

    # -- what tasks tell ----------------------------------------------------------------------------------------

    def attempt_began(self, process: str, run_id: str, key: str, attempt: int, name: str, token: int) -> int:
        """See `scripts.Observer`."""
        position = len(self.history)
        self.last_change = self.time.micros
        self._add(Effect(position, process, run_id, key, attempt, name, token))
        return position

    def attempt_ended(self, number: int, value: int | None, how: str) -> None:
        """See `scripts.Observer`."""
        effect = self.history[number]
        assert isinstance(effect, Effect), "only effects end"
        if self._process(effect.process).dead:  # its coroutine is being closed; nothing of that happens
            return
        self.last_change = self.time.micros
        effect.ended, effect.value, effect.how = len(self.history), value, how
        self.tell(f"{effect.process}: attempt {effect.attempt} of {effect.key} {how}")

    # -- what stores tell ---------------------------------------------------------------------------------------

    def committing(self, store: UnreliableStore, name: str, argument: object) -> bool:
        """See `unreliable.Witness`."""
        act = self.before_commit.pop(self.commits + 1, None)
        if act is not None:
            act()
        return not store.dead

    def committed(self, store: UnreliableStore, name: str, argument: object, result: object) -> None:
        """See `unreliable.Witness`."""
        if name in ("renew", "forget_events") or (name == "claim" and not result):
            return
        if isinstance(result, Admission) and not result.admitted:
            return
        self.commits += 1
        self.last_change = self.time.micros
        self._add(Committed(len(self.history), store.process, name, argument, result))
        act = self.after_commit.pop(self.commits, None)
        if act is not None:
            act()

    def _process(self, name: str) -> Process:
        return next(process for process in self.processes if process.name == name)

    # -- reading ------------------------------------------------------------------------------------------------

    def trace(self) -> str:
        """The end of the history, a line per event."""
        lines = [
            f"{stamp / 1000:10.3f} ms  {_line(event)}" for event, stamp in zip(self.history, self.stamps, strict=True)
        ]
        left_out = len(lines) - TRACE
        return "\n".join(([f"… {left_out} earlier events"] if left_out > 0 else []) + lines[-TRACE:])


class Process:
    """A simulated process: a loop, a store object and a `Stepwell`."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        drive: bool,
        limits: Limits | None = None,
        warm_wait: int = 0,
        grace: int = 0,
        is_new: bool = True,
    ) -> None:
        self.world = world
        self.name = name
        self.drive = drive
        self.loop = world.time.loop(name)
        self.loop.observer = world  # type: ignore[attr-defined]  # read by simulated tasks
        self.loop.chance = Random(world.chance.getrandbits(48))  # type: ignore[attr-defined]  # likewise
        self.clock = VirtualClock(self.loop)
        self.store = UnreliableStore(world.disk, self.loop)
        self.is_open = False
        self.closed = False
        self.dead = False
        self.trouble: list[str] = []
        self.readers: set[asyncio.Task[None]] = set()
        self._is_new = is_new
        self._asked: list[asyncio.Task[None]] = []
        self._calls: list[tuple[SimLoop, asyncio.Future[Any]]] = []
        world.processes.append(self)
        self.app = Stepwell(
            self.store,
            workflows=[play, kid, echo, bulky_child],
            tasks=Registry(GRAPH_TASKS, entry_points=False),
            queues=QUEUES.values() if drive else (),
            drive=drive,
            limits=limits,
            warm_wait=warm_wait / 1_000_000,
            grace=grace / 1_000_000,
            clock=self.clock,
            chance=Random(world.chance.getrandbits(48)),
        )

    def start(self) -> None:
        """Open the app, as often as it takes: another process may still have the right to drive."""
        self.world.tell(f"{self.name}: starts")
        self.loop.create_task(self._open())

    async def _open(self) -> None:
        while not self.closed:
            try:
                await self.app.open()
            except StoreError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(0.2)
            else:
                self.is_open = True
                self.store.calls = 0  # those of earlier tries, while another process drove, are not the engine's
                if self.drive:  # bodies inherit it from the engine's own context
                    self.app.engine.context.run(has_change.set, lambda _: self._is_new)
                self.world.tell(f"{self.name}: is open")
                return

    @property
    def is_up(self) -> bool:
        """Whether it can be asked for something."""
        return self.is_open and not (self.dead or self.closed)

    @property
    def has_lost(self) -> bool:
        """Whether it drove and knows that another process drives now."""
        return self.is_up and self.drive and self.app.engine.lost

    async def ask(self, what: Callable[[Stepwell], Awaitable[T]]) -> T:
        """Have this process do something; from another process's loop.

        Raises:
            ProcessDied: it was killed before it answered.
        """
        caller = asyncio.get_running_loop()
        assert isinstance(caller, SimLoop), "simulated processes ask each other"
        answer: asyncio.Future[T] = caller.create_future()
        self._calls.append((caller, answer))

        async def work() -> None:
            try:
                result = await what(self.app)
            except StepwellError as error:
                caller.call_soon(_settle, answer, None, error)
            except TimeoutError as error:
                caller.call_soon(_settle, answer, None, error)
            else:
                caller.call_soon(_settle, answer, result, None)

        if self.dead:
            raise ProcessDied
        self.loop.call_soon(lambda: self._asked.append(self.loop.create_task(work())))
        return await answer

    def kill(self, why: str = "killed") -> None:
        """SIGKILL."""
        if self.dead or self.closed:
            return
        self.world.tell(f"{self.name}: {why}")
        with self.loop.running():
            self.store.kill()
        self.dead = True
        self._scrap()
        for caller, answer in self._calls:
            caller.call_soon(_settle, answer, None, ProcessDied())

    def _scrap(self) -> None:
        """Free what the dead process held, so that nothing of it is left for the garbage collector to run."""
        self.loop.kill()
        engine = self.app._engine
        if engine is not None:
            for runner in tuple(engine.runners.values()):
                runner.abandon()
            engine.bodies.shutdown(wait=False)
        self.loop.ready.clear()

    def freeze(self, *, disk_goes_on: bool) -> None:
        """SIGSTOP."""
        self.world.tell(f"{self.name}: frozen")
        self.loop.frozen = True
        if not disk_goes_on:
            self.store.hold()

    def thaw(self) -> None:
        """SIGCONT."""
        if self.loop.frozen and not self.dead:
            self.world.tell(f"{self.name}: thawed")
            self.loop.frozen = False
            self.store.release()

    async def close(self) -> None:
        """End in good order; from another process's loop."""
        self.closed = True
        if self.is_open:
            self.world.tell(f"{self.name}: closes")
            await self.ask(self._end_readers)
            await self.ask(lambda app: app.close())
        self.world.tell(f"{self.name}: has closed")

    def read(self, work: Callable[[Stepwell], Coroutine[Any, Any, None]]) -> None:
        """Have this process read something for as long as it lives."""

        def begin() -> None:
            task = self.loop.create_task(work(self.app))
            self.readers.add(task)
            task.add_done_callback(self.readers.discard)

        self.loop.call_soon(begin)

    async def _end_readers(self, _: Stepwell) -> None:
        readers = tuple(self.readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    def leftovers(self) -> list[str]:
        """What a closed process still holds that it should have given back."""
        left = (task for task in self.loop.tasks if not task.done() and task not in self._asked)  # those are people's
        found = [f"asyncio task {task.get_name()} {task.get_coro()}" for task in left]
        found += [f"timer {timer}" for timer in self.world.time.timers_of(self.loop)]
        return found + self.loop.errors


def _settle(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _line(event: Event) -> str:
    match event:
        case Effect():
            return f"{event.process}: attempt {event.attempt} of {event.key} begins with token {event.token}"
        case Accepted():
            return f"accepted: {event.verb} {event.name} {event.payload or ''} of {event.run_id}"
        case Session():
            return f"{event.process}: reads the stream of {event.run_id}"
        case Happened():
            return event.text
        case Committed():
            return f"{event.process}: commits {_told(event.argument, event.result, event.name)}"


def _told(argument: object, result: object, name: str) -> str:
    match argument:
        case Append():
            entries = ", ".join(
                f"{argument.seq + n} {kind_of(entry)}{_place(entry)}" for n, entry in enumerate(argument.entries)
            )
            extras = [f"status {argument.status}", f"wake_at {argument.wake_at}"]
            extras += ["release"] if argument.release else []
            extras += [f"seen {argument.seen}"] if argument.release else []
            extras += [f"consumes {argument.consumed}"] if argument.consumed else []
            extras += [f"creates {[child.run_id for child in argument.children]}"] if argument.children else []
            extras += [f"posts {[(post.run_id, post.kind) for post in argument.posts]}"] if argument.posts else []
            extras += [f"opens {[wait.path for wait in argument.opened]}"] if argument.opened else []
            extras += [f"publishes {[event.id for event in argument.events]}"] if argument.events else []
            return f"{argument.run_id} epoch {argument.epoch}: [{entries}] {'; '.join(extras)}"
        case NewRun():
            return f"run {argument.run_id}, owner {argument.owner} → {_row(result)}"
        case NewMessage():
            number = result.id if isinstance(result, Message) else result
            return f"message {number} {argument.kind} {argument.name} {argument.body!r} to {argument.run_id}"
        case NewEvent():
            position = result.position if isinstance(result, StoredEvent) else result
            passing = " in passing" if argument.transient else ""
            return f"event {position} {argument.topic} {argument.id}{passing}"
        case tuple():
            return f"{name} {[run.run_id for run in argument]} {result}"
        case _:
            if isinstance(result, Admission):
                return f"{name} {argument}: {list(result.admitted)}"
            claimed = result if isinstance(result, list) else []
            return f"{name} {[(one.row.run_id, one.row.epoch, [m.id for m in one.messages]) for one in claimed] or ''}"


def _row(result: object) -> str:
    return f"epoch {result.epoch}, owner {result.owner}" if isinstance(result, RunRow) else ""


def _place(entry: msgspec.Struct) -> str:
    path = getattr(entry, "path", None)
    return f"({path})" if path is not None else ""


def run_coroutine(world: World, loop: SimLoop, work: Coroutine[Any, Any, T], limit: int) -> T:
    """Run a coroutine on a loop of this world within `limit` microseconds of virtual time.

    Raises:
        OutOfTime: it did not end within the limit, or more has happened than any sound simulation needs.
    """
    task = loop.create_task(work)
    world.time.run(lambda: task.done() or world.time.batches > BATCHES, limit=limit)
    if not task.done():
        raise OutOfTime(f"{BATCHES:,} batches of callbacks, and no end")
    return task.result()
