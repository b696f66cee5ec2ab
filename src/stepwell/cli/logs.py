"""Print a run's log: what its code said, and what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import NOT_FOUND, OK, complain
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client, data_folder
from stepwell.cli.parts.opening import run as run_loop
from stepwell.model.lifecycle import TERMINAL
from stepwell.observe.logs import log_file, log_files

_LEVELS: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3}
_COLOURS: Final = {"warning": "yellow", "error": "red"}
_SHOWN: Final = frozenset({"ts", "run", "workflow", "event", "step", "attempt", "level", "message", "seq", "preview"})
_POLL_SECONDS: Final = 0.2


@cli_command
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option(
    "--level",
    type=click.Choice(list(_LEVELS)),
    default="info",
    show_default=True,
    help="The least that is shown; debug has a line for every entry of the journal.",
)
def command(call: Call, run: str, follow: bool, level: str) -> int:
    """Print the log of RUN, as the processes that drove it wrote it. With --json the lines as they are."""
    return run_loop(_logs(call, run, follow, _LEVELS[level]))


async def _logs(call: Call, text: str, follow: bool, least: int) -> int:
    folder = data_folder(call.store) / "logs"
    async with client(call) as app:
        row = await find_run(app, text)
        if not follow and not log_files(folder, row.run_id):
            complain(
                call,
                "no_log",
                f"run {row.run_id} has no log in {folder}: one is written by 'stepwell run', 'resume' and 'retry'; "
                f"the facts are in its journal:  {call.command('journal', row.run_id)}",
            )
            return NOT_FOUND
        tail = _Tail(folder, row.run_id)
        while True:
            row = await app.get(row.run_id)
            for line in tail.lines():
                _print(call, line, least)
            if not follow or row.status in TERMINAL:
                return OK
            call.stdout.flush()
            await asyncio.sleep(_POLL_SECONDS)


class _Tail:
    """Reads a run's files on, over the change from a full file to a new one."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._newest = log_file(folder, run_id)
        self._older = [path for path in log_files(folder, run_id) if path != self._newest]
        self._file: Any = None  # Any: an open file, or nothing yet
        self._part = b""

    def lines(self) -> Iterator[bytes]:
        """Whole lines that have come since the last call."""
        for path in self._older:
            yield from path.read_bytes().splitlines()
        self._older = []
        yield from self._new()
        if self._file is not None and self._is_put_aside():
            yield from self._new()  # what was written between the last look and the change
            self._file.close()
            self._file, self._part = None, b""
            yield from self._new()

    def _new(self) -> Iterator[bytes]:
        if self._file is None:
            if not self._newest.exists():
                return
            self._file = self._newest.open("rb")
        *whole, self._part = (self._part + self._file.read()).split(b"\n")
        yield from whole

    def _is_put_aside(self) -> bool:
        import os

        try:
            return os.fstat(self._file.fileno()).st_ino != self._newest.stat().st_ino
        except FileNotFoundError:
            return True


def _print(call: Call, line: bytes, least: int) -> None:
    try:
        fields: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])  # Any: whatever was logged
    except msgspec.DecodeError:  # a line that a kill has cut off
        return
    level = str(fields.get("level", "info"))
    if _LEVELS.get(level, 3) < least:
        return
    if call.json:
        call.document(msgspec.Raw(line))
        return
    when = datetime.fromisoformat(fields["ts"]).astimezone()
    attempt = f"({fields['attempt']})" if fields.get("attempt", 1) != 1 else ""
    where = f"{fields.get('step', '')}{attempt}" or str(fields["event"])
    rest = " ".join(f"{key}={value}" for key, value in fields.items() if key not in _SHOWN and key != "exception")
    message = str(fields.get("message", ""))
    text = f"{when:%H:%M:%S}.{when.microsecond // 1000:03}  {_level(level)}  {where}  {message}"
    call.answer(text + (f"  {words.dim(rest)}" if rest else ""))
    if "exception" in fields:
        call.answer("    " + str(fields["exception"]).replace("\n", "\n    "))


def _level(level: str) -> str:
    return click.style(f"{level:<7}", fg=_COLOURS.get(level), dim=level == "debug")
