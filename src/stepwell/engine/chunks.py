"""What may be emitted? JSON of a bounded size and counts that are whole numbers, told where `ctx.emit` is called."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Final, TypeAlias

import msgspec

from stepwell.authoring.context import Emit
from stepwell.errors import ArgumentError, DefinitionError, Unserialisable
from stepwell.model.codec import ValueCodec
from stepwell.model.entries import INLINE_LIMIT

Usage: TypeAlias = Mapping[str, int]

CHUNK_LIMIT: Final = INLINE_LIMIT - 2
"""Bytes of JSON that a chunk may have: alone in its block, a list, it is as large as an entry's payload may be."""

_CODEC = ValueCodec(object, "a chunk")


def encoded(chunk: object, step: object) -> msgspec.Raw:
    """A chunk as JSON.

    Raises:
        Unserialisable: it is no JSON, or too large.
    """
    data = _CODEC.encode(chunk)
    size = len(memoryview(data))
    if size > CHUNK_LIMIT:
        raise Unserialisable(
            f"a chunk emitted by step {step} is {size:,} bytes of JSON; the limit is {CHUNK_LIMIT:,}: emit smaller "
            "ones, or the name of a file"
        )
    return data


def counted(usage: Mapping[str, object], step: object, whose: str = "ctx.emit") -> dict[str, int]:
    """What was used, by name.

    Raises:
        ArgumentError: a count is no whole number.
    """
    counts: dict[str, int] = {}
    for name, count in usage.items():
        if isinstance(count, bool) or not isinstance(count, int):
            raise ArgumentError(f"step {step}: {whose} was given {name}={count!r}; counts are whole numbers")
        counts[name] = count
    return counts


def refusing(step: object, why: str) -> Emit:
    """Takes the place of `emit` where chunks would be lost."""

    def emit(chunk: object, usage: Usage) -> Awaitable[None]:
        raise DefinitionError(f"step {step}: ctx.emit does not work here: {why}")

    return emit
