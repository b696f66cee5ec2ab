"""A compiled graph as a workflow: what the engine starts, drives and lists beside workflow functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.context import current_body
from stepwell.authoring.registry import KnownTasks, Registry
from stepwell.authoring.workflow import RunOptions, Workflow
from stepwell.errors import ArgumentError, Unserialisable, WorkflowBodyError
from stepwell.model.codec import ValueCodec
from stepwell.model.durations import micros
from stepwell.nodes.registry import NodeTypes

if TYPE_CHECKING:
    from stepwell.graph.plan import Plan

UNTIL = "stepwell.until"
"""The label of a run of a graph that names the node with which it is to end."""


def graph_workflow(
    source: str | bytes | os.PathLike[str] | Mapping[str, Any],  # Any: JSON
    *,
    types: NodeTypes | None = None,
    tasks: Iterable[object] | Registry | None = None,
) -> GraphWorkflow:
    """A graph as a workflow: `app.start(graph_workflow(Path("shop.yaml")), shop="…")`.

    Args:
        source: a path, a text in YAML or JSON, or the data.
        types: the node types that it may use; the standard ones by default.
        tasks: tasks that its nodes may call, before those that the engine knows. Calls are checked against them;
            without, any task may be named, and is looked for in the engine's registry when it is called.

    Raises:
        InvalidDefinition: it has problems; all of them are told.
    """
    registry = tasks if isinstance(tasks, Registry) or tasks is None else Registry(tasks)
    return GraphWorkflow(made(source, types or NodeTypes.standard(), registry), registry)


def made(source: Any, types: NodeTypes, tasks: Registry | None = None) -> Plan:  # Any: as `graph_workflow` takes it
    """The plan of a definition.

    Raises:
        InvalidDefinition: it has problems.
    """
    from stepwell.graph.compile import compile_plan  # loaded when there is a graph
    from stepwell.graph.parse import parse
    from stepwell.graph.problems import Findings, InvalidDefinition
    from stepwell.graph.reading import document_of, read, read_file

    findings = Findings()
    if isinstance(source, Mapping):
        document = document_of(source, findings)
    elif isinstance(source, os.PathLike):
        document = read_file(source, findings)
    else:
        document = read(source, findings)
    name = "" if document is None else document.source
    definition = None if document is None else parse(document, types, findings, () if tasks is None else tasks.names())
    if definition is None:
        raise InvalidDefinition(findings.problems, name)
    try:
        return compile_plan(definition, types, None if tasks is None else KnownTasks(tasks), findings=findings)
    except InvalidDefinition as invalid:
        raise InvalidDefinition(invalid.problems, name or invalid.source) from None


class GraphCodec:
    """Writes and reads the input of a graph's runs: one JSON object, checked against the definition's schema."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.returns = ValueCodec(Any, f"result of {plan.name}")

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the input's fields, as far as its schema says them."""
        schema = self._plan.definition.input
        return tuple(schema.get("properties", {})) if isinstance(schema, dict) else ()

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> msgspec.Raw:
        """The input as canonical JSON: one mapping by position, or fields by name.

        Raises:
            ArgumentError: it is no mapping, or does not fit the schema.
            Unserialisable: JSON cannot hold it.
        """
        name = self._plan.name
        if len(args) > 1 or (args and not isinstance(args[0], Mapping)):
            raise ArgumentError(f"{name} takes its input as one mapping, or as fields by name")
        value = {**(args[0] if args else {}), **kwargs}  # type: ignore[dict-item]  # it is a mapping
        try:
            data = msgspec.json.encode(value, order="sorted")
        except (TypeError, ValueError, RecursionError) as error:
            raise Unserialisable(f"the input of {name} is no JSON: {error}") from error
        return self.parse(data)

    def parse(self, data: bytes) -> msgspec.Raw:
        """The input from JSON that somebody typed.

        Raises:
            ArgumentError: it is no JSON object, or does not fit the schema.
        """
        from stepwell.model.checking import check

        name = self._plan.name
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArgumentError(f"input of {name} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ArgumentError(f"input of {name} is a JSON object; found {msgspec.json.encode(value)[:100].decode()}")
        schema = self._plan.definition.input
        problems = [] if schema is None else check(schema, value)
        if problems:
            raise ArgumentError(f"the input of {name} does not fit its schema: " + "; ".join(map(str, problems)))
        return msgspec.Raw(msgspec.json.encode(value, order="sorted"))

    def decode(self, data: bytes | msgspec.Raw) -> tuple[tuple[object, ...], dict[str, object]]:
        """The input as keyword arguments."""
        return (), msgspec.json.decode(data)


class GraphWorkflow(Workflow[..., Any]):  # Any: whatever its result is
    """A graph as the engine sees it. `plan` is compiled and immutable; `version` says which definition it is.

    `tasks` are those that it brings along.
    """

    is_async = True
    codec: GraphCodec  # type: ignore[assignment]  # it has the same methods for another kind of input

    def __init__(self, plan: Plan, tasks: Registry | None = None) -> None:
        definition = plan.definition
        options = definition.options
        deadline = options.get("deadline")
        run_options = RunOptions(
            queue=str(options.get("queue") or ""),
            deadline=None if deadline is None else micros(deadline, "deadline"),
            priority=options.get("priority"),
            labels=dict(definition.labels),
        )
        super().__init__(_no_body, plan.name, definition.label, options.get("concurrency"), run_options)
        self.plan = plan
        self.tasks = tasks
        self.codec = GraphCodec(plan)
        self.__doc__ = definition.description or definition.title
        self._version = plan.version
        self.__wrapped__ = plan  # type: ignore[assignment]  # what tells two workflows of one name apart

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Any: its result, or in an async body what gives it
        """In a workflow function's body: a child run, and its result (`await` it in an async body).

        Raises:
            WorkflowBodyError: elsewhere, since a graph is no function.
        """
        body = current_body()
        if body is None:
            raise WorkflowBodyError(
                f"{self.name} is a graph and no function: start it with app.run(…), or call it in a workflow's body"
            )
        child = body.call_child(self, args, kwargs)
        return child if body.blocking is None else body.blocking(child)

    aio = __call__

    def mentioned(self) -> list[Workflow[..., Any]]:  # Any: whatever they return
        """None: the workflows that a graph starts are named, and looked up when it does."""
        return []

    def __repr__(self) -> str:
        return f"<graph {self.name}>"


async def _no_body() -> None:
    """A graph has no body of Python."""
