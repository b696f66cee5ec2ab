"""Values to try a node type with, made from the types of its settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect

VARIANTS: Final = 6

ANY: Final[tuple[Any, ...]] = (True, {"one": 1}, [{"port": "one", "when": True}], "text", 7, None)
"""What stands for a setting that may be anything, one for each variant."""

NAMES: Final[Mapping[str, object]] = {
    "input": {"name": "ann", "items": [1, 2, 3], "nested": {"deep": [{"x": 1.5}, None]}, "yes": True},
    "var": {"count": 1},
    "env": {},
    "loop": {"index": 0, "iteration": 1},
}
"""What the names in expressions stand for."""


def samples(settings: type[msgspec.Struct]) -> list[dict[str, Any]]:  # Any: JSON
    """Settings as plain JSON: those that are required, then all of them, each in several variants."""
    found: list[dict[str, Any]] = []  # Any: JSON
    for variant in range(VARIANTS):
        for is_whole in (False, True):
            sample = _struct(inspect.type_info(settings), variant, is_whole, 0)
            if sample not in found:
                found.append(sample)
    return found


def structs(settings: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The settings' own class and those of all that is nested in them, each once."""
    found: list[type[msgspec.Struct]] = []
    waiting: list[Any] = [inspect.type_info(settings)]  # Any: kinds of `msgspec.inspect`
    while waiting:
        one = waiting.pop()
        if isinstance(one, inspect.StructType):
            if one.cls in found:
                continue
            found.append(one.cls)
            waiting += [field.type for field in one.fields]
        for name in ("types", "item_types"):
            waiting += getattr(one, name, ())
        waiting += [getattr(one, name) for name in ("item_type", "value_type", "type") if hasattr(one, name)]
    return found


def _struct(info: Any, variant: int, is_whole: bool, depth: int) -> dict[str, Any]:  # Any: JSON, and as above
    return {
        field.encode_name: _value(field.type, variant, depth + 1)
        for field in info.fields
        if field.required or (is_whole and depth < 6)
    }


def _value(info: Any, variant: int, depth: int) -> Any:  # Any: JSON, and a kind of `msgspec.inspect`
    match info:
        case inspect.Metadata():
            return _value(info.type, variant, depth)
        case inspect.UnionType():
            kinds = [one for one in info.types if not isinstance(one, inspect.NoneType)] or list(info.types)
            return _value(kinds[variant % len(kinds)], variant, depth)
        case inspect.StructType():
            return _struct(info, variant, variant % 2 == 1, depth)
        case inspect.LiteralType():
            return info.values[variant % len(info.values)]
        case inspect.DictType():
            return {"one": _value(info.value_type, variant, depth + 1)} if depth < 6 else {}
        case inspect.ListType() | inspect.VarTupleType():
            return [_value(info.item_type, variant, depth + 1)] if depth < 6 else []
        case inspect.BoolType():
            return variant % 2 == 0
        case inspect.IntType():
            return 1 + variant
        case inspect.FloatType():
            return 1.5
        case inspect.StrType():
            return f"text{variant}"
        case inspect.NoneType():
            return None
        case _:
            return ANY[variant % len(ANY)]
