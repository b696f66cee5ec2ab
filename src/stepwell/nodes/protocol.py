"""What a node type is: settings, ports, and what to do when a node of it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import msgspec

from stepwell.model.shelf import Shelf

Kind: TypeAlias = Literal["task", "action", "pure", "wait", "effect", "child", "container", "end"]

OUT = "out"
ERROR = "error"
TIMEOUT = "timeout"


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="$stepwell", tag="outcome"):
    """What a node comes to when it is more than an output: a port to leave by, or questions to ask first.

    A task, or an action of a node type, may return one. With `ask` the node is not done: each question (by a key of
    your own) becomes an input request, and the node runs again, with `answers` in its context, when all are answered.
    `state` is handed to that next call.
    """

    output: Any = None  # Any: JSON
    port: str = OUT
    ask: dict[str, Ask] = {}
    state: Any = None  # Any: JSON


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question to people, as `ctx.ask` puts it; `form` is a JSON Schema."""

    prompt: str
    form: Any = None  # Any: JSON Schema
    who: tuple[str, ...] = ()


class Expand(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="$stepwell", tag="expand"):
    """A sub-graph decided while the run is under way: it runs as the body of the node whose task returned it.

    `nodes` and `edges` are written as in a definition. They see what the node sees, and `inputs` under their names.
    The node's output is the result of that body.
    """

    nodes: Any  # Any: JSON, a mapping or a list of nodes
    edges: Any = None  # Any: JSON
    inputs: dict[str, Any] = {}  # Any: JSON
    result: Any = None  # Any: JSON


class Routed(msgspec.Struct, frozen=True):
    """What a pure node type gives at once: its output, and the ports by which the node is left."""

    output: object = None
    ports: tuple[str, ...] = (OUT,)


class View(Protocol):
    """What a pure node type sees of its run: what names stand for at its place."""

    def lookup(self, name: str) -> object:
        """The value of a root name. Raises `LookupError` when nothing has it."""


class ActionContext(Protocol):
    """What an action sees of its run. In code that it calls, the attempt's `ctx` works as in a task."""

    @property
    def run_id(self) -> str:
        """The run that the node belongs to."""

    @property
    def step(self) -> str:
        """The readable path of the node's step: the same for each of its attempts, and after answers came."""

    @property
    def attempt(self) -> int:
        """Which attempt of the step this is, from 1."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of the step, and for no other: the node's `idempotency_key`, if it has one."""

    @property
    def shelf(self) -> Shelf:
        """Where the run keeps what is no part of its journal; it goes when the run is deleted."""

    def emit(self, chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        """Send a chunk (any JSON value) to whoever reads the run's stream; await it to be held up when need be.

        `usage` counts what was used for it, in whole numbers by name; they are summed into the step's usage.
        """

    def log(self, message: str, fields: Mapping[str, object]) -> None:
        """Write a line to the run's log."""

    def heartbeat(self) -> None:
        """Say that the attempt is alive."""

    @property
    def answers(self) -> Mapping[str, object]:
        """The answers to what the last call asked, by its keys."""

    @property
    def state(self) -> object:
        """The `state` of the `Outcome` with which the last call asked."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """The declared secrets that the settings mention, by name; settings hold only their names."""


class NodeType:
    """The code behind a node's `type`; a subclass per type, one instance in a registry.

    Class attributes:
        name: the `type`.
        summary: one line for lists and docs.
        kind: how it runs. `pure`: `evaluate`, in the turn itself. `action`: `run`, as an attempt with retries and
            timeouts. The other kinds (`task`, `wait`, `effect`, `child`, `container`, `end`) are the engine's own.
        Settings: a `msgspec.Struct` with `forbid_unknown_fields=True`; its fields are the settings, with types and
            defaults; each may be given as a template.
        main: the setting that a scalar after the type's name stands for: `wait: 5m` is `wait: {for: 5m}`.
        ports: the ports besides `out` and `error` that it may leave by.
        fields: what its output has, if that is always the same mapping; a reference to something else is a problem.
        raw: settings that are no templates: conditions and rules, which the type compiles by itself.
        bodies: the names under which a container has nodes of its own; for the engine's containers only.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    kind: ClassVar[Kind] = "action"
    Settings: ClassVar[type[msgspec.Struct]]
    main: ClassVar[str] = ""
    ports: ClassVar[tuple[str, ...]] = ()
    fields: ClassVar[tuple[str, ...]] = ()
    raw: ClassVar[tuple[str, ...]] = ()
    bodies: ClassVar[tuple[str, ...]] = ()

    def ports_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        """All ports that a node with these (unrendered) settings may leave by, `error` excepted."""
        return (OUT, *self.ports)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """Look at the unrendered settings when a graph is compiled; `say(setting, message)` notes a problem."""

    def references(self, settings: Mapping[str, Any]) -> list[Any]:  # Any: JSON in; `expressions.Reference` out
        """What the settings named in `raw` refer to."""
        return []

    def evaluate(self, settings: Any, view: View) -> Routed:  # Any: an instance of `Settings`
        """Give the outcome of a `pure` node. Deterministic: the same settings and view give the same."""
        raise NotImplementedError(f"node type {self.name} is not pure")

    def run(self, settings: Any, context: ActionContext) -> Awaitable[object]:  # Any: an instance of `Settings`
        """Do the work of an `action` node; gives its output, an `Outcome` or an `Expand`."""
        raise NotImplementedError(f"node type {self.name} has no action")
