"""What the engine runs: a compiled definition, immutable, in which everything is an index or a compiled expression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from stepwell.expressions.conditions import Condition
from stepwell.expressions.templates import Value
from stepwell.graph.definition import Definition, JoinKind, OnFailure, Rest
from stepwell.graph.problems import Problem
from stepwell.model.retry import Retry
from stepwell.nodes.protocol import NodeType

Ports: TypeAlias = Mapping[str, tuple[int, ...]]

MAX_VISITS = 1000
"""How often a back edge is taken that says nothing else."""


class Join(msgspec.Struct, frozen=True, gc=False):
    """When a node runs, by the tokens that its in-edges bring: live ones, and dead ones from paths not taken.

    * `all`: when each in-edge has brought a token and one of them is live; all dead: the node is skipped.
    * `all_strict`: the same, but one dead token is enough to skip it.
    * `any`: when the first live token comes, once per instance of its body; all dead: skipped.
    * `each`: once for every live token; the default of a node that a back edge leads to.
    * `first`: when `count` live tokens have come; `rest` says what becomes of the others: ignored, kept back until
      all in-edges have brought theirs (`block`), or what would bring them is cancelled.
    * `when`: when the condition is true of `edges` (source id → "live", "dead" or "pending") and of what names mean.
    * `general`: when a live token is there and none that is under way in its body can still reach it.
    * `threads`: when `count` live tokens have come, in whichever edge.

    Source: the joins of the control-flow patterns, https://www.workflowpatterns.com (Russell et al., BPM-06-22).
    """

    kind: JoinKind = "all"
    count: int = 1
    rest: Rest = "ignore"
    when: Condition | None = None


class PlanEdge(msgspec.Struct, frozen=True, gc=False):
    """An edge by index. `tells_dead` edges bring a dead token when their source is done and they are not taken.

    Edges inside a cycle that go back do not. `leaves` is the number of the cycle that the edge leads out of (-1:
    none): such an edge brings its dead token when the cycle has come to rest.
    """

    index: int
    source: int
    port: str
    target: int
    back: bool = False
    max_visits: int = MAX_VISITS
    tells_dead: bool = True
    leaves: int = -1


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How long a node may take, in microseconds (None: no limit)."""

    attempt: int | None = None
    total: int | None = None
    heartbeat: int | None = None


class Cache(msgspec.Struct, frozen=True, gc=False):
    """Whether a node's output is kept for other runs: under `key` (None: all of its settings), `ttl` microseconds."""

    key: Value | None = None
    ttl: int | None = None


class Milestone(msgspec.Struct, frozen=True, gc=False):
    """A node runs only while `after` (an index; -1: from the start) is done and `before` (-1: never) has not begun."""

    after: int = -1
    before: int = -1


class Mock(msgspec.Struct, frozen=True, gc=False):
    """What a node gives in place of its work."""

    output: Value | None = None
    error: str = ""
    port: str = "out"


class PlanNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node, ready to run. Indices are those of its body.

    `reads` are the nodes whose outputs are looked up by this one, or by what is in it; `readers` is how many nodes look
    this one's up before it can be let go (0: it is kept as long as its body).

    `settings` renders to what `type.Settings` takes; `task` is the name of the task of a node of type `task`. `ins` are
    in-edges, `outs` out-edges by port. `cycle` is the number of the cycle that the node is in (-1: none). `keeps` says
    whether an expression, or the result of its body, reads the node's output. `victims` are the nodes that are
    cancelled when its join fires with `rest: cancel`; `ancestors` is a bit set of all nodes from which it can be
    reached (only for the join `general`). `fallback` is the node to run to compensate it: a body.
    """

    index: int
    id: str
    type: NodeType
    settings: Value
    task: str = ""
    condition: Condition | None = None
    join: Join = Join()
    ins: tuple[int, ...] = ()
    outs: Ports = {}
    bodies: Mapping[str, PlanBody] = {}
    cycle: int = -1
    keeps: bool = True
    victims: tuple[int, ...] = ()
    ancestors: int = 0
    reads: tuple[int, ...] = ()
    readers: int = 0
    retry: Retry | None = None
    limits: Limits = Limits()
    on_error: Literal["fail", "continue", "port"] = "fail"
    cache: Cache | None = None
    concurrency: int | None = None
    concurrency_key: Value | None = None
    rate: str = ""
    priority: int = 0
    idempotency_key: Value | None = None
    mock: Mock | None = None
    cancels: tuple[int, ...] = ()
    completes: tuple[int, ...] = ()
    milestone: Milestone | None = None
    critical: str = ""
    split: int = 1
    output_schema: Any = None  # Any: a JSON Schema
    delay: Value | None = None


class PlanBody(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes of one body. `starts` have no in-edges; `sinks` are those whose outputs are the body's result.

    `cycles` is the number of cycles; `exits[c]` are the edges that lead out of cycle `c`. `has_general` and
    `has_milestones` save looking.
    """

    nodes: tuple[PlanNode, ...] = ()
    edges: tuple[PlanEdge, ...] = ()
    by_id: Mapping[str, int] = {}
    starts: tuple[int, ...] = ()
    sinks: tuple[int, ...] = ()
    result: Value | None = None
    exits: tuple[tuple[int, ...], ...] = ()
    has_general: bool = False
    has_milestones: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled definition. `version` is its label, if any, and the digest of the definition."""

    name: str
    version: str
    definition: Definition
    body: PlanBody
    vars: Mapping[str, Value] = {}
    on_failure: OnFailure = "drain"
    tasks: frozenset[str] = frozenset()
    workflows: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = ()
