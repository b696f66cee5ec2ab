"""Failures of steps as exceptions: what a workflow body catches, equal on first execution and on replay."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from stepwell.errors import StepFailed, StepTimedOut
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath

_classes: dict[tuple[str, bool], type[StepFailed]] = {}


def error_of(failure: Failure, path: StepPath) -> StepFailed:
    """Return the exception that the body sees for `failure` of the step at `path`.

    It is a `StepFailed` and, when the original class is loaded in this process, an instance of that class too
    (made without calling its constructor, so attributes that only the constructor sets are absent). Classes named
    in a journal are looked up among loaded modules, never imported.
    """
    kind = _class_for(failure)
    error = kind.__new__(kind)
    error.args = (failure.message,)
    error.failure = failure
    error.step = str(path)
    error.path = path  # type: ignore[attr-defined]  # read back by failed_paths
    return error


def _class_for(failure: Failure) -> type[StepFailed]:
    key = (failure.type, failure.timed_out)
    known = _classes.get(key)
    if known is not None:
        return known
    base: type[StepFailed] = StepTimedOut if failure.timed_out else StepFailed
    result = base
    for name in (failure.type, *failure.kinds):
        original = _loaded(name)
        if original is None or issubclass(base, original):
            continue
        try:
            result = type(original.__name__, (base, original), {"__module__": original.__module__})
            result.__new__(result)
        except Exception:  # its layout cannot be combined with ours, or its __new__ wants more than a class
            result = base
            continue
        break
    if result is not base or failure.type in ("Exception", ""):
        _classes[key] = result
    return result


def _loaded(name: str) -> type[Exception] | None:
    module_name, _, qualname = name.rpartition(".")
    found: object = sys.modules.get(module_name or "builtins")
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def failed_paths(error: BaseException) -> tuple[StepPath, ...]:
    """The steps whose failures led to `error`, through causes, contexts and groups; in the order found."""
    return tuple(dict.fromkeys(_paths(error, set())))


def _paths(error: BaseException | None, seen: set[int]) -> Iterator[StepPath]:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    path = getattr(error, "path", None)
    if isinstance(error, StepFailed) and isinstance(path, StepPath):
        yield path
        return
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _paths(inner, seen)
    yield from _paths(error.__cause__, seen)
    yield from _paths(error.__context__, seen)
