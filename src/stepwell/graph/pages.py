"""What is there to know of a node type, and what does a JSON Schema let in? For people: pages and tables in Markdown.

A page is made of the type's docstring and of its settings, so a new type, a third party's too, brings its page along.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from stepwell.graph.shapes import COMMON
from stepwell.nodes.parts.settings import explained, schema
from stepwell.nodes.protocol import NodeType

KINDS: Final[Mapping[str, str]] = {
    "task": "as a step, in attempts",
    "action": "as a step, in attempts",
    "pure": "at once, without a step",
    "wait": "as a wait, which costs rows and no memory",
    "effect": "at once, with the commit of its completion",
    "child": "as a run of its own",
    "container": "its bodies",
    "end": "at once",
}

BODIES: Final[Mapping[str, str]] = {
    "do": "the body",
    "branches": "a mapping from names to bodies",
    "catch": "see the settings; each entry has its body under `do`",
    "finally": "a body that runs in any case",
}

_NAMES: Final[Mapping[str, str]] = {
    "duration": "a duration",
    "condition": "a condition",
    "port": "a port",
    "nodes": "nodes",
    "edges": "edges",
    "body": "a body",
    "trigger": "a trigger",
    "id": "an id",
    "as": "a name",
}
"""What references into the schema are called in a table."""

_SECTION: Final = re.compile(r"^(Ports|Output|Example):", re.MULTILINE)


def page(type: NodeType) -> str:
    """The page of a node type: what it does, how it runs, its ports, output and settings, and an example."""
    pieces = _SECTION.split(inspect.getdoc(type.__class__) or type.summary)
    said = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    example, _, behind = said.get("Example", "").partition("\n\n")
    facts = [f"* Runs {KINDS[type.kind]}."]
    facts += [f"* {name}: {' '.join(said[name].split())}" for name in ("Ports", "Output") if name in said]
    parts = [
        f"## {type.name}",
        pieces[0].strip(),
        inspect.cleandoc(behind) if behind.strip() else "",
        "\n".join(facts),
        "\n".join(_settings(type)),
        inspect.cleandoc(example),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _settings(type: NodeType) -> Iterator[str]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(type.Settings)}
    meanings = explained(type)
    shapes = schema(type)["properties"]
    bodies = [name for name in type.bodies if name not in fields]
    if not fields and not bodies:
        return
    yield "| setting | may be | by default | |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        shape = shapes[name]
        default = "**needed**" if field.required else _default(field)
        shown = f"`{name}`" + (" (main)" if name == type.main else "")
        is_raw = name in type.raw and shape.keys() <= {"description", "default"}
        yield row(shown, "JSON, as it is" if is_raw else words(shape), default, meanings.get(name, ""))
    for name in bodies:
        shown = f"`{name}`" + (" (main)" if name == type.main else "")
        yield row(shown, "nodes" if name != "branches" else "bodies", "", BODIES[name] + ".")


def _default(field: Any) -> str:  # Any: msgspec's FieldInfo
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None or value is msgspec.UNSET or value == "":
        return ""
    return f"`{msgspec.json.encode(value).decode()}`"


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_MANY: Final[Mapping[str, str]] = {
    "a whole number": "whole numbers",
    "a number": "numbers",
    "text": "texts",
    "a mapping": "mappings",
    "a trigger": "triggers",
}


def words(shape: Any, of: Mapping[str, str] | None = None) -> str:  # Any: JSON Schema
    """What a schema lets in, for people. That a template may stand for it is said once, above the tables."""
    found = [one for one in dict.fromkeys(_alternatives(shape)) if one]
    found = [(of or {}).get(one, one) for one in found if (one, "a number") != ("a whole number", found[-1])]
    return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found) or "anything"


def _alternatives(shape: Any) -> Iterator[str]:  # Any: JSON Schema
    if not isinstance(shape, dict) or not shape.keys() - {"description", "title", "default"}:
        yield "anything"
        return
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        yield from [_NAMES[name]] if name in _NAMES else _referred(name)
        return
    for choice in shape.get("anyOf", ()):
        yield from _alternatives(choice)
    if "enum" in shape:
        yield ", ".join(dict.fromkeys(f"`{one}`" for one in shape["enum"]))
    kinds = shape.get("type", ())
    if kinds == ["object", "boolean"]:
        yield "a JSON Schema"
        return
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        yield _of_kind(kind, shape)


def _referred(name: str) -> Iterator[str]:
    if name in COMMON:
        yield from _alternatives(COMMON[name])
    else:
        yield "a mapping"


def _of_kind(kind: str, shape: Any) -> str:  # Any: JSON Schema
    match kind:
        case "string":
            return "" if shape.get("pattern") == r"\{\{" else "text"
        case "integer":
            return "a whole number"
        case "number":
            return "a number"
        case "boolean":
            return "true or false"
        case "array":
            items = shape.get("items")
            return f"a list of {words(items, _MANY)}" if items else "a list"
        case "object":
            names = shape.get("properties", {})
            return "`{" + ", ".join(names) + "}`" if names else "a mapping"
        case _:
            return ""
