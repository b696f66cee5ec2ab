"""An exception becomes a `Failure` here, and nowhere else.

Anything may be raised at us: errors whose `__str__` raises, chains that bite their own tail, text that is not
Unicode. The result always encodes to JSON and has a bounded size. A failure is written where its exception was
caught, possibly in a child process that loaded the user's script under another name, so names are made the same
here: what a script defines is `__main__.X` wherever it runs.
"""

from __future__ import annotations

import traceback
from typing import Final

from stepwell.errors import DefinitionError, StepFailed
from stepwell.model.failure import MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure

CAUSES = 5
"""How many causes a failure keeps at most, nearest first."""

SCRIPT_MODULE: Final = "__mp_main__"
"""What a script's module is called in a process that was not started with it; a further script's has a number behind.

It is the name that multiprocessing uses.
"""

_SCRIPTS = (SCRIPT_MODULE, "stepwell_target_")
"""How the modules of scripts are called that this process did not start as `__main__`."""

_PACKAGE = __file__.removesuffix("model/failures.py").removesuffix("model\\failures.py")
_STDLIB = traceback.__file__.removesuffix("traceback.py")
_MACHINERY = (
    _PACKAGE,
    "<frozen importlib",
    *(_STDLIB + part for part in ("asyncio", "concurrent", "importlib", "threading.py")),
)
_EXAMPLES = _PACKAGE + "examples"


def failure_of(error: BaseException, *, retryable: bool = True, timed_out: bool = False) -> Failure:
    """Return the exception as data; never raises.

    The traceback is the text Python would print, chain and notes included, without the engine's own frames before
    the user's first, and with its middle left out beyond `TRACEBACK_LIMIT` characters; it is empty for a
    `DefinitionError` to which no frame of the user's led. The causes (`__cause__`, or an unsuppressed
    `__context__`) are kept as failures without a traceback of their own, `CAUSES` at most. The failure recorded in
    a `StepFailed` counts as its cause when it has no other.
    """
    return Failure(
        type=type_name(type(error)),
        message=_message(error),
        kinds=_kinds(type(error)),
        traceback=_traceback(error),
        retryable=retryable,
        timed_out=timed_out,
        cause=_cause(error),
    )


def type_name(kind: type[BaseException]) -> str:
    """The class as `module.qualname`; builtins go without module, a script's classes are `__main__`'s."""
    module, name = getattr(kind, "__module__", None), getattr(kind, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return _plain(type.__dict__["__name__"].__get__(kind))
    if module.startswith(_SCRIPTS):
        module = "__main__"
    return _plain(name if module == "builtins" else f"{module}.{name}")


def _kinds(kind: type[BaseException]) -> tuple[str, ...]:
    """The names of the exception classes above this one, nearest first, `Exception` last."""
    above = (base for base in type.mro(kind)[1:] if issubclass(base, BaseException) and base is not BaseException)
    return tuple(type_name(base) for base in above)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # a hostile __str__ may raise anything, and this error is about to be reported
        return type_name(type(error))
    return _shortened(_plain(text), MESSAGE_LIMIT)


def _cause(error: BaseException) -> Failure | None:
    """The chain below `error`, built from its far end."""
    chain: list[BaseException] = []
    seen = {id(error)}
    end: Failure | None = None
    at = error
    while len(chain) < CAUSES:
        below = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
        if below is None and isinstance(at, StepFailed):
            end = _cut(getattr(at, "failure", None), CAUSES - len(chain))
        if below is None or id(below) in seen:
            break
        seen.add(id(below))
        chain.append(below)
        at = below
    for link in reversed(chain):
        end = Failure(type_name(type(link)), _message(link), _kinds(type(link)), cause=end)
    return end


def _cut(failure: object, causes: int) -> Failure | None:
    """The first `causes` failures of a recorded chain, so that chains do not grow from run to parent run."""
    if not isinstance(failure, Failure) or causes <= 0:
        return None
    return Failure(
        failure.type,
        failure.message,
        failure.kinds,
        retryable=failure.retryable,
        timed_out=failure.timed_out,
        cause=_cut(failure.cause, causes - 1),
    )


def _traceback(error: BaseException) -> str:
    try:
        whole = traceback.TracebackException.from_exception(error, lookup_lines=False)
        if not _drop_machinery(whole) and isinstance(error, DefinitionError):
            return ""  # a refusal by the engine itself: type and message say all that its user can use
        text = "".join(whole.format())
    except BaseException:  # formatting runs the user's __str__ and __getattr__; a failure without traceback will do
        return ""
    return _shortened(_plain(text), TRACEBACK_LIMIT)


def _drop_machinery(link: traceback.TracebackException) -> bool:
    """Remove the frames that lead from the engine to the user's code, in the whole chain; False when there is none."""
    seen: set[int] = set()
    todo = [link]
    found = False
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        first = next((n for n, frame in enumerate(one.stack) if not _is_machinery(frame.filename)), None)
        if first is not None:
            found = True
            del one.stack[:first]
        todo += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other]
    return found


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY) and not filename.startswith(_EXAMPLES)


def _plain(text: str) -> str:
    """`text` as a plain `str` that can be written as UTF-8: lone surrogates (undecodable file names) are escaped."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    gap = f"\n... {len(text) - limit} more characters are left out here ...\n"
    head = (limit - len(gap)) // 2
    return text[:head] + gap + text[len(text) - (limit - len(gap) - head) :]
