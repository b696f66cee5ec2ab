"""What can a definition of a graph say, and which node types are there? Tables and sections of the reference.

They are made of what the published JSON Schema is made of (`graph.shapes`, the `Settings` of the node types) and of the
types' docstrings, so a new type or setting brings its documentation along. Types of other distributions are left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Work": ("task", "http", "llm", "langgraph", "workflow"),
    "Data": ("transform", "set"),
    "Ways": ("condition", "switch", "router", "noop"),
    "Waiting": ("human", "wait", "wait_signal", "wait_event"),
    "Telling others": ("emit", "signal", "respond", "log"),
    "Containers": ("map", "loop", "parallel", "race", "try", "scope"),
    "Ends": ("end", "break", "fail"),
}
"""In which order the types are shown; one that is in no group comes last."""

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


# -- node types -----------------------------------------------------------------------------------------------------


def nodes() -> str:
    """A table of all node types, and a section for each."""
    types = _types()
    lines = ["| type | what it does | ports |", "|---|---|---|"]
    for group, found in _grouped(types):
        lines.append(f"| **{group}** | | |")
        for one in found:
            ports = one.ports_of({}) if one.kind != "container" else ("out", *one.ports)
            lines.append(f"| [`{one.name}`](#{one.name}) | {one.summary} | {_listed(ports)} |")
    return "\n".join([*lines, "", *(_node(one) for _, found in _grouped(types) for one in found)])


def _types() -> dict[str, Any]:  # Any: NodeType, which is imported when the pages are made
    from stepwell.nodes.registry import NodeTypes

    types = NodeTypes.standard()
    found = {name: types.get(name) for name in types.names()}
    return {name: one for name, one in found.items() if type(one).__module__.startswith("stepwell.nodes.")}


def _grouped(types: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    shown = {name for names in GROUPS.values() for name in names}
    for group, names in {**GROUPS, "More": tuple(sorted(types.keys() - shown))}.items():
        if names:
            yield group, [types[name] for name in names]


def _listed(ports: tuple[str, ...]) -> str:
    return ", ".join(f"`{port}`" for port in ports) or "none"


def _node(one: Any) -> str:  # Any: NodeType
    pieces = _SECTION.split(inspect.getdoc(type(one)) or "")
    said = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    example, _, behind = said["Example"].partition("\n\n")
    parts = [
        f"## {one.name}",
        pieces[0].strip(),
        *([inspect.cleandoc(behind)] if behind.strip() else []),
        f"* Runs {KINDS[one.kind]}.\n* Ports: {_on_one_line(said['Ports'])}\n* Output: {_on_one_line(said['Output'])}",
        "\n".join(_settings(one)),
        inspect.cleandoc(example),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _settings(one: Any) -> Iterator[str]:  # Any: NodeType
    from stepwell.nodes.parts import settings

    fields = {field.encode_name: field for field in msgspec.structs.fields(one.Settings)}
    meanings = settings.explained(one)
    shapes = settings.schema(one)["properties"]
    bodies = [name for name in one.bodies if name not in fields]
    if not fields and not bodies:
        return
    yield "| setting | may be | by default | |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        shape = shapes[name]
        default = "**needed**" if field.required else _default(field)
        shown = f"`{name}`" + (" (main)" if name == one.main else "")
        words = "JSON, as it is" if name in one.raw and shape.keys() <= {"description", "default"} else _words(shape)
        yield _row(shown, words, default, meanings.get(name, ""))
    for name in bodies:
        shown = f"`{name}`" + (" (main)" if name == one.main else "")
        yield _row(shown, "nodes" if name != "branches" else "bodies", "", BODIES[name] + ".")


def _default(field: Any) -> str:  # Any: msgspec's FieldInfo
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None or value is msgspec.UNSET or value == "":
        return ""
    return f"`{msgspec.json.encode(value).decode()}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# -- the format -----------------------------------------------------------------------------------------------------


def head_keys() -> str:
    """A table of what a definition may say."""
    from stepwell.graph.heads import KEYS
    from stepwell.graph.shapes import head_keys as shapes

    found = shapes()
    return _keys({key: found[key] for key in KEYS})


def node_keys() -> str:
    """A table of what every node may say."""
    from stepwell.graph.shapes import node_keys as shapes

    others = {
        "type": {"description": "Its type, or the name of a task; or the type is a key, as in `task: fetch`."},
        "with": {"description": "The settings of its type; or they stand beside the type, or below it."},
    }
    found = shapes()
    return _keys({"id": found.pop("id"), **others, **found})


def _keys(shapes: Mapping[str, Any]) -> str:
    lines = ["| key | may be | |", "|---|---|---|"]
    lines += [_row(f"`{key}`", _words(shape), str(shape.get("description", ""))) for key, shape in shapes.items()]
    return "\n".join(lines)


def triggers() -> str:
    """A table of what a trigger may say, by kind."""
    from stepwell.graph.shapes import COMMON

    lines = ["| kind | besides it may have |", "|---|---|"]
    for shape in COMMON["trigger"]["anyOf"]:
        (kind,) = shape["required"]
        others = [f"`{key}`: {_words(one)}" for key, one in shape["properties"].items() if key != kind]
        lines.append(_row(f"`{kind}`", "; ".join(others)))
    return "\n".join(lines)


def joins() -> str:
    """What `join` may say, in the words of the plan."""
    from stepwell.graph.plan import Join

    text = inspect.getdoc(Join) or ""
    _, _, behind = text.partition("\n\n")
    return behind


def reserved() -> str:
    """Names that no node can have."""
    from stepwell.graph.bodies import RESERVED

    return ", ".join(f"`{name}`" for name in sorted(RESERVED)) + "."


# -- shapes in words ------------------------------------------------------------------------------------------------

_MANY: Final[Mapping[str, str]] = {
    "a whole number": "whole numbers",
    "a number": "numbers",
    "text": "texts",
    "a mapping": "mappings",
    "a trigger": "triggers",
}


def _words(shape: Any, of: Mapping[str, str] | None = None) -> str:  # Any: JSON Schema
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
    from stepwell.graph.shapes import COMMON

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
            return f"a list of {_words(items, _MANY)}" if items else "a list"
        case "object":
            names = shape.get("properties", {})
            return "`{" + ", ".join(names) + "}`" if names else "a mapping"
        case _:
            return ""
