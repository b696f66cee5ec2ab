"""A type as the form for an answer: JSON Schema (2020-12) of what the codec reads back as that type.

What the codec writes for a value of the type fits its schema, and what fits the schema the codec reads. The schema is
narrower in one thing: where the codec skips a member of an object that the type does not have, the form refuses it, so
that a mistyped name is not dropped silently.

Source of the format: https://json-schema.org/draft/2020-12; the formats it adds are `checking.FORMATS`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect as kinds

from stepwell.model import foreign, walks
from stepwell.model.checking import FORMATS, TYPES, Problem, accept, check, check_schema, refuse
from stepwell.model.codec import ValueCodec
from stepwell.model.refusals import DECODE
from stepwell.model.values import form_of

__all__ = ["FORMATS", "TYPES", "Problem", "accept", "check", "check_schema", "codec_of", "refuse", "schema_of"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Json: typing.TypeAlias = dict[str, Any]  # Any: JSON


def schema_of(hint: object, place: str = "the form") -> Json:
    """Return the JSON Schema of answers of this type; a dict, which is a JSON Schema already, as it is.

    Classes become objects with their docstring as description; a field's comes from `Annotated[…,
    msgspec.Meta(description=…)]`, a dataclass field's `metadata={"description": …}`, or pydantic's `Field`. Choices
    stand in the order of the class.

    Args:
        hint: a type form, or a dict.
        place: what errors begin with.

    Raises:
        Unserialisable: the hint has no one JSON form.
        DefinitionError: the dict is no JSON Schema, or one that leads out of itself.
    """
    if isinstance(hint, dict):
        check_schema(hint, place)
        return hint
    info = form_of(hint, place).info
    writer = _Writer()
    writer.learn_order(hint)  # a class's own come when it is written
    root = writer.schema(info)
    definitions = writer.definitions
    name = root["$ref"].rpartition("/")[2] if set(root) == {"$ref"} else ""
    if name:
        # The root is written out, and stays a definition only where it refers to itself.
        root = definitions[name]
        if writer.used[name] == 1:
            del definitions[name]
    return {"$schema": DIALECT, **root, **({"$defs": definitions} if definitions else {})}


def codec_of(hint: object, place: str) -> ValueCodec:
    """The codec of answers of this type; of plain JSON when the hint is a JSON Schema. Raises as `ValueCodec` does."""
    return ValueCodec(Any if isinstance(hint, dict) else hint, place)


_BOUNDS: Final = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
_TEXTS: Final[dict[type, Json]] = {
    kinds.DateType: {"type": "string", "format": "date"},
    kinds.TimeDeltaType: {"type": "string", "format": "timedelta"},
    kinds.UUIDType: {"type": "string", "format": "uuid"},
    kinds.DecimalType: {"type": ["string", "number"], "format": "decimal"},
}
_SIMPLE: Final = {
    kinds.BoolType: "boolean",
    kinds.NoneType: "null",
    kinds.IntType: "integer",
    kinds.FloatType: "number",
    kinds.StrType: "string",
}
_BYTES: Final = (kinds.BytesType, kinds.ByteArrayType, kinds.MemoryViewType)
_WHOLE_NUMBER_KEY: Final = r"^-?(0|[1-9][0-9]*)$"
_NUMBER_KEY: Final = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"


class _Writer:
    """Writes the schemas of one hint; classes go to `definitions`, each under a name of its own."""

    def __init__(self) -> None:
        self.definitions: Json = {}
        self.used: dict[str, int] = {}
        self._names: dict[object, str] = {}
        self._orders: dict[frozenset[tuple[type, object]], tuple[object, ...]] = {}

    def schema(self, info: kinds.Type) -> Json:
        """The schema of one type; of a class a `$ref`."""
        kind = type(info)
        if kind in _SIMPLE:
            return {"type": _SIMPLE[kind], **_bounds(info, "Length")}
        if kind in _TEXTS:
            return dict(_TEXTS[kind])
        match info:
            case kinds.Metadata():
                return {**self.schema(info.type), **(info.extra_json_schema or {})}
            case kinds.DateTimeType(tz=tz):
                return {"type": "string", "format": "date-time" if tz else "moment"}
            case kinds.TimeType(tz=tz):
                return {"type": "string", "format": "time" if tz else "time-of-day"}
            case kinds.LiteralType(values=values):
                return {"enum": list(self._orders.get(_as_set(values), values))}
            case kinds.EnumType(cls=cls):
                return self._defined(cls, lambda: _described(cls, {"enum": _members(cls)}))
            case kinds.UnionType(types=types):
                return self._union(types)
            case kinds.DictType():
                return self._dict(info)
            case kinds.TupleType(item_types=items):
                return _fixed([self.schema(item) for item in items], len(items))
            case kinds.CustomType(cls=cls):
                adopted: Json = self._adopted(*foreign.schema_of(cls))
                return adopted
            case _ if isinstance(info, _BYTES):
                return {"type": "string", "contentEncoding": "base64", "format": "base64"}
            case _ if isinstance(info, walks.ITEMED):
                unique = {"uniqueItems": True} if isinstance(info, (kinds.SetType, kinds.FrozenSetType)) else {}
                item = self.schema(info.item_type)
                return {"type": "array", **({"items": item} if item else {}), **unique, **_bounds(info, "Items")}
            case _ if isinstance(info, walks.FIELDED):
                return self._defined(info.cls, lambda: self._class(info))
            case _:
                return {}  # Any, Raw

    def _union(self, types: Iterable[kinds.Type]) -> Json:
        schemas = [self.schema(one) for one in types]
        # "or null" last, as people say it; the order means nothing to a validator.
        schemas.sort(key=lambda schema: schema == {"type": "null"})
        return {} if {} in schemas else {"anyOf": schemas}

    def _dict(self, info: kinds.DictType) -> Json:
        values = self.schema(info.value_type)
        names = self._keys(info.key_type)
        return {
            "type": "object",
            **({"additionalProperties": values} if values else {}),
            **({"propertyNames": names} if names else {}),
            **_bounds(info, "Properties"),
        }

    def _keys(self, info: kinds.Type) -> Json:
        """What a dict's keys must be: they are texts in JSON, whatever they are in Python."""
        match info:
            case kinds.Metadata():
                return self._keys(info.type)
            case kinds.IntType():
                return {"pattern": _WHOLE_NUMBER_KEY}
            case kinds.FloatType():
                return {"pattern": _NUMBER_KEY}
            case kinds.EnumType(cls=cls):
                return {"enum": [str(value) for value in _members(cls)]}
            case kinds.LiteralType(values=values):
                return {"enum": [str(value) for value in values]}
            case kinds.UnionType(types=types):
                names = [self._keys(one) for one in types]
                return {"anyOf": names} if all(names) else {}
        schema = self.schema(info)
        return {key: schema[key] for key in ("format", "minLength", "maxLength", "pattern") if key in schema}

    def _class(self, info: walks.Fielded) -> Json:
        for hint in _hints(info.cls):
            self.learn_order(hint)
        notes = _notes(info.cls)
        tag: Json = {}
        if isinstance(info, kinds.StructType) and info.tag_field is not None:
            tag = {info.tag_field: {"enum": [info.tag]}}
        is_list = isinstance(info, kinds.NamedTupleType) or (isinstance(info, kinds.StructType) and info.array_like)
        properties = tag | {field.encode_name: self._field(field, notes) for field in info.fields}
        required = [*tag, *(field.encode_name for field in info.fields if field.required)]
        if is_list:
            return _described(info.cls, _fixed(list(properties.values()), len(required)))
        schema: Json = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        return _described(info.cls, schema | {"additionalProperties": False})

    def _field(self, field: kinds.Field, notes: Mapping[str, str]) -> Json:
        schema = self.schema(field.type)
        if field.name in notes and "description" not in schema:
            schema = schema | {"description": notes[field.name]}
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory in (list, dict, set, tuple, frozenset):
            default = field.default_factory()
        if default is not msgspec.NODEFAULT and default is not msgspec.UNSET:
            try:
                schema = schema | {"default": DECODE(foreign.ENCODE(default))}
            except Exception:  # a default that JSON cannot hold, such as a sentinel, is not shown
                pass
        return schema

    def _defined(self, cls: Any, write: Callable[[], Json]) -> Json:  # Any: a class, or a generic alias of one
        name = self._names.get(cls)
        if name is None:
            name = self._names[cls] = self._free_name(_name_of(cls))
            self.definitions[name] = {}  # before its parts, which may refer to it
            self.definitions[name] = write()
        return self._reference(name)

    def _reference(self, name: str) -> Json:
        self.used[name] = self.used.get(name, 0) + 1
        return {"$ref": _DEFINED + name}

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.definitions:
            number += 1
            name = f"{wanted}_{number}"
        return name

    def _adopted(self, schema: Json, needed: Json) -> Any:  # Any: JSON
        """Take over what pydantic has written: its definitions get names that are free here."""
        names = {name: self._free_name(name) for name in needed}
        self.definitions |= {names[name]: {} for name in needed}
        for name, found in needed.items():
            self.definitions[names[name]] = self._adapted(found, names)
        return self._adapted(schema, names)

    def _adapted(self, schema: Any, names: Mapping[str, str]) -> Any:  # Any: JSON
        if isinstance(schema, list):
            return [self._adapted(item, names) for item in schema]
        if isinstance(schema, str) and schema.startswith(_DEFINED):
            return _DEFINED + names[schema.removeprefix(_DEFINED)]
        if not isinstance(schema, dict):
            return schema
        made: Json = {}
        for key, found in schema.items():
            if key in _MAPS:
                made[key] = {name: self._adapted(one, names) for name, one in found.items()}
            else:
                made[key] = found if key in _VALUES else self._adapted(found, names)
        if "$ref" in made:
            self._reference(made["$ref"].removeprefix(_DEFINED))
        if made.get("type") == "string" and made.get("format") in _LENIENT:
            made["format"] = _LENIENT[made["format"]]
        if made.get("type") == "object" and "properties" in made:
            made.setdefault("additionalProperties", False)
        return made

    def learn_order(self, hint: Any) -> None:  # Any: a type form
        """Keep in which order the hint's author wrote the choices of `Literal`s: msgspec sorts them."""
        parts = typing.get_args(hint)
        if typing.get_origin(hint) is typing.Literal:
            self._orders.setdefault(_as_set(parts), parts)
            return
        for part in parts:
            self.learn_order(part)


_DEFINED: Final = "#/$defs/"
_MAPS: Final = frozenset({"properties", "patternProperties"})
_VALUES: Final = frozenset({"default", "examples", "const", "enum", "required", "title", "description"})
"""Keywords that hold values and no schemas."""

_LENIENT: Final = {"date-time": "moment", "time": "time-of-day", "duration": "timedelta"}
"""Pydantic writes the standard's formats, and reads and writes values which those refuse."""


def _hints(cls: Any) -> list[Any]:  # Any: a class or a generic alias of one, and type forms
    try:
        return list(typing.get_type_hints(typing.get_origin(cls) or cls, include_extras=True).values())
    except Exception:  # annotations are expressions: anything may be raised, and the codec has taken the type
        return []


def _members(cls: Any) -> list[object]:  # Any: an Enum
    return [one.value for one in cls]


def _as_set(values: Iterable[object]) -> frozenset[tuple[type, object]]:
    return frozenset((type(value), value) for value in values)


def _bounds(info: kinds.Type, what: str) -> Json:
    found = {keyword: getattr(info, name, None) for name, keyword in _BOUNDS.items()}
    found |= {f"min{what}": getattr(info, "min_length", None), f"max{what}": getattr(info, "max_length", None)}
    return {keyword: bound for keyword, bound in found.items() if bound is not None}


def _fixed(items: list[Json], required: int) -> Json:
    return {
        "type": "array",
        "prefixItems": items,
        "items": False,
        "minItems": required,
        "maxItems": len(items),
    }


def _name_of(cls: Any) -> str:  # Any: a class, or a generic alias of one
    name = cls.__name__ if isinstance(cls, type) and not typing.get_args(cls) else str(cls).replace("typing.", "")
    return re.sub(r"[^\w.]+", "_", name.rpartition("<locals>.")[2]).strip("_")


def _described(cls: Any, schema: Json) -> Json:  # Any: a class, or a generic alias of one
    """The schema with the class's name and docstring; a docstring that Python wrote itself says nothing new."""
    origin = typing.get_origin(cls) or cls
    doc = vars(origin).get("__doc__")
    own = isinstance(doc, str) and not doc.startswith(f"{origin.__name__}(") and doc != "An enumeration."
    return {"title": origin.__name__, **({"description": inspect.cleandoc(doc)} if own and doc else {}), **schema}


def _notes(cls: Any) -> dict[str, str]:  # Any: a class, or a generic alias of one
    """Descriptions of fields from their metadata (dataclasses, attrs), or their `doc` (dataclasses of Python 3.14)."""
    origin = typing.get_origin(cls) or cls
    fields = dataclasses.fields(origin) if dataclasses.is_dataclass(origin) else getattr(origin, "__attrs_attrs__", ())
    notes = {}
    for field in fields:
        text = field.metadata.get("description") or getattr(field, "doc", None)
        if isinstance(text, str):
            notes[field.name] = text
    return notes
