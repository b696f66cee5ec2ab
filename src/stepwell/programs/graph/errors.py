"""Errors as graphs see them: plain data for expressions, names for `catch`."""

from __future__ import annotations

from stepwell.errors import StepFailed
from stepwell.model.failure import Failure
from stepwell.model.failures import failure_of


def failure(error: BaseException) -> Failure:
    """The error as data; that of a failed step is what the journal has."""
    return error.failure if isinstance(error, StepFailed) else failure_of(error)


def is_timeout(error: BaseException) -> bool:
    """Whether a time limit is behind it."""
    return isinstance(error, TimeoutError) or (isinstance(error, StepFailed) and error.failure.timed_out)


def described(error: BaseException) -> dict[str, object]:
    """What expressions see of an error: `type`, `message`, `timed_out`; `node` and `step` that failed; `details`.

    `node` is null when it was no node that failed, but the result of a body that could not be made.
    """
    data = failure(error)
    found: dict[str, object] = {
        "type": data.type.rsplit(".", 1)[-1],
        "message": data.message,
        "timed_out": is_timeout(error),
        "node": getattr(error, "node", None),
    }
    own, details = getattr(error, "type", ""), getattr(error, "details", data.details)
    if isinstance(own, str) and own:
        found["type"] = own
    if details is not None:
        found["details"] = details
    step = getattr(error, "step", "")
    if step:
        found["step"] = step
    return found


def caught_names(error: BaseException) -> tuple[str, ...]:
    """The names by which `catch` knows an error: what it calls itself, its class and those above it, in full."""
    data = failure(error)
    own = getattr(error, "type", "")
    names = (data.type, *data.kinds)
    return (own, *names) if isinstance(own, str) and own else names
