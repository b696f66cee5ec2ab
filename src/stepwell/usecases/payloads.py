"""What people give to a run from outside, as JSON: values, and arguments of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stepwell.errors import RequestRefused
from stepwell.model.codec import ValueCodec, content_hash, is_typed
from stepwell.model.entries import INLINE_LIMIT, NO_PAYLOAD, PAYLOAD_LIMIT
from stepwell.model.ids import StepPath


def arguments(given: Mapping[str, object] | bytes, path: StepPath | str) -> msgspec.Raw:
    """The JSON object of a step's new arguments.

    Raises:
        RequestRefused: it is no JSON object.
        Unserialisable: an argument cannot be written.
    """
    if not isinstance(given, bytes):
        return msgspec.Raw(
            msgspec.json.encode({name: value_of(value, f"argument {name!r}") for name, value in given.items()})
        )
    try:
        members = msgspec.json.decode(given, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestRefused(
            f"the input of step {path} must be a JSON object of its arguments by name: {error}"
        ) from None
    return msgspec.Raw(msgspec.json.encode(members, order="sorted"))


def value_of(value: object, place: str) -> msgspec.Raw:
    """The JSON of a value.

    Raises:
        Unserialisable: it cannot be written.
        RequestRefused: it is too large.
    """
    data = ValueCodec(type(value) if is_typed(value) else Any, place).encode(value)
    if len(memoryview(data)) > PAYLOAD_LIMIT:
        raise RequestRefused(f"{place} is {len(memoryview(data)):,} bytes of JSON; the limit is {PAYLOAD_LIMIT:,}")
    return data


def stowed(data: msgspec.Raw, blobs: dict[str, bytes]) -> tuple[msgspec.Raw, str]:
    """What an entry carries for a payload: itself, or the hash under which it is put into `blobs`."""
    raw = bytes(data)
    if len(raw) <= INLINE_LIMIT:
        return data, ""
    digest = content_hash(raw)
    blobs[digest] = raw
    return NO_PAYLOAD, digest
