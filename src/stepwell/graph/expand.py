"""Third stage: what does each node come to, with all that is written short, by default or by name written out?

Names of nodes become numbers, durations microseconds, options what the engine takes; the definition's defaults go to
the nodes that say nothing else. Defaults are for attempts: nodes of type `task`, and those whose type does work of its
own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from stepwell.errors import ArgumentError
from stepwell.expressions.templates import Value
from stepwell.graph.definition import Json, NodeDef
from stepwell.graph.plan import Cache, Limits, Milestone, Mock
from stepwell.graph.reach import Reached
from stepwell.graph.retries import retry_of
from stepwell.graph.saying import Say
from stepwell.graph.scope import Scoped
from stepwell.graph.settings import SettingsCheck
from stepwell.graph.tasks import Tasks
from stepwell.model.durations import micros
from stepwell.nodes.protocol import ERROR, NodeType

WITH_ATTEMPTS: Final = ("task", "action")
_FOR_ATTEMPTS: Final = ("retry", "cache", "rate", "idempotency_key")
_INSTANT: Final = ("pure", "effect", "end")


class Expanded(msgspec.Struct, frozen=True):
    """A body whose nodes are written out: `parts` are, for each node, fields of its `PlanNode` by name.

    `tasks` and `workflows` are the names of those that it may call, its inner bodies included.
    """

    scoped: Scoped
    parts: tuple[Mapping[str, Any], ...]  # Any: values of many types
    bodies: tuple[Mapping[str, Expanded], ...]
    tasks: frozenset[str]
    workflows: frozenset[str]


def expand(scoped: Scoped, defaults: Mapping[str, Json], tasks: Tasks | None, say: Say) -> Expanded:
    """Write out the nodes of a body and of the bodies in it, and check their settings."""
    return _Expanding(defaults, SettingsCheck(tasks, say), say).body(scoped)


class _Expanding:
    def __init__(self, defaults: Mapping[str, Json], settings: SettingsCheck, say: Say) -> None:
        self.defaults = defaults
        self.settings = settings
        self.say = say

    def body(self, scoped: Scoped) -> Expanded:
        reached = scoped.reached
        parts = []
        names: dict[str, set[str]] = {"task": set(), "workflow": set()}
        bodies = tuple({name: self.body(body) for name, body in inner.items()} for inner in scoped.bodies)
        for index, node in enumerate(reached.nodes):
            type = reached.types[index]
            if type is not None:
                self.settings.check(node, type)
                if type.name in names and isinstance(named := node.settings.get(type.name), str):
                    names[type.name].add(named)
            parts.append(self._parts(node, type, scoped.compiled[index].values, reached, index))
        inside = [body for inner in bodies for body in inner.values()]
        return Expanded(
            scoped,
            tuple(parts),
            bodies,
            frozenset(names["task"]).union(*(body.tasks for body in inside)),
            frozenset(names["workflow"]).union(*(body.workflows for body in inside)),
        )

    def _parts(
        self, node: NodeDef, type: NodeType | None, values: Mapping[str, Value], reached: Reached, index: int
    ) -> Mapping[str, Any]:  # Any: values of many types
        options = node.options
        parts: dict[str, Any] = {}
        kind = type.kind if type is not None else ""
        has_attempts = kind in WITH_ATTEMPTS
        if kind == "task" and isinstance(node.settings.get("task"), str):
            parts["task"] = node.settings["task"]
        if has_attempts and (self.defaults or "retry" in options):
            parts["retry"] = self._retry(node, options)
        limits = {**(self.defaults.get("timeout") or {} if has_attempts else {}), **options.get("timeout", {})}
        if limits:
            parts["limits"] = Limits(**{name: self._micros(node, "timeout", one) for name, one in limits.items()})
        parts["on_error"] = self._on_error(node, reached, index)
        if options:
            self._no_effect(node, kind)
            self._plain(parts, node, values)
            self._nodes(parts, node, reached, index)
        return parts

    def _retry(self, node: NodeDef, options: Mapping[str, Json]) -> object:
        try:
            return retry_of(self.defaults.get("retry"), options.get("retry"))
        except ArgumentError as error:
            self.say.error_once("wrong-value", node.at("retry"), f"{node.id}: {error}")
            return None

    def _micros(self, node: NodeDef, key: str, value: Json) -> int | None:
        try:
            return micros(value, f"{node.id}, {key}")
        except ArgumentError as error:
            self.say.error_once("wrong-duration", node.at(key), str(error))
            return None

    def _on_error(self, node: NodeDef, reached: Reached, index: int) -> str:
        said = str(node.options.get("on_error", "fail"))
        if any(reached.links[number].port == ERROR for number in reached.outs[index]):
            if said == "continue":
                message = f"{node.id} says `on_error: continue`, but an edge from its `error` takes its failures"
                self.say.warning("no-effect", node.at("on_error"), message, "take one of the two away")
            return "port"
        return said

    def _no_effect(self, node: NodeDef, kind: str) -> None:
        """Options for attempts, on nodes that have none."""
        useless = (*_FOR_ATTEMPTS, "timeout") if kind in _INSTANT else _FOR_ATTEMPTS
        if kind in WITH_ATTEMPTS or not kind:
            return
        for name in (name for name in useless if name in node.options):
            message = f"{node.id}: `{name}` means nothing to a node of type {node.type}"
            self.say.warning("no-effect", node.at(name), message, "take it away")

    def _plain(self, parts: dict[str, Any], node: NodeDef, values: Mapping[str, Value]) -> None:
        options = node.options
        if "cache" in options:
            ttl = options["cache"].get("ttl")
            lasts = None if ttl is None else self._micros(node, "cache.ttl", ttl)
            parts["cache"] = Cache(values.get("cache.key"), lasts)
        if "concurrency" in options:
            parts["concurrency"] = options["concurrency"]["limit"]
            parts["concurrency_key"] = values.get("concurrency.key")
        if "mock" in options:
            mock = options["mock"]
            parts["mock"] = Mock(values.get("mock.output"), mock.get("error", ""), mock.get("port", "out"))
        for name in ("rate", "priority", "critical", "split"):
            if name in options:
                parts[name] = options[name]
        for name in ("idempotency_key", "delay"):
            if name in values:
                parts[name] = values[name]
        output = options.get("output", {})
        if "schema" in output:
            parts["output_schema"] = output["schema"]

    def _nodes(self, parts: dict[str, Any], node: NodeDef, reached: Reached, index: int) -> None:
        """Options that name other nodes of the body."""
        options = node.options
        if "cancels" in options:
            parts["cancels"] = self._named(node, "cancels", options["cancels"], reached)
        if "completes" in options:
            found = self._named(node, "completes", options["completes"], reached)
            for other in found:
                target = reached.nodes[other]
                if target.type not in ("map", "parallel") or (target.type == "parallel" and "do" not in target.bodies):
                    message = f"{node.id} completes {target.id}, which is a {target.type} and no `map`"
                    hint = "use `cancels` to end another node"
                    self.say.error("completes-no-map", node.at("completes"), message, hint)
            parts["completes"] = found
        if "milestone" in options:
            ends = {}
            for end, id in options["milestone"].items():
                found = self._named(node, "milestone", [id], reached)
                ends[end] = found[0] if found else -1
                if found == (index,):
                    message = f"{node.id} cannot be its own milestone"
                    self.say.error("wrong-value", node.at("milestone"), message, "name another node")
            parts["milestone"] = Milestone(**ends)

    def _named(self, node: NodeDef, option: str, ids: Iterable[str], reached: Reached) -> tuple[int, ...]:
        found = []
        for id in ids:
            if id in reached.by_id:
                found.append(reached.by_id[id])
                continue
            hint = self.say.meant(id, reached.by_id) or "it must be a node of the same body"
            message = f"{node.id}: `{option}` names {id!r}, and there is no such node here"
            self.say.error("unknown-node", node.at(option), message, hint)
        return tuple(found)
