"""Which names are there around all nodes, and which fields do they have?

Input, variables, environment, secrets and the run itself; and the names that containers give to their bodies: `loop`,
`map`, `parallel`, `item`, `error`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import Any, Final

import msgspec

from stepwell.expressions.names import Reference
from stepwell.graph.definition import BodyDef, Definition, Json, NodeDef
from stepwell.graph.saying import Say
from stepwell.graph.uses import Use

COMPENSATE: Final = "compensate"
EDGES: Final = "edges"
NODES: Final = "nodes"

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "loop": ("index", "iteration", "item", "currentItem", "total", "last"),
    "map": ("index", "total", "item", "currentItem"),
    "parallel": ("index", "total", "item", "currentItem"),
    "run": ("id", "workflow", "parent", "root", "now"),
    "error": (),
    "item": (),
}

_WHERE: Final = {
    "loop": "in the body of a `loop`",
    "map": "in the body of a `map`",
    "parallel": "in the body of a `map`, or of a `parallel` with `items` or `count`",
    "item": "in the body of a `map`, or of a `loop` with `foreach`",
    "error": "in a `catch` of a `try`; after an error port, read `<node>.error`",
    EDGES: "in the condition of a join",
}


def node_of(reference: Reference) -> tuple[str | None, tuple[str | int, ...]]:
    """The id of a node that a lookup may be of, and what it wants of that node's output."""
    root, path = reference.root, reference.path
    if root != NODES:
        return root, path
    return (path[0], path[1:]) if path and isinstance(path[0], str) else (None, ())


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What can be read everywhere in a definition.

    `names` are further roots, such as those of an expansion: what is known of them is that they are there. `lenient`
    makes warnings of names that a run may turn out to have, as in the event dialect.
    """

    vars: frozenset[str] = frozenset()
    env: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    input: Any = None  # Any: JSON Schema
    names: frozenset[str] = frozenset()
    lenient: bool = False


def around(definition: Definition, names: Collection[str] = (), bodies: Collection[BodyDef] = ()) -> Around:
    """What can be read everywhere in a definition. Variables are those declared, and those that a `set` sets."""
    return Around(
        vars=frozenset(definition.vars) | _set_somewhere((definition.body, *bodies)),
        env=frozenset(definition.env),
        secrets=frozenset(definition.secrets),
        input=definition.input,
        names=frozenset(names),
        lenient=definition.dialect == "events",
    )


def _set_somewhere(bodies: Collection[BodyDef]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(bodies)
    while waiting:
        for node in waiting.pop().nodes.values():
            waiting.extend(node.bodies.values())
            if node.type == "set":
                values = node.settings.get("values")
                found.update(values if isinstance(values, dict) else ())
    return frozenset(found)


def given_to(node: NodeDef, body: str) -> frozenset[str]:
    """The roots that a container gives to one of its bodies."""
    if body == COMPENSATE:
        return frozenset()
    if node.type == "loop":
        return frozenset({"loop", "item"} if "foreach" in node.settings else {"loop"})
    if node.type == "map" or (node.type == "parallel" and node.settings.keys() & {"count", "items"}):
        return frozenset({"map", "parallel", "item"})
    if body.startswith("catch."):
        clauses = node.settings.get("catch")
        place = int(body.removeprefix("catch."))
        clause = clauses[place] if isinstance(clauses, list) and place < len(clauses) else None
        name = clause.get("as") if isinstance(clause, dict) else None
        return frozenset({"error", name} if isinstance(name, str) and name else {"error"})
    return frozenset()


def check_fields(use: Use, say: Say) -> None:
    """A root whose fields are known is asked for one of them."""
    root, path = use.reference.root, use.reference.path
    fields = FIELDS.get(root, ())
    if fields and path and path[0] not in fields and not use.reference.defaulted:
        hint = say.meant_or_listed(path[0], fields, "it has")
        say.error("unknown-field", use.place, f"{use.text}: {root} has no field {path[0]!r}", hint)


def check_outermost(use: Use, known: Around, ids: Iterable[str], say: Say) -> None:
    """A root that no body around the expression gave a meaning to; `ids` may have been meant."""
    root = use.reference.root
    match root:
        case "var":
            _declared(use, known.vars, "unknown-variable", "variable", "declare it in `vars`", say)
        case "env":
            _declared(use, known.env, "unknown-env", "environment variable", "declare it in `env`", say)
        case "secret":
            _declared(use, known.secrets, "unknown-secret", "secret", "declare it in `secrets`", say)
        case "input":
            _input(use, known, use.reference.path, say)
        case "run":
            check_fields(use, say)
        case "event":
            pass
        case _ if root in known.names:
            pass
        case _ if root in _WHERE:
            message = f"{use.text}: {root!r} is there only {_WHERE[root]}"
            say.error("outside-container", use.place, message)
        case _ if root in _properties(known.input):
            _input(use, known, (root, *use.reference.path), say)
        case _ if known.lenient:
            pass
        case _:
            others = (*known.names, *_properties(known.input), *FIELDS, "var", "env", "secret", "input")
            names = chain(others, ids)
            hint = say.meant(root, names) or f"a field of the input is `input.{root}`"
            say.error("unknown-name", use.place, f"{use.text}: there is no node or name {root!r} here", hint)


def _declared(use: Use, names: frozenset[str], code: str, what: str, remedy: str, say: Say) -> None:
    path = use.reference.path
    if not path and use.reference.root == "var":
        return
    if not path or not isinstance(path[0], str):
        root = use.reference.root
        say.error(code, use.place, f"{use.text}: which {what}?", f"write `{root}.NAME`")
    elif path[0] not in names:
        declared = "set nowhere" if what == "variable" else "not declared"
        hint = say.meant(path[0], sorted(names)) or remedy
        say.error(code, use.place, f"{use.text}: the {what} {path[0]!r} is {declared}", hint)


# -- the input ------------------------------------------------------------------------------------------------------


def _properties(schema: Json) -> Mapping[str, Json]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _input(use: Use, known: Around, path: tuple[str | int, ...], say: Say) -> None:
    """Follow a path through the input's schema as far as that says which fields there are."""
    schema = known.input
    for depth, step in enumerate(path):
        schema = _resolved(schema, known.input)
        if not isinstance(schema, dict) or isinstance(step, int):
            return
        properties = _properties(schema)
        if step in properties:
            schema = properties[step]
            continue
        closed = schema.get("additionalProperties") is False
        if any(key in schema for key in ("anyOf", "oneOf", "allOf", "if", "patternProperties", "$ref")):
            return
        if not closed and (not properties or use.reference.defaulted or schema.get("additionalProperties")):
            return
        before = ".".join(("input", *map(str, path[:depth])))
        message = f"{use.text}: {before} has no field {step!r} by its schema"
        hint = say.meant_or_listed(step, list(properties), "it has")
        if closed and not known.lenient:
            say.error("unknown-input-field", use.place, message, hint)
        else:
            say.warning("unknown-input-field", use.place, message, hint)
        return


def _resolved(schema: Json, whole: Json) -> Json:
    """What a reference into the schema's own definitions leads to."""
    for _ in range(20):
        ref = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(ref, str) or not ref.startswith("#/") or len(schema) > 1:
            return schema
        found = whole
        for step in ref.removeprefix("#/").split("/"):
            found = found.get(step) if isinstance(found, dict) else None
        schema = found
    return None
