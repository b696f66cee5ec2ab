"""Which graphs do simulated runs go through? Definitions as data, drawn so that most can come to one result only.

Whole numbers are threaded through a graph as through a script: each node takes what others gave, and what it gives
depends on that. A node reads only what is sure to be settled when it begins, so that the time at which things happen
decides nothing; `foretelling` works the result out. Others (`is_sure` false) wait for people, race, and have short
limits: what they come to nobody knows, and all promises hold for them too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random

from stepwell.testing.plots import SIGNALS
from stepwell.testing.scripts import ALWAYS
from stepwell.testing.vertices import BodyDraft, Graph, Json, Leaves, Place, Read

LONG = "10h"
"""No simulation takes as long."""


def draw_graph(chance: Random, name: str, *, may_have_kids: bool = True, is_sure: bool | None = None) -> Graph:
    """A graph of about a dozen nodes."""
    sure = chance.random() < 0.6 if is_sure is None else is_sure
    kids: tuple[Graph, ...] = ()
    if may_have_kids and chance.random() < 0.35:
        kids = (draw_graph(chance, f"{name}-kid", may_have_kids=False, is_sure=sure),)
    drawing = _Drawing(chance, sure, kids)
    body = drawing.body(
        chance.randint(2, 11 if may_have_kids else 5), ("input.token",), (), 0, makes=chance.random() < 0.3
    )
    definition = {
        "stepwell": 1,
        "id": name,
        "input": {"type": "object", "properties": {"token": {"type": "integer"}}, "required": ["token"]},
        "on_failure": chance.choice(("drain", "drain", "cancel")),
        **({"vars": dict.fromkeys(drawing.variables, 0)} if drawing.variables else {}),
        **body,
    }
    return Graph(definition, kids, sure and drawing.is_sure, chance.random() < 0.5)


class _Drawing(Leaves):
    """One graph."""

    def __init__(self, chance: Random, sure: bool, kids: tuple[Graph, ...]) -> None:
        super().__init__(chance, sure, kids)
        self._boxes = _BOXES if chance.random() < 0.6 else tuple(chance.sample(_BOXES, 3))

    # -- bodies -------------------------------------------------------------------------------------------------

    def body(
        self,
        budget: int,
        base: tuple[str, ...],
        reads: tuple[Read, ...],
        depth: int,
        *,
        is_safe: bool = False,
        has_lock: bool = False,
        makes: bool = False,
    ) -> Json:
        """Nodes of about `budget` steps, and a last one that takes what they have come to."""
        body, place = BodyDraft(), Place(base, reads, depth, is_safe, has_lock)
        for _ in range(self.chance.choice((0, 0, 1, 2)) if makes else 0):
            self._node(body, place, 1, self._made)
        while budget > 0:
            share = self.chance.randint(1, max(1, min(budget, 6)))
            self._node(body, place, share)
            budget -= share
        last = self._last(body, place)
        if makes and not is_safe and self._maybe(0.4):  # what was made is undone
            inputs = {"token": self._number(place), "milliseconds": self._time(), "failures": ALWAYS}
            body.nodes[self._id("steady")] = {"task": "steady", "inputs": inputs, "needs": [{"from": last}]}
        drawn: Json = {"nodes": body.nodes, "result": f"{{{{ {last} ?? null }}}}"}
        if body.edges:
            drawn["edges"] = body.edges
        return drawn

    def _last(self, body: BodyDraft, place: Place) -> str:
        sources = [(id, port) for id in body.loose for port in body.ports[id]]
        if self._maybe(0.1):
            sources = sources[:1]
        settled = self._settled_by(body, {id for id, _ in sources}, "all")
        reads = [*place.reads, *(read for id in sorted(settled) for read in body.reads[id])]
        some = self.chance.sample(reads, min(len(reads), 5))
        id = self._id("blend")
        tokens = [self._count, *(f"{{{{ {text} ?? null }}}}" for text, _ in some)]
        body.nodes[id] = {"task": "blend", "inputs": {"tokens": tokens}} | _needs(sources)
        return id

    def _node(
        self, body: BodyDraft, place: Place, share: int, leaf: Callable[[BodyDraft, Place], None] | None = None
    ) -> None:
        sources = self._sources(body)
        join = self._join(body, place, sources)
        kind = str(join.get("join", "all")) if not isinstance(join.get("join"), dict) else "first"
        settled = self._settled_by(body, {id for id, _ in sources}, kind)
        reads = (*place.reads, *(read for id in sorted(settled) for read in body.reads[id]))
        here = Place(place.base, reads, place.depth, place.is_safe, place.has_lock)
        known = set(body.nodes)
        if share > 1 and place.depth < 3:
            self._box(body, here, share)
        elif leaf is None and self._maybe(0.08) and len(sources) <= 1 and not place.is_safe:
            self._cycle(body, here, sources)
            return
        else:
            (leaf or self._leaf)(body, here)
        (id,) = set(body.nodes) - known
        node = body.nodes[id]
        node |= _needs(sources) | join
        body.before[id] = settled
        for source, _ in sources:
            body.loose.pop(source, None)
        if kind == "each":
            body.reads[id], body.shaky = (), body.shaky | {id}
            body.ports[id] = ()
        else:
            body.loose[id] = None
        if self._maybe(0.1):
            node["if"] = self._rule(here)
        if self._maybe(0.06):
            node["delay"] = self.chance.choice(("3ms", "40ms"))

    def _sources(self, body: BodyDraft) -> list[tuple[str, str]]:
        able = [id for id in body.nodes if body.ports[id]]
        if not able:
            return []
        count = self.chance.choice((0, 1, 1, 2, 2, 2, 3))
        ids = dict.fromkeys(self.chance.choice(able[-4:]) for _ in range(count))
        found = []
        for id in ids:
            ports = body.ports[id]
            found.append((id, ports[0] if self._maybe(0.6) else self.chance.choice(ports)))
            if len(ports) > 1 and self._maybe(0.3):
                found.append((id, next(port for port in ports if port != found[-1][1])))
        return found

    def _join(self, body: BodyDraft, place: Place, sources: Sequence[tuple[str, str]]) -> Json:
        if len(sources) < 2:
            return {}
        ids = {id for id, _ in sources}
        kinds = ("all",) * 5 + ("all_strict", "any", "any", "any", "general", "each", "first", "first")
        kind = self.chance.choice(kinds if len(ids) == len(sources) else ("all", "any", "general"))
        origins = [body.ancestors({id}) for id in ids]
        is_apart = sum(map(len, origins)) == len(set().union(*origins))  # else one may exclude another
        if kind == "all" or (kind == "all_strict" and not is_apart):
            return {}
        if kind != "first":
            return {"join": kind}
        rest = self.chance.choice(("ignore", "block"))
        if self._maybe(0.5) and not (body.ancestors(ids) & body.shaky and self.wants_sure):
            rest = "cancel"
        return {"join": {"first": self.chance.randint(1, len(sources) if is_apart else 1), "rest": rest}}

    def _settled_by(self, body: BodyDraft, sources: set[str], kind: str) -> frozenset[str]:
        """What is settled when a node begins that waits for all these, or for one of them."""
        each = [body.before[id] | {id} for id in sources]
        if not each:
            return frozenset()
        if kind in ("all", "all_strict", "general"):
            return frozenset().union(*each)
        return frozenset(each[0]).intersection(*each[1:])

    # -- cycles -------------------------------------------------------------------------------------------------

    def _cycle(self, body: BodyDraft, place: Place, sources: Sequence[tuple[str, str]]) -> None:
        """A step that is done again until its number is right."""
        task, again = self._id("flaky"), self._id("condition")
        base = self.chance.choice(place.base)
        inputs = {"token": f"{{{{ {task} ?? {base} }}}}", "milliseconds": self._time()}
        self._add(body, task, {"task": "flaky", "inputs": inputs} | _needs(sources), (task, True), ports=())
        when = {"==": [{"%": [{"var": task}, 2]}, 0]}
        node = {"condition": {"when": when}, "needs": [{"from": task}]}
        self._add(body, again, node, ports=("true",), shaky=True)
        body.edges.append({"from": again, "port": "false", "to": task, "back": True, "max_visits": 20})
        settled = self._settled_by(body, {id for id, _ in sources}, "all")
        body.before[task], body.before[again] = settled, settled | {task}
        for source, _ in sources:
            body.loose.pop(source, None)
        body.loose[again] = None

    # -- containers ---------------------------------------------------------------------------------------------

    def _box(self, body: BodyDraft, place: Place, share: int) -> None:
        getattr(self, f"_{self.chance.choice(self._boxes)}")(body, place, share)

    def _inner(self, place: Place, budget: int, *base: str, is_safe: bool = False, **options: bool) -> Json:
        reads = tuple(self.chance.sample(place.reads, min(len(place.reads), 2)))
        return self.body(
            max(1, budget),
            (*place.base, *base),
            reads,
            place.depth + 1,
            is_safe=place.is_safe or is_safe,
            has_lock=place.has_lock or options.get("has_lock", False),
            makes=options.get("makes", False),
        )

    def _failing(self, body: BodyDraft, id: str, node: Json, inner: Collection[Json], *reads: Read) -> None:
        """Add a container; some take its failure."""
        fails = any(_may_fail(one) for one in inner)
        self._add(body, id, node, *reads, shaky=fails)
        if fails and self._maybe(0.4):
            node["on_error"] = "port"
            body.reads[id], body.ports[id] = (), ("out", "error")
            body.shaky.discard(id)

    def _map(self, body: BodyDraft, place: Place, share: int) -> None:
        chance, id, count = self.chance, self._id("map"), self.chance.randint(0, 4)
        given: Json = {"items": [chance.randrange(1_000_000) for _ in range(count)]}
        own: tuple[str, ...] = ("item", "map.index")
        if self._maybe(0.2):
            given, own = {"count": count}, ("map.index",)
        if self._maybe(0.6):
            given["concurrency"] = chance.randint(1, 3)
        if self._maybe(0.4):
            given["tolerate"] = chance.choice((1, 4, "100%"))
        if not self.wants_sure and self._maybe(0.3):
            given |= {"complete_when": {chance.choice(("done", "succeeded")): 1}, "rest": chance.choice(_RESTS)}
            self.is_sure = False
        given["do"] = self._inner(place, share // max(count, 1), *own)
        self._failing(body, id, {"map": given}, [given["do"]], (f"{id}.results", False), (f"{id}.failed", True))

    def _loop(self, body: BodyDraft, place: Place, share: int) -> None:
        chance, id = self.chance, self._id("loop")
        count = chance.randint(0, 3)
        reads = (*place.reads, ("loop.last", True))
        match chance.choice(("for", "foreach", "do_while")):
            case "for":
                given: Json = {"for": count}
            case "foreach":
                given = {"foreach": [chance.randrange(1000) for _ in range(count)]}
            case _:
                given = {"do_while": {"<": [{"var": "loop.index"}, count]}, "max": 2, "on_max": "stop"}
        if self._maybe(0.2):
            given["interval"] = "20ms"
        if self._maybe(0.3):
            given["collect"] = chance.choice(("last", "none"))
        here = Place(place.base, reads, place.depth, place.is_safe, place.has_lock)
        given["do"] = self._inner(here, share // max(count, 1), *(["item"] if "foreach" in given else []), "loop.index")
        self._failing(body, id, {"loop": given}, [given["do"]], (f"{id}.last", True), (f"{id}.results", False))

    def _parallel(self, body: BodyDraft, place: Place, share: int) -> None:
        id, names = self._id("parallel"), self.chance.choice((("left", "right"), ("a", "b", "c")))
        branches = {name: self._inner(place, share // len(names)) for name in names}
        given: Json = {"branches": branches}
        if self._maybe(0.3):
            given["concurrency"] = 1
        reads = [(f"{id}.{name}", True) for name in names]
        self._failing(body, id, {"parallel": given}, [*branches.values()], *reads)

    def _race(self, body: BodyDraft, place: Place, share: int) -> None:
        id = self._id("race")
        quick = self._inner(place, share - 1, is_safe=True)
        slow = self._inner(place, 1, is_safe=True)
        if self._maybe(0.6):
            slow = {"nodes": {self._id("wait"): {"wait": self.chance.choice(("10ms", "100ms", "30s"))}}}
        given = {"branches": {"quick": quick, "slow": slow}, "decide": self.chance.choice(("first", "finish"))}
        reads: list[Read] = []
        if not self.wants_sure and self._maybe(0.7):
            self.is_sure = False
            reads = [(f"{id}.winner", False)]
        self._add(body, id, {"race": given}, *reads)

    def _try(self, body: BodyDraft, place: Place, share: int) -> None:
        id = self._id("try")
        given: Json = {"do": self._inner(place, share - 1)}
        if self._maybe(0.8):
            given["catch"] = [{"errors": ["*"], "as": "what", "do": self._inner(place, 1)}]
            if self._maybe(0.3):
                given["catch"].insert(0, {"errors": ["Unheard"], "do": self._inner(place, 1)})
        if "catch" not in given or self._maybe(0.4):
            given["finally"] = self._inner(place, 1)
        inner = [given.get("finally"), *(catch["do"] for catch in given.get("catch", [{"do": given["do"]}]))]
        self._failing(body, id, {"try": given}, [one for one in inner if one], (id, True))

    def _scope(self, body: BodyDraft, place: Place, share: int) -> None:
        chance, id = self.chance, self._id("scope")
        given: Json = {}
        ports: tuple[str, ...] = ("out",)
        has_lock = not place.has_lock and self._maybe(0.4)
        if has_lock:
            given["critical"] = "outer"
        if self._maybe(0.2):
            given["interleave"] = True
        if self._maybe(0.15):
            given["compensate"] = "none"
        if self._maybe(0.3):
            given["timeout"] = LONG
        if not self.wants_sure and self._maybe(0.4):
            self.is_sure = False
            given["timeout"] = chance.choice(("50ms", "500ms"))
            ports = chance.choice((("out",), ("out", "timeout")))
        if not self.wants_sure and self._maybe(0.3):
            self.is_sure = False
            given["cancel_on"] = {"signal": SIGNALS[1]}
            ports = (*ports, "cancelled")
        given["do"] = self._inner(place, share - 1, has_lock=has_lock, makes=True)
        self._failing(body, id, {"scope": given}, [given["do"]], (id, True))
        if len(ports) > 1:
            body.ports[id] = (*ports, *(port for port in body.ports[id] if port not in ports))


_BOXES = ("map", "map", "loop", "parallel", "race", "try", "try", "scope", "scope")
_RESTS = ("ignore", "cancel")


def _needs(sources: Sequence[tuple[str, str]]) -> Json:
    needs = [{"from": id} if port == "out" else {"from": id, "port": port} for id, port in sources]
    return {"needs": needs} if needs else {}


def _may_fail(body: Mapping[str, Json]) -> bool:
    """Whether a body looks as if it could fail at all."""
    text = repr(body)
    words = (f": {ALWAYS}", f", {ALWAYS}", "hasty", "timeout", "max_visits", "graph-", "human", "'each'")
    return any(word in text for word in words)
