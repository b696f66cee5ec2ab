"""What a line that a person types stands for, and how a value would be typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from stepwell.model.forms import FORMATS, TYPES

Json: TypeAlias = Any  # Any: JSON

SCALARS: Final = frozenset({"integer", "number", "boolean", "string", "null"})

_YES: Final = frozenset({"y", "yes", "true", "1"})
_NO: Final = frozenset({"n", "no", "false", "0"})


def clean(text: str) -> str:
    """Text from a store as a terminal may show it: what could steer the terminal is replaced."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def written(value: Json) -> str:
    """A value as a person would type it; empty for null."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value or '""'
    return "" if value is None else msgspec.json.encode(value).decode()


def types_of(schema: Json) -> list[str]:
    """The JSON types that a schema allows, as far as it says so."""
    given = schema.get("type") or (["object"] if "properties" in schema else [])
    return [given] if isinstance(given, str) else list(given)


def in_words(types: list[str]) -> str:
    """JSON types in words; null only when there is nothing else."""
    return " or ".join(text for kind, text in TYPES.items() if kind in types and (kind != "null" or types == ["null"]))


def reader(schema: Json) -> tuple[Callable[[str], Json], str]:
    """Return (what reads a line as a value of this schema, what is to be typed in words).

    What reads raises ValueError with a text that says what to type.
    """
    types = types_of(schema)
    kinds = {kind for kind in types if kind != "null"}
    if kinds == {"boolean"}:
        return _truth, "yes or no"
    if not types or not SCALARS.issuperset(types):
        return _any_json, "JSON"
    wanted = FORMATS.get(schema.get("format", "")) or in_words(types) + _bounds(schema)
    return lambda text: _scalar(text, kinds), wanted


def _bounds(schema: Json) -> str:
    match schema.get("minimum"), schema.get("maximum"):
        case None, None:
            return ""
        case least, None:
            return f", at least {least}"
        case None, most:
            return f", at most {most}"
        case least, most:
            return f", {least} to {most}"


def _truth(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ValueError(f"{text!r}: type yes or no")
    return text.lower() in _YES


def _scalar(text: str, kinds: set[str]) -> Json:
    """Text is taken as it is typed, without quotes; a number where one may stand is one, unless text may stand too."""
    if kinds & {"integer", "number"}:
        try:
            number = msgspec.json.decode(text.encode())
        except msgspec.DecodeError:
            number = text
        if type(number) is int or (type(number) is float and "string" not in kinds):
            return number
    if "boolean" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return "" if text == '""' else text


def _any_json(text: str) -> Json:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        raise ValueError(f"that is not JSON ({error}); text needs quotes of its own") from None
