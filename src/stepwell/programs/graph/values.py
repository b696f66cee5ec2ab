"""Values of a graph as JSON: what is journaled, and what is read back."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from stepwell.errors import GraphError, Unserialisable
from stepwell.model.ids import StepPath
from stepwell.nodes.parts.settings import filled
from stepwell.programs.asks import check_size

T = TypeVar("T", bound=msgspec.Struct)


class _Json:
    """Reads plain JSON."""

    def decode(self, data: msgspec.Raw) -> object:
        """The value."""
        return msgspec.json.decode(data)


JSON = _Json()


def encoded(value: object, path: StepPath) -> msgspec.Raw:
    """The value as canonical JSON.

    Raises:
        Unserialisable: it is no JSON, or too large for the journal.
    """
    try:
        data = msgspec.Raw(msgspec.json.encode(value, order="sorted"))
    except (TypeError, ValueError, RecursionError) as error:
        raise Unserialisable(f"node {path}: {error}") from error
    check_size(data, "what was computed for node", path)
    return data


def converted(value: object, kind: type[T], path: StepPath) -> T:
    """Rendered settings as the struct of their node type.

    Raises:
        GraphError: they do not fit; the text names node and setting.
    """
    try:
        return filled(kind, value)
    except msgspec.ValidationError as error:
        raise GraphError(f"node {path}: the settings do not fit once they are filled in: {error}") from None


def plain(value: object) -> Any:  # Any: JSON
    """A struct, or anything in which there are some, as plain JSON data."""
    return msgspec.to_builtins(value)
