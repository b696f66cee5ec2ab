"""Starts programs that use the engine, kills them, and looks at what they left behind.

`Program` is one process; `journals` reads a store as a client; `violations` says which promises a journal breaks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stepwell.app import Stepwell
from stepwell.model.entries import StepCompleted, StepFailed, StepStarted, WaitSatisfied, WaitStarted, WaitTimedOut
from stepwell.model.ids import StepPath
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Filter, RunRow, Stored

PROGRAMS = Path(__file__).with_name("programs")
SOURCE = Path(__file__).parents[2] / "src"


class Program:
    """A process that runs one of the programs; killed when the block ends."""

    def __init__(self, name: str, *words: object, strict: bool = False, **environment: str) -> None:
        flags = ["-X", "dev", "-W", "error"] if strict else []
        paths = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
        self._child = subprocess.Popen(
            [sys.executable, *flags, str(PROGRAMS / name), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, **environment},
        )
        self.pid = self._child.pid
        self._said: list[str] = []
        self._complaints = ""
        # Read all the time, so that a program that says much is never held up.
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self.wait()

    def _listen(self) -> None:
        assert self._child.stderr is not None
        self._complaints = self._child.stderr.read()

    def line(self) -> str:
        """The next line that it says; empty when it has ended."""
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def until(self, beginning: str) -> str:
        """The rest of the next line that begins so."""
        said = []
        while line := self.line():
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
            said.append(line)
        self.wait()
        raise AssertionError(f"the program ended without saying {beginning!r}; it said {said}\n{self._complaints}")

    def tell(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self._child.stdin is not None
        self._child.stdin.write(text + "\n")
        self._child.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.send_signal(number)

    def kill(self) -> list[str]:
        """`kill -9`; what it has said since, whole lines only."""
        self._child.kill()
        return self.rest()

    def rest(self) -> list[str]:
        """All that it says until it ends, whole lines only."""
        assert self._child.stdout is not None
        lines = self._child.stdout.read().split("\n")
        self.wait()
        return lines[:-1]

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        code = self._child.wait(60)
        self._listener.join()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            assert pipe is not None
            pipe.close()
        return code

    @property
    def complaints(self) -> str:
        """Its standard error, once it has ended."""
        return self._complaints


class Journal:
    """A run as a client finds it."""

    def __init__(self, row: RunRow, stored: Sequence[Stored], mail: int) -> None:
        self.row = row
        self.stored = stored
        self.mail = mail

    def of(self, *kinds: type[Any]) -> list[Any]:
        """Its entries of these kinds."""
        return [one.entry for one in self.stored if isinstance(one.entry, kinds)]

    @property
    def result(self) -> Any:
        """What it returned, as plain JSON."""
        return msgspec.json.decode(self.stored[-1].entry.output)  # type: ignore[union-attr]  # of a completed run


def journals(path: Path) -> dict[str, Journal]:
    """All runs of a store, which must be sound."""

    async def look() -> dict[str, Journal]:
        async with Stepwell(f"sqlite:///{path}", drive=False, create=False) as app:
            wrong = [finding for finding in await app.check() if not finding.ok and finding.what != "room"]
            assert wrong == []
            rows = await app.runs(Filter(limit=100_000))
            return {
                row.run_id: Journal(row, await app.entries(row.run_id), len(await app.store.mailbox(row.run_id)))
                for row in rows
            }

    return asyncio.run(look())


def executions(side: Path) -> dict[str, list[int]]:
    """Per idempotency key, the attempts that the side file saw begin, in order."""
    seen: dict[str, list[int]] = defaultdict(list)
    if side.exists():
        for line in side.read_text().split("\n")[:-1]:
            key, attempt = line.rsplit(" ", 1)
            seen[key].append(int(attempt))
    return seen


def violations(runs: Mapping[str, Journal], ran: Mapping[str, list[int]]) -> list[str]:
    """Everything in these journals, and in what tasks wrote down, that the promises exclude."""
    found: list[str] = []
    known: dict[str, list[int]] = {}
    for run_id, run in runs.items():
        found += [f"{run_id}: {fault}" for fault in _of_one(run)]
        for entry in run.of(StepStarted):
            if entry.step != "child" and not entry.path.name.startswith("credit"):
                known.setdefault(f"{run_id}:{entry.path}", []).append(entry.attempt)
    for key, attempts in ran.items():
        if len(set(attempts)) < len(attempts):
            found.append(f"{key}: an attempt ran twice: {attempts}")
        if not set(attempts) <= set(known.get(key, [])):
            found.append(f"{key}: attempts {attempts} ran, the journal has {known.get(key)}")
        if attempts != sorted(attempts):
            found.append(f"{key}: attempts began out of order: {attempts}")
    return found


def _of_one(run: Journal) -> Iterable[str]:
    stored = run.stored
    if [one.seq for one in stored] != list(range(1, len(stored) + 1)) or run.row.next_seq != len(stored) + 1:
        yield f"the journal has gaps: {[one.seq for one in stored]}, next {run.row.next_seq}"
    if [one.epoch for one in stored] != sorted(one.epoch for one in stored):
        yield "an old epoch wrote after a newer one"
    if run.row.status in TERMINAL and run.mail:
        yield f"it ended with {run.mail} messages in its mailbox"
    yield from _of_steps(stored)
    yield from _of_waits(stored)


def _of_steps(stored: Sequence[Stored]) -> Iterable[str]:
    last: dict[StepPath, Stored] = {}
    attempts: dict[StepPath, int] = defaultdict(int)
    for one in stored:
        entry = one.entry
        if not isinstance(entry, StepStarted | StepCompleted | StepFailed):
            continue
        before = last.get(entry.path)
        if before is not None and isinstance(before.entry, StepCompleted):
            yield f"{entry.path}: {type(entry).__name__} after it was completed (seq {one.seq})"
        if isinstance(entry, StepStarted):
            attempts[entry.path] += 1
            if entry.attempt != attempts[entry.path]:
                yield f"{entry.path}: attempt {entry.attempt} where {attempts[entry.path]} was due"
            if before is not None and isinstance(before.entry, StepStarted) and before.epoch == one.epoch:
                yield f"{entry.path}: attempt {entry.attempt} began while {before.entry.attempt} was in flight"
            if before is not None and isinstance(before.entry, StepFailed):
                retry_at = before.entry.retry_at
                if retry_at is None or entry.at < retry_at:
                    yield f"{entry.path}: attempt {entry.attempt} began at {entry.at}, due was {retry_at}"
        elif before is None or not isinstance(before.entry, StepStarted) or before.entry.attempt != entry.attempt:
            yield f"{entry.path}: attempt {entry.attempt} ended and was not in flight"
        last[entry.path] = one


def _of_waits(stored: Sequence[Stored]) -> Iterable[str]:
    waits: dict[StepPath, WaitStarted] = {}
    for one in stored:
        match one.entry:
            case WaitStarted() as begun:
                if begun.path in waits:
                    yield f"{begun.path}: waited for twice"
                waits[begun.path] = begun
            case WaitSatisfied() | WaitTimedOut() as ended:
                begun_ = waits.get(ended.path)
                if begun_ is None:
                    yield f"{ended.path}: satisfied and not waited for"
                elif begun_.wait == "timer" and begun_.due is not None and ended.at < begun_.due:
                    yield f"{ended.path}: fired {begun_.due - ended.at} µs early"
                waits.pop(ended.path, None)
            case _:
                pass


def soon(condition: Callable[[], bool]) -> None:
    """Wait until it holds; a program that never gets there is stopped by the test's own time limit."""
    while not condition():
        time.sleep(0.01)
