"""Where does a task run that needs packages of its own? In an environment that somebody has installed for it.

An environment is a virtual environment under a name that is the hash of its requirements, the Python and the platform,
so tasks with the same requirements share one and a changed list is another. It is in place when its record
(`stepwell.json`) is, which is written last: the folder has its final name from the beginning, because installers
write that into the scripts of packages. A side file is locked by whoever builds or removes an environment, and shared
by the engines that run tasks in it, so that none is removed while it is used. Each task leaves a note of its use in
the environment; what no note speaks for can be pruned.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from inspect import unwrap
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import msgspec

from stepwell.authoring.task import Task
from stepwell.engine.child import Interpreter
from stepwell.engine.sharing import Hold
from stepwell.errors import RequestRefused, StepwellError

VARIABLE = "STEPWELL_ENVS"
DEFAULT = "~/.stepwell/envs"

AnyTask: TypeAlias = Task[..., Any]  # Any: whatever it returns

_RECORD = "stepwell.json"
_USES = "stepwell-uses"
_LOCKS = ".locks"
_PATIENCE_SECONDS = 0.1
"""How often a build that waits for another process's looks again."""


class EnvironmentMissing(StepwellError):
    """A task's environment is not installed on this machine; the text has the command that installs it."""

    code: ClassVar[str] = "environment_missing"


class InstallFailed(StepwellError):
    """An environment could not be made, and nothing of it is left; the text has the installer's last lines."""

    code: ClassVar[str] = "install_failed"


class Use(msgspec.Struct, frozen=True):
    """A task that an environment was installed for, or has run in: its name, its function's, and the file of that."""

    task: str
    function: str
    file: str


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """An installed environment. `packages` are versions by name, `size` is in bytes.

    `size` and `used_by` are what they were when it was asked for.
    """

    key: str
    path: str
    requires: tuple[str, ...]
    python: str
    platform: str
    installer: str
    packages: dict[str, str]
    size: int = 0
    used_by: tuple[Use, ...] = ()

    @property
    def interpreter(self) -> Interpreter:
        """What child processes in it are started with."""
        return Interpreter(str(python_in(Path(self.path))), self.path)


class Environments:
    """The environments in one folder: `root`, or `$STEPWELL_ENVS`, or `~/.stepwell/envs`.

    Programs and the command line read the same variable, because a program runs what a command has installed.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root).expanduser() if root else default_root()

    def key(self, requires: Sequence[str]) -> str:
        """The name of the environment for these requirements and this Python, here."""
        return hashlib.blake2b(msgspec.json.encode((sorted(requires), *_here())), digest_size=10).hexdigest()

    def find(self, requires: Sequence[str]) -> Environment | None:
        """The environment for these requirements, if it is installed."""
        return self._read(self.root / self.key(requires))

    def is_installed(self, requires: Sequence[str]) -> bool:
        """Whether there is one; quicker than `find`."""
        return (self.root / self.key(requires) / _RECORD).exists()

    def installed(self) -> list[Environment]:
        """All of them, for every Python, with their sizes and users."""
        return [_measured(found) for path in self._folders() if (found := self._read(path)) is not None]

    def enter(self, task: AnyTask, run_id: str = "") -> tuple[Environment, Hold]:
        """The environment of a task, with a hold on it that keeps it from being removed until it is released.

        Raises:
            EnvironmentMissing: it is not installed; `run_id` says which run can be retried when it is.
        """
        requires = task.options.requires
        hold = Hold.take(self._lock(self.key(requires)), shared=True) if self.is_installed(requires) else None
        found = self.find(requires)
        if hold is None or found is None:
            if hold is not None:
                hold.release()
            raise EnvironmentMissing(self._missing(task, run_id))
        self._note(found, task)
        return found, hold

    async def install(self, task: AnyTask, told: Callable[[str], object] | None = None) -> Environment:
        """Make the environment of a task unless it is there; this downloads packages. Gives it.

        `told` is called with lines about the progress. Cancelled or failed, it leaves nothing behind.

        Raises:
            RequestRefused: the task has no requirements, or the folder cannot be written.
            InstallFailed: the packages cannot be installed.
        """
        requires, say = task.options.requires, told or (lambda line: None)
        if not requires:
            raise RequestRefused(f"task {task.name!r} has no requirements: it runs with what is installed here")
        key = self.key(requires)
        try:
            while not self.is_installed(requires):
                async with self._alone(key, say) as hold:
                    if not self.is_installed(requires):
                        await self._build(self.root / key, requires, say, hold)
            found, hold = self.enter(task)
        except EnvironmentMissing:  # somebody has removed it in this moment
            return await self.install(task, told)
        except InstallFailed as error:
            raise InstallFailed(f"environment for {', '.join(requires)}: {error}") from None
        except OSError as error:
            raise RequestRefused(
                f"environment {self.root / key}: cannot be made: {error}; give this user the right to write there, or "
                f"set {VARIABLE} to another folder"
            ) from error
        hold.release()
        return await asyncio.to_thread(_measured, found)

    def prune(self, tasks: Iterable[AnyTask] = (), *, every: bool = False) -> list[Environment]:
        """Remove the environments that no task uses any more, and what a crash left of a build; gives those removed.

        A task has ceased to use one when it was installed with, or is among `tasks` with, other requirements, or its
        file is gone. Those in which an engine runs tasks are left. With `every`, all others are removed.
        """
        known = list(tasks)
        removed = []
        for path in self._folders():
            found = self._read(path)
            if found is not None and not every:
                _refresh(path, found, known)
                if any(found.requires == task.options.requires for task in known) or any(_uses(path)):
                    continue
            hold = Hold.take(self._lock(path.name), shared=False)
            if hold is None:
                continue
            try:
                if found is not None:
                    removed.append(_measured(found))
                _remove(path)
            finally:
                hold.release(remove=True)
        return removed

    def command(self, task: AnyTask) -> str:
        """The command that installs a task's environment into this folder."""
        before = "" if self.root == default_root() else f"{VARIABLE}={shlex.quote(str(self.root))} "
        return f"{before}stepwell tasks install {shlex.quote(target_of(task))}"

    # -----------------------------------------------------------------------------------------------------------

    async def _build(self, path: Path, requires: tuple[str, ...], say: Callable[[str], object], hold: Hold) -> None:
        from stepwell.engine.building import build, packages_in  # only for those who install

        await asyncio.to_thread(_remove, path)  # what a crash may have left
        try:
            installer = await build(path, requires, say, hold.descriptor)
            python, platform = _here()
            made = Environment(
                key=path.name,
                path=str(path),
                requires=requires,
                python=python,
                platform=platform,
                installer=installer,
                packages=packages_in(path),
            )
            _write(path / _RECORD, msgspec.json.encode(made))
        except BaseException:
            await asyncio.shield(asyncio.to_thread(_remove, path))
            raise

    @asynccontextmanager
    async def _alone(self, key: str, say: Callable[[str], object]) -> AsyncIterator[Hold]:
        """Be the only one that builds this environment; waits for whoever does."""
        path, waited = self._lock(key), False
        while (hold := Hold.take(path, shared=False)) is None:
            if not waited:
                say("another process installs this environment: waiting for it")
            waited = True
            await asyncio.sleep(_PATIENCE_SECONDS)
        try:
            yield hold
        finally:
            hold.release()

    def _lock(self, key: str) -> Path:
        return self.root / _LOCKS / key

    def _folders(self) -> list[Path]:
        try:
            return sorted(path for path in self.root.iterdir() if path.is_dir() and path.name != _LOCKS)
        except FileNotFoundError:
            return []

    def _read(self, path: Path) -> Environment | None:
        try:
            found = msgspec.json.decode((path / _RECORD).read_bytes(), type=Environment)
        except (OSError, msgspec.MsgspecError):
            return None
        return msgspec.structs.replace(found, path=str(path))

    def _note(self, found: Environment, task: AnyTask) -> None:
        """Note that the task uses this environment, and no other any more."""
        use = use_of(task)
        name = _name(use)
        for path in self._folders():
            other = path / _USES / name
            if path.name != found.key and other.exists():
                _refresh(path, self._read(path), [task])
        place = Path(found.path) / _USES / name
        try:
            if not place.exists():
                _write(place, msgspec.json.encode(use))
        except OSError:  # made by another user, for this one to use but not to change
            pass

    def _missing(self, task: AnyTask, run_id: str) -> str:
        python, _ = _here()
        after = f", and then: stepwell retry {shlex.quote(run_id)}" if run_id else ""
        return (
            f"task {task.name!r} needs {', '.join(task.options.requires)}, and no environment with that is installed "
            f"here for {python}; install it with: {self.command(task)}{after}"
        )


def default_root() -> Path:
    """Where environments are when nothing else is said: `$STEPWELL_ENVS`, or `~/.stepwell/envs`."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).expanduser().absolute()


def use_of(task: AnyTask) -> Use:
    """Who uses an environment for this task, however its module was loaded."""
    function = unwrap(task.function)
    code = getattr(function, "__code__", None)
    file = getattr(code, "co_filename", "") or getattr(sys.modules.get(task.__module__), "__file__", None) or ""
    return Use(task.name, task.__qualname__, "" if file.startswith("<") else os.path.realpath(file))


def target_of(task: AnyTask) -> str:
    """How the command line is told of a task: `module:name`, or `/path.py:name` where that works from any folder."""
    place = task.location.rpartition(":")[0]
    module = sys.modules.get(task.__module__)
    file = getattr(module, "__file__", None)
    if place.startswith("file:"):
        place = place.removeprefix("file:")
    elif "." not in place and isinstance(file, str) and file.endswith(".py") and not hasattr(module, "__path__"):
        place = os.path.abspath(file)
    names = [name for name, one in vars(module).items() if getattr(one, "function", None) is task.function]
    return f"{place}:{task.name if task.name in names or not names else names[0]}"


def python_in(path: Path) -> Path:
    """The interpreter of a virtual environment."""
    return path / "Scripts" / "python.exe" if os.name == "nt" else path / "bin" / "python"


def _here() -> tuple[str, str]:
    """This Python and this platform: what an environment's packages are compiled for.

    Not from `sysconfig`, whose first answers differ when two threads ask at once (seen in Python 3.11).
    """
    import platform

    version = f"{sys.version_info.major}.{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
    return f"{sys.implementation.name} {version}", f"{sys.platform} {platform.machine()} {EXTENSION_SUFFIXES[0]}"


def _refresh(path: Path, found: Environment | None, tasks: Sequence[AnyTask]) -> None:
    """Remove the notes of uses that are none any more, as far as `tasks` and the file system tell."""
    requires = found.requires if found is not None else ()
    now = {_name(use_of(task)): task.options.requires for task in tasks}
    for name, use in _uses(path):
        is_gone = bool(use.file) and not os.path.exists(use.file)
        if is_gone or now.get(name, requires) != requires:
            (path / _USES / name).unlink(missing_ok=True)


def _measured(found: Environment) -> Environment:
    path = Path(found.path)
    return msgspec.structs.replace(found, size=_size(path), used_by=tuple(use for _, use in _uses(path)))


def _uses(path: Path) -> Iterator[tuple[str, Use]]:
    for file in sorted((path / _USES).glob("*.json")):
        try:
            yield file.name, msgspec.json.decode(file.read_bytes(), type=Use)
        except (OSError, msgspec.MsgspecError):  # just removed
            continue


def _name(use: Use) -> str:
    return hashlib.blake2b(f"{use.file}:{use.function}:{use.task}".encode(), digest_size=8).hexdigest() + ".json"


def _size(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:  # just removed
                continue
    return total


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(data)
    os.replace(part, path)


def _remove(path: Path) -> None:
    """Remove an environment, its record first, so that nobody takes what is left of it for one."""
    (path / _RECORD).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
