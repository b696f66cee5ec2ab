"""Which nodes that are no containers do drawn graphs have? Steps, choices, child runs, waits for time and people."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from stepwell.testing.expecting import is_sure as is_sure_script
from stepwell.testing.plots import SIGNALS, TOPICS, draw_script
from stepwell.testing.scenes import PEOPLE, RESIDUES, TRIES, rule
from stepwell.testing.scripts import ALWAYS, RETRIED

Json: TypeAlias = Any
"""Any: JSON, of which definitions are made."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A drawn graph. `kids` are those that it starts runs of; `is_named` when it is started by its name."""

    definition: Json
    kids: tuple[Graph, ...]
    is_sure: bool
    is_named: bool

    @property
    def name(self) -> str:
        """What the workflow is called."""
        return str(self.definition["id"])


Read = tuple[str, bool]
"""What an expression may look up, and whether it is a whole number (or null)."""


@dataclass
class BodyDraft:
    """A body that is being drawn. Per node: what is settled when it begins, what it gives, by which ports it is left.

    `loose` are the nodes that nothing follows yet; `shaky` those that may fail.
    """

    nodes: dict[str, Json] = field(default_factory=dict)
    edges: list[Json] = field(default_factory=list)
    before: dict[str, frozenset[str]] = field(default_factory=dict)
    reads: dict[str, tuple[Read, ...]] = field(default_factory=dict)
    ports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loose: dict[str, None] = field(default_factory=dict)
    shaky: set[str] = field(default_factory=set)

    def ancestors(self, ids: Collection[str]) -> set[str]:
        """These nodes and all that come before them."""
        found: set[str] = set()
        waiting = [*ids]
        while waiting:
            id = waiting.pop()
            if id not in found:
                found.add(id)
                waiting += [one["from"] for one in self.nodes[id].get("needs", ())]
        return found


@dataclass(frozen=True)
class Place:
    """Where a node is drawn: what it can surely look up, what besides, how deep, and what must not be there."""

    base: tuple[str, ...]
    reads: tuple[Read, ...]
    depth: int
    is_safe: bool = False
    has_lock: bool = False


class Leaves:
    """Draws the nodes of one graph that are no containers.

    `is_sure` turns false when one is drawn whose outcome nobody knows; without `wants_sure` there may be such.
    """

    def __init__(self, chance: Random, sure: bool, kids: tuple[Graph, ...]) -> None:
        self.chance = chance
        self.wants_sure = sure
        self.is_sure = True
        self.variables: list[str] = []
        self._kids = kids
        self._count = 0
        leaves: tuple[str, ...] = _LEAVES if sure else (*_LEAVES, *_UNSURE_LEAVES * 2)
        self._leaves = leaves + ("child",) * 3 if kids else leaves

    def _id(self, name: str) -> str:
        self._count += 1
        return f"{name}-{self._count}"

    def _maybe(self, share: float) -> bool:
        return self.chance.random() < share

    # -- what nodes look up -------------------------------------------------------------------------------------

    def _number(self, place: Place) -> str:
        """An expression for a whole number."""
        numbers = [text for text, is_number in place.reads if is_number]
        base = self.chance.choice(place.base)
        if numbers and self._maybe(0.75):
            return f"{{{{ {self.chance.choice(numbers)} ?? {base} }}}}"
        return f"{{{{ {base} }}}}"

    def _anything(self, place: Place) -> list[Json]:
        found: list[Json] = [self._count + 1]
        for _ in range(self.chance.randint(1, 3)):
            if place.reads and self._maybe(0.7):
                found.append(f"{{{{ {self.chance.choice(place.reads)[0]} ?? null }}}}")
            else:
                found.append(f"{{{{ {self.chance.choice(place.base)} }}}}")
        return found

    def _rule(self, place: Place, divisor: int = 2) -> Json:
        """Whether a number can be divided, now and then by chance alone."""
        numbers = [text for text, is_number in place.reads if is_number] or [*place.base]
        return {"==": [{"%": [{"var": [self.chance.choice(numbers), 0]}, divisor]}, self.chance.randrange(divisor)]}

    def _time(self) -> int:
        return self.chance.choice((0, 1, 5, 20, 60, 200))

    # -- leaves -------------------------------------------------------------------------------------------------

    def _leaf(self, body: BodyDraft, place: Place) -> None:
        kind = self.chance.choice(self._leaves)
        if kind in _UNSURE_LEAVES:
            self.is_sure = False
        getattr(self, f"_{kind}")(body, place)

    def _add(
        self, body: BodyDraft, id: str, node: Json, *reads: Read, ports: tuple[str, ...] = ("out",), shaky: bool = False
    ) -> None:
        body.nodes[id], body.reads[id], body.ports[id] = node, reads, ports
        if shaky:
            body.shaky.add(id)

    def _made(self, body: BodyDraft, place: Place) -> None:
        """A step that may have to be undone."""
        self._task(body, place, "make")

    def _task(self, body: BodyDraft, place: Place, name: str = "") -> None:
        chance = self.chance
        name = name or chance.choice(_TASKS)
        if name == "hasty" and self.wants_sure:
            name = "flaky"
        if name == "hasty":
            self.is_sure = False
        id = self._id(name)
        inputs: Json = {"tokens": self._anything(place)} if name == "blend" else {"token": self._number(place)}
        node: Json = {"task": name, "inputs": inputs}
        attempts = 4 if name in (*RETRIED, "blend", "talk", "book") else 1
        if name == "steady" and self._maybe(0.4):
            node["retry"] = {"attempts": 3, "first": "40ms", "jitter": False}
            attempts = 3
        failures = chance.choice((0, 0, 0, 0, *range(attempts)))
        if not place.is_safe and self._maybe(0.18):
            failures = ALWAYS
        if name == "bulky":
            failures = 0
        else:
            inputs |= {"failures": failures}
            if name != "book":
                inputs |= {"milliseconds": self._time()}
        if name == "talk":
            inputs |= {"chunks": chance.randint(0, 4)}
        fails = failures >= attempts
        self._add(body, id, node, *([] if fails else [(id, name != "bulky")]), shaky=fails or name == "hasty")
        self._on_error(body, id, node, fails)
        if name == "make" and self._maybe(0.85):
            bad = chance.choice((0, 0, 0, 0, 1, 2)) if self.wants_sure else chance.choice((0, 0, 0, 1, TRIES))
            undo = {"token": f"{{{{ {id} }}}}", "milliseconds": self._time(), "failures": bad}
            node["compensate"] = {self._id("undo"): {"task": "undo", "inputs": undo}}
        if self._maybe(0.3):
            node |= chance.choice(({"critical": "inner"}, {"critical": "inner"}, {"concurrency": 1}, {"priority": 3}))

    def _on_error(self, body: BodyDraft, id: str, node: Json, fails: bool) -> None:
        if not self._maybe(0.6 if fails else 0.05):
            return
        node["on_error"] = self.chance.choice(("continue", "port", "port"))
        body.shaky.discard(id)
        if not fails:
            body.reads[id] = () if id.startswith("hasty") else body.reads[id]
        if node["on_error"] == "port":
            body.ports[id] = ("error", "out") if fails else ("out", "error")

    def _condition(self, body: BodyDraft, place: Place) -> None:
        self._add(body, self._id("condition"), {"condition": {"when": self._rule(place)}}, ports=("true", "false"))

    def _router(self, body: BodyDraft, place: Place) -> None:
        routes = {"left": self._rule(place), "right": self._rule(place, 3)}
        self._add(body, self._id("router"), {"router": {"routes": routes}}, ports=("left", "right", "default"))

    def _switch(self, body: BodyDraft, place: Place) -> None:
        small = [text for text in place.base if text.endswith("index")] or ["input.token"]
        given = {"value": f"{{{{ {self.chance.choice(small)} }}}}", "cases": {"zero": 0, "few": [1, 2]}}
        self._add(body, self._id("switch"), {"switch": given}, ports=("default", "few", "zero"))

    def _transform(self, body: BodyDraft, place: Place) -> None:
        id = self._id("transform")
        self._add(body, id, {"transform": {"value": {"all": self._anything(place)}}}, (f"{id}.all", False))

    def _noop(self, body: BodyDraft, place: Place) -> None:
        self._add(body, self._id("noop"), {"noop": {}})

    def _set(self, body: BodyDraft, place: Place) -> None:
        if place.depth:  # several instances of a body would set it in any order
            return self._noop(body, place)
        id = self._id("set")
        name = f"v{self._count}"
        self.variables.append(name)
        self._add(body, id, {"set": {"values": {name: self._number(place)}}}, (f"var.{name}", True))

    def _wait(self, body: BodyDraft, place: Place) -> None:
        self._add(body, self._id("wait"), {"wait": self.chance.choice(("1ms", "30ms", "300ms", "1s"))})

    def _emit(self, body: BodyDraft, place: Place) -> None:
        given = {"event": self.chance.choice(TOPICS), "data": self._number(place)}
        self._add(body, self._id("emit"), {"emit": given | ({"transient": True} if self._maybe(0.2) else {})})

    def _child(self, body: BodyDraft, place: Place) -> None:
        token = self._number(place)
        on_cancel = self.chance.choice(("cancel", "cancel", "wait", "abandon"))
        if self._kids and self._maybe(0.7):
            kid = self._kids[0]
            id = self._id("graph")
            given: Json = {"workflow": kid.name, "inputs": {"token": token}, "on_cancel": on_cancel}
            reads: tuple[Read, ...] = ((id, True),)
            fails = True  # it may
        else:
            script = draw_script(self.chance, self.chance.randint(1, 3))
            if self.wants_sure and not is_sure_script(script):
                script = ["task", "flaky", self._time(), 1]
            self.is_sure &= is_sure_script(script)
            id = self._id("play")
            given = {"workflow": "play", "inputs": {"script": script, "token": token}, "on_cancel": on_cancel}
            reads = ((id, True),)
            fails = f", {ALWAYS}" in repr(script)
        if place.is_safe and fails:
            return self._noop(body, place)
        node: Json = {"workflow": given}
        self._add(body, id, node, *reads, shaky=fails)
        if fails and self._maybe(0.4):
            node["on_error"] = "port"
            body.reads[id], body.ports[id] = (), ("out", "error")
            body.shaky.discard(id)

    # -- leaves that wait for people ----------------------------------------------------------------------------

    def _late(self) -> Json:
        limit = self.chance.choice((None, None, "50ms", "500ms", "2s"))
        return {} if limit is None else {"timeout": limit}

    def _waiting(self, body: BodyDraft, id: str, node: Json, limit: Json, *reads: Read) -> None:
        is_wired = bool(limit) and self._maybe(0.7)
        self._add(body, id, node, *reads, ports=("out", "timeout") if is_wired else ("out",), shaky=True)

    def _signal(self, body: BodyDraft, place: Place) -> None:
        name, limit = self.chance.choice(SIGNALS), self._late()
        id = self._id(f"signal:{name}")
        self._waiting(body, id, {"wait_signal": {"signal": name, **limit}}, limit, (f'nodes["{id}"]', False))

    def _event(self, body: BodyDraft, place: Place) -> None:
        id, limit = self._id("event"), self._late()
        residue = self.chance.choice((None, None, *range(RESIDUES)))
        where = {} if residue is None else {"where": rule(residue)}
        given = {"event": self.chance.choice(TOPICS), **where, **limit}
        self._waiting(body, id, {"wait_event": given}, limit, (f"{id}.data", False))

    def _human(self, body: BodyDraft, place: Place) -> None:
        id, limit = self._id("human"), self._late()
        mode: Json = self.chance.choice(({}, {"who": [*PEOPLE[:2]]}, {"who": [*PEOPLE], "quorum": 2}))
        if "quorum" in mode and self._maybe(0.5):
            mode = mode | {"agree": "ok"}
        reminders = self.chance.choice(([], [], ["30ms"], ["50ms", "400ms"]))
        given = {"prompt": "Go on?", "form": {"type": "object"}, "reminders": reminders, **mode, **limit}
        self._waiting(body, id, {"human": given}, limit, (id, False))

    def _stop(self, body: BodyDraft, place: Place) -> None:
        """One that cancels others when it is done."""
        id, others = self._id("blend"), [one for one in body.nodes if not one.startswith("condition")]
        node: Json = {"task": "blend", "inputs": {"tokens": self._anything(place), "milliseconds": self._time()}}
        if others:
            node["cancels"] = self.chance.sample(others, min(len(others), 2))
        self._add(body, id, node, (id, True))


_TASKS = (
    *("blend",) * 5,
    *("make",) * 4,
    *("steady", "flaky") * 2,
    *("hasty", "narrow", "keyed", "urgent", "talk", "book"),
    "bulky",
)
_LEAVES = (
    *("task",) * 12,
    *("condition",) * 2,
    *("router", "switch", "transform", "noop", "set", "wait", "emit", "emit", "child"),
)
_UNSURE_LEAVES = ("signal", "event", "human", "stop")
