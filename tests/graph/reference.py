"""What must a run of a graph have done by now? A slow and obvious answer, from the definition and what has ended.

`predict(definition, input, seen)` looks at everything anew each time it is asked. It is given when attempts and waits
ended, and with what; all else follows: which steps have begun by then, in which moment and with which inputs, which
nodes were passed and skipped, and what the run comes to. A *moment* is an outcome that the graph hears of, numbered
from 1; moment 0 is the beginning; a time that has not come is `NEVER`. There is no state here, no queue and no
incremental anything: a body is a recursive function of the moment in which it begins.

It knows bodies without edges that go back. Where a failure, or a join that cancels, falls into one moment with other
things, either order is right: such calls are not `sure`. Of what is being stopped only the end is told: the steps of
`finally` and `compensate` that run meanwhile are let pass (`Prediction.lenient`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from stepwell.graph.definition import BodyDef, Definition, EdgeDef, NodeDef
from stepwell.model.durations import micros

NEVER = math.inf
Moment = float


class Text:
    """Equal to any text that begins like this: how errors are worded is told no further."""

    def __init__(self, beginning: str = "") -> None:
        self.beginning = beginning

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(self.beginning)

    def __repr__(self) -> str:
        return f"<{self.beginning}…>"

    __hash__ = None  # type: ignore[assignment]  # it is equal to many


# -- what was seen, and what is told ------------------------------------------------------------------------------


@dataclass
class Seen:
    """Steps and waits by readable path: when they began, when and how they ended (an output, or an `Error`).

    `closed` has those too that were cancelled or withdrawn.
    """

    begun: dict[str, int] = field(default_factory=dict)
    ended: dict[str, tuple[int, Any]] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)


@dataclass
class Error:
    """A failure: what expressions see of it, and the names by which `catch` knows it."""

    names: tuple[str, ...]
    data: dict[str, Any]

    def inside(self, node: str | Text) -> Error:
        """The same, having come from this node, unless it came from one inside it."""
        return self if "node" in self.data else Error(self.names, {**self.data, "node": node})


@dataclass
class Record:
    """A step, wait, node that was passed, or node that was skipped."""

    kind: str
    path: str
    when: Moment
    what: Any = None
    sure: bool = True


@dataclass
class Prediction:
    """What must have happened: records, how the run has ended (None: it has not), and in which moment."""

    records: list[Record]
    outcome: tuple[str, Any] | None
    when: Moment
    lenient: list[tuple[str, Moment]]


@dataclass
class Left:
    """How a node was left: when, by which ports, with what; or how it failed where nothing took that."""

    when: Moment
    ports: tuple[str, ...] = ()
    output: Any = None
    error: Error | None = None


@dataclass
class Ended:
    """How a body ended."""

    when: Moment
    output: Any = None
    error: Error | None = None


@dataclass
class Undo:
    """A completed step that says how it is undone; `is_handed_on` by a scope that has ended well, which was then."""

    when: Moment
    node: NodeDef
    scope: str
    names: Names
    is_handed_on: bool = False


Names = Callable[[str, Moment], Any]
"""The value of a root name in a moment; raises `LookupError`."""


def predict(definition: Definition, input: Mapping[str, Any], seen: Seen) -> Prediction:
    """Say what must have happened by now."""
    return _Reference(definition, input, seen).run()


class _Reference:
    def __init__(self, definition: Definition, input: Mapping[str, Any], seen: Seen) -> None:
        self.definition = definition
        self.input = input
        self.seen = seen
        self.records: list[Record] = []
        self.lenient: list[tuple[str, Moment]] = []

    def run(self) -> Prediction:
        undos: list[Undo] = []
        ended = self.body(self.definition.body, "", self.outermost, 0, undos)
        when = ended.when
        if ended.error is not None and when < NEVER:
            when = self.undo(undos, when)
        outcome = None
        if when < NEVER:
            outcome = ("completed", ended.output) if ended.error is None else ("failed", ended.error.data["message"])
        records = [one for one in self.records if one.when < NEVER]
        return Prediction(records, outcome, when, self.lenient)

    def outermost(self, root: str, when: Moment) -> Any:
        if root == "input":
            return self.input
        return self.input[root]

    def record(self, kind: str, path: str, when: Moment, what: Any = None) -> None:
        self.records.append(Record(kind, path, when, what))

    # -- a body -----------------------------------------------------------------------------------------------------

    def body(self, body: BodyDef, scope: str, around: Names, begins: Moment, undos: list[Undo]) -> Ended:
        """What becomes of an instance of a body that begins then."""
        if begins == NEVER:
            return Ended(NEVER)
        first = len(self.records)
        own_undos: list[Undo] = []
        outputs: dict[str, list[tuple[Moment, Any]]] = {}

        def names(root: str, when: Moment) -> Any:
            known = [output for at, output in outputs.get(root, ()) if at <= when]
            if known:
                return known[-1]
            if root in body.nodes:
                raise LookupError(root)
            return around(root, when)

        tokens: dict[int, list[tuple[Moment, bool]]] = {}
        failures: list[tuple[Moment, Error]] = []
        spans: dict[str, tuple[int, int, Moment]] = {}  # of a node: its records, and when nothing of it moves any more
        stranded: list[str] = []
        for node in _in_order(body):
            began = len(self.records)
            ins = [(number, edge) for number, edge in enumerate(body.edges) if edge.target == node.id]
            fires, skips = [begins], []
            if ins:
                fires, skips, is_stranded = _join(node, [(edge, tokens.get(number, [])) for number, edge in ins])
                if node.join.kind == "general":  # nothing under way can still reach it
                    rest = max(over for id, (_, _, over) in spans.items() if _leads(body, id, node.id))
                    fires, skips = [max(rest, when) for when in fires], [max(rest, when) for when in skips]
                if is_stranded:
                    stranded.append(node.id)
                if node.join.rest == "cancel" and fires:
                    for victim in _victims(body, node.id):
                        begin, end, over = spans[victim]
                        self.cut(begin, end, fires[0], scope)
                        spans[victim] = (begin, end, min(over, fires[0]))
                        stranded = [id for id in stranded if id != victim]
                        failures = [one for one in failures if one[1].data.get("node") != victim or one[0] <= fires[0]]
            lefts = []
            for number, when in enumerate(fires):
                path = f"{scope}{node.id}#{number + 1}"
                left = self.fire(node, path, scope, number + 1, when, names, own_undos)
                if left.error is not None:
                    failures.append((left.when, left.error))
                    left = Left(NEVER)
                if left.when < NEVER and left.ports:
                    outputs.setdefault(node.id, []).append((left.when, left.output))
                lefts.append(left)
            outputs.get(node.id, []).sort(key=lambda one: one[0])
            for when in skips:
                self.record("skipped", f"{scope}{node.id}#{len(fires) + 1}", when)
                lefts.append(Left(when))
            for number, edge in enumerate(body.edges):
                if edge.source == node.id:
                    tokens[number] = sorted(token for left in lefts for token in _tokens(node, edge, left))
            spans[node.id] = (began, len(self.records), max([begins, *(left.when for left in lefts)]))
        return self.end(body, scope, begins, undos, own_undos, first, failures, spans, stranded, names)

    def end(
        self,
        body: BodyDef,
        scope: str,
        begins: Moment,
        undos: list[Undo],
        own_undos: list[Undo],
        first: int,
        failures: list[tuple[Moment, Error]],
        spans: Mapping[str, tuple[int, int, Moment]],
        stranded: list[str],
        names: Names,
    ) -> Ended:
        """It fails with the first failure once what is under way has ended; else it ends when nothing moves."""
        rest = max([begins, *(over for _, _, over in spans.values())])
        fails = min((when for when, _ in failures), default=NEVER)
        if fails < NEVER:
            error = next(error for when, error in failures if when == fails)
            own_undos = _undos_by(fails, own_undos)
            when = self.stop(first, scope, fails, own_undos)
            undos += [one for one in own_undos if one.when <= when]
            return Ended(when, error=error)
        undos += own_undos
        if rest < NEVER and stranded:
            error = _error("GraphStranded", "these joins wait for what can never come")
            return Ended(rest, error=error.inside(stranded[0] if len(stranded) == 1 else Text()))
        return Ended(rest, _result(body, names, rest) if rest < NEVER else None)

    def stop(self, first: int, scope: str, when: Moment, undos: Sequence[Undo] = ()) -> Moment:
        """Nothing begins any more inside a scope; when has what is under way in it come to its end?

        What undoes it comes after that, but for scopes inside, which undo their own things before they end.
        """
        self.cut(first, len(self.records), when, scope)
        if when == NEVER:
            return NEVER
        under_way = {path for path in self.seen.begun if path.startswith(scope)}
        under_way -= {path for path in under_way for one in _undos_by(when, undos) if path.startswith(one.scope)}
        ends = sorted({when, *(self.seen.closed[path] for path in under_way if path in self.seen.closed)})
        for end in ends:
            mine = [path for path in under_way if self.seen.begun[path] <= end]
            if end >= when and all(self.seen.closed.get(path, NEVER) <= end for path in mine):
                return end
        return NEVER

    def cut(self, begin: int, end: int, when: Moment, scope: str) -> None:
        """Of these records those after a moment never came to be, and those of the moment itself may not have."""
        if when == NEVER:
            return
        for number in range(begin, end):
            one = self.records[number]
            if one.when > when:
                self.records[number] = replace(one, when=NEVER, sure=False)
            elif one.when == when:
                self.records[number] = replace(one, sure=False)
        self.lenient.append((scope, when))

    # -- a node -----------------------------------------------------------------------------------------------------

    def fire(
        self, node: NodeDef, path: str, scope: str, occurrence: int, when: Moment, names: Names, undos: list[Undo]
    ) -> Left:
        """What becomes of a node that is to run then."""
        if when == NEVER:
            return Left(NEVER)
        if node.has_condition and not _is_true(_rendered(node.condition, names, when)):
            self.record("skipped", path, when)
            return Left(when)
        if "delay" in node.options:
            when = self.wait(path.replace(f"{node.id}#", f"{node.id}.delay#"), when, node.options["delay"])
            if when == NEVER:
                return Left(NEVER)
        inside = f"{scope}{node.id}" if occurrence == 1 else f"{scope}{node.id}#{occurrence}"
        left = getattr(self, f"_{node.type}")(node, path, inside, when, names, undos)
        if left.error is not None:
            error = left.error.inside(node.id)
            wired = any(edge.source == node.id and edge.port == "error" for edge in self._edges_beside(node))
            how = node.options.get("on_error", "fail")
            if wired or how == "port":
                return Left(left.when, ("error",), {"error": error.data})
            if how == "continue":
                return Left(left.when, ("out",), {"error": error.data})
            return Left(left.when, error=error)
        if "compensate" in node.bodies and left.when < NEVER:
            own = {node.id: left.output}
            undos.append(Undo(left.when, node, f"{inside}.compensate:1/", _with(own, names)))
        return left

    def _edges_beside(self, node: NodeDef) -> tuple[EdgeDef, ...]:
        return next(body.edges for body in _bodies(self.definition.body) if body.nodes.get(node.id) is node)

    def wait(self, path: str, when: Moment, length: object) -> Moment:
        self.record("wait", path, when, micros(length, "a wait"))  # type: ignore[arg-type]  # a duration
        return self.seen.ended.get(path, (NEVER, None))[0]

    def _task(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        inputs = _rendered(node.settings.get("inputs") or {}, names, when)
        self.record("step", path, when, (node.settings["task"], inputs))
        ended, outcome = self.seen.ended.get(path, (NEVER, None))
        return Left(ended, error=outcome) if isinstance(outcome, Error) else Left(ended, ("out",), outcome)

    def _wait(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        return Left(self.wait(path, when, node.settings["for"]), ("out",))

    def passed(self, path: str, when: Moment, output: object, *ports: str) -> Left:
        self.record("passed", path, when, (ports, output))
        return Left(when, ports, output)

    def _noop(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        return self.passed(path, when, None, "out")

    def _condition(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        holds = _is_true(_rendered(node.settings["when"], names, when))
        return self.passed(path, when, holds, "true" if holds else "false")

    def _switch(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        value = _rendered(node.settings["value"], names, when)
        cases = node.settings["cases"]
        shown = msgspec.json.encode(value)  # as JSON 1 and true are two things
        fits = [
            port
            for port, wanted in cases.items()
            if shown in map(msgspec.json.encode, wanted if isinstance(wanted, list) else [wanted])
        ]
        port = fits[0] if fits else "default"
        return self.passed(path, when, port, port)

    def _router(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        routes = node.settings["routes"]
        taken = [port for port, rule in routes.items() if _is_true(_rendered(rule, names, when))]
        return self.passed(path, when, taken, *(taken or ["default"]))

    def _fail(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        name = node.settings.get("type", "Failed")
        return Left(when, error=_error(name))

    # -- containers -------------------------------------------------------------------------------------------------

    def _loop(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        given = node.settings
        items = _rendered(given.get("foreach"), names, when)
        total = len(items) if items is not None else _rendered(given.get("for"), names, when)
        results: list[Any] = []
        index, last = 0, None
        while True:
            loop = {"index": index, "iteration": index + 1, "total": total, "last": last}
            if total is not None and index >= total:
                break
            if (
                "do_while" in given
                and index > 0
                and not _is_true(_rendered(given["do_while"], _with({"loop": loop}, names), when))
            ):
                break
            if given.get("max") is not None and index >= given["max"]:
                if given.get("on_max", "fail") == "fail":
                    return Left(when, error=_error("TooManyVisits"))
                break
            if given.get("interval") is not None and index > 0:
                when = self.wait(f"{inside}:{index + 1}/interval#1", when, given["interval"])
            locals: dict[str, Any] = {"loop": loop}
            if items is not None:
                locals = {"loop": {**loop, "item": items[index]}, "item": items[index]}
            ended = self.body(node.bodies["do"], f"{inside}:{index + 1}/", _with(locals, names), when, undos)
            if ended.error is not None or ended.when == NEVER:
                return Left(ended.when, error=ended.error)
            when, last, index = ended.when, ended.output, index + 1
            if given.get("collect", "all") == "all":
                results.append(last)
        return Left(when, ("out",), {"results": results, "iterations": index, "last": last})

    def _map(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        given = node.settings
        items = _rendered(given.get("items"), names, when)
        if isinstance(items, dict):
            items = [{"key": key, "value": value} for key, value in items.items()]
        if items is None:
            items = list(range(_rendered(given["count"], names, when)))
        room = given.get("concurrency") or len(items) + 1
        first = len(self.records)
        own_undos: list[Undo] = []
        ends: list[Ended] = []
        for index, item in enumerate(items):
            begins = when if index < room else sorted(one.when for one in ends)[index - room]
            own = {"index": index, "total": len(items), "item": item, "currentItem": item}
            locals = {"item": item, "map": own, "parallel": own}
            body = node.bodies["do"]
            ends.append(self.body(body, f"{inside}:{index + 1}/", _with(locals, names), begins, own_undos))
        errors = sorted((one.when, index) for index, one in enumerate(ends) if one.error is not None)
        tolerated = _tolerated(given.get("tolerate", 0), len(items))
        if len([1 for at, _ in errors if at < NEVER]) > tolerated:
            fails, _ = errors[tolerated]
            over = self.stop(first, f"{inside}:", fails, own_undos)
            undos += _undos_by(fails, own_undos)
            cause = ends[errors[0][1]].error
            assert cause is not None
            return Left(over, error=_error("MapFailed") if tolerated else cause)
        undos += own_undos
        over = max([when, *(one.when for one in ends)])
        results = [None if one.error is not None else one.output for one in ends]
        found = [{"index": index, "error": one.error.data} for index, one in enumerate(ends) if one.error is not None]
        counts = {"total": len(items), "succeeded": len(items) - len(found), "failed": len(found)}
        return Left(over, ("out",), {"results": results, "errors": found, **counts})

    def _parallel(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        if "do" in node.bodies:
            return self._map(node, path, inside, when, names, undos)
        branches = {name: body for name, body in node.bodies.items() if name != "compensate"}
        room = node.settings.get("concurrency") or len(branches)
        first = len(self.records)
        own_undos: list[Undo] = []
        ends: list[Ended] = []
        for index, (name, body) in enumerate(branches.items()):
            begins = when if index < room else sorted(one.when for one in ends)[index - room]
            ends.append(self.body(body, f"{inside}.{name}:1/", names, begins, own_undos))
        failed = [one for one in ends if one.error is not None and one.when < NEVER]
        if failed:
            earliest = min(failed, key=lambda one: one.when)
            undos += _undos_by(earliest.when, own_undos)
            return Left(self.stop(first, f"{inside}.", earliest.when, own_undos), error=earliest.error)
        undos += own_undos
        over = max([when, *(one.when for one in ends)])
        return Left(over, ("out",), {name: one.output for name, one in zip(branches, ends, strict=True)})

    def _try(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        ended = self.body(node.bodies["do"], f"{inside}.do:1/", names, when, undos)
        if ended.error is not None and ended.when < NEVER:
            for number, catch in enumerate(node.settings.get("catch") or []):
                errors = catch.get("errors", "*")
                wanted = [errors] if isinstance(errors, str) else errors
                if "*" in wanted or set(wanted) & set(ended.error.names):
                    locals = {"error": ended.error.data}
                    if catch.get("as"):
                        locals[catch["as"]] = ended.error.data
                    body = node.bodies[f"catch.{number}"]
                    ended = self.body(body, f"{inside}.catch.{number}:1/", _with(locals, names), ended.when, undos)
                    break
        if "finally" in node.bodies:
            last = self.body(node.bodies["finally"], f"{inside}.finally:1/", names, ended.when, undos)
            ended = Ended(last.when, ended.output, last.error or ended.error)
        return Left(ended.when, ("out",), ended.output, ended.error)

    def _scope(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        own: list[Undo] = []
        ended = self.body(node.bodies["do"], f"{inside}:1/", names, when, own)
        if node.settings.get("compensate", "auto") == "none":
            own = []
        if ended.error is None:
            if ended.when < NEVER:
                undos += [replace(one, when=ended.when, is_handed_on=True) for one in _by_time(own)]
            return Left(ended.when, ("out",), ended.output)
        return Left(self.undo(own, ended.when), error=ended.error)

    def undo(self, undos: Sequence[Undo], when: Moment) -> Moment:
        """Undo what was done, the last first; when is that over?"""
        for one in reversed(_by_time(undos)):
            when = self.body(one.node.bodies["compensate"], one.scope, one.names, when, []).when
        return when


def _undos_by(when: Moment, undos: Sequence[Undo]) -> list[Undo]:
    """Those that are there when things are stopped: a scope that is stopped hands nothing on any more."""
    return [one for one in undos if one.when <= when or not one.is_handed_on]


def _by_time(undos: Sequence[Undo]) -> list[Undo]:
    return sorted((one for one in undos if one.when < NEVER), key=lambda one: one.when)


# -- joins --------------------------------------------------------------------------------------------------------

Token = tuple[Moment, bool]


def _tokens(node: NodeDef, edge: EdgeDef, left: Left) -> list[Token]:
    """What an edge brings when its source is left: a token, live if it was left by the edge's port."""
    if left.when == NEVER:
        return []
    live = edge.port in left.ports
    return [(left.when, live)] * (node.options.get("split", 1) if live else 1)


def _join(node: NodeDef, ins: list[tuple[EdgeDef, list[Token]]]) -> tuple[list[Moment], list[Moment], bool]:
    """When a node fires, when it is skipped, and whether live tokens wait at it for what has not come."""
    kind = node.join.kind or "all"
    lives = sorted(when for _, tokens in ins for when, live in tokens if live)
    told = all(tokens for _, tokens in ins)
    last = max((tokens[0][0] for _, tokens in ins if tokens), default=NEVER) if told else NEVER
    if kind in ("all", "all_strict", "general"):
        rounds = min(len(tokens) for _, tokens in ins)
        needed = len(ins) if kind == "all_strict" else 1
        fires, skips = [], []
        for number in range(rounds):
            once = [tokens[number] for _, tokens in ins]
            when = max(at for at, _ in once)
            (fires if sum(live for _, live in once) >= needed else skips).append(when)
        left = any(live for _, tokens in ins for _, live in tokens[rounds:])
        return fires, skips, left
    if kind == "any":
        return (lives[:1], [], False) if lives else ([], [last] if told else [], False)
    if kind == "each":
        return (lives, [], False) if lives else ([], [last] if told else [], False)
    if kind == "first":
        count = max(1, node.join.count)
        if len(lives) >= count:
            return [lives[count - 1]], [], False
        return [], [last] if told else [], False
    if kind == "threads":
        fires = [lives[number] for number in range(node.join.count - 1, len(lives), node.join.count)]
        left = bool(len(lives) % node.join.count)
        return fires, [last] if told and not lives else [], left
    assert kind == "when"
    for when in sorted({at for _, tokens in ins for at, _ in tokens}):
        if _holds(node.join.when, ins, when):
            return [when], [], False
    return [], [last] if told else [], False


def _holds(rule: Any, ins: list[tuple[EdgeDef, list[Token]]], when: Moment) -> bool:
    """A condition over `edges`: {"==": [{"var": "edges.a"}, "live"]}, several of them by and, or."""
    ((operator, given),) = rule.items()
    if operator in ("and", "or"):
        return (all if operator == "and" else any)(_holds(one, ins, when) for one in given)
    assert operator == "=="
    source = given[0]["var"].removeprefix("edges.")
    states = [_state(tokens, when) for edge, tokens in ins if source in (edge.source, f"{edge.source}:{edge.port}")]
    found = "live" if "live" in states else "pending" if "pending" in states else "dead"
    return bool(found == given[1])


def _state(tokens: list[Token], when: Moment) -> str:
    told = [live for at, live in tokens if at <= when]
    return "pending" if not told else "live" if told[-1] else "dead"


# -- shapes -------------------------------------------------------------------------------------------------------


def _in_order(body: BodyDef) -> list[NodeDef]:
    """The nodes, each after all from which an edge leads to it."""
    done: dict[str, NodeDef] = {}
    while len(done) < len(body.nodes):
        for node in body.nodes.values():
            sources = {edge.source for edge in body.edges if edge.target == node.id}
            if node.id not in done and sources <= done.keys():
                done[node.id] = node
    return list(done.values())


def _victims(body: BodyDef, join: str) -> list[str]:
    """The nodes from which every path leads to the join, and some does."""

    def leads(id: str) -> bool:
        targets = [edge.target for edge in body.edges if edge.source == id]
        return bool(targets) and all(target == join or leads(target) for target in targets)

    return [id for id in body.nodes if leads(id)]


def _leads(body: BodyDef, source: str, target: str) -> bool:
    """Whether there is a way from one node to another."""
    targets = [edge.target for edge in body.edges if edge.source == source]
    return any(one == target or _leads(body, one, target) for one in targets)


def _bodies(body: BodyDef) -> list[BodyDef]:
    return [body, *(one for node in body.nodes.values() for inner in node.bodies.values() for one in _bodies(inner))]


def _result(body: BodyDef, names: Names, when: Moment) -> Any:
    """What a body says itself; else the output of its last node, or of each of them that ran, by id."""
    if body.has_result:
        return _rendered(body.result, names, when)
    handlers: set[str] = set()
    for node in _in_order(body):
        ins = [edge for edge in body.edges if edge.target == node.id]
        if ins and all(edge.port in ("error", "timeout") or edge.source in handlers for edge in ins):
            handlers.add(node.id)
    last = [
        id for id in body.nodes if all(edge.port in ("error", "timeout") for edge in body.edges if edge.source == id)
    ]
    sinks = [id for id in last if id not in handlers] or last
    found = {}
    for id in sinks:
        try:
            found[id] = names(id, when)
        except LookupError:
            continue
    return found.get(sinks[0]) if len(sinks) == 1 else found


# -- values -------------------------------------------------------------------------------------------------------

_TEMPLATE = re.compile(r"\{\{ (.*) \}\}", re.DOTALL)
_KEY = re.compile(r"\.([\w-]+)|\[(\d+)\]")


def _with(locals: Mapping[str, Any], around: Names) -> Names:
    return lambda root, when: locals[root] if root in locals else around(root, when)


def _rendered(source: Any, names: Names, when: Moment) -> Any:
    """Data with templates that are whole texts: `{{ path ?? path ?? literal }}`."""
    if isinstance(source, dict):
        if len(source) == 1 and next(iter(source)) == "<":
            left, right = source["<"]
            return _rendered(f"{{{{ {left['var']} }}}}", names, when) < right
        return {key: _rendered(one, names, when) for key, one in source.items()}
    if isinstance(source, list):
        return [_rendered(one, names, when) for one in source]
    whole = _TEMPLATE.fullmatch(source) if isinstance(source, str) else None
    if whole is None:
        return source
    for operand in whole[1].split(" ?? "):
        found = _looked_up(operand, names, when)
        if found is not None:
            return found
    return None


def _looked_up(operand: str, names: Names, when: Moment) -> Any:
    try:
        return msgspec.json.decode(operand)
    except msgspec.DecodeError:
        pass
    root = re.match(r"[\w-]+", operand)
    assert root is not None, operand
    try:
        value = names(root[0], when)
        for name, number in _KEY.findall(operand[root.end() :]):
            value = value[name] if name else value[int(number)]
    except (LookupError, TypeError):
        return None
    return value


def _is_true(value: Any) -> bool:
    return bool(value)


def _tolerated(tolerate: int | str, total: int) -> int:
    return tolerate if isinstance(tolerate, int) else int(float(tolerate.strip(" %")) * total / 100)


def _error(name: str, beginning: str = "") -> Error:
    return Error((name,), {"type": name, "message": Text(beginning), "timed_out": False})
