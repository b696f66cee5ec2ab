"""A value with no declared type stays what it is: JSON as it is, anything else as `{"$t": "datetime", "v": …}`.

The tag is what brings a datetime, Decimal, UUID, bytes, set or tuple back where no hint says what it was. An object
with a `$t` member is always a tagged value: a user's own dict that has a key beginning with `$`, or a key that is
no string, is written as tagged pairs, `{"$t": "dict", "v": [[key, value], …]}`.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from collections.abc import Iterable
from math import isfinite
from types import NoneType
from typing import Final

import msgspec

from stepwell.model import foreign
from stepwell.model.faults import MAX_DEPTH, Refusal, member, not_finite, type_name, unknown

ATOMS: Final = frozenset({str, int, bool, NoneType})
"""Exact types that are written as they are (ints of thousands of digits aside)."""

_SCALARS: Final[dict[type, str]] = {
    datetime.datetime: "datetime",
    datetime.date: "date",
    datetime.time: "time",
    datetime.timedelta: "timedelta",
    decimal.Decimal: "decimal",
    uuid.UUID: "uuid",
    bytes: "bytes",
    bytearray: "bytearray",
}
_SCALAR_TYPES: Final = {name: kind for kind, name in _SCALARS.items()}
_COLLECTIONS: Final[dict[str, type[tuple[object, ...] | set[object] | frozenset[object]]]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
_DECIMAL_SAFE_BITS: Final = 2000  # below 640 digits, the least limit Python lets anybody set on int <-> text


def is_plain(value: object, room: int = MAX_DEPTH) -> bool:
    """Whether JSON holds the value as it is; keys that begin with `$` aside, which are quicker seen in the bytes."""
    kind = type(value)
    if kind is dict:
        for key in value:  # type: ignore[attr-defined]  # a dict, by its type
            if type(key) is not str:
                return False
        value = value.values()  # type: ignore[attr-defined]  # still the dict
    elif kind is not list:
        return kind in ATOMS or (kind is float and isfinite(value))  # type: ignore[arg-type]  # a float, by its type
    for item in value:  # type: ignore[attr-defined]  # a list or the values of a dict
        kind = type(item)
        if kind in ATOMS or (kind is float and isfinite(item)):
            continue
        if not ((kind is dict or kind is list) and room and is_plain(item, room - 1)):
            return False
    return True


def tag(value: object, room: int = MAX_DEPTH) -> object:
    """Return the value with everything tagged that JSON alone would not bring back.

    Raises:
        Refusal: a value of a type that needs a hint, or that has no form in JSON.
        RecursionError: it is nested deeper than `MAX_DEPTH`, or contains itself.
    """
    kind = type(value)
    if kind in ATOMS:
        return _tag_int(value) if kind is int else value
    if kind is float:
        if not isfinite(value):  # type: ignore[arg-type]  # a float, by its type
            raise not_finite(value)
        return value
    if room == 0:
        raise RecursionError
    if kind is dict:
        return _tag_dict(value, room - 1)  # type: ignore[arg-type]  # a dict, by its type
    if kind is list:
        return tag_items(value, room - 1)  # type: ignore[arg-type]  # a list, by its type
    if kind is tuple:
        return {"$t": "tuple", "v": tag_items(value, room - 1)}  # type: ignore[arg-type]  # a tuple
    if kind is set or kind is frozenset:
        return {"$t": kind.__name__, "v": ordered(tag_items(value, room - 1))}  # type: ignore[arg-type]  # a set
    return _tag_scalar(value)


def tag_items(items: Iterable[object], room: int = MAX_DEPTH) -> list[object]:
    """`tag` for every item, naming its index in refusals."""
    tagged = []
    for index, item in enumerate(items):
        try:
            tagged.append(tag(item, room))
        except Refusal as refusal:
            raise refusal.within(f"[{index}]") from None
    return tagged


def ordered(items: list[object]) -> list[object]:
    """The items of a set in the one order that every process gives them: by their bytes."""
    return sorted(items, key=foreign.ENCODE)


def _tag_dict(value: dict[object, object], room: int) -> object:
    if all(type(key) is str and not key.startswith("$") for key in value):
        members: dict[object, object] = {}
        for key, item in value.items():
            try:
                members[key] = tag(item, room)
            except Refusal as refusal:
                raise refusal.within(member(key)) from None
        return members
    pairs: list[object] = []
    for key, item in value.items():
        try:
            pairs.append([tag(key, room), tag(item, room)])
        except Refusal as refusal:
            raise refusal.within(member(key)) from None
    return {"$t": "dict", "v": ordered(pairs)}


def _tag_int(value: object) -> object:
    assert type(value) is int
    if value.bit_length() > _DECIMAL_SAFE_BITS:
        try:
            str(value)
        except ValueError:  # more digits than Python converts; hexadecimal has no limit
            return {"$t": "int", "v": hex(value)}
    return value


def _tag_scalar(value: object) -> object:
    kind = type(value)
    name = _SCALARS.get(kind)
    if name is not None:
        return {"$t": name, "v": moment(value)}
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and kind in (pathlib.PosixPath, pathlib.WindowsPath):
        return {"$t": "path", "v": foreign.dump(value)}
    raise _needs_a_hint(value) or unknown(value)


def _needs_a_hint(value: object) -> Refusal | None:
    kind = type(value)
    name = type_name(kind)
    short = name.rpartition(".")[2]
    for base in (str, bytes, int, float, list, dict, tuple, set, frozenset, *_SCALARS):
        if issubclass(kind, base) and not foreign.is_declared(kind):
            if name.startswith("numpy."):
                return None
            return Refusal(
                f"of type {name}, a kind of {base.__name__} that would come back as a plain one",
                f"convert it with {base.__name__}(…), or annotate the function",
            )
    if foreign.is_declared(kind):
        return Refusal(
            f"of type {name}, and no type hint says that it is to be read back as one",
            f"annotate the function (`-> {short}`, or `name: {short}` for a parameter)",
        )
    return None


def moment(value: object) -> object:
    """A datetime or time whose offset JSON can hold: a zone off by seconds is moved to UTC, the instant stays.

    msgspec writes offsets in whole minutes and cuts the rest off silently; zones before 1900 have such offsets.
    """
    if type(value) is datetime.datetime and value.tzinfo is not None and value.tzinfo is not datetime.UTC:
        offset = value.utcoffset()
        if offset is not None and (offset.seconds % 60 or offset.microseconds):
            return value.astimezone(datetime.UTC)
    elif type(value) is datetime.time and value.tzinfo is not None:
        offset = value.utcoffset()
        if offset is None:
            raise Refusal(
                "a time of day in a zone whose offset depends on the date",
                "use a datetime, or write the zone beside it",
            )
        if offset.seconds % 60 or offset.microseconds:
            raise Refusal("a time of day in a zone whose offset has seconds", "use UTC")
    return value


def untag(raw: object) -> object:
    """Return the value that `tag` was given, from freshly decoded JSON (which is changed in place).

    Raises:
        Refusal: a tag that this version does not know, or one that holds something else than it says.
    """
    if type(raw) is dict:
        if "$t" in raw:
            return _untag_object(raw)
        for key, item in raw.items():
            if type(item) is dict or type(item) is list:
                raw[key] = untag(item)
    elif type(raw) is list:
        for index, item in enumerate(raw):
            if type(item) is dict or type(item) is list:
                raw[index] = untag(item)
    return raw


def _untag_object(raw: dict[str, object]) -> object:
    name, held = raw["$t"], raw.get("v")
    try:
        match name, held:
            case str(), _ if name in _SCALAR_TYPES:
                return msgspec.convert(held, _SCALAR_TYPES[name])
            case str(), list() if name in _COLLECTIONS:
                return _COLLECTIONS[name](untag(item) for item in held)
            case "dict", list():
                return {untag(key): untag(item) for key, item in held}
            case "int", str():
                return int(held, 16)
            case "path", str() if "pathlib" in sys.modules:
                return sys.modules["pathlib"].Path(held)
            case _:
                pass
    except (TypeError, ValueError) as error:
        raise Refusal(f"marked as {name!r} but holds something else ({error})", "mend the JSON") from error
    raise Refusal(f"marked with the tag {name!r}, which is not known here", "was it written by a newer version?")
