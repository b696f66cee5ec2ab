"""How values are walked at the places that `shapes` finds in a hint: `tag` before writing, `untag` after reading.

Each walk returns its value itself where nothing needs a change, so that clean values are not copied.
"""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import inspect

from stepwell.model import foreign, tagging
from stepwell.model.faults import Refusal, field_names, member

Fielded: TypeAlias = inspect.DataclassType | inspect.StructType | inspect.TypedDictType | inspect.NamedTupleType
Itemed: TypeAlias = (
    inspect.ListType | inspect.VarTupleType | inspect.CollectionType | inspect.SetType | inspect.FrozenSetType
)
_NEVER_TAGGED = tagging.ATOMS | {msgspec.UnsetType}
FIELDED = typing.get_args(Fielded)
ITEMED = typing.get_args(Itemed)


class Shape(Protocol):
    """A part of a hint whose values need a walk."""

    reads_tags: bool

    def tag(self, value: object) -> object:
        """Return what msgspec may write for `value`: itself when it is good as it is, else a changed copy.

        A value that is not of the declared type is returned as it is; reading it back finds that out.
        """

    def untag(self, raw: object) -> object:
        """Return decoded JSON (changed in place) with the tagged values in it restored, ready for `convert`."""

    def fits(self, value: object) -> bool:
        """Whether this member of a union is the one for a Python value."""

    def reads(self, raw: object) -> bool:
        """Whether this member of a union is the one for decoded JSON."""


class Untyped:
    """`Any`, `object`: see `tagging`."""

    reads_tags = True

    def tag(self, value: object) -> object:
        return value if tagging.is_plain(value) and not _has_dollar(value) else tagging.tag(value)

    def untag(self, raw: object) -> object:
        return tagging.untag(raw)

    def fits(self, value: object) -> bool:
        return True

    def reads(self, raw: object) -> bool:
        return True


def _has_dollar(value: object) -> bool:
    if type(value) is dict:
        return any(key.startswith("$") or _has_dollar(item) for key, item in value.items())
    return type(value) is list and any(map(_has_dollar, value))


class Moment:
    """A datetime or a time: see `tagging.moment`."""

    reads_tags = False

    def tag(self, value: object) -> object:
        return tagging.moment(value)

    def untag(self, raw: object) -> object:
        return raw

    def fits(self, value: object) -> bool:
        return hasattr(type(value), "utcoffset")

    def reads(self, raw: object) -> bool:
        return type(raw) is str


def _reads_tags(shapes: Iterable[Shape | None]) -> bool:
    return any(shape is not None and shape.reads_tags for shape in shapes)


class Members:
    """A dict: its keys become strings, its values are walked."""

    def __init__(self, info: inspect.DictType, values: Shape | None, *, free_keys: bool) -> None:
        self._free_keys = free_keys
        self._text_keys = isinstance(info.key_type, inspect.StrType)
        self._values = values
        self.reads_tags = self._free_keys or _reads_tags([values])

    def tag(self, value: object) -> object:
        if not issubclass(type(value), dict):
            return value
        items: Collection[tuple[Any, object]] = dict.items(value)  # type: ignore[arg-type]  # Any: keys as they come
        if self._free_keys and not all(type(key) is str and not key.startswith("$") for key, _ in items):
            pairs = [[self._tag_key(key), self._tag_item(key, item)] for key, item in items]
            return {"$t": "dict", "v": tagging.ordered(list(pairs))}
        if self._free_keys or self._text_keys:
            tagged = {key: self._tag_item(key, item) for key, item in items}
            return tagged if any(tagged[key] is not item for key, item in items) else value
        return self._with_text_keys(dict(items))

    def _with_text_keys(self, value: dict[object, object]) -> object:
        names: dict[str, None] = msgspec.to_builtins(dict.fromkeys(value), str_keys=True, enc_hook=foreign.dump)
        if len(names) != len(value):
            raise Refusal("a dict with keys that are written alike, such as 1 and '1'", "use keys of one type")
        return {name: self._tag_item(key, item) for name, (key, item) in zip(names, value.items(), strict=True)}

    def _tag_key(self, key: object) -> object:
        try:
            return tagging.tag(key)
        except Refusal as refusal:
            raise refusal.within(member(key)) from None

    def _tag_item(self, key: object, item: object) -> object:
        if self._values is None:
            return item
        try:
            return self._values.tag(item)
        except Refusal as refusal:
            raise refusal.within(member(key)) from None

    def untag(self, raw: object) -> object:
        if type(raw) is not dict:
            return raw
        if self._free_keys and "$t" in raw:
            if raw["$t"] != "dict" or type(raw.get("v")) is not list:
                return tagging.untag(raw)
            return {tagging.untag(key): self._untag_item(item) for key, item in raw["v"]}
        for key, item in raw.items():
            raw[key] = self._untag_item(item)
        return raw

    def _untag_item(self, item: object) -> object:
        return self._values.untag(item) if self._values is not None else item

    def fits(self, value: object) -> bool:
        return issubclass(type(value), dict)

    def reads(self, raw: object) -> bool:
        return type(raw) is dict


class Items:
    """A list, a set, or a tuple of any length; sets are put in order."""

    def __init__(self, info: Itemed, items: Shape | None) -> None:
        self._items = items
        self._kinds = _KINDS.get(type(info), (list, tuple, set, frozenset))
        self.reads_tags = _reads_tags([items])

    def tag(self, value: object) -> object:
        kind = type(value)
        if not issubclass(kind, (list, tuple, set, frozenset)):
            return value
        tagged = _tag_each(value, [self._items] * len(value))  # type: ignore[arg-type]  # sized, by its type
        if issubclass(kind, (set, frozenset)):
            return tagging.ordered(list(tagged))
        return tagged

    def untag(self, raw: object) -> object:
        if type(raw) is list and self._items is not None:
            raw[:] = map(self._items.untag, raw)
        return raw

    def fits(self, value: object) -> bool:
        return issubclass(type(value), self._kinds)

    def reads(self, raw: object) -> bool:
        return type(raw) is list


_KINDS: dict[type, tuple[type, ...]] = {
    inspect.ListType: (list,),
    inspect.VarTupleType: (tuple,),
    inspect.SetType: (set,),
    inspect.FrozenSetType: (frozenset,),
}


class Tuple:
    """A tuple with a type for each place."""

    def __init__(self, items: Sequence[Shape | None]) -> None:
        self._items = items
        self.reads_tags = _reads_tags(items)

    def tag(self, value: object) -> object:
        if not issubclass(type(value), (tuple, list)) or len(value) != len(self._items):  # type: ignore[arg-type]  # sized
            return value
        return _tag_each(value, self._items)  # type: ignore[arg-type]  # iterable, by its type

    def untag(self, raw: object) -> object:
        if type(raw) is list and len(raw) == len(self._items):
            raw[:] = [shape.untag(item) if shape else item for item, shape in zip(raw, self._items, strict=True)]
        return raw

    def fits(self, value: object) -> bool:
        return issubclass(type(value), tuple)

    def reads(self, raw: object) -> bool:
        return type(raw) is list


def _tag_each(items: Collection[object], shapes: Sequence[Shape | None]) -> Collection[object]:
    """The items tagged, in a list; the collection itself where none needed it."""
    tagged = []
    changed = False
    for index, (item, shape) in enumerate(zip(items, shapes, strict=False)):
        try:
            tagged.append(shape.tag(item) if shape else item)
        except Refusal as refusal:
            raise refusal.within(f"[{index}]") from None
        changed = changed or tagged[-1] is not item
    return tagged if changed else items


class Fields:
    """A class with declared fields; only the fields that need it are walked."""

    def __init__(self, info: Fielded, *, reads_tags: bool) -> None:
        self._cls = typing.get_origin(info.cls) or info.cls
        self._names = [(field.name, field.encode_name) for field in info.fields]
        self._is_tuple = isinstance(info, inspect.NamedTupleType)
        self._is_struct = isinstance(info, inspect.StructType)
        self._array_like = self._is_tuple or (isinstance(info, inspect.StructType) and info.array_like)
        self._tag = (info.tag_field, info.tag) if isinstance(info, inspect.StructType) and info.tag_field else None
        self._shapes: dict[str, Shape] = {}
        self.reads_tags = reads_tags

    def fill(self, shapes: dict[str, Shape | None]) -> None:
        self._shapes = {name: shape for name, shape in shapes.items() if shape is not None}

    def tag(self, value: object) -> object:
        if issubclass(type(value), dict):
            return self._tag_dict(dict(value))  # type: ignore[call-overload]  # a dict, by its type
        if not self.fits(value):
            return value
        changed: dict[str, object] = {}
        for name, shape in self._shapes.items():
            old = getattr(value, name, None)
            if type(old) in _NEVER_TAGGED:
                continue
            try:
                new = shape.tag(old)
            except Refusal as refusal:
                raise refusal.within(member(name)) from None
            if new is not old:
                changed[name] = new
        return self._with(value, changed) if changed else value

    def _tag_dict(self, members: dict[str, object]) -> object:
        for name, written in self._names:
            if name in self._shapes and written in members:
                try:
                    members[written] = self._shapes[name].tag(members[written])
                except Refusal as refusal:
                    raise refusal.within(member(written)) from None
        return members

    def _with(self, value: object, changed: dict[str, object]) -> object:
        if self._is_struct:
            copy = value.__copy__()  # type: ignore[attr-defined]  # a Struct; runs no __post_init__
            for name, new in changed.items():
                msgspec.structs.force_setattr(copy, name, new)
            return copy
        if self._is_tuple:
            names = [name for name, _ in self._names]
            return [changed.get(name, item) for name, item in zip(names, value, strict=False)]  # type: ignore[call-overload]  # a tuple
        fields = [*(field_names(type(value)) or ())]  # a subclass may have more: that is refused, and not left out
        members = {name: changed.get(name, getattr(value, name, msgspec.UNSET)) for name in fields}
        return {name: held for name, held in members.items() if held is not msgspec.UNSET}

    def untag(self, raw: object) -> object:
        if type(raw) is dict:
            for name, written in self._names:
                if name in self._shapes and written in raw:
                    raw[written] = self._shapes[name].untag(raw[written])
        elif type(raw) is list and self._array_like:
            start = 1 if self._tag else 0
            for index, (name, _) in enumerate(self._names, start):
                if name in self._shapes and index < len(raw):
                    raw[index] = self._shapes[name].untag(raw[index])
        return raw

    def fits(self, value: object) -> bool:
        return issubclass(type(value), self._cls) if self._cls is not dict else issubclass(type(value), dict)

    def reads(self, raw: object) -> bool:
        if type(raw) is dict and not self._array_like:
            return self._tag is None or raw.get(self._tag[0]) == self._tag[1]
        return type(raw) is list and self._array_like and (self._tag is None or raw[:1] == [self._tag[1]])


class Choice:
    """A union: msgspec allows only such as can be told apart by the value, or by the JSON."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = shapes
        self.reads_tags = _reads_tags(shapes)

    def tag(self, value: object) -> object:
        for shape in self._shapes:
            if shape.fits(value):
                return shape.tag(value)
        return value

    def untag(self, raw: object) -> object:
        for shape in self._shapes:
            if shape.reads(raw):
                return shape.untag(raw)
        return raw

    def fits(self, value: object) -> bool:
        return any(shape.fits(value) for shape in self._shapes)

    def reads(self, raw: object) -> bool:
        return any(shape.reads(raw) for shape in self._shapes)
