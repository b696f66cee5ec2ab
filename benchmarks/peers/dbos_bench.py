# mypy: disable-error-code="import-not-found,untyped-decorator"
# Found only in its own virtual environment, and beside this script.
"""DBOS on SQLite, as shipped (rollback journal) and with the file set to WAL; the rest of its settings untouched."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import own_venv

WAL = "sqlite set to WAL"
SHIPPED = "sqlite as shipped"


def _program(variant: str, folder: Path) -> SimpleNamespace:
    from dbos import DBOS

    database = folder / "dbos.sqlite"
    if variant == WAL and not database.exists():
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{database}",
            "log_level": "ERROR",
            "application_version": "1",
            "max_executor_threads": 1100,
        }
    )

    @DBOS.step()
    def noop(number: int) -> dict[str, int]:
        return {"number": number}

    @DBOS.step()
    async def noop_async(number: int) -> dict[str, int]:
        return {"number": number}

    @DBOS.workflow()
    def chain(steps: int) -> int:
        for number in range(steps):
            noop(number)
        return steps

    @DBOS.workflow()
    async def fan(steps: int) -> int:
        await asyncio.gather(*(noop_async(number) for number in range(steps)))
        return steps

    @DBOS.workflow()
    def items(count: int) -> int:
        # One after the other: items at once, as asyncio tasks, took it three times as long.
        for number in range(count):
            for _ in range(4):
                noop(number)
        return count

    state = SimpleNamespace(DBOS=DBOS, chain=chain, fan=fan, items=items, held=0, hold=True, all_held=threading.Event())
    lock = threading.Lock()

    @DBOS.step()
    def hold(number: int) -> dict[str, int]:
        with lock:
            state.held += 1
            if state.held == state.wanted:
                state.all_held.set()
        if state.hold:
            time.sleep(3600)
        return {"number": number}

    @DBOS.workflow()
    def interrupted(number: int) -> int:
        noop(number)
        hold(number)
        noop(number)
        return number

    state.interrupted = interrupted
    return state


def _launched(variant: str, folder: Path) -> SimpleNamespace:
    program = _program(variant, folder)
    program.DBOS.launch()
    program.chain(3)
    return program


def chain(variant: str, folder: Path, size: int) -> float:
    """One run of `size` steps."""
    program = _launched(variant, folder)
    started = time.perf_counter()
    program.chain(size)
    return time.perf_counter() - started


def many(variant: str, folder: Path, size: int) -> float:
    """`size` runs of five steps at once."""
    program = _launched(variant, folder)
    started = time.perf_counter()
    handles = [program.DBOS.start_workflow(program.chain, 5) for _ in range(size)]
    for handle in handles:
        handle.get_result()
    return time.perf_counter() - started


def fan(variant: str, folder: Path, size: int) -> float:
    """`size` steps at once in one run."""
    program = _launched(variant, folder)
    started = time.perf_counter()
    asyncio.run(program.fan(size))
    return time.perf_counter() - started


def items(variant: str, folder: Path, size: int) -> float:
    """Four steps for each of `size` items in one run."""
    program = _launched(variant, folder)
    started = time.perf_counter()
    program.items(size)
    return time.perf_counter() - started


def be_killed(variant: str, folder: Path, size: int) -> None:
    """`size` runs with a step in flight each."""
    program = _program(variant, folder)
    program.wanted = size
    program.DBOS.launch()
    for number in range(size):
        program.DBOS.start_workflow(program.interrupted, number)
    program.all_held.wait()
    print("ready", flush=True)
    time.sleep(3600)


def recover(variant: str, folder: Path, size: int) -> float:
    """Until the step that was in flight has begun again in all runs."""
    program = _program(variant, folder)
    program.wanted, program.hold = size, False
    started = time.perf_counter()
    program.DBOS.launch()
    program.all_held.wait()
    return time.perf_counter() - started


if __name__ == "__main__":
    own_venv.main(
        "dbos",
        ["dbos>=3.4,<4"],
        [SHIPPED, WAL],
        {"chain": chain, "many": many, "fan": fan, "items": items, "be_killed": be_killed, "recover": recover},
        {"recovery": 200},
    )
