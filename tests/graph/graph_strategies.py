"""Draws definitions of graphs as data: small ones in which much meets.

Bodies have no edges that go back, so that `reference` knows them. Tasks are named so that `driving.scripted` knows what
they do. What a node reads is certain to be settled when it runs: its own sources, where it waits for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hypothesis import strategies as st

PORTS = {
    "condition": ("true", "false"),
    "switch": ("low", "mid", "default"),
    "router": ("left", "right", "default"),
}
CONTAINERS = ("map", "loop", "parallel", "branches", "try", "scope")


class Chance(Protocol):
    """What decides: hypothesis, which makes failing graphs small, or plain chance, which is quick."""

    def number(self, least: int, most: int) -> int: ...

    def one_of(self, *choices: Any) -> Any: ...

    def some_of(self, choices: Sequence[Any], most: int) -> list[Any]: ...


class _Drawn:
    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def number(self, least: int, most: int) -> int:
        return int(self._draw(st.integers(least, most)))

    def one_of(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def some_of(self, choices: Sequence[Any], most: int) -> list[Any]:
        return list(self._draw(st.lists(st.sampled_from(choices), max_size=most, unique=True)))


class _Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def number(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def one_of(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def some_of(self, choices: Sequence[Any], most: int) -> list[Any]:
        unique = list(dict.fromkeys(choices))
        return self._random.sample(unique, self._random.randint(0, min(most, len(unique))))


@dataclass
class _Body:
    """A body that is being drawn: its nodes, by which ports each may be left, which may lead to more than one
    run of what comes after them, and which of those do so by `split`."""

    nodes: dict[str, Any] = field(default_factory=dict)
    ports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    many: set[str] = field(default_factory=set)
    split: set[str] = field(default_factory=set)


class _Drawing:
    def __init__(self, choose: Chance, kinds: tuple[str, ...], most: int) -> None:
        self.choose = choose
        self.one_of = choose.one_of
        self.kinds = kinds
        self.most = most
        self.count = 0

    def chance(self, percent: int) -> bool:
        return self.choose.number(0, 99) >= 100 - percent

    def body(self, depth: int, readable: tuple[str, ...], *, is_plain: bool = False) -> dict[str, Any]:
        """Nodes of a body. `readable` are templates that always have a value there."""
        body = _Body()
        size = self.choose.number(1, 6 if depth == 0 else 3)
        for _ in range(size):
            if self.count >= self.most and body.nodes:
                break
            self.node(body, depth, readable, is_plain)
        return body.nodes

    def node(self, body: _Body, depth: int, readable: tuple[str, ...], is_plain: bool) -> None:
        self.count += 1
        id = f"n{self.count}"
        node: dict[str, Any] = {}
        sources = self.sources(body)
        if sources:
            node["needs"] = [f"{source}:{port}" if port != "out" else source for source, port in sources]
            self.join(node, id, sources, body, is_plain)
        if node.get("join", "all") in ("all", "all_strict"):
            readable = (*readable, *(f"{source} ?? null" for source, _ in sources if source not in body.many))
        kind = self.one_of(*self.kinds) if depth < 3 and self.count < self.most else "task"
        if is_plain and kind in CONTAINERS:
            kind = "task"
        body.ports[id] = getattr(self, f"_{kind}", self._choosing)(node, kind, depth, readable)
        if self.chance(15):
            node["if"] = self.one_of(True, self.template(readable))
        if kind in ("task", "wait") and self.chance(10):
            node["delay"] = "2s"
        if kind != "wait" and body.ports[id][0] not in PORTS and self.chance(25):
            node["on_error"] = self.one_of("continue", "port")
        if body.ports[id][:1] == ("out",) and kind != "wait" and node.get("on_error") != "continue":
            body.ports[id] = (*body.ports[id], "error")
        if not is_plain and id not in body.many and self.chance(6):
            node["split"] = 2
            body.many.add(id)
            body.split.add(id)
        body.nodes[id] = node

    # -- edges ------------------------------------------------------------------------------------------------------

    def sources(self, body: _Body) -> list[tuple[str, str]]:
        """From which nodes and ports edges lead to the next node."""
        if not body.nodes:
            return []
        ids = self.choose.some_of(list(body.nodes), 3)
        found = []
        for id in ids:
            ports = body.ports[id]
            port = ports[0] if self.chance(55) else self.one_of(*ports)
            found.append((id, port))
            if len(ports) > 1 and self.chance(20):  # two ways from one node to another
                found.append((id, self.one_of(*(one for one in ports if one != port))))
        return found

    def join(self, node: dict[str, Any], id: str, sources: list[tuple[str, str]], body: _Body, is_plain: bool) -> None:
        is_many = any(source in body.many for source, _ in sources)
        if is_many:
            body.many.add(id)
            if len(sources) == 1 and sources[0][0] in body.split and self.chance(50):
                node["join"] = {"threads": self.one_of(1, 2)}
            elif len(sources) > 1 and self.chance(70):
                node["join"] = "any"
                body.many.discard(id)
            return
        if len(sources) == 1:
            return
        choice = self.choose.number(0, 11)
        if choice <= 4:
            return
        if choice == 5:
            node["join"] = "all_strict"
        elif choice <= 7:
            node["join"] = "any"
        elif choice == 8:
            node["join"] = "general"
        elif choice == 9:
            rest = self.one_of("ignore", "block", "cancel")
            node["join"] = {"first": self.choose.number(1, len(sources)), "rest": rest}
        elif choice == 10:
            rules = [{"==": [{"var": f"edges.{source}"}, self.one_of("live", "dead")]} for source, _ in sources]
            if len({source for source, _ in sources}) < len(sources):
                rules = rules[:1]
            node["join"] = {"when": {self.one_of("and", "or"): rules}}
        elif not is_plain:
            node["join"] = self.one_of("each", {"threads": 2})
            body.many.add(id)

    # -- kinds ------------------------------------------------------------------------------------------------------

    def template(self, readable: tuple[str, ...]) -> str:
        return "{{ " + self.one_of(*readable) + " }}"

    def _task(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        node["task"] = self.one_of("work", "work", "work", "flaky")
        wanted = self.choose.some_of(readable, 2)
        node["inputs"] = {"at": self.count} | {f"i{number}": f"{{{{ {one} }}}}" for number, one in enumerate(wanted)}
        if self.chance(10):
            node["retry"] = 2
        return ("out",)

    def _wait(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        node["wait"] = self.one_of("1s", "1m")
        return ("out",)

    def _noop(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        node["noop"] = {}
        return ("out",)

    def _choosing(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        match kind:
            case "condition":
                node["condition"] = self.template(readable)
            case "switch":
                node |= {"switch": self.template(readable), "cases": {"low": [0, 1], "mid": 2}}
            case "router":
                node["router"] = {"left": self.template(readable), "right": self.one_of(True, self.template(readable))}
        return PORTS[kind]

    def _map(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        size = self.choose.number(0, 4)
        own = ("item", "map.index")
        node["map"] = {"items": list(range(10, 10 + size))} if self.chance(70) else {"count": size}
        if self.chance(50):
            node["map"]["concurrency"] = self.choose.number(1, 3)
        if self.chance(40):
            node["map"]["tolerate"] = self.one_of(1, 2, "50%")
        node["map"]["do"] = self.body(depth + 1, (*readable, *own))
        return ("out",)

    def _parallel(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        own = ("parallel.index", "parallel.currentItem")
        node["parallel"] = {"count": self.choose.number(0, 3), "do": self.body(depth + 1, (*readable, *own))}
        return ("out",)

    def _branches(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        names = self.one_of(("left", "right"), ("one", "two", "three"))
        node["parallel"] = {"branches": {name: self.body(depth + 1, readable) for name in names}}
        if self.chance(40):
            node["parallel"]["concurrency"] = self.choose.number(1, 2)
        return ("out",)

    def _loop(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        own: tuple[str, ...] = ("loop.index", "loop.last ?? null")
        match self.one_of("for", "foreach", "do_while"):
            case "for":
                node["loop"] = {"for": self.choose.number(0, 3)}
            case "foreach":
                own = (*own, "item", "loop.item")
                node["loop"] = {"foreach": ["a", "b", "c"][: self.choose.number(0, 3)]}
            case _:
                rule: Any = {"<": [{"var": "loop.index"}, self.choose.number(1, 4)]}
                node["loop"] = {"do_while": rule, "max": 3, "on_max": self.one_of("fail", "stop")}
        if self.chance(30):
            node["loop"]["collect"] = self.one_of("last", "none")
        if self.chance(10):
            node["loop"]["interval"] = "3s"
        outer = (one for one in readable if not one.startswith("loop."))  # the inner loop's own stand before it
        node["loop"]["do"] = self.body(depth + 1, (*outer, *own))
        return ("out",)

    def _try(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        node["try"] = {"do": self.body(depth + 1, readable)}
        caught = self.choose.some_of(["ValueError", "LookupError", "*"], 2)
        caught.sort(key=lambda name: name == "*")
        own = ("error.type",)
        catch = [
            {"errors": name, "as": "e", "do": self.body(depth + 1, (*readable, *own, "e.node"))} for name in caught
        ]
        if catch:
            node["try"]["catch"] = catch
        if not catch or self.chance(30):
            node["try"]["finally"] = self.body(depth + 1, readable)
        return ("out",)

    def _scope(self, node: dict[str, Any], kind: str, depth: int, readable: tuple[str, ...]) -> tuple[str, ...]:
        body = self.body(depth + 1, readable)
        for id, inner in body.items():
            if "task" in inner and self.chance(60):
                undo = {"task": "undo", "inputs": {"of": f"{{{{ {id} }}}}"}}
                inner["compensate"] = {f"u{id}": undo}
        node["scope"] = {"do": body}
        if self.chance(15):
            node["scope"]["compensate"] = "none"
        return ("out",)


def _dag(choose: Chance) -> dict[str, Any]:
    """A body of tasks, waits and nodes that choose, with all kinds of joins."""
    kinds = ("task", "task", "task", "condition", "switch", "router", "noop", "wait")
    drawing = _Drawing(choose, kinds, 9)
    body = _Body()
    for _ in range(choose.number(2, 9)):
        drawing.node(body, 0, ("input.x", "input.y", "input.z"), False)
    return _whole(drawing, body.nodes)


def _nested(choose: Chance) -> dict[str, Any]:
    """Containers in containers."""
    kinds = ("task", "task", "condition", "noop", *CONTAINERS, *CONTAINERS)
    drawing = _Drawing(choose, kinds, 14)
    return _whole(drawing, drawing.body(0, ("input.x", "input.y", "input.z")))


def _whole(drawing: _Drawing, nodes: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"nodes": nodes}
    if drawing.chance(15):
        found["on_failure"] = "cancel"
    if drawing.chance(20):
        found["result"] = {"first": f"{{{{ {next(iter(nodes))} ?? null }}}}"}
    return found


@st.composite
def dags(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    """Graphs without containers."""
    return _dag(_Drawn(draw))


@st.composite
def nested(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    """Graphs of containers in containers."""
    return _nested(_Drawn(draw))


def inputs() -> st.SearchStrategy[dict[str, int]]:
    """A run's input."""
    return st.fixed_dictionaries({name: st.integers(0, 4) for name in "xyz"})


def drawn(seed: int) -> tuple[dict[str, Any], dict[str, int]]:
    """A graph of either kind, and an input, by plain chance."""
    chance = random.Random(seed)
    return (_dag if seed % 2 else _nested)(_Seeded(seed)), {name: chance.randint(0, 4) for name in "xyz"}
