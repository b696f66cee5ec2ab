"""How an environment for a task's requirements is made: a virtual environment, filled by uv, or by pip without it.

Nothing here decides whether that may be done: it downloads, and is called when a person has asked for it. Where
packages come from is the installer's own business (its configuration files and variables hold).
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stepwell.engine.child import Interpreter
from stepwell.engine.environments import InstallFailed, python_in

LAST_LINES = 12
"""How many of an installer's last lines stand in the error when it fails."""

_LONGEST_LINE = 1 << 20
_PIP_TAKES_PYTHON = (22, 3)
_CHECK = "import stepwell.engine.childmain\n"


async def build(folder: Path, requires: Sequence[str], told: Callable[[str], object], lock: int) -> str:
    """Make a virtual environment with these requirements in `folder`, which does not exist; gives the installer's name.

    `told` is called with each line that the installer says. What it has made so far is the caller's to remove when
    this raises, or is cancelled (the installer is ended then). `lock` is the descriptor of a lock on the folder: the
    installer holds it too, because it goes on for a while when this process is killed.

    Raises:
        InstallFailed: something went wrong, and waiting does not help.
    """
    if not sys.executable:
        raise InstallFailed(f"{folder}: this program has no Python interpreter of its own (sys.executable is empty)")
    do = functools.partial(_do, lock)
    python = str(python_in(folder))
    uv = _uv()
    if uv is not None:
        await do([uv, "venv", "--no-project", "--quiet", "--python", sys.executable, str(folder)], told)
        await do([uv, "pip", "install", "--python", python, *requires], told)
    else:
        await _make(folder)
        pip = [sys.executable, "-m", "pip", "--python", python]
        if not _has_pip():
            told("this Python has no pip of its own: the environment gets the one that Python brings along")
            await do([python, "-m", "ensurepip", "--default-pip"], told)
            pip = [python, "-m", "pip"]
        quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        await do([*pip, "install", *quiet, *requires], told)
    try:
        await do(Interpreter(python, str(folder)).command(_CHECK), lambda line: None)
    except InstallFailed as error:
        raise InstallFailed(
            f"Stepwell cannot be loaded beside these packages; does one of them bring its own msgspec? {error}"
        ) from None
    return "pip" if uv is None else "uv"


def packages_in(folder: Path) -> dict[str, str]:
    """The versions of the packages that are installed in a virtual environment, by name."""
    from importlib import metadata

    places = [folder / "Lib" / "site-packages", *folder.glob("lib/python*/site-packages")]
    found = metadata.distributions(path=[str(place) for place in places])
    return {one.name: one.version for one in sorted(found, key=lambda one: one.name)}


async def _make(folder: Path) -> None:
    import venv

    maker = venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt")
    try:
        await asyncio.to_thread(maker.create, folder)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise InstallFailed(f"{folder}: no virtual environment can be made there: {error}") from error


def _uv() -> str | None:
    beside = os.path.dirname(sys.executable)
    return shutil.which("uv") or shutil.which("uv", path=beside)


def _has_pip() -> bool:
    """Whether this Python's pip can install for another one."""
    from importlib import metadata

    try:
        numbers = metadata.version("pip").split(".")[:2]
    except metadata.PackageNotFoundError:
        return False
    return all(number.isdecimal() for number in numbers) and tuple(map(int, numbers)) >= _PIP_TAKES_PYTHON


async def _do(lock: int, command: Sequence[str], told: Callable[[str], object]) -> None:
    """Run a command to its end, line by line."""
    apart: dict[str, Any] = (
        {"start_new_session": True, "pass_fds": (lock,)} if os.name != "nt" else {}
    )  # Any: options of different types
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environ(),
            limit=_LONGEST_LINE,
            **apart,
        )
    except OSError as error:
        raise InstallFailed(f"{command[0]} cannot be started: {error}") from error
    assert process.stdout is not None, "it was asked for"
    try:
        async for line in process.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                last.append(text)
                told(text)
        code = await process.wait()
    except BaseException:
        _kill(process)
        await process.wait()
        raise
    if code:
        said = "".join(f"\n    {line}" for line in last) or " it said nothing"
        raise InstallFailed(f"{_shown(command)} ended with exit code {code}:{said}")


def _environ() -> dict[str, str]:
    """This process's variables, without those that would make an installer look at other packages than its own."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _kill(process: asyncio.subprocess.Process) -> None:
    """End an installer, and what it has started to build packages."""
    try:
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone
        pass


def _shown(command: Sequence[str]) -> str:
    """The part of a command that says what was done."""
    tool = os.path.basename(command[0]).removesuffix(".exe")
    if "pip" in command:
        return f"{'uv ' if tool == 'uv' else ''}pip install"
    return f"{tool} {command[1]}" if tool == "uv" else "python" if "ensurepip" not in command else "ensurepip"
