"""With `strict=True`: did the body's own code just ask for time, chance or the world? Then the run fails, saying where.

While a turn runs, a profile function (`sys.setprofile`) sees every call in the thread before it is made. A call counts
when it is a hazard (`authoring.hazards`) and the code that makes it is the body's own: not the standard library's,
not an installed package's, not Stepwell's, and not called by one of these on its own account (a logging handler, a
module that is being imported, a clock that was given to `Stepwell`). What compiled extensions do is not seen.

The error is kept too, so that a run whose body catches it fails all the same.
"""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from collections.abc import Callable
from itertools import islice
from random import Random
from types import CodeType, FrameType
from typing import Any, Final, Literal, ParamSpec, TypeAlias, TypeVar

from stepwell.authoring.hazards import ENVIRONMENT, LAST_NAMES, Hazard, find, is_environment, names_of, shared_random
from stepwell.authoring.lint import is_machinery
from stepwell.authoring.sources import is_allowed
from stepwell.errors import WorkflowBodyError

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("stepwell.lint")

_Whose: TypeAlias = Literal["body", "library", "caller", "engine", "driver"]
"""Whose code a file has: the workflow's author's, a library's, made up on the spot for its caller (a dataclass's
`__init__`), the engine's, or that part of the engine that runs bodies."""

_PROGRAMS: Final = os.path.dirname(__file__) + os.sep
_DRIVERS: Final = frozenset(_PROGRAMS + name for name in ("turnloop.py", "switch.py", "guard.py"))
_LIBRARIES: Final = tuple(
    {path + os.sep for path in map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")) if path}
)
_ON_THEIR_OWN_ACCOUNT: Final = ("logging", "importlib")
"""Libraries that run code of the author's which is not the body's: handlers, modules."""

_ENVIRONMENT_READS: Final = frozenset(
    ("__getitem__", "__contains__", "__iter__", "get", "keys", "items", "values", "copy")
)


class Guard:
    """Watches the turns of one body.

    Args:
        code: the body's, whose package counts as the author's even where it is installed.
    """

    def __init__(self, code: CodeType | None) -> None:
        self._offence: WorkflowBodyError | None = None
        self._home = _home_of(code)
        self._whose: dict[str, _Whose] = {}
        self._skipped = False

    def watching(self, function: Callable[P, T]) -> Callable[P, T]:
        """`function`, watched while it runs, in whatever thread that is.

        Where a profiler is at work already it is left alone, and nothing is watched; that is logged once.
        """

        def watched(*args: P.args, **kwargs: P.kwargs) -> T:
            other = sys.getprofile()
            if other is not None:
                self._skip(other)
                return function(*args, **kwargs)
            sys.setprofile(self._saw)
            try:
                return function(*args, **kwargs)
            finally:
                sys.setprofile(None)

        return watched

    def take_offence(self) -> WorkflowBodyError | None:
        """What was raised in the body since this was last asked; the body may have caught it."""
        offence, self._offence = self._offence, None
        return offence

    def _skip(self, other: object) -> None:
        if not self._skipped:
            self._skipped = True
            _log.warning("strict: a profiler is at work (%r), so calls in workflow bodies are not watched", other)

    def _saw(self, frame: FrameType, event: str, called: Any) -> None:  # Any: what sys.setprofile hands over
        """Called by the interpreter before every call; the first lines decide nearly all of them."""
        if event == "c_call":
            if called.__name__ not in LAST_NAMES:
                return
            caller: FrameType | None = frame
            found = _builtin_hazard(called)
        elif event == "call":
            code = frame.f_code
            if code.co_name not in LAST_NAMES and code.co_name not in _ALSO:
                return
            caller = frame.f_back
            found = _function_hazard(frame)
        else:
            return
        if found is not None and caller is not None:
            self._judge(caller, *found)

    def _judge(self, caller: FrameType, name: str, hazard: Hazard) -> None:
        place = self._place_in_body(caller)
        if place is None:
            return
        first, last = _lines_at(place)
        file = place.f_code.co_filename
        if is_allowed(file, first, last):
            return
        self._offence = offence = WorkflowBodyError(
            f"{file}:{first}: {name}() in a workflow body may differ on replay: {hazard.advice} "
            "(strict=True; what is meant is marked with  # stepwell: allow  on its line)"
        )
        raise offence

    def _place_in_body(self, caller: FrameType) -> FrameType | None:
        """The frame of the body's own code that made a call; None when it was not the body that made it."""
        place: FrameType | None = None
        frame: FrameType | None = caller
        while frame is not None:
            code = frame.f_code
            whose = self._whose.get(code.co_filename) or self._look(code.co_filename)
            if whose == "driver":
                return place
            if whose == "engine" or code.co_name == "__del__":
                return None
            if whose == "library":
                module = str(frame.f_globals.get("__name__", ""))
                if place is None or module.partition(".")[0] in _ON_THEIR_OWN_ACCOUNT:
                    return None
            elif whose == "body":
                place = place or frame
            frame = frame.f_back
        return None

    def _look(self, filename: str) -> _Whose:
        whose = self._whose[filename] = _whose(filename, self._home)
        return whose


_ALSO: Final = _ENVIRONMENT_READS | {"__init__"}


def _builtin_hazard(called: Any) -> tuple[str, Hazard] | None:  # Any: a builtin function or method
    for name in names_of(called):
        found = find(name)
        if found is not None:
            return found if found[1].harmless_above is None else None  # what it is given cannot be seen
    return None


def _function_hazard(frame: FrameType) -> tuple[str, Hazard] | None:
    """The hazard that a Python function is, as its frame begins."""
    code = frame.f_code
    name = code.co_qualname
    module = str(frame.f_globals.get("__name__", ""))
    if code.co_name in _ENVIRONMENT_READS and name.startswith(("_Environ.", "Mapping.", "MutableMapping.")):
        if is_environment(frame.f_locals.get("self")):
            return f"os.environ.{code.co_name}", ENVIRONMENT
        return None
    if module == "random" and name.startswith("Random."):
        return _random_hazard(frame, code)
    whole = f"{module}.{name.removesuffix('.__init__')}".replace(".PathBase.", ".Path.")
    found = find(whole)
    if found is None or found[1].harmless_above is None:
        return found
    arguments = code.co_varnames[: code.co_argcount]
    given = sum(frame.f_locals.get(argument) is not None for argument in arguments if argument != "self")
    return found if given <= found[1].harmless_above else None


def _random_hazard(frame: FrameType, code: CodeType) -> tuple[str, Hazard] | None:
    """A method of `random.Random`: only the generator that all share, and one without a seed, are hazards."""
    of = frame.f_locals.get("self")
    if code.co_name == "__init__":
        kind = type(of)
        is_seeded = frame.f_locals.get("x") is not None
        return (
            find(f"random.{kind.__name__}")
            if kind.__name__ == "SystemRandom" or (kind is Random and not is_seeded)
            else None
        )
    return find(f"random.{code.co_name}") if of is shared_random() else None


def _home_of(code: CodeType | None) -> str:
    """The folder of the package that a body is in, or its file: its author's own, wherever it is installed."""
    if code is None:
        return ""
    folder = os.path.dirname(code.co_filename)
    if not os.path.isfile(os.path.join(folder, "__init__.py")):
        return code.co_filename
    while os.path.isfile(os.path.join(os.path.dirname(folder), "__init__.py")):
        folder = os.path.dirname(folder)
    return folder + os.sep


def _whose(filename: str, home: str) -> _Whose:
    if filename in _DRIVERS:
        return "driver"
    if is_machinery(filename):
        return "engine"
    if home and filename.startswith(home):
        return "body"
    if filename.startswith("<"):
        if filename.startswith(("<string>", "<attrs ")):
            return "caller"
        return "library" if filename.startswith("<frozen ") else "body"
    is_installed = f"{os.sep}site-packages{os.sep}" in filename or f"{os.sep}dist-packages{os.sep}" in filename
    return "library" if is_installed or filename.startswith(_LIBRARIES) else "body"


def _lines_at(frame: FrameType) -> tuple[int, int]:
    """The first and last line of the call that a frame is making."""
    positions = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    if positions is None or positions[0] is None:
        return frame.f_lineno, frame.f_lineno
    return positions[0], positions[1] or positions[0]
