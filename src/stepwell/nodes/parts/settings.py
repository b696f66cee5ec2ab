"""What settings a node type has: their names and JSON Schema, and their values read from what templates gave."""

from __future__ import annotations

import builtins
import difflib
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from stepwell.errors import DefinitionError
from stepwell.nodes.protocol import NodeType

T = TypeVar("T", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"unknown field `(.*?)`")


def names(type: NodeType) -> tuple[str, ...]:
    """The names of a type's settings as they are written in a definition, bodies excepted."""
    return type.Settings.__struct_encode_fields__


def required(type: NodeType) -> tuple[str, ...]:
    """Those that must be given."""
    return tuple(field.encode_name for field in msgspec.structs.fields(type.Settings) if field.required)


def read(type: NodeType, rendered: Mapping[str, Any], place: str = "") -> Any:  # Any: JSON in, `type.Settings` out
    """The settings of a node from plain JSON, templates rendered.

    Raises:
        DefinitionError: a setting is unknown, missing or of the wrong type; the text names it, and `place`.
    """
    try:
        return filled(type.Settings, rendered)
    except msgspec.ValidationError as error:
        raise DefinitionError(f"{place or 'a node'} of type {type.name}: {_explained(type, str(error))}") from None


def filled(kind: builtins.type[T], rendered: Any) -> T:  # Any: JSON
    """Settings from plain JSON: texts are taken as numbers where numbers are wanted, and the other way round.

    Both are usual: environment variables are texts, and ids from elsewhere are numbers as often as not.

    Raises:
        msgspec.ValidationError: they do not fit.
    """
    if isinstance(rendered, dict):
        numbers = {
            name: msgspec.json.encode(found).decode()
            for name in _texts(kind)
            if isinstance(found := rendered.get(name), int | float) and not isinstance(found, bool)
        }
        rendered = {**rendered, **numbers} if numbers else rendered
    return msgspec.convert(rendered, kind, strict=False)


def explained(type: NodeType) -> dict[str, str]:
    """What each setting means, by name."""
    return explained_of(type.Settings)


def explained_of(struct: builtins.type[msgspec.Struct]) -> dict[str, str]:
    """What each field means: the `Attributes` of the class's docstring, by the name that it has in JSON."""
    text = inspect.getdoc(struct) or ""
    _, found, section = text.partition("Attributes:\n")
    if not found:
        return {}
    meanings: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        entry = re.match(r" {4}([A-Za-z_][A-Za-z_0-9]*): (.*)", line)
        if entry is not None:
            name = entry[1]
            meanings[name] = entry[2].strip()
        elif name and line.startswith("      "):
            meanings[name] += f" {line.strip()}"
        elif line.strip():
            break
    return meanings


def schema(type: NodeType) -> dict[str, Any]:  # Any: JSON Schema
    """The JSON Schema (draft 2020-12) of a type's settings as written: any of them may be a template instead.

    Bodies are not in it: what a body looks like is said where definitions are. References lead into its `$defs`.
    """
    (made,), definitions = msgspec.json.schema_components([type.Settings], ref_template="#/$defs/{name}")
    key = made["$ref"].rpartition("/")[2]
    whole = dict(definitions.pop(key))
    meanings = explained(type)
    properties = {}
    for name, part in whole.get("properties", {}).items():
        shape = part if name in type.raw or part.keys() <= {"default"} else _or_template(part)
        properties[name] = {"description": meanings[name], **shape} if name in meanings else shape
    whole["title"] = type.name
    whole["description"] = type.summary
    whole["properties"] = properties
    if definitions:
        whole["$defs"] = definitions
    return whole


def _or_template(part: dict[str, Any]) -> dict[str, Any]:  # Any: JSON Schema
    """The schema of a setting of which the value may also be said by a template, as one text."""
    typed = {name: one for name, one in part.items() if name != "default"}
    shape: dict[str, Any] = {"anyOf": [typed, {"type": "string", "pattern": r"\{\{"}]}  # Any: JSON Schema
    return {**shape, "default": part["default"]} if "default" in part else shape


@functools.cache
def _texts(settings: builtins.type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(settings) if field.type is str)


def _explained(type: NodeType, text: str) -> str:
    unknown = _UNKNOWN.search(text)
    if unknown is None or " - at" in text:
        return text
    near = difflib.get_close_matches(unknown[1], names(type), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names(type)) or 'none'}"
    return f"it has no setting {unknown[1]!r} ({hint})"
