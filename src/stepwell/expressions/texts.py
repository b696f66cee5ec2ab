"""How does a value read as text? Text as it is, nothing for null, JSON for everything else."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from json import JSONEncoder

Json: TypeAlias = Any
"""Plain JSON data: None, bool, int, float, str, list, dict with text keys."""


def text_of(value: object) -> str:
    """What is put into a text where a `{{ template }}` of it stands.

    Raises:
        ValueError: it has no JSON form: NaN, an infinity, something that is no plain data, or it is nested too deep.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json_of(value)


def is_template(source: object) -> bool:
    """Whether it is text with a `{{` in it, whose value is not known before it is rendered."""
    return isinstance(source, str) and "{{" in source


def json_of(value: object) -> str:
    """The value as JSON, compact; keys are sorted, as in the journal, so that it is the same on every replay.

    Raises:
        ValueError: it has no JSON form: NaN, an infinity, something that is no plain data, or it is nested too deep.
    """
    try:
        return _encoder().encode(value)
    except TypeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


@functools.cache
def _encoder() -> JSONEncoder:
    from json import JSONEncoder  # the standard library's is loaded when a text is made

    return JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


def is_finite(value: float) -> bool:
    """Whether JSON has a form for it."""
    return math.isfinite(value)


def kind_of(value: object) -> str:
    """What JSON calls it, for the texts of errors."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"
