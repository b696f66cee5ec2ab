"""Where in a type hint msgspec alone would lose something: there, and only there, a value is walked in Python.

msgspec writes `Any` without saying what it was, refuses canonical order for dicts whose keys are no strings and for
sets it cannot compare, and cuts seconds off the offset of a datetime. `shape_of` finds those places in a hint once;
a hint without any has no shape, and its values never meet Python code.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import inspect

from stepwell.model import walks

_SETS = (inspect.SetType, inspect.FrozenSetType)


def parts(info: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a type is made of, one level down."""
    if isinstance(info, walks.FIELDED):
        yield from (field.type for field in info.fields)
    elif isinstance(info, walks.ITEMED):
        yield info.item_type
    elif isinstance(info, inspect.TupleType):
        yield from info.item_types
    elif isinstance(info, inspect.DictType):
        yield info.key_type
        yield info.value_type
    elif isinstance(info, inspect.UnionType):
        yield from info.types
    elif isinstance(info, inspect.Metadata):
        yield info.type


def everything_in(info: inspect.Type) -> list[inspect.Type]:
    """A type and all that it is made of, each once; types may refer to themselves."""
    seen: dict[int, inspect.Type] = {}
    queue = [info]
    while queue:
        found = queue.pop()
        if id(found) not in seen:
            seen[id(found)] = found
            queue.extend(parts(found))
    return list(seen.values())


def is_untyped(info: inspect.Type) -> bool:
    """Whether the type says nothing about its values: `Any`, `object`, or a union with one of them."""
    if isinstance(info, inspect.UnionType):
        return any(map(is_untyped, info.types))
    return isinstance(info, inspect.AnyType) or (isinstance(info, inspect.CustomType) and info.cls is object)


def is_settled(info: inspect.Type) -> bool:
    """Whether plain JSON values of this type are read back in the form in which they were written."""
    if isinstance(info, inspect.DictType):
        has_text_keys = isinstance(info.key_type, inspect.StrType) or is_untyped(info.key_type)
        return has_text_keys and is_settled(info.value_type)
    if isinstance(info, inspect.ListType):
        return is_settled(info.item_type)
    if isinstance(info, inspect.UnionType):
        return is_untyped(info) or all(map(is_settled, info.types))
    return is_untyped(info) or isinstance(info, (inspect.StrType, inspect.IntType, inspect.BoolType, inspect.NoneType))


def shape_of(info: inspect.Type, memo: dict[int, walks.Shape] | None = None) -> walks.Shape | None:
    """Return the walk that values of this type need; None when msgspec does it all."""
    memo = {} if memo is None else memo
    if id(info) in memo:
        return memo[id(info)]
    if not any(_is_special(found) for found in everything_in(info)):
        return None
    if isinstance(info, inspect.Metadata):
        return shape_of(info.type, memo)
    if isinstance(info, walks.FIELDED):
        reads_tags = any(map(is_untyped, everything_in(info)))
        fields = walks.Fields(info, reads_tags=reads_tags)
        memo[id(info)] = fields  # before its parts, which may refer to it
        fields.fill({field.name: shape_of(field.type, memo) for field in info.fields})
        return fields
    if isinstance(info, inspect.DictType):
        return walks.Members(info, shape_of(info.value_type, memo), free_keys=is_untyped(info.key_type))
    if isinstance(info, walks.ITEMED):
        return walks.Items(info, shape_of(info.item_type, memo))
    if isinstance(info, inspect.TupleType):
        return walks.Tuple([shape_of(part, memo) for part in info.item_types])
    if isinstance(info, inspect.UnionType):
        if is_untyped(info):
            return walks.Untyped()
        shapes = [shape_of(part, memo) for part in info.types]
        return walks.Choice([shape for shape in shapes if shape is not None])
    if isinstance(info, (inspect.DateTimeType, inspect.TimeType)):
        return walks.Moment()
    return walks.Untyped()


def _is_special(info: inspect.Type) -> bool:
    if isinstance(info, inspect.DictType):
        return not isinstance(info.key_type, inspect.StrType)
    if isinstance(info, _SETS):
        return not isinstance(info.item_type, (inspect.StrType, inspect.IntType))
    return is_untyped(info) or isinstance(info, (inspect.DateTimeType, inspect.TimeType))
