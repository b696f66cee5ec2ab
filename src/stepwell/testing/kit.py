"""`Bench`: a whole engine in memory and in virtual time, for tests of workflows.

```python
def test_an_order_that_nobody_approves_expires():
    with Bench(stubs={charge: returns("ref-1")}) as bench:
        run = bench.start(order_flow, "o-7")
        bench.advance("2d")
        assert run.result() == "expired"
        run.did_not_run(charge)
```

Nothing here waits in real time, so nothing is awaited: the same code stands in `def` and in `async def` tests. After
each call the engine has done everything that it can do without time passing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ParamSpec, TypeVar, cast

from stepwell.app import Stepwell
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow, workflow_of
from stepwell.engine.limits import Limits
from stepwell.errors import ArgumentError, RequestRefused, RunNotFound
from stepwell.model.durations import Duration, micros
from stepwell.model.requests import InputRequest
from stepwell.model.versions import label_of
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.testing.checks import CheckFailed
from stepwell.testing.crashing import BenchStore, CrashPoint, Named, When
from stepwell.testing.lives import Life
from stepwell.testing.runs import BenchRun
from stepwell.testing.standins import StandIns
from stepwell.testing.stubs import Call, Target
from stepwell.testing.threads import PATIENCE, ThreadedLoop, Threads
from stepwell.testing.virtual import BASE, OutOfTime, VirtualClock, VirtualTime
from stepwell.testing.watching import opened

P = ParamSpec("P")
T = TypeVar("T")

BATCHES = 1_000_000
"""Batches of callbacks after which what is waited for is taken for never to come; a step takes two or three."""

LONGEST = 1 << 62
"""No alarm of a bench looks at the clock before its time (microseconds)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ProcessDied(RequestRefused):
    """The bench's process died, as it was told to, before this was answered; another one has taken over."""

    code = "process_died"


class Bench:
    """An engine in memory whose time moves only when it is told to.

    Args:
        workflows: what the engine may take up without being asked for each; what `start` is given is added by itself.
        stubs: what stands for tasks, for tasks by name, or for workflows that are started as child runs.
        tasks: those that graphs name (see `Stepwell`).
        at: when virtual time begins: a datetime with a time zone, or ISO 8601 text; in January 2027 by default.
        seed: decides what is drawn: the jitter of retries, `ctx.random()`, `ctx.uuid()`.
        limits: how much happens at once.
        warm_wait: how long a run that only waits keeps its body; it is then rebuilt from its journal, as in real life.
        strict: see `Stepwell`: findings of the lint, and what cannot be replayed, are errors.
        threads: how many threads synchronous tasks get. With one, tests are deterministic.
        patience: how long a thread may work (real seconds).
    """

    def __init__(
        self,
        workflows: Iterable[Target] = (),
        *,
        stubs: Mapping[Any, object] | None = None,  # Any: a task of any signature, a workflow, or a name
        tasks: object = (),
        at: datetime | str | None = None,
        seed: int = 0,
        limits: Limits | None = None,
        warm_wait: Duration = "30s",
        strict: bool = False,
        threads: int = 1,
        patience: float = PATIENCE,
    ) -> None:
        self.data = MemoryData()
        self.crashes = 0
        self._known = _by_version(workflows)
        self._base = BASE if at is None else _moment(at)
        self._settings: dict[str, Any] = {  # Any: those of Stepwell
            "limits": limits,
            "warm_wait": warm_wait,
            "strict": strict,
            "tasks": tasks,
            "keep_events": None,  # what cleans up now and then would keep a bench from ever being idle
            "grace": 0,
        }
        self._chance = Random(seed)
        self._threads = Threads(patience)
        self._size = threads
        self._time = VirtualTime(seed, restless=BATCHES, outside=self._threads)
        self._stand_ins = StandIns()
        self._points: list[CrashPoint] = []
        self._life: Life | None = None
        self._has_struck = False
        self._started = 0
        for target, stub in (stubs or {}).items():
            self._stand_ins.put(target, stub)

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Bench:
        self.open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def open(self) -> None:
        """Begin to drive. Idempotent."""
        benches = opened.get()
        if benches is not None and self not in benches:
            benches.append(self)
        if self._life is None:
            self._begin()

    def close(self) -> None:
        """Stop driving; journals can still be read. Idempotent.

        Raises:
            CheckFailed: a crash point has not struck.
        """
        if self._life is None:
            return
        self._end(clean=True)
        self._close_database()
        idle = [point for point in self._points if not point.has_struck]
        if idle:
            steps = ", ".join(f"crash_at({point.step!r}, {point.when!r})" for point in idle)
            raise CheckFailed(f"{steps} never struck: is the step called so?\n\n{self.report()}")

    def abandon(self) -> None:
        """End as a process that dies, and check nothing: what is left to do when a test has failed. Idempotent."""
        self._end(clean=False, waits=False)
        self._close_database()

    def _close_database(self) -> None:
        """What transactional tasks have written is not kept."""
        if self.data.database is not None:
            self.data.database.close()

    def _begin(self) -> None:
        self._has_struck = False
        loop = ThreadedLoop(self._time, f"process {self.crashes + 1}", self._threads, self._size)  # type: ignore[abstract]  # as VirtualTime.loop
        store = BenchStore(self.data, self._points, self._die)
        app = Stepwell(
            store,
            workflows=self._known.values(),
            clock=VirtualClock(loop, base=self._base, longest_alarm=LONGEST),
            chance=self._chance,
            **self._settings,
        )
        life = self._life = Life(self._time.add(loop), store, app)
        self.wait_for(life.open(self._stand_ins))
        self.settle()

    def _end(self, *, clean: bool, waits: bool = True) -> None:
        """End this life, in good order (`clean`) or not, and wait for what its threads still do."""
        life = self._life
        if life is None:
            return
        self._remember()
        try:
            if clean:
                for point in self._points:
                    point.left = 0
                self.wait_for(life.app.close(grace=0))
        finally:
            self._life = None
            life.kill()
        if waits:
            self._threads.wait_for_all()
            life.join()

    def _remember(self) -> None:
        """What this process may drive, the next one may too."""
        known = self._life.engine.versions if self._life is not None and self._life.engine is not None else {}
        self._known.update({key: one for key, one in known.items() if not self._stand_ins.is_stubbed(one)})

    @property
    def app(self) -> Stepwell:
        """The asynchronous interface of the process that lives now, for use in `wait_for`.

        Raises:
            RequestRefused: the bench is not open.
        """
        if self._life is None:
            raise RequestRefused("this bench is not open: use it in a `with` block, or call open() first")
        return self._life.app

    # -- runs ---------------------------------------------------------------------------------------------------

    def start(self, target: Workflow[P, T] | Task[P, T], *args: Any, **options: Any) -> BenchRun[T]:
        """Start a run; arguments and keyword options are those of `Stepwell.start`.

        Without `id=` runs are called after their workflow and numbered from 1: `order-1` (debounced ones are not: the
        first start names them).

        Raises:
            ProcessDied: a crash point struck before a debounced start was answered.
        """
        workflow = workflow_of(target)
        if self._stand_ins.is_stubbed(workflow):
            raise ArgumentError(f"workflow {workflow.name} is stubbed; a stub stands for child runs, start another one")
        if options.get("id") is None and options.get("debounce") is None:
            self._started += 1
            options["id"] = f"{workflow.name}-{self._started}"
        self._known.setdefault((workflow.name, workflow.label), workflow)
        started = self.verb(self.app.start(target, *args, **options), None)
        id = options.get("id") if started is None else started.id
        if id is None:
            raise ProcessDied(f"the process died before the start of {workflow.name} was answered")
        return BenchRun(self, str(id))

    def run(self, target: Workflow[P, T] | Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Start a run and give its result, letting time pass as far as that needs."""
        return self.start(target, *args, **kwargs).result()

    def handle(self, id: str) -> BenchRun[Any]:  # Any: whatever the run returns
        """A handle on a run, for instance a child run, by id.

        Raises:
            RunNotFound: no run has this id.
        """
        run: BenchRun[Any] = BenchRun(self, id)
        self.data_of(id)
        return run

    @property
    def runs(self) -> list[BenchRun[Any]]:  # Any: whatever they return
        """All runs, child runs too, in the order in which they were created."""
        return [BenchRun(self, id) for one in self._all_data() for id in one.runs]

    def _all_data(self) -> list[MemoryData]:
        if self._life is None:
            return [self.data]
        return [self.data, cast(MemoryStore, self.app.engine.volatile).data]

    def data_of(self, id: str) -> MemoryData:
        """Where a run is kept. Raises RunNotFound."""
        for data in self._all_data():
            if id in data.runs:
                return data
        known = ", ".join(run.id for run in self.runs) or "none"
        raise RunNotFound(f"no run has the id {id!r}; there are: {known}")

    def workflow(self, name: str, version: str) -> Workflow[..., Any] | None:  # Any: whatever it returns
        """The workflow that drives a run of this version, as far as the bench knows."""
        self._remember()
        others = [one for (known, _), one in self._known.items() if known == name]
        return self._known.get((name, label_of(version)), others[-1] if others else None)

    def inbox(self, who: str = "") -> list[InputRequest]:
        """Open questions to people, oldest first; those that `who` may answer and has not, when given."""
        return self.wait_for(self.app.inbox(who))

    # -- time ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What the clock shows (UTC)."""
        return _EPOCH + timedelta(microseconds=self.now_micros)

    @property
    def now_micros(self) -> int:
        """What the clock shows, in microseconds since 1970-01-01T00:00:00Z."""
        return self._base + self._time.micros

    def advance(self, duration: Duration) -> None:
        """Let virtual time pass: all that comes due in it happens, in order, and at its own time."""
        self._pass(micros(duration, "advance(…)"))

    def advance_to(self, moment: datetime | str) -> None:
        """Let virtual time pass until the clock shows `moment`.

        Raises:
            ArgumentError: it has passed.
        """
        duration = _moment(moment) - self.now_micros
        if duration < 0:
            raise ArgumentError(f"advance_to({moment!s}): it is {self.now} already, and time does not run back")
        self._pass(duration)

    def settle(self) -> None:
        """Do all that can be done without time passing. Every method of the bench and its runs does so at its end."""
        self._pass(0)

    def _pass(self, duration: int) -> None:
        end = self._time.micros + duration
        while self._time.pass_by(end - self._time.micros, until=lambda: self._has_struck):
            self._recover()

    def until(self, condition: Callable[[], bool], *, within: Duration | None = None) -> bool:
        """Let time pass until `condition()` holds, not further, then settle; False when it does not hold after all.

        It is asked after every batch of callbacks. Without `within` time passes as long as anything is due.

        Raises:
            CheckFailed: runs keep busy for ever.
        """
        holds = self._until(condition, None if within is None else micros(within, "within="))
        self.settle()
        return holds

    def _until(self, condition: Callable[[], bool], duration: int | None = None) -> bool:
        limit = None if duration is None else self._time.micros + duration
        last = self._time.batches + BATCHES

        def over() -> bool:
            return self._has_struck or condition() or self._time.batches > last

        while True:
            try:
                self._time.run(over, limit=None if limit is None else max(0, limit - self._time.micros))
            except OutOfTime:
                return False
            if self._time.batches > last:
                raise CheckFailed(
                    f"{BATCHES:,} batches of callbacks, up to {self.now}, and what is waited for has not come; if that "
                    f"is meant, say how long it may take: within=…\n\n{self.report()}"
                )
            if not self._has_struck:
                return True
            self._recover()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in virtual time, which passes as far as it needs; the door to the asynchronous interface.

        Raises:
            ProcessDied: a crash point struck before it was done.
            CheckFailed: it waits for what does not come.
        """
        life = self._life
        if life is None:
            work.close()
            raise RequestRefused("this bench is not open: use it in a `with` block, or call open() first")
        task = life.loop.create_task(work)
        if not self._until(lambda: task.done() or self._life is not life):
            task.cancel()
            self.settle()
            raise CheckFailed(f"nothing is due any more, and this still waits: {work!r}\n\n{self.report()}")
        if not task.done():
            raise ProcessDied("the process died before this was answered")
        return task.result()

    def verb(self, work: Coroutine[Any, Any, T], otherwise: T) -> T:
        """Ask for something, then settle; `otherwise` when the process died of what it was asked for."""
        try:
            answer = self.wait_for(work)
        except ProcessDied:
            answer = otherwise
        self.settle()
        return answer

    # -- stubs --------------------------------------------------------------------------------------------------

    def stub(self, target: Target | str, what: object) -> None:
        """Let `what` stand for a task, a task's name, or a workflow that is started as a child run, from now on.

        `what` is a function (it gets the arguments), or what `returns`, `raises`, `fails`, `takes`, `in_turn` give.

        Raises:
            DefinitionError: it is no stub, or can be seen not to fit the target.
        """
        self._stand_ins.put(target, what)
        if self._life is not None:
            self._stand_ins.show(self.app.engine)

    def calls(self, target: Target | str) -> list[Call]:
        """The arguments of every attempt of a task that began to run, or of every run of a workflow, in order.

        An attempt that a crash cut off counts; one that it kept from running does not.
        """
        if not isinstance(target, Workflow):
            return self._stand_ins.calls(target)
        runs = [run for run in self.runs if run.row.workflow == target.name]
        return [
            Call(target, *target.codec.decode(run.input), run.id, target.name, number)
            for number, run in enumerate(runs, 1)
        ]

    # -- crashes ------------------------------------------------------------------------------------------------

    def crash_at(self, step: Named, when: When = "after", times: int = 1) -> None:
        """Let the process die at a step, as often as `times` says; each time another one goes on by itself.

        Args:
            step: a task, the workflow of a child run, or the name or readable path of a step or wait.
            when: `before`: the attempt has been journaled, and its code has not run. `after`: its code has run, and
                its outcome is not journaled, so it will run again. `committed`: its outcome is journaled, and
                nothing that follows from it has begun.
            times: at how many attempts.

        A crash point that has not struck when the `with` block ends fails the test. Runs with
        `durability="memory"` are never written, and have none.
        """
        self._points.append(CrashPoint(step, when, times))

    def crash(self, *, down: Duration = 0) -> None:
        """Let the process die now, as by SIGKILL, and another one take over when it has been `down` for so long."""
        self._die()
        self._recover(micros(down, "down="))
        self.settle()

    def restart(self, workflows: Iterable[Target] = (), *, down: Duration = 0) -> None:
        """Stop in good order and begin again, with these workflows in place of those of the same names and labels.

        That is a deployment: runs under way go on with the new code. A workflow with a version label of its own stands
        beside the others and serves new runs.
        """
        points = [point.left for point in self._points]
        self._end(clean=True)
        for point, left in zip(self._points, points, strict=True):
            point.left = left
        self._known.update(_by_version(workflows))
        self._pass(micros(down, "down="))
        self._begin()

    def _die(self) -> None:
        life = self._life
        if life is None:
            raise RequestRefused("this bench is not open: use it in a `with` block, or call open() first")
        self._has_struck = True
        life.freeze()

    def _recover(self, down: int = 0) -> None:
        self.crashes += 1
        self._end(clean=False)
        self._has_struck = False
        self._pass(down)
        self._begin()

    # -- reading ------------------------------------------------------------------------------------------------

    def report(self) -> str:
        """The journals of all runs, for people; empty when there are none."""
        return "\n\n".join(run.table() for run in self.runs)


def _by_version(workflows: Iterable[Target]) -> dict[tuple[str, str], Workflow[..., Any]]:  # Any: whatever they return
    return {(workflow.name, workflow.label): workflow for workflow in map(workflow_of, workflows)}


def _moment(moment: datetime | str) -> int:
    """A point in time in microseconds since 1970-01-01T00:00:00Z."""
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError as error:
        raise ArgumentError(f"{moment!r} is no time: write it like 2027-03-01T09:00:00+01:00") from error
    if found.tzinfo is None:
        raise ArgumentError(f"{moment!s} has no time zone: write it like {found.isoformat()}+00:00")
    return (found - _EPOCH) // timedelta(microseconds=1)
