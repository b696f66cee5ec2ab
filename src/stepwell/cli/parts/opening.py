"""How a command opens the store: as a client that asks, or as the process that drives."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from stepwell.app import Stepwell
from stepwell.authoring.registry import Registry
from stepwell.authoring.workflow import Workflow
from stepwell.cli.parts.call import DEFAULT_STORE, Call
from stepwell.cli.parts.endings import StoreMissing
from stepwell.cli.parts.memory import give_back_large_blocks
from stepwell.errors import StoreBusy
from stepwell.stores import open_store

T = TypeVar("T")

STRICT_VARIABLE: Final = "STEPWELL_STRICT"

GRACE: Final = "10s"
"""How long attempts in flight may go on when a command that drives ends."""


def client(call: Call, *, create: bool = False, tasks: Registry | None = None) -> Stepwell:
    """A client of the store; it runs beside the process that drives.

    Raises:
        StoreMissing: there is no such file, and `create` is false.
    """
    path = store_path(call.store)
    if not create and path is not None and not path.exists():
        raise StoreMissing(f"store {path}: there is no such file; check --store, or start a run to make it")
    return Stepwell(call.store, tasks=tasks or (), drive=False, create=create)


def engine(
    call: Call,
    workflows: Iterable[Workflow[..., Any]] = (),  # Any: whatever they return
    tasks: Registry | None = None,
    *,
    grace: str = GRACE,
) -> Stepwell:
    """A process that drives these workflows' runs; opening it raises `StoreBusy` when another one does."""
    give_back_large_blocks()
    return Stepwell(call.store, workflows=workflows, tasks=tasks or (), grace=grace, strict=is_strict())


def is_strict() -> bool:
    """Whether `STEPWELL_STRICT` asks for strict engines: it is set, and not to 0, no, off or false."""
    return os.environ.get(STRICT_VARIABLE, "").lower() not in ("", "0", "no", "off", "false")


async def driver_of(call: Call) -> str | None:
    """Who drives the store, such as `process 4711`; None when nobody does.

    Asked by trying to drive, which is the only way to know.
    """
    try:
        async with engine(call):
            return None
    except StoreBusy as busy:
        return driver_in(busy)


def driver_in(busy: StoreBusy) -> str:
    """Whom the refusal names."""
    found = re.search(r"process \d+", str(busy))
    return found[0] if found else "another process"


def store_path(url: str) -> Path | None:
    """The file of a store that is one; None for stores elsewhere."""
    path = getattr(open_store(url), "path", None)  # a store that is a file says so; the protocol does not ask it to
    return path if isinstance(path, Path) else None


def data_folder(url: str) -> Path:
    """Where logs and other files about a store's runs go: the folder of its file."""
    path = store_path(url)
    return path.parent if path is not None else Path(DEFAULT_STORE).expanduser().parent


def me() -> str:
    """Who asks, for the journal: the name of the system's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under a number that has no name
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else ""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on a loop of its own.

    Unlike `asyncio.run` it does not wait for threads of the default executor: one that a task has left behind would
    keep the command from ending.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main)
        try:
            return loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            loop.run_until_complete(asyncio.wait({task}))
            raise
    finally:
        left = asyncio.all_tasks(loop)
        for other in left:
            other.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
