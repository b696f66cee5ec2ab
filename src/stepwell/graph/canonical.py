"""What is the one form of a definition, and its hash? Plain JSON that says the same however it was written.

Nodes are a list, edges stand beside them, settings under `with`, options in the shapes of `graph.options`; what says no
more than a default is not there. Keys of the format have one order. The order of mappings that an author fills
(branches, cases, inputs) is kept, for it can have a meaning: store the JSON with its keys in the order given here.
Reading a canonical form gives the same canonical form.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from stepwell.graph.definition import BodyDef, Definition, JoinDef, NodeDef
from stepwell.graph.edges import canonical_edge
from stepwell.graph.form import Json
from stepwell.graph.heads import FORMAT, OPTIONS

_LINE: Final = 110


def canonical(definition: Definition, *, described: bool = True) -> dict[str, Json]:
    """The canonical form; without `described`, of all that has a meaning for runs and nothing else."""
    found: dict[str, Json] = {"stepwell": FORMAT, "id": definition.id}
    if described:
        found |= {key: text for key in ("label", "title", "description") if (text := getattr(definition, key))}
    found |= {key: schema for key in ("input", "output") if (schema := getattr(definition, key)) is not None}
    if definition.has_result:
        found["result"] = definition.result
    found |= {key: [*names] for key in ("env", "secrets") if (names := getattr(definition, key))}
    found |= {key: dict(given) for key in ("vars", "labels") if (given := getattr(definition, key))}
    if definition.on_failure != "drain":
        found["on_failure"] = definition.on_failure
    found |= {key: definition.options[key] for key in OPTIONS if key in definition.options}
    if definition.triggers:
        found["triggers"] = [*definition.triggers]
    if described and definition.ui is not None:
        found["ui"] = definition.ui
    body = canonical_body(definition.body, described=described)
    return found | {key: body[key] for key in ("nodes", "edges") if key in body}


def digest(definition: Definition) -> str:
    """12 hex digits of the hash of all in a definition that has a meaning for runs."""
    return digest_of(canonical(definition, described=False))


def digest_of(form: Json) -> str:
    """12 hex digits of the BLAKE2b hash (RFC 7693) of some JSON, its keys in the order in which they stand."""
    return hashlib.blake2b(msgspec.json.encode(form), digest_size=6).hexdigest()


def canonical_body(body: BodyDef, *, described: bool = True) -> dict[str, Json]:
    """A body as `{nodes, edges, result}`."""
    found: dict[str, Json] = {"nodes": [_node(node, described) for node in body.nodes.values()]}
    if body.edges:
        found["edges"] = [canonical_edge(edge) for edge in body.edges]
    if body.has_result:
        found["result"] = body.result
    return found


def _node(node: NodeDef, described: bool) -> dict[str, Json]:
    found: dict[str, Json] = {"id": node.id, "type": node.type}
    bodies = {name: canonical_body(body, described=described) for name, body in node.bodies.items()}
    settings = node.settings | _containers(node, bodies)
    if settings:
        found["with"] = settings
    if node.has_condition:
        found["if"] = node.condition
    if node.join != JoinDef():
        found["join"] = _join(node.join)
    found |= node.options
    if "compensate" in bodies:
        found["compensate"] = bodies["compensate"]
    if node.disabled:
        found["disabled"] = True
    if described:
        found |= {key: text for key in ("title", "description") if (text := getattr(node, key))}
        found |= {"tags": [*node.tags]} if node.tags else {}
        found |= {"ui": node.ui} if node.ui is not None else {}
    return found


def _containers(node: NodeDef, bodies: dict[str, Json]) -> dict[str, Json]:
    """The settings that bodies are, by the names under which they are written."""
    if "do" not in bodies:
        branches = {name: body for name, body in bodies.items() if name != "compensate"}
        return {"branches": branches} if branches else {}
    found: dict[str, Json] = {"do": bodies["do"]}
    if "catch" in node.settings:
        clauses = enumerate(node.settings["catch"])
        found["catch"] = [
            clause | ({"do": bodies[name]} if (name := f"catch.{index}") in bodies else {}) for index, clause in clauses
        ]
    if "finally" in bodies:
        found["finally"] = bodies["finally"]
    return found


def _join(join: JoinDef) -> Json:
    match join.kind:
        case "first":
            return {"first": join.count} | ({"rest": join.rest} if join.rest != "ignore" else {})
        case "when":
            return {"when": join.when}
        case "threads":
            return {"threads": join.count}
        case kind:
            return kind


def dump_yaml(form: Json) -> str:
    """A definition, or any plain JSON, as YAML for people and editors; reading it gives the same."""
    import yaml

    dumper = _dumper()
    return str(yaml.dump(form, Dumper=dumper, sort_keys=False, allow_unicode=True, width=_LINE))


def _dumper() -> Any:  # Any: PyYAML's classes have no types
    import yaml

    from stepwell.graph.yamltext import reads_as_text

    class Dumper(yaml.SafeDumper):
        """Writes text in quotes where this package's reader, or one of YAML 1.1, would take it for something else."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:  # Any: as above
        style = "|" if "\n" in value and _can_be_block(value) else None if reads_as_text(value) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def _can_be_block(value: str) -> bool:
    return value.isprintable() or all(line.isprintable() and line == line.rstrip() for line in value.split("\n"))
