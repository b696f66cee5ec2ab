"""What an error says when a value does not fit its hint: the place, the path, what was found, what to do.

Asked only after a refusal, so it may look at the value again.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from stepwell.model.faults import Refusal, find_fault, member, type_name
from stepwell.model.foreign import ENCODE

DECODE: Final = msgspec.json.Decoder().decode

_AT = re.compile(r"(?s)(?P<what>.*) - at `(?P<of_key>key` in `)?(?P<path>\$.*)`")
_SEGMENT = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")


class Reader(Protocol):
    """The part of `values.Form` that is needed to find out more."""

    def rewrite(self, value: object) -> bytes: ...

    def read(self, data: bytes) -> object: ...


def hint_text(hint: object) -> str:
    """The hint as its author would write it."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return type_name(hint).rpartition(".")[2]
    return str(hint).replace("typing.", "")


def refused_write(form: Reader, value: object, error: Exception, place: str, hint: object) -> str:
    """Say why `form.write(value)` raised `error`, for the error's text."""
    fault = error if isinstance(error, Refusal) and error.segments else None
    if fault is None and not isinstance(error, msgspec.ValidationError):
        fault = find_fault(value, ENCODE)
        if fault is None and isinstance(error, TypeError) and "str keys" in str(error):
            fault = find_fault(value, ENCODE, text_keys=True)
    if fault is None and isinstance(error, msgspec.ValidationError):
        # A number that is not finite was written as null where the hint wants a number.
        fault = find_fault(value, ENCODE)
    fault = fault or (error if isinstance(error, Refusal) else None)
    if fault is not None:
        return f"{at(place, fault.path)} is {fault.found}: {fault.remedy}"
    if isinstance(error, RecursionError):
        return f"{place} is nested too deeply to be written here: flatten it, or write it as text"
    what, path = _unread(form, value, error)
    return f"{at(place, path)}: {what}; it is declared `{hint_text(hint)}`: return or pass that, or mend the annotation"


def at(place: str, path: str) -> str:
    """The place, and the path in the value when it is not the whole of it."""
    return place if path == "$" else f"{place}: {path}"


def _unread(form: Reader, value: object, error: Exception) -> tuple[str, str]:
    try:
        return refused_read(form, form.rewrite(value), error)
    except Exception:  # it cannot be written without its hint: say what is known
        return _said(error), "$"


def refused_read(form: Reader, data: bytes, error: Exception) -> tuple[str, str]:
    """Say (what was found, at which path) when `form.read(data)` raised `error`."""
    if isinstance(error, Refusal):
        return f"{error.found}; {error.remedy}", error.path
    match = _AT.fullmatch(str(error)) if isinstance(error, msgspec.ValidationError) else None
    if match is None:
        return _said(error), "$"
    path = _with_keys(match["path"], data, form.read)
    if match["of_key"]:
        path = f"a key in {path}"
    return _lower(match["what"]), path


def _said(error: Exception) -> str:
    text = str(error).strip()
    if isinstance(error, msgspec.MsgspecError):
        return _lower(text)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _lower(text: str) -> str:
    """msgspec's wording, in the middle of a sentence."""
    text = text.replace(", got ", ", found ")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _with_keys(path: str, data: bytes, read: Callable[[bytes], object]) -> str:
    """Name the dict members that msgspec shows as `[...]`: the first that cannot be read when it stands alone."""
    try:
        whole = DECODE(data)
    except msgspec.DecodeError:
        return path
    spot: Any = whole  # Any: JSON, followed along a path that msgspec reported
    named = "$"
    for match in _SEGMENT.finditer(path):
        if match["index"] == "...":
            key = _culprit(whole, spot, path, read) if type(spot) is dict else None
            if key is None:
                return named + path[match.start() :]
            spot = spot[key]
            named += member(key)
        else:
            step = match["name"] if match["name"] is not None else int(match["index"])
            try:
                spot = spot[step]
            except (LookupError, TypeError):
                return named + path[match.start() :]
            named += match[0]
    return named


def _culprit(whole: object, spot: dict[str, object], path: str, read: Callable[[bytes], object]) -> str | None:
    members = dict(spot)
    if len(members) > 1000:  # each is tried; a larger dict is not worth the wait
        return None
    for key, item in members.items():
        spot.clear()
        spot[key] = item
        try:
            read(ENCODE(whole))
        except msgspec.ValidationError as error:
            if path in str(error):
                return key
        except Exception:
            break
    spot.clear()
    spot.update(members)
    return None
