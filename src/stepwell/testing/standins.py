"""Which code runs when a bench's engine starts an attempt or a child run: the real one, or its stub."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from stepwell.authoring.context import AttemptContext, current, current_body
from stepwell.authoring.task import AsyncTask, Task, TaskOptions
from stepwell.authoring.workflow import Workflow
from stepwell.engine.executor import Attempt
from stepwell.engine.worker import Engine
from stepwell.errors import DefinitionError, StepwellBug
from stepwell.testing.stubs import Call, Stub, Target, as_stub
from stepwell.testing.threads import CountedPool


class StandIns:
    """The stubs of one bench, and every attempt that its engines launched."""

    def __init__(self) -> None:
        self.launched: list[tuple[Task[..., Any], Attempt]] = []  # Any: whatever they return
        self._stubs: dict[str, Stub] = {}
        self._workflows: dict[str, Workflow[..., Any]] = {}  # Any: whatever they return

    def put(self, target: Target | str, what: object) -> None:
        """Let `what` stand for a task (or its name; `*`: all others), or for a workflow when it is a child run.

        Raises:
            DefinitionError: it is no stub, or can be seen not to fit.
        """
        stub = as_stub(what)
        if isinstance(target, str):
            self._stubs[target] = stub
            return
        if not isinstance(target, Task | Workflow):
            raise DefinitionError(f"a stub stands for a task, for a task's name, or for a workflow; found {target!r}")
        stub.check(target)
        if isinstance(target, Workflow):
            self._workflows[target.name] = _stand_in_for(target, stub)
        else:
            self._stubs[target.name] = stub

    def calls(self, task: Task[..., Any] | str) -> list[Call]:
        """The arguments of every attempt that was launched of a task, stubbed or not, in order."""
        name = task if isinstance(task, str) else task.name
        return [
            Call(known, *known.codec.decode(attempt.input), attempt.identity.run_id, str(attempt.path), attempt.number)
            for known, attempt in self.launched
            if known.name == name
        ]

    def is_stubbed(self, workflow: Workflow[..., Any]) -> bool:
        """Whether another stands for it."""
        return workflow.name in self._workflows

    def take_over(self, engine: Engine, pool: CountedPool) -> Process:
        """Come between an engine that has not begun to drive and its executor, whose threads are then of `pool`."""
        if engine.runners:
            raise StepwellBug("a bench's engine has begun to drive before its executor was in place")
        self.show(engine)
        return Process(self, engine, pool)

    def show(self, engine: Engine) -> None:
        """Let the engine know all stand-ins for workflows, and those for tasks that graphs name and nobody has."""
        for name in self._stubs:
            if name != "*" and engine.graphs.task(name) is None:
                engine.graphs.add_task(AsyncTask(_nobody, name, TaskOptions()))
        for workflow in self._workflows.values():
            engine.versions[workflow.name, workflow.label] = engine.workflows[workflow.name] = workflow

    def of(self, attempt: Attempt) -> Task[..., Any]:
        """The task that runs in this attempt: on the loop or in a thread of this process, in any case."""
        task, stub = attempt.task, self._stubs.get(attempt.task.name) or self._stubs.get("*")
        if stub is None and task.options.executor in ("", "thread"):
            return task
        changed = copy.copy(task)
        changed.options = task.options.but(executor="", requires=())
        if stub is not None:
            changed.options = changed.options.but(transactional=False)
            changed.is_async = True
            changed.function = functools.partial(_answer, attempt, task, stub)
        return changed


class Process:
    """What runs of the attempts of one engine, until it dies."""

    def __init__(self, stand_ins: StandIns, engine: Engine, pool: CountedPool) -> None:
        self._stand_ins = stand_ins
        self._launch = engine.executor.launch
        self._attempts: list[Attempt] = []
        self._is_dead = False
        engine.executor.launch = self.launch  # type: ignore[method-assign]  # the one seam between engine and world
        engine.executor._threads = pool

    def launch(self, attempt: Attempt) -> None:
        """See `engine.executor.Executor.launch`."""
        if self._is_dead:
            return
        self._stand_ins.launched.append((attempt.task, attempt))
        self._attempts.append(attempt)
        attempt.task = self._stand_ins.of(attempt)
        self._launch(attempt)

    def die(self) -> None:
        """Launch nothing more; synchronous code that looks at `ctx.cancelled` hears that it is not wanted."""
        self._is_dead = True
        for attempt in self._attempts:
            attempt.cancelled = True


async def _nobody(**_: Any) -> Any:  # Any: whatever the stub takes and gives
    """A stub answers in its place."""


async def _answer(attempt: Attempt, task: Task[..., Any], stub: Stub, *args: object, **kwargs: object) -> object:
    call = Call(task, args, kwargs, attempt.identity.run_id, str(attempt.path), attempt.number)
    return await stub.answer(call, functools.partial(_really, task, args, kwargs))


async def _really(task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    if task.is_async:
        return await cast("Awaitable[object]", task.function(*args, **kwargs))
    context, loop = current.get(), asyncio.get_running_loop()
    if isinstance(context, AttemptContext):  # its notes now come from a thread
        note = context.note
        context.note = lambda kind, fields: cast(None, loop.call_soon_threadsafe(note, kind, dict(fields)))
    return await asyncio.to_thread(task.function, *args, **kwargs)


def _stand_in_for(workflow: Workflow[..., Any], stub: Stub) -> Workflow[..., Any]:
    """A workflow of the same name and version whose body is the stub."""
    runs: dict[str, int] = {}

    async def body(*args: object, **kwargs: object) -> object:
        context = current_body()
        assert context is not None, "the engine runs it as a body"
        run_id = context.identity.run_id
        call = Call(workflow, args, kwargs, run_id, workflow.name, runs.setdefault(run_id, len(runs) + 1))
        return await stub.answer(call, functools.partial(_real_body, workflow, args, kwargs))

    changed = copy.copy(workflow)
    changed._version = workflow.version
    changed.is_async = True
    changed.function = body
    return changed


async def _real_body(workflow: Workflow[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    return await cast("Awaitable[object]", workflow.function(*args, **kwargs))
