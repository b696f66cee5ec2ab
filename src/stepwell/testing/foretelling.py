"""What must a graph come to? Its result, worked out from its definition without any engine: no time, no turns.

It knows what `graphics` draws where that is sure: what a node reads is settled when it begins, so a body can be gone
through once, in the order in which its nodes are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwell.testing.expecting import expect
from stepwell.testing.scripts import BULK, RETRIED, mix
from stepwell.testing.vertices import Graph, Json

_FOUR = frozenset({*RETRIED, "blend", "talk", "book"})
"""Tasks with four attempts."""


class Failed(Exception):
    """A node, a body or the whole of it has failed."""


@dataclass(frozen=True)
class Foretold:
    """How a run ends: with a result, or not well."""

    is_well: bool
    result: Json = None


def foretell(graph: Graph, token: int) -> Foretold:
    """What a run of a sure graph comes to when nobody meddles."""
    try:
        return Foretold(True, _run(graph, token))
    except Failed:
        return Foretold(False)


def _run(graph: Graph, token: int) -> Json:
    variables = dict(graph.definition.get("vars", {}))
    names = _Names({"input": {"token": token}, "var": variables})
    return _Telling(graph, variables).body(graph.definition, names)


@dataclass
class _Names:
    """What expressions see."""

    own: dict[str, Json] = field(default_factory=dict)
    around: _Names | None = None

    def look_up(self, path: str) -> Json:
        """The value at a path; None where nothing is."""
        if re.fullmatch(r"-?\d+|null", path):
            return None if path == "null" else int(path)
        root, *keys = path.split(".")
        names: _Names | None = self
        while names is not None and root not in names.own:
            names = names.around
        value = None if names is None else names.own[root]
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def render(self, source: Json) -> Json:
        """A JSON tree with templates."""
        match source:
            case str() if source.startswith("{{"):
                values = (self.look_up(path) for path in source.strip("{} ").split(" ?? "))
                return next((value for value in values if value is not None), None)
            case list():
                return [self.render(one) for one in source]
            case dict():
                return {key: self.render(one) for key, one in source.items()}
            case _:
                return source

    def holds(self, rule: Json) -> bool:
        """A rule as `graphics` draws them."""
        ((operator, (left, right)),) = rule.items()
        if operator == "<":
            return bool(self.look_up(left["var"]) < right)
        number, divisor = left["%"]
        path = number["var"] if isinstance(number["var"], str) else number["var"][0]
        return bool((self.look_up(path) or 0) % divisor == right)


@dataclass
class _Telling:
    """One run."""

    graph: Graph
    variables: dict[str, Json]

    def body(self, body: Mapping[str, Json], around: _Names) -> Json:
        """An instance of a body.

        Raises:
            Failed: it does.
        """
        names = _Names({}, around)
        left: dict[str, tuple[str, ...]] = {}
        failed: list[Failed] = []
        back = {edge["from"]: edge for edge in body.get("edges", ())}
        for id, node in body["nodes"].items():
            try:
                self._node(body, id, node, names, left)
                if id in back:
                    self._cycle(body, back[id], names, left)
            except Failed as error:
                failed.append(error)
                left[id] = ()
        if failed:
            raise failed[0]
        return names.render(body["result"]) if "result" in body else None

    def _cycle(self, body: Mapping[str, Json], edge: Json, names: _Names, left: dict[str, tuple[str, ...]]) -> None:
        visits = 0
        while edge["port"] in left[edge["from"]]:
            visits += 1
            if visits > edge["max_visits"]:
                raise Failed
            for id in (edge["to"], edge["from"]):
                ports, output = self._fire(body, id, body["nodes"][id], names)
                left[id], names.own[id] = ports, output

    def _node(
        self, body: Mapping[str, Json], id: str, node: Json, names: _Names, left: dict[str, tuple[str, ...]]
    ) -> None:
        needs = node.get("needs", [])
        live = [one.get("port", "out") in left[one["from"]] for one in needs]
        left[id] = ()
        if needs and not _runs(node.get("join", "all"), live):
            return
        if "if" in node and not names.holds(node["if"]):
            return
        ports, output = self._fire(body, id, node, names)
        left[id] = ports
        names.own[id] = output

    def _fire(self, body: Mapping[str, Json], id: str, node: Json, names: _Names) -> tuple[tuple[str, ...], Json]:
        try:
            return self._work(node, names)
        except Failed:
            wired = any(one == {"from": id, "port": "error"} for one in _needs_in(body))
            if wired or node.get("on_error") == "port":
                return ("error",), None
            if node.get("on_error") == "continue":
                return ("out",), None
            raise

    def _work(self, node: Json, names: _Names) -> tuple[tuple[str, ...], Json]:
        kind = next(one for one in _KINDS if one in node)
        if kind == "task":
            inputs = names.render(node["inputs"])
            attempts = node["retry"]["attempts"] if "retry" in node else 4 if node["task"] in _FOUR else 1
            return ("out",), _task(node["task"], inputs, attempts)
        given = node[kind]
        match kind:
            case "condition":
                holds = names.holds(given["when"])
                return ("true" if holds else "false",), holds
            case "router":
                taken = tuple(port for port, rule in given["routes"].items() if names.holds(rule))
                return taken or ("default",), None
            case "switch":
                value = names.render(given["value"])
                return ("zero" if value == 0 else "few" if value in (1, 2) else "default",), None
            case "transform":
                return ("out",), names.render(given["value"])
            case "set":
                self.variables |= names.render(given["values"])
                return ("out",), None
            case "workflow":
                return ("out",), self._child(given, names)
            case "noop" | "wait" | "emit":
                return ("out",), None
            case _:
                return ("out",), getattr(self, f"_{kind}")(given, names)

    def _child(self, given: Json, names: _Names) -> Json:
        inputs = names.render(given["inputs"])
        if given["workflow"] != "play":
            return _run(self.graph.kids[0], inputs["token"])
        result = expect(given["inputs"]["script"], inputs["token"]).result
        if result is None:
            raise Failed
        return result

    # -- containers ---------------------------------------------------------------------------------------------

    def _map(self, given: Json, names: _Names) -> Json:
        items = given["items"] if "items" in given else [*range(given["count"])]
        results: list[Json] = []
        failed = 0
        for index, item in enumerate(items):
            try:
                results.append(self.body(given["do"], _Names({"item": item, "map": {"index": index}}, names)))
            except Failed:
                failed += 1
                results.append(None)
        tolerated = given.get("tolerate", 0)
        if failed > (len(items) if tolerated == "100%" else tolerated):
            raise Failed
        return {"results": results, "failed": failed}

    def _loop(self, given: Json, names: _Names) -> Json:
        results: list[Json] = []
        last = None
        for index, item in _turns(given):
            loop = {"index": index, "last": last}
            last = self.body(given["do"], _Names({"loop": loop, "item": item}, names))
            results.append(last)
        return {"results": results if given.get("collect", "all") == "all" else [], "last": last}

    def _parallel(self, given: Json, names: _Names) -> Json:
        return {name: self.body(branch, names) for name, branch in given["branches"].items()}

    def _race(self, given: Json, names: _Names) -> Json:
        return None  # nobody reads it

    def _try(self, given: Json, names: _Names) -> Json:
        try:
            try:
                return self.body(given["do"], names)
            except Failed:
                if "catch" not in given:
                    raise
                return self.body(given["catch"][-1]["do"], names)
        finally:
            if "finally" in given:
                self.body(given["finally"], names)

    def _scope(self, given: Json, names: _Names) -> Json:
        return self.body(given["do"], names)


_KINDS = (
    *("task", "condition", "router", "switch", "transform", "set", "workflow", "noop", "wait", "emit"),
    *("map", "loop", "parallel", "race", "try", "scope"),
)


def _task(name: str, inputs: Mapping[str, Any], attempts: int) -> Json:
    if inputs.get("failures", 0) >= attempts:
        raise Failed
    if name == "blend":
        return mix("blend", mix("tokens", *inputs["tokens"]))
    value = mix(name, inputs["token"])
    return f"{value}:" + "x" * BULK if name == "bulky" else value


def _runs(join: Json, live: list[bool]) -> bool:
    if isinstance(join, dict):
        return sum(live) >= int(join["first"])
    return all(live) if join == "all_strict" else any(live)


def _turns(given: Json) -> Iterator[tuple[int, Json]]:
    if "foreach" in given:
        yield from enumerate(given["foreach"])
    elif "for" in given:
        yield from ((index, None) for index in range(given["for"]))
    else:
        (limit,) = given["do_while"].values()
        yield from ((index, None) for index in range(max(1, min(given["max"], limit[1]))))


def _needs_in(body: Mapping[str, Json]) -> Iterator[Json]:
    for node in body["nodes"].values():
        yield from node.get("needs", ())
