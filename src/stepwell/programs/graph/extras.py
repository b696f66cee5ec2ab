"""What nodes say besides their work: limits, retries, keys, caches, schemas, and which nodes run at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.context import Identity
from stepwell.authoring.task import Task
from stepwell.errors import GraphError
from stepwell.graph.plan import Plan, PlanBody, PlanNode
from stepwell.model.checking import check as schema_problems
from stepwell.model.codec import content_hash
from stepwell.model.rates import rate as read_rate
from stepwell.programs.graph.globals import marker
from stepwell.programs.protocol import Slot, StepExtras

if TYPE_CHECKING:
    from stepwell.programs.graph.firing import Firing
    from stepwell.programs.graph.program import Surroundings


class Extras:
    """The options of one plan's nodes, for one run."""

    def __init__(self, plan: Plan, identity: Identity, around: Surroundings) -> None:
        self._plan = plan
        self._identity = identity
        self._around = around
        self._tuned: dict[tuple[int, int], tuple[PlanNode, Task[..., Any], Task[..., Any]]] = {}
        self._markers: dict[str, str] | None = None

    def tuned(self, node: PlanNode, task: Task[..., Any]) -> Task[..., Any]:  # Any: whatever it returns
        """A task with the node's own retries and limits; the same object for the same node and task."""
        limits = node.limits
        has_own = node.retry is not None or node.priority or limits.attempt or limits.total or limits.heartbeat
        if not has_own:
            return task
        key = (id(node), id(task))
        known = self._tuned.get(key)
        if known is None:
            given: dict[str, Any] = {"retry": node.retry, "priority": node.priority or None}  # Any: options
            options = task.options.but(**{name: value for name, value in given.items() if value is not None})
            for name, limit in (
                ("timeout", limits.attempt),
                ("total_timeout", limits.total),
                ("heartbeat", limits.heartbeat),
            ):
                if limit is not None:
                    setattr(options, name, limit)
            known = self._tuned[key] = (node, task, type(task)(task.function, task.name, options))
        return known[2]

    def of(self, firing: Firing, data: msgspec.Raw) -> StepExtras | None:
        """What a step of this node needs besides its task and input; None for most."""
        node = firing.node
        named = self.secrets_in(data)
        if node.concurrency is None and not node.rate and node.cache is None and not named:
            return None
        slots = []
        if node.concurrency is not None:
            name = f"node:{self._plan.name}/{node.id}"
            if node.concurrency_key is not None:
                name += f":{node.concurrency_key.render(firing.frame)}"
            slots.append(Slot(name, node.concurrency))
        if node.rate:
            count, period = read_rate(node.rate, f"the rate of node {node.id}")
            slots.append(Slot(f"rate:{self._plan.name}/{node.id}", count, period))
        key, ttl = "", None
        if node.cache is not None:
            ttl = node.cache.ttl
            of = _text(node.cache.key.render(firing.frame)) if node.cache.key is not None else bytes(data)
            for mark, name in named.items():  # markers are of this run; what is kept is for others
                of = of.replace(mark.encode(), name.encode())
            key = f"{node.task or node.type.name}:{content_hash(of)}"
        return StepExtras(tuple(slots), named, key, ttl)

    def secrets_in(self, data: msgspec.Raw) -> dict[str, str]:
        """The secrets of which markers are in a step's input: their names by marker."""
        if not self._plan.definition.secrets:
            return {}
        if self._markers is None:
            names = self._plan.definition.secrets
            self._markers = {marker(self._identity.run_id, name): name for name in names}
        text = bytes(data)
        return {mark: name for mark, name in self._markers.items() if mark.encode() in text}

    def check(self, node: PlanNode, output: object) -> None:
        """See that an output fits the schema that its node gives.

        Raises:
            GraphError: it does not.
        """
        _complain(node.output_schema, output, f"the output of node {node.id}")

    def check_input(self, given: object) -> None:
        """See that the run's input fits the definition's schema.

        Raises:
            GraphError: it does not.
        """
        _complain(self._plan.definition.input, given, "the input of the run")

    def check_result(self, output: object) -> None:
        """See that the run's result fits the definition's schema.

        Raises:
            GraphError: it does not.
        """
        schema = self._plan.definition.output
        if schema is not None:
            _complain(schema, output, "the result of the run")

    def until(self, name: str) -> PlanBody:
        """The plan's own body with only the nodes that lead to one of its nodes.

        Raises:
            GraphError: it has no such node.
        """
        body = self._plan.body
        target = body.by_id.get(name)
        if target is None:
            raise GraphError(f"until={name!r}: {self._plan.name} has no such node; it has {', '.join(body.by_id)}")
        wanted = {target}
        waiting = [target]
        while waiting:
            for index in body.nodes[waiting.pop()].ins:
                source = body.edges[index].source
                if source not in wanted:
                    wanted.add(source)
                    waiting.append(source)
        edges = {edge.index for edge in body.edges if edge.source in wanted and edge.target in wanted}
        nodes = tuple(
            msgspec.structs.replace(
                node,
                keeps=node.keeps or node.index == target,
                outs={port: tuple(one for one in outs if one in edges) for port, outs in node.outs.items()},
            )
            for node in body.nodes
        )
        starts = tuple(index for index in body.starts if index in wanted)
        return msgspec.structs.replace(body, nodes=nodes, starts=starts, sinks=(target,), result=None)


def _text(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _complain(schema: Any, value: object, what: str) -> None:  # Any: JSON
    problems = [] if schema is None else schema_problems(schema, value)
    if problems:
        raise GraphError(f"{what} does not fit its schema: " + "; ".join(map(str, problems)))
