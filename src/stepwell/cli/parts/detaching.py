"""A run goes on in a background process, which outlives the terminal."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from stepwell.app import Stepwell
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.endings import FAILED, OK, complain
from stepwell.cli.parts.opening import client, data_folder, driver_of, run, store_path
from stepwell.errors import RequestRefused
from stepwell.observe.logs import log_file
from stepwell.stores.protocol import RunRow

_START_SECONDS: Final = 20.0

_KEPT_SECONDS: Final = 1.5
"""A run that begins later, or that its queue keeps waiting, is taken for begun when its process has lived so long."""


def detach(call: Call, start: Callable[[Stepwell], Awaitable[str]]) -> int:
    """Put the run into the store, and have a background process drive it, unless one drives the store already.

    Raises:
        RequestRefused: the store ends with this process.
    """
    path = store_path(call.store)
    if path is None and call.store.startswith("memory:"):
        raise RequestRefused("--detach needs a store that other processes can open; memory:// ends with this one")
    return run(_detach(call, start))


async def _detach(call: Call, start: Callable[[Stepwell], Awaitable[str]]) -> int:
    driver = await driver_of(call)
    async with client(call, create=True) as app:
        id = await start(app)
        row = await app.get(id)
        if driver is not None:
            return _handed(call, row, driver)
        output = log_file(data_folder(call.store) / "logs", id).with_suffix(".out")
        process = _spawn(call, id, output)
        begun = await _begun(app, row, process)
    code = process.poll()
    process.returncode = 0  # it is not ours to wait for: without this its handle complains when it is collected
    if code not in (None, 0) and not begun:
        complain(call, "not_started", f"the background process ended at once (exit code {code}):\n{_end_of(output)}")
        return FAILED
    if call.json:
        call.document({"run": id, "pid": process.pid, "output": str(output), "driver": f"process {process.pid}"})
    else:
        call.answer(id)
        call.say(f"process {process.pid} drives it; follow it with:  {call.command('journal', id, '--follow')}")
    return OK


def _handed(call: Call, row: RunRow, driver: str) -> int:
    if call.json:
        call.document({"run": row.run_id, "pid": None, "output": None, "driver": driver})
    else:
        call.answer(row.run_id)
        call.say(
            f"{driver} drives this store: it takes the run if it has workflow {row.workflow!r}; follow it with:  "
            f"{call.command('journal', row.run_id, '--follow')}"
        )
    return OK


def _spawn(call: Call, id: str, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stepwell", "--store", call.store, "resume", id]
    apart: dict[str, Any] = {"start_new_session": True}  # Any: the options differ by system
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **apart)


async def _begun(app: Stepwell, before: RunRow, process: subprocess.Popen[bytes]) -> bool:
    """Whether the run was taken up, waiting for it or for the process's end."""
    loop = asyncio.get_running_loop()
    deadline, patience = loop.time() + _START_SECONDS, loop.time() + _KEPT_SECONDS
    while loop.time() < deadline:
        row = await app.get(before.run_id)
        is_kept = row.status == "pending" and (row.held_until is not None or (row.wake_at or 0) > row.created_at)
        if row.epoch > before.epoch or (is_kept and loop.time() > patience):
            return True
        if process.poll() is not None:
            return False
        await asyncio.sleep(0.03)
    return False


def _end_of(output: Path) -> str:
    return output.read_text("utf-8", "replace")[-2000:].rstrip()
