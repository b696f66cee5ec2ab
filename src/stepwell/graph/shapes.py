"""Which shapes do the parts of a definition have, as JSON Schema? All that is the same for every node type."""

from __future__ import annotations

from typing import Final

from stepwell.graph import heads
from stepwell.graph.form import Json
from stepwell.graph.options import JOINS, LOWEST, ON_ERROR, REST, RETAIN

TEMPLATE: Final[dict[str, Json]] = {"type": "string", "pattern": r"\{\{"}
"""Text with a template in it."""

_DURATION: Final = r"^\s*(\d+(\.\d+)?\s*(us|ms|s|m|h|d|w)\s*)+$"
_RATE: Final = r"^\s*0*[1-9]\d{0,8}\s*/\s*(\d.*|us|ms|s|m|h|d|w)\s*$"
_SOME: Final[dict[str, Json]] = {"type": "string", "pattern": r"\S"}
ID: Final[dict[str, Json]] = {
    "type": "string",
    "pattern": "^[^\\s\\x00-\\x1f\\x7f-\\x9f]([^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f])?$",
    "maxLength": 200,
}
"""What nodes and branches may be called."""


def ref(name: str) -> dict[str, Json]:
    """A reference to one of the definitions."""
    return {"$ref": f"#/$defs/{name}"}


def _said(shape: dict[str, Json], description: str) -> dict[str, Json]:
    return {"description": description, **shape}


def closed(properties: dict[str, Json], *required: str) -> dict[str, Json]:
    """A mapping that has these keys and no others."""
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": [*required]} if required else {})


def either(*shapes: dict[str, Json]) -> dict[str, Json]:
    """What fits one of these."""
    return {"anyOf": [*shapes]}


def _one_or_list(shape: dict[str, Json], *, unique: bool = True) -> dict[str, Json]:
    return either(shape, {"type": "array", "items": shape} | ({"uniqueItems": True} if unique else {}))


def nullable(shape: dict[str, Json]) -> dict[str, Json]:
    """This, or null."""
    return either(shape, {"type": "null"})


_WHOLE: Final[dict[str, Json]] = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_BOOLEAN: Final[dict[str, Json]] = {"type": "boolean"}
_TEXT: Final[dict[str, Json]] = {"type": "string"}
_SCHEMA: Final[dict[str, Json]] = {"type": ["object", "boolean"]}
_BACK: Final[dict[str, Json]] = {"back": _BOOLEAN, "max_visits": nullable(_WHOLE)}
_PRIORITY: Final[dict[str, Json]] = {"type": "integer", "minimum": LOWEST, "maximum": -LOWEST}


def _edge(required: tuple[str, ...], **own: dict[str, Json]) -> dict[str, Json]:
    limits_back = {
        "if": {"required": ["max_visits"], "properties": {"max_visits": {"type": "integer"}}},
        "then": {"required": ["back"], "properties": {"back": {"const": True}}},
    }
    return closed(own | {"port": ref("port")} | _BACK, *required) | limits_back


COMMON: Final[dict[str, Json]] = {
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
        "then": closed({"nodes": ref("nodes"), "edges": nullable(ref("edges")), "result": {}}),
        "else": ref("nodes"),
    },
    "nodes": {
        "anyOf": [
            {
                "type": "object",
                "minProperties": 1,
                "propertyNames": ref("id"),
                "additionalProperties": ref("node"),
            },
            {
                "type": "array",
                "minItems": 1,
                "items": {"allOf": [ref("node"), {"required": ["id"]}]},
            },
        ]
    },
    "edges": {
        "type": "array",
        "items": _edge(("from", "to"), **{"from": _SOME, "to": _SOME}),
    },
    "needs": _one_or_list(either(_SOME, _edge(("from",), **{"from": _SOME})), unique=False),
    "targets": _one_or_list(either(_SOME, _edge(("to",), to=_SOME)), unique=False),
    "next": either(
        _SOME,
        {"type": "array", "items": either(_SOME, _edge(("to",), to=_SOME))},
        {"type": "object", "propertyNames": ref("port"), "additionalProperties": ref("targets")},
    ),
    "retry": either(
        _WHOLE,
        closed(
            {
                "attempts": _WHOLE,
                "first": ref("duration"),
                "backoff": {"type": "number", "minimum": 1, "maximum": 1000},
                "max": ref("duration"),
                "jitter": _BOOLEAN,
                "only": _one_or_list(_SOME),
                "never": _one_or_list(_SOME),
            }
        ),
    ),
    "timeout": either(ref("duration"), closed({name: ref("duration") for name in ("attempt", "total", "heartbeat")})),
    "join": either(
        {"enum": [*JOINS]},
        closed({"first": _WHOLE, "rest": {"enum": [*REST]}}, "first"),
        closed({"when": ref("condition")}, "when"),
        closed({"threads": _WHOLE}, "threads"),
    ),
    "trigger": either(
        closed(
            {
                **dict.fromkeys(("schedule", "timezone", "start", "end", "name"), _SOME),
                "jitter": ref("duration"),
                "grace": ref("duration"),
                "catch_up": {"enum": [*heads.CATCH_UP]},
                "overlap": {"enum": [*heads.OVERLAP]},
                "input": {},
            },
            "schedule",
        ),
        closed({"event": _SOME, "where": ref("condition"), "name": _SOME, "input": {}}, "event"),
        closed(
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


def head_keys() -> dict[str, Json]:
    """What a definition may say."""
    names = nullable(_one_or_list({"type": "string", "pattern": heads.NAME}))
    return {
        "stepwell": _said({"enum": [heads.FORMAT, str(heads.FORMAT)]}, "The version of this format."),
        "id": _said({"type": "string", "pattern": heads.ID}, "The workflow's name."),
        "label": _said(
            nullable({"type": "string", "pattern": "^[^\\x00-\\x20\\x7f]+$", "maxLength": 100}),
            "A name for this version.",
        ),
        "title": _said(nullable(_TEXT), "What it is called where people look at it."),
        "description": _said(nullable(_TEXT), "What it is for."),
        "input": _said(nullable(_SCHEMA), "A JSON Schema of the input."),
        "output": _said(nullable(_SCHEMA), "A JSON Schema of the result."),
        "result": _said({}, "What a run gives; templates may stand in it."),
        "vars": _said(nullable({"type": "object"}), "Variables of the run, with their first values."),
        "env": _said(names, "Environment variables that may be read."),
        "secrets": _said(names, "Environment variables that may be read and are never written down."),
        "labels": _said(nullable({"type": "object", "additionalProperties": _TEXT}), "For finding its runs."),
        "on_failure": _said(
            nullable({"enum": [*heads.ON_FAILURE]}), "Let what is under way end when the run fails, or cancel it."
        ),
        "deadline": _said(nullable(ref("duration")), "How long a run may take."),
        "queue": _said(nullable(_SOME), "The queue in which its runs wait for their turn."),
        "concurrency": _said(nullable(_WHOLE), "How many of its runs are under way at once."),
        "priority": _said(nullable(_PRIORITY), "Runs with a higher number go first."),
        "defaults": _said(
            nullable(closed({"retry": ref("retry"), "timeout": ref("timeout")})),
            "For every node that can have them.",
        ),
        "triggers": _said(nullable({"type": "array", "items": ref("trigger")}), "What starts runs by itself."),
        "ui": _said({}, "Anything an editor wants to keep."),
        "nodes": _said(ref("nodes"), "What is to be done."),
        "edges": _said(nullable(ref("edges")), "Edges besides those of needs and next."),
    }


def node_keys() -> dict[str, Json]:
    """What every node may say."""
    template = either(ref("duration"), TEMPLATE)
    return {
        "id": _said(ref("id"), "Its name; the key does, where nodes are a mapping."),
        "needs": _said(nullable(ref("needs")), "What it comes after: id, id:port, or a list of those."),
        "next": _said(nullable(ref("next")), "What comes after it."),
        "join": _said(ref("join"), "When it runs, if several edges lead to it."),
        "if": _said(ref("condition"), "It is skipped when this is false."),
        "retry": _said(ref("retry"), "How many attempts it has, after which delays, and for which errors."),
        "timeout": _said(ref("timeout"), "How long an attempt may take, all of them, or the silence of one."),
        "on_error": _said(
            {"enum": [*ON_ERROR]},
            "A failure fails what is around the node, goes on by `out` with its `error`, or by the port error.",
        ),
        "cache": _said(
            either(_BOOLEAN, closed({"key": {}, "ttl": ref("duration")})),
            "Its output is kept for all runs, under the key (by default its settings), as long as ttl says.",
        ),
        "concurrency": _said(
            either(_WHOLE, closed({"limit": _WHOLE, "key": _SOME}, "limit")),
            "How many of its attempts, in all runs, are under way at once; with a key, of those with the same key.",
        ),
        "rate": _said({"type": "string", "pattern": _RATE}, "How many of its attempts begin in a time, in all runs."),
        "priority": _said(_PRIORITY, "Attempts with a higher number go first."),
        "idempotency_key": _said(_SOME, "What its attempts show the world instead of a key made from their step."),
        "mock": _said(
            either(closed({"output": {}, "port": _SOME}) | {"minProperties": 1}, closed({"error": _SOME}, "error")),
            "What it gives instead of doing its work.",
        ),
        "compensate": _said(nullable(ref("body")), "What undoes it."),
        "cancels": _said(_one_or_list(_SOME), "Nodes of the same body that are cancelled when it completes."),
        "completes": _said(_one_or_list(_SOME), "Maps that end when it completes, with the results they have."),
        "milestone": _said(
            closed({"after": _SOME, "before": _SOME}) | {"minProperties": 1},
            "It runs only while the one node is done and the other has not begun; it waits for the one, and is skipped "
            "after the other.",
        ),
        "critical": _said(_SOME, "The name of a lock: of all that name it in a run, one at a time is under way."),
        "split": _said(_WHOLE, "How many tokens each edge by which it is left brings: what follows runs so often."),
        "output": _said(
            closed({"schema": _SCHEMA, "retain": {"enum": [*RETAIN]}}),
            "A JSON Schema that its output must fit; and whether the output is kept while somebody reads it, in any "
            "case, or not at all.",
        ),
        "delay": _said(template, "How long to wait before it begins."),
        "disabled": _said(_BOOLEAN, "It is skipped."),
        "title": _said(nullable(_TEXT), "What it is called where people look at it."),
        "description": _said(nullable(_TEXT), "What it is for."),
        "tags": _said(_one_or_list(_SOME), "For finding it."),
        "ui": _said({}, "Anything an editor wants to keep."),
    }


def body_of(name: str) -> dict[str, Json]:
    """What a container holds under one of the names of bodies."""
    if name == "branches":
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": ref("branch"),
            "additionalProperties": ref("body"),
        }
    if name == "catch":
        clause = closed({"errors": _one_or_list(_SOME), "as": ref("as"), "do": ref("body")}, "do")
        return {"type": "array", "items": clause}
    return ref("body")
