"""What an author wrote, in one form: whichever way nodes and edges were given, this is what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from stepwell.graph.problems import Place

Json: TypeAlias = Any
"""Plain JSON data: None, bool, int, float, str, list, dict with text keys."""

JoinKind: TypeAlias = Literal["all", "all_strict", "any", "each", "first", "when", "general", "threads"]
OnError: TypeAlias = Literal["fail", "continue", "port"]
Rest: TypeAlias = Literal["ignore", "block", "cancel"]
OnFailure: TypeAlias = Literal["drain", "cancel"]
Retain: TypeAlias = Literal["used", "run", "none"]


class JoinDef(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a node with several in-edges runs; `kind` "" is the default (see `graph.plan.Join`)."""

    kind: JoinKind | Literal[""] = ""
    count: int = 0
    rest: Rest = "ignore"
    when: Json = None


class EdgeDef(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A connection from a port of one node to another node of the same body.

    `back` closes a cycle, and may be taken `max_visits` times (None: as often as the engine's limit allows).
    """

    source: str
    target: str
    port: str = "out"
    back: bool = False
    max_visits: int | None = None
    place: Place = Place()


class NodeDef(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `settings` are those of its type, templates unrendered; `bodies` are those of a container, by name.

    The names of bodies: `do` (loop, map, scope, try), the branches' names (parallel, race), `catch.0`, `catch.1`, …
    and `finally` (try), `compensate`. `options` are those that every node may have, as they were written and checked
    for form: retry, timeout, on_error, cache, concurrency, rate, priority, idempotency_key, mock, cancels, completes,
    milestone, critical, split, output, delay; `graph.options` has their shapes.
    """

    id: str
    type: str
    settings: dict[str, Json] = {}
    condition: Json = None
    has_condition: bool = False
    join: JoinDef = JoinDef()
    options: dict[str, Json] = {}
    bodies: dict[str, BodyDef] = {}
    disabled: bool = False
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    ui: Json = None
    place: Place = Place()
    places: dict[str, Place] = {}

    def at(self, key: str) -> Place:
        """Where one of its keys stands, such as `retry` or `settings.url`; where the node does, if that is unknown."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return self.place


class BodyDef(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes in the order in which they were written, and the edges between them by target, then by source.

    `result` is what the body gives, if `has_result`; the root body's is that of the definition too.
    """

    nodes: dict[str, NodeDef] = {}
    edges: tuple[EdgeDef, ...] = ()
    result: Json = None
    has_result: bool = False
    place: Place = Place()


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A whole workflow as data.

    `canonical` is the same as plain JSON in canonical form: what is stored, compared and hashed. `digest` is 12 hex
    digits of the hash of all in it that has a meaning for runs (not titles, tags and ui positions). `dialect` is
    "stepwell" or "events".
    """

    id: str
    label: str = ""
    title: str = ""
    description: str = ""
    input: Json = None
    output: Json = None
    result: Json = None
    has_result: bool = False
    vars: dict[str, Json] = {}
    env: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    triggers: tuple[Json, ...] = ()
    labels: Mapping[str, str] = {}
    on_failure: OnFailure = "drain"
    options: dict[str, Json] = {}
    ui: Json = None
    body: BodyDef = BodyDef()
    dialect: Literal["stepwell", "events"] = "stepwell"
    canonical: Json = None
    digest: str = ""
    places: dict[str, Place] = {}
