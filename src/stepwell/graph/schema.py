"""What is the JSON Schema of the format? For editors, forms and other programs; made from the node types there are.

It refuses what `graph.parse` refuses for form wherever JSON Schema can say it. What it cannot: that an id or a setting
is given twice, that a duration is longer than 200 years, that a schema in a definition is none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from stepwell.graph.bodies import NO_BRANCHES, RESERVED
from stepwell.graph.form import Json, Types
from stepwell.graph.shapes import COMMON, ID, TEMPLATE, body_of, closed, either, head_keys, node_keys, nullable, ref
from stepwell.graph.typed import Facts, facts_of
from stepwell.nodes.parts import settings as parts
from stepwell.nodes.registry import NODE_KEYS

URI: Final = "https://json-schema.org/draft/2020-12/schema"


def definition_schema(types: Types, tasks: Collection[str] | None = None) -> dict[str, Json]:
    """The JSON Schema (draft 2020-12) of a definition.

    With `tasks`, the names of the registered ones, a `type` must be a node type or one of them; without, a `type` that
    is no node type is taken for a task's name.

    Raises:
        DefinitionError: a node type of another distribution cannot be loaded.
    """
    facts = {name: facts_of(type) for name in types.names() if (type := types.get(name)) is not None}
    keys = node_keys()
    owned = sorted({key for one in facts.values() for key in one.own} & keys.keys())
    definitions: dict[str, Json] = dict(COMMON)
    definitions["id"] = ID | {"not": {"enum": sorted(RESERVED)}}
    definitions["branch"] = ID | {"not": {"enum": sorted(NO_BRANCHES)}}
    definitions["as"] = ID | {"not": {"enum": sorted(RESERVED - {"error"})}}
    definitions["node"] = _node(facts, None if tasks is None else sorted(tasks), owned)
    definitions |= {f"key.{key}": keys[key] for key in owned}
    for name, one in facts.items():
        definitions[f"is.{name}"] = _chosen(name, facts)
        definitions |= _settings(name, one)
        definitions[f"node.{name}"] = _node_of(name, one, definitions[f"with.{name}"]["properties"], owned)
    if "task" in facts:
        anything = {"type": "object"}
        inputs: dict[str, Json] = {"type": {}, "with": anything, "inputs": either(anything, TEMPLATE)}
        definitions["node.by-task"] = {"properties": inputs | {key: ref(f"key.{key}") for key in owned}}
    schema = {
        "$schema": URI,
        "title": "A Stepwell workflow",
        "description": "Nodes, what leads from one to another, and how runs are started.",
        "type": "object",
        "required": ["stepwell", "id", "nodes"],
        "properties": head_keys(),
        "additionalProperties": False,
        "not": {"required": ["queue", "concurrency"]},
        "$defs": definitions,
    }
    plain: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(schema))  # defaults of settings may be tuples
    return plain


def _node(facts: Mapping[str, Facts], tasks: Sequence[str] | None, owned: Collection[str]) -> dict[str, Json]:
    """A node: what every node may say, exactly one type, and what that type adds.

    `owned` are the keys that some type means otherwise: they are said for each type.
    """
    known = sorted(facts)
    kind: dict[str, Json] = {"type": "string", "minLength": 1}
    if tasks is not None:
        kind = {"enum": [*known, *tasks]}
    is_task = {"required": ["type"], "properties": {"type": kind | {"not": {"enum": known}}}}
    branches = [{"if": ref(f"is.{name}"), "then": ref(f"node.{name}")} for name in known]
    if "task" in facts:
        branches.append({"if": is_task, "then": ref("node.by-task")})
    common = {key: shape for key, shape in node_keys().items() if key not in owned}
    return {
        "type": "object",
        "properties": common | {"type": {"description": "A node type, or the name of a task.", **kind}},
        "oneOf": [*(ref(f"is.{name}") for name in known), is_task],
        "allOf": branches,
        "unevaluatedProperties": False,
    }


def _chosen(name: str, facts: dict[str, Facts]) -> dict[str, Json]:
    """That a node is of this type: `type` says so, or its key is there and no other type's that is not its setting."""
    others = [other for other in facts if other != name and other not in facts[name].settings]
    by_key = {"required": [name], "not": {"anyOf": [{"required": [other]} for other in ("type", *others)]}}
    return either({"required": ["type"], "properties": {"type": {"const": name}}}, by_key)


def _settings(name: str, facts: Facts) -> dict[str, Json]:
    """The definitions for the settings of one type."""
    made = parts.schema(facts.type)
    inner = made.pop("$defs", {})
    shapes = {key: _moved(shape, name) for key, shape in made["properties"].items()}
    shapes |= {body: body_of(body) for body in facts.bodies}
    found = {f"{name}.{key}": _moved(shape, name) for key, shape in inner.items()}
    return found | {f"with.{name}": {"title": name, "description": facts.type.summary, **closed(shapes)}}


def _node_of(name: str, facts: Facts, shapes: dict[str, Json], owned: Collection[str]) -> dict[str, Json]:
    """What a node of one type may say beside what every node may."""
    properties = {key: ref(f"key.{key}") for key in owned}
    properties |= {key: shape for key, shape in shapes.items() if key in facts.own or key not in NODE_KEYS}
    if "compensate" in facts.own:
        properties["compensate"] = either(shapes["compensate"], ref("key.compensate"))
    properties |= {"type": {}, "with": ref(f"with.{name}")}
    if "inputs" not in facts.settings:
        properties["inputs"] = ref(f"with.{name}")
    found: dict[str, Json] = {"title": name, "description": facts.type.summary, "properties": properties}
    own = properties.pop(name, None)
    by_key: dict[str, Json] = {"properties": {name: _value(name, facts, shapes)}}
    if own is None:
        by_key["required"] = [name]
    found["if"] = {"required": ["type"]}
    found["then"] = {"properties": {name: own}} if own is not None else {}
    found["else"] = by_key
    needed: list[dict[str, Json]] = [{"anyOf": _ways(name, facts, key)} for key in facts.required]
    if kinds := [key for key in ("do", "branches") if key in facts.bodies]:
        needed.append({"anyOf": [way for key in kinds for way in _ways(name, facts, key)]})
    return found | ({"allOf": needed} if needed else {})


def _value(name: str, facts: Facts, shapes: dict[str, Json]) -> dict[str, Json]:
    """What may stand behind the type's name."""
    main = facts.type.main
    if not main:
        return nullable(ref(f"with.{name}"))
    shape = shapes[main]
    if facts.takes_mapping:
        all_settings = {"type": "object", "propertyNames": {"enum": [*facts.settings]}}
        named: dict[str, Json] = {"if": all_settings, "then": ref(f"with.{name}"), "else": shape}
        if facts.type.kind == "container":
            mixed = {"type": "object", "anyOf": [{"required": [key]} for key in facts.settings]}
            named["else"] = {"allOf": [shape, {"not": mixed}]}
    else:
        named = {"if": {"type": "object"}, "then": ref(f"with.{name}"), "else": shape}
    return named if main in facts.required else nullable(named)


def _ways(name: str, facts: Facts, key: str) -> list[dict[str, Json]]:
    """The ways of giving a setting."""
    has: dict[str, Json] = {"required": [key]}
    ways: list[dict[str, Json]] = [{"required": ["with"], "properties": {"with": has}}]
    if "inputs" not in facts.settings:
        ways.append({"required": ["inputs"], "properties": {"inputs": has}})
    below: dict[str, Json] = {"type": "object", **has}
    if key == facts.type.main:
        no_settings = {"propertyNames": {"enum": [*facts.settings]}}
        others = [{"not": no_settings}] if facts.takes_mapping else []
        below = either(below, {"not": {"type": ["object", "null"]}}, *others)
    if key == name:
        ways.append({"required": ["type", key]})
    elif key not in NODE_KEYS or key in facts.own:
        ways.append(has)
    ways.append({"required": [name], "not": {"required": ["type"]}, "properties": {name: below}})
    return ways


def _moved(shape: Any, name: str) -> Any:  # Any: JSON Schema
    """A schema whose references lead to the definitions of this type, and in which templates may stand for values."""
    if isinstance(shape, list):
        return [_moved(one, name) for one in shape]
    if not isinstance(shape, dict):
        return shape
    moved = {key: _moved(one, name) for key, one in shape.items()}
    if isinstance(moved.get("$ref"), str):
        moved["$ref"] = f"#/$defs/{name}." + moved["$ref"].rpartition("/")[2]
    for key in ("items", "additionalProperties"):
        if isinstance(moved.get(key), dict) and moved[key]:
            moved[key] = either(moved[key], TEMPLATE)
    if isinstance(moved.get("properties"), dict):
        moved["properties"] = {key: _or_template(one) for key, one in moved["properties"].items()}
    return moved


def _or_template(shape: dict[str, Json]) -> dict[str, Json]:
    return either(shape, TEMPLATE) if shape and TEMPLATE not in shape.get("anyOf", ()) else shape
