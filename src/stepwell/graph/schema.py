"""What is the JSON Schema of the format? For editors, forms and other programs; made from the node types there are.

It refuses what `graph.parse` refuses for form wherever JSON Schema can say it. What it cannot: whether an id is used
twice in a list, a duration of more than 200 years, a rule that is none, or whether a name in `type` is a task's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from stepwell.graph import heads
from stepwell.graph.bodies import NO_BRANCHES, RESERVED
from stepwell.graph.form import Json, Types
from stepwell.graph.options import JOINS, LOWEST, ON_ERROR, REST, RETAIN
from stepwell.graph.typed import Facts, facts_of
from stepwell.nodes.parts import settings as parts
from stepwell.nodes.registry import NODE_KEYS

URI: Final = "https://json-schema.org/draft/2020-12/schema"

TEMPLATE: Final[dict[str, Json]] = {"type": "string", "pattern": r"\{\{"}
_DURATION: Final = r"^\s*(\d+(\.\d+)?\s*(us|ms|s|m|h|d|w)\s*)+$"
_RATE: Final = r"^\s*0*[1-9]\d{0,8}\s*/\s*(\d.*|us|ms|s|m|h|d|w)\s*$"
_SOME: Final[dict[str, Json]] = {"type": "string", "pattern": r"\S"}
_ID: Final[dict[str, Json]] = {
    "type": "string",
    "pattern": "^[^\\s\\x00-\\x1f\\x7f-\\x9f]([^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f])?$",
    "maxLength": 200,
}


def definition_schema(types: Types, tasks: Collection[str] | None = None) -> dict[str, Json]:
    """The JSON Schema (draft 2020-12) of a definition.

    With `tasks`, the names of the registered ones, a `type` must be a node type or one of them; without, a `type` that
    is no node type is taken for a task's name.
    """
    facts = {name: facts_of(type) for name in types.names() if (type := types.get(name)) is not None}
    definitions: dict[str, Json] = dict(_COMMON)
    definitions["id"] = _ID | {"not": {"enum": sorted(RESERVED)}}
    definitions["branch"] = _ID | {"not": {"enum": sorted(NO_BRANCHES)}}
    definitions["as"] = _ID | {"not": {"enum": sorted(RESERVED - {"error"})}}
    keys = _node_keys()
    owned = {key for one in facts.values() for key in one.own} & keys.keys()
    definitions |= {f"key.{key}": keys[key] for key in owned}
    definitions |= {f"is.{name}": _chosen(name, facts) for name in facts}
    definitions["node"] = _node(facts, None if tasks is None else sorted(tasks), {key: keys[key] for key in keys if key not in owned})
    for name, one in facts.items():
        definitions |= _settings(name, one, owned)
    return {
        "$schema": URI,
        "title": "A Stepwell workflow",
        "description": "Nodes, what leads from one to another, and how runs are started.",
        "type": "object",
        "required": ["stepwell", "id", "nodes"],
        "properties": _head(),
        "additionalProperties": False,
        "not": {"required": ["queue", "concurrency"]},
        "$defs": definitions,
    }


def _ref(name: str) -> dict[str, Json]:
    return {"$ref": f"#/$defs/{name}"}


def _said(shape: dict[str, Json], description: str) -> dict[str, Json]:
    return {"description": description, **shape}


def _closed(properties: dict[str, Json], *required: str) -> dict[str, Json]:
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": [*required]} if required else {})


def _either(*shapes: dict[str, Json]) -> dict[str, Json]:
    return {"anyOf": [*shapes]}


def _one_or_list(shape: dict[str, Json], *, unique: bool = True) -> dict[str, Json]:
    return _either(shape, {"type": "array", "items": shape} | ({"uniqueItems": True} if unique else {}))


def _nullable(shape: dict[str, Json]) -> dict[str, Json]:
    return _either(shape, {"type": "null"})


_WHOLE: Final[dict[str, Json]] = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_BOOLEAN: Final[dict[str, Json]] = {"type": "boolean"}
_TEXT: Final[dict[str, Json]] = {"type": "string"}
_SCHEMA: Final[dict[str, Json]] = {"type": ["object", "boolean"]}
_BACK: Final[dict[str, Json]] = {"back": _BOOLEAN, "max_visits": _nullable(_WHOLE)}
_PRIORITY: Final[dict[str, Json]] = {"type": "integer", "minimum": LOWEST, "maximum": -LOWEST}


def _edge(required: tuple[str, ...], **own: dict[str, Json]) -> dict[str, Json]:
    limits_back = {
        "if": {"required": ["max_visits"], "properties": {"max_visits": {"type": "integer"}}},
        "then": {"required": ["back"], "properties": {"back": {"const": True}}},
    }
    return _closed(own | {"port": _ref("port")} | _BACK, *required) | limits_back


_COMMON: Final[dict[str, Json]] = {
    "duration": {
        "title": "a duration",
        "description": "250ms, 30s, 1h30m, 2d, or a number of seconds",
        "anyOf": [{"type": "string", "pattern": _DURATION}, {"type": "number", "minimum": 0}],
    },
    "condition": {
        "title": "a condition",
        "description": "true, false, a template, or a JSONLogic rule",
        "anyOf": [_BOOLEAN, TEMPLATE, {"type": "object", "minProperties": 1}],
    },
    "port": {"type": "string", "pattern": r"\S", "maxLength": 200},
    "body": {
        "title": "nodes",
        "description": "A mapping or a list of nodes, or {nodes, edges, result}",
        "if": {"type": "object", "required": ["nodes"]},
        "then": _closed({"nodes": _ref("nodes"), "edges": _nullable(_ref("edges")), "result": {}}),
        "else": _ref("nodes"),
    },
    "nodes": {
        "anyOf": [
            {
                "type": "object",
                "minProperties": 1,
                "propertyNames": _ref("id"),
                "additionalProperties": _ref("node"),
            },
            {
                "type": "array",
                "minItems": 1,
                "items": {"allOf": [_ref("node"), {"required": ["id"]}]},
            },
        ]
    },
    "edges": {
        "type": "array",
        "items": _edge(("from", "to"), **{"from": _SOME, "to": _SOME}),
    },
    "needs": _one_or_list(_either(_SOME, _edge(("from",), **{"from": _SOME})), unique=False),
    "targets": _one_or_list(_either(_SOME, _edge(("to",), to=_SOME)), unique=False),
    "next": _either(
        _SOME,
        {"type": "array", "items": _either(_SOME, _edge(("to",), to=_SOME))},
        {"type": "object", "propertyNames": _ref("port"), "additionalProperties": _ref("targets")},
    ),
    "retry": _either(
        _WHOLE,
        _closed(
            {
                "attempts": _WHOLE,
                "first": _ref("duration"),
                "backoff": {"type": "number", "minimum": 1, "maximum": 1000},
                "max": _ref("duration"),
                "jitter": _BOOLEAN,
                "only": _one_or_list(_SOME),
                "never": _one_or_list(_SOME),
            }
        ),
    ),
    "timeout": _either(
        _ref("duration"), _closed({name: _ref("duration") for name in ("attempt", "total", "heartbeat")})
    ),
    "join": _either(
        {"enum": [*JOINS]},
        _closed({"first": _WHOLE, "rest": {"enum": [*REST]}}, "first"),
        _closed({"when": _ref("condition")}, "when"),
        _closed({"threads": _WHOLE}, "threads"),
    ),
    "trigger": _either(
        _closed(
            {
                **dict.fromkeys(("schedule", "timezone", "start", "end", "name"), _SOME),
                "jitter": _ref("duration"),
                "grace": _ref("duration"),
                "catch_up": {"enum": [*heads.CATCH_UP]},
                "overlap": {"enum": [*heads.OVERLAP]},
                "input": {},
            },
            "schedule",
        ),
        _closed({"event": _SOME, "where": _ref("condition"), "name": _SOME, "input": {}}, "event"),
        _closed(
            {
                "webhook": {"type": "string", "pattern": heads.PATH},
                "secret": {"type": "string", "pattern": heads.SECRET},
                "name": _SOME,
                "input": {},
            },
            "webhook",
        ),
    ),
}
"""What definitions and nodes share."""


def _head() -> dict[str, Json]:
    names = _nullable(_one_or_list({"type": "string", "pattern": heads.NAME}))
    return {
        "stepwell": _said({"enum": [heads.FORMAT, str(heads.FORMAT)]}, "The version of this format."),
        "id": _said({"type": "string", "pattern": heads.ID}, "The workflow's name."),
        "label": _said(
            _nullable({"type": "string", "pattern": "^[^\\x00-\\x20\\x7f]+$", "maxLength": 100}),
            "A name for this version.",
        ),
        "title": _nullable(_TEXT),
        "description": _nullable(_TEXT),
        "input": _said(_nullable(_SCHEMA), "A JSON Schema of the input."),
        "output": _said(_nullable(_SCHEMA), "A JSON Schema of the result."),
        "result": _said({}, "What a run gives; templates may stand in it."),
        "vars": _said(_nullable({"type": "object"}), "Variables of the run, with their first values."),
        "env": _said(names, "Environment variables that may be read."),
        "secrets": _said(names, "Environment variables that may be read and are never written down."),
        "labels": _nullable({"type": "object", "additionalProperties": _TEXT}),
        "on_failure": _said(
            _nullable({"enum": [*heads.ON_FAILURE]}), "Let what is under way end when the run fails, or cancel it."
        ),
        "deadline": _nullable(_ref("duration")),
        "queue": _nullable(_SOME),
        "concurrency": _said(_nullable(_WHOLE), "How many of its runs are under way at once."),
        "priority": _nullable(_PRIORITY),
        "defaults": _said(
            _nullable(_closed({"retry": _ref("retry"), "timeout": _ref("timeout")})),
            "For every node that can have them.",
        ),
        "triggers": _nullable({"type": "array", "items": _ref("trigger")}),
        "ui": _said({}, "Anything an editor wants to keep."),
        "nodes": _ref("nodes"),
        "edges": _said(_nullable(_ref("edges")), "Edges besides those of needs and next."),
    }


def _node_keys() -> dict[str, Json]:
    """What every node may say. A setting of the same name comes in by the type, so these are not closed here."""
    template = _either(_ref("duration"), TEMPLATE)
    return {
        "id": _ref("id"),
        "needs": _said(_nullable(_ref("needs")), "What it comes after: id, id:port, or a list of those."),
        "next": _said(_nullable(_ref("next")), "What comes after it."),
        "join": _said(_ref("join"), "When it runs, if several edges lead to it."),
        "if": _said(_ref("condition"), "It is skipped when this is false."),
        "retry": _ref("retry"),
        "timeout": _ref("timeout"),
        "on_error": {"enum": [*ON_ERROR]},
        "cache": _either(_BOOLEAN, _closed({"key": {}, "ttl": _ref("duration")})),
        "concurrency": _either(_WHOLE, _closed({"limit": _WHOLE, "key": _SOME}, "limit")),
        "rate": {"type": "string", "pattern": _RATE},
        "priority": _PRIORITY,
        "idempotency_key": _SOME,
        "mock": _either(
            _closed({"output": {}, "port": _SOME}) | {"minProperties": 1}, _closed({"error": _SOME}, "error")
        ),
        "compensate": _said(_nullable(_ref("body")), "What undoes it."),
        "cancels": _one_or_list(_SOME),
        "completes": _one_or_list(_SOME),
        "milestone": _closed({"after": _SOME, "before": _SOME}) | {"minProperties": 1},
        "critical": _said(_SOME, "The name of a lock."),
        "split": _WHOLE,
        "output": _closed({"schema": _SCHEMA, "retain": {"enum": [*RETAIN]}}),
        "delay": template,
        "disabled": _BOOLEAN,
        "title": _nullable(_TEXT),
        "description": _nullable(_TEXT),
        "tags": _one_or_list(_SOME),
        "ui": {},
    }


def _node(facts: dict[str, Facts], tasks: list[str] | None) -> dict[str, Json]:
    """A node: what every node may say, exactly one type, and what that type adds."""
    known = sorted(facts)
    kind: dict[str, Json] = {"type": "string", "minLength": 1}
    if tasks is not None:
        kind = {"enum": [*known, *tasks]}
    is_task = {"required": ["type"], "properties": {"type": kind | {"not": {"enum": known}}}}
    choices = [_ref(f"is.{name}") for name in known]
    branches = [{"if": chosen, "then": _ref(f"node.{name}")} for name, chosen in zip(known, choices, strict=True)]
    if "task" in facts:
        branches.append({"if": is_task, "then": _ref("node.by-task")})
    return {
        "type": "object",
        "properties": {"id": _ref("id"), "type": _said(kind, "A node type, or the name of a task.")},
        "oneOf": [*choices, is_task],
        "allOf": branches,
        "unevaluatedProperties": False,
    }


def _chosen(name: str, facts: dict[str, Facts]) -> dict[str, Json]:
    """That a node is of this type: `type` says so, or its key is there and no other type's that is not its setting."""
    others = [other for other in facts if other != name and other not in facts[name].settings]
    by_key = {"required": [name], "not": {"anyOf": [{"required": [other]} for other in ("type", *others)]}}
    return _either({"required": ["type"], "properties": {"type": {"const": name}}}, by_key)


def _settings(name: str, facts: Facts, owned: Collection[str]) -> dict[str, Json]:
    """The definitions for one type: its settings, and a node of it."""
    made = parts.schema(facts.type)
    inner = made.pop("$defs", {})
    shapes = {key: _moved(shape, name) for key, shape in made["properties"].items()}
    for body in facts.bodies:
        shapes[body] = _body_of(body)
    found = {f"{name}.{key}": _moved(shape, name) for key, shape in inner.items()}
    closed = {"title": name, "description": facts.type.summary, **_closed(shapes)}
    found[f"with.{name}"] = closed
    found[f"node.{name}"] = _node_of(name, facts, shapes, owned)
    if name == "task":
        found["node.by-task"] = {
            "properties": {key: _ref(f"key.{key}") for key in _node_keys()}
            | {"type": {}, "with": {"type": "object"}, "inputs": {"type": "object"}}
        }
    return found


def _node_of(name: str, facts: Facts, shapes: dict[str, Json], owned: Collection[str]) -> dict[str, Json]:
    properties = {key: _ref(f"key.{key}") for key in _node_keys()}
    beside = {key: shape for key, shape in shapes.items() if key in facts.own or key not in properties}
    if "compensate" in beside:
        beside["compensate"] = _either(beside["compensate"], properties["compensate"])
    properties |= {key: shape for key, shape in beside.items() if key not in ("id", "type", "with")}
    properties |= {"type": {}, "with": _ref(f"with.{name}")}
    if "inputs" not in facts.settings:
        properties["inputs"] = _ref(f"with.{name}")
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
        return _nullable(_ref(f"with.{name}"))
    shape = shapes[main]
    if facts.takes_mapping:
        all_settings = {"type": "object", "propertyNames": {"enum": [*facts.settings]}}
        named: dict[str, Json] = {"if": all_settings, "then": _ref(f"with.{name}"), "else": shape}
        if facts.type.kind == "container":
            mixed = {"type": "object", "anyOf": [{"required": [key]} for key in facts.settings]}
            named["else"] = {"allOf": [shape, {"not": mixed}]}
    else:
        named = {"if": {"type": "object"}, "then": _ref(f"with.{name}"), "else": shape}
    return named if main in facts.required else _nullable(named)


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
        below = _either(below, {"not": {"type": ["object", "null"]}}, *others)
    if key == name:
        ways.append({"required": ["type", key]})
    elif key not in NODE_KEYS or key in facts.own:
        ways.append(has)
    ways.append({"required": [name], "not": {"required": ["type"]}, "properties": {name: below}})
    return ways


def _body_of(name: str) -> dict[str, Json]:
    if name == "branches":
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": _ref("branch"),
            "additionalProperties": _ref("body"),
        }
    if name == "catch":
        clause = _closed({"errors": _one_or_list(_SOME), "as": _ref("as"), "do": _ref("body")}, "do")
        return {"type": "array", "items": clause}
    return _ref("body")


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
            moved[key] = _either(moved[key], TEMPLATE)
    if isinstance(moved.get("properties"), dict):
        moved["properties"] = {key: _or_template(one) for key, one in moved["properties"].items()}
    return moved


def _or_template(shape: dict[str, Json]) -> dict[str, Json]:
    return _either(shape, TEMPLATE) if shape and TEMPLATE not in shape.get("anyOf", ()) else shape
