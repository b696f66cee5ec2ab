"""The command line as a process, on a store of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stepwell

SOURCE = Path(stepwell.__file__).parents[1]
FLOWS = Path(__file__).with_name("flows.py")


class Cli:
    """Runs commands in `folder`, which has a copy of the example script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "runs.db"
        self.started: list[subprocess.Popen[str]] = []
        shutil.copy(FLOWS, folder / "flows.py")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "STEPWELL_STORE": str(self.store),
            "HOME": str(folder),
            "COLUMNS": "120",
        }

    def __call__(self, *words: object, stdin: str = "", seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def json(self, *words: object, code: int = 0) -> Any:
        """The one document that a command answers."""
        done = self(*words, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def lines(self, *words: object, code: int = 0) -> list[Any]:
        """The JSON lines that a command answers."""
        done = self(*words, "--json")
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def begin(self, *words: object) -> subprocess.Popen[str]:
        """Start a command and go on."""
        process = subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "stepwell", *map(str, words)]

    def release(self, which: str = "release") -> None:
        """Let the tasks that wait for it go on."""
        (self.folder / which).touch()

    def begun(self) -> list[str]:
        """`number attempt` of each attempt of `hold` that has begun."""
        path = self.folder / "begun"
        return path.read_text().splitlines() if path.exists() else []

    def holding(self, *words: object, count: int = 3) -> subprocess.Popen[str]:
        """Start a run that waits in its first step, and return when it does."""
        given = json.dumps({"folder": str(self.folder), "count": count})
        before = len(self.begun())
        process = self.begin("run", "flows.py:holds", "--input", given, *words)
        until(lambda: len(self.begun()) > before)
        return process

    def status(self, run: str) -> str:
        """The run's status now."""
        return str(self.json("show", run)["status"])


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.01)
