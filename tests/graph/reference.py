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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from reference_rules import (
    NEVER,
    Error,
    Failed,
    Moment,
    Names,
    Text,
    Token,
    bodies,
    error_named,
    firings,
    in_order,
    is_true,
    leads,
    rendered,
    result_of,
    tolerated,
    victims,
    with_locals,
)

from stepwell.graph.definition import BodyDef, Definition, EdgeDef, NodeDef
from stepwell.model.durations import micros

# -- what was seen, and what is told ------------------------------------------------------------------------------


@dataclass
class Seen:
    """Steps and waits by readable path: when they began, when and how they ended (an output, or an `Error`).

    `closed` has those too that were cancelled or withdrawn. `left` are the nodes without an attempt that were left by
    some port: it is asked only where either of two orders is right.
    """

    begun: dict[str, int] = field(default_factory=dict)
    ended: dict[str, tuple[int, Any]] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)


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
    """What must have happened: records, how the run has ended (None: it has not), and in which moment.

    From `unsure_from` on nothing is told: what stands under `finally` in a node that was cancelled has failed.
    """

    records: list[Record]
    outcome: tuple[str, Any] | None
    when: Moment
    lenient: list[tuple[str, Moment]]
    unsure_from: Moment


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


def predict(definition: Definition, input: Mapping[str, Any], seen: Seen) -> Prediction:
    """Say what must have happened by now."""
    return _Reference(definition, input, seen).run()


@dataclass(frozen=True)
class _Span:
    """A node's records, from `first` to before `last`; when it first began, and when nothing of it moves any more."""

    first: int
    last: int
    begun: Moment
    over: Moment


@dataclass
class _Instance:
    """An instance of a body, as far as it has been followed: node by node, each to its end."""

    body: BodyDef
    scope: str
    around: Names
    begins: Moment
    first: int
    tokens: dict[int, list[Token]] = field(default_factory=dict)
    outputs: dict[str, list[tuple[Moment, Any, str]]] = field(default_factory=dict)
    spans: dict[str, _Span] = field(default_factory=dict)
    failures: list[tuple[Moment, Error]] = field(default_factory=list)
    stranded: list[str] = field(default_factory=list)
    undos: list[Undo] = field(default_factory=list)

    def names(self, root: str, when: Moment) -> Any:
        """The last output that a node of it had by then, or what stands around it."""
        known = [output for at, output, _ in self.outputs.get(root, ()) if at <= when]
        if known:
            return known[-1]
        if root in self.body.nodes:
            raise LookupError(root)
        return self.around(root, when)


class _Reference:
    def __init__(self, definition: Definition, input: Mapping[str, Any], seen: Seen) -> None:
        self.definition = definition
        self.input = input
        self.seen = seen
        self.records: list[Record] = []
        self.lenient: list[tuple[str, Moment]] = []
        self.unsure_from: Moment = NEVER

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
        return Prediction(records, outcome, when, self.lenient, self.unsure_from)

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
        here = _Instance(body, scope, around, begins, len(self.records))
        for node in in_order(body):
            first = len(self.records)
            fires, skips = self.join(node, here)
            lefts = []
            for number, when in enumerate(fires, 1):
                path = f"{scope}{node.id}#{number}"
                left = self.fire(node, path, scope, number, when, here.names, here.undos)
                if left.error is not None:
                    here.failures.append((left.when, left.error))
                    left = Left(NEVER)
                if left.when < NEVER and left.ports:
                    here.outputs.setdefault(node.id, []).append((left.when, left.output, path))
                lefts.append(left)
            here.outputs.get(node.id, []).sort(key=lambda one: one[0])
            for when in skips:
                self.record("skipped", f"{scope}{node.id}#{len(fires) + 1}", when)
                lefts.append(Left(when))
            for number, edge in enumerate(body.edges):
                if edge.source == node.id:
                    here.tokens[number] = sorted(token for left in lefts for token in _tokens(node, edge, left))
            over = max([begins, *(left.when for left in lefts)])
            here.spans[node.id] = _Span(first, len(self.records), min(fires, default=NEVER), over)
        return self.end(here, undos)

    def join(self, node: NodeDef, here: _Instance) -> tuple[list[Moment], list[Moment]]:
        """When a node fires, and when it is skipped."""
        ins = [(edge, here.tokens[number]) for number, edge in enumerate(here.body.edges) if edge.target == node.id]
        if not ins:
            return [here.begins], []
        if node.join.kind == "general" and any(live for _, tokens in ins for _, live in tokens):
            # From where no token ever comes, since a join before it waits in vain, nothing can reach it either.
            ins = [(edge, tokens or [(here.begins, False)]) for edge, tokens in ins]
        fires, skips, is_stranded = firings(node, ins)
        if node.join.kind == "general":  # nothing under way can still reach it
            rest = max(span.over for id, span in here.spans.items() if leads(here.body, id, node.id))
            fires, skips = [max(rest, when) for when in fires], [max(rest, when) for when in skips]
        if is_stranded:
            here.stranded.append(node.id)
        if node.join.rest == "cancel" and fires:
            for victim in victims(here.body, node.id):
                self.overtake(victim, fires[0], here)
        return fires, skips

    def overtake(self, victim: str, when: Moment, here: _Instance) -> None:
        """A node is cancelled then, which has been followed further than that."""
        span = here.spans[victim]
        self.cut(span.first, span.last, when, here.scope)
        if span.over > when:
            own = tuple(f"{here.scope}{victim}{mark}" for mark in "#:.")
            here.spans[victim] = replace(span, over=self.rest(when, lambda path: path.startswith(own)))
            for path, (ended, outcome) in self.seen.ended.items():
                if isinstance(outcome, Error) and ended >= when and path.startswith(own) and ".finally:" in path:
                    self.unsure_from = min(self.unsure_from, ended)
        known = self.seen.left | self.seen.ended.keys()
        outputs = here.outputs.get(victim, [])
        here.outputs[victim] = [one for one in outputs if one[0] < when or (one[0] == when and one[2] in known)]
        here.failures = [one for one in here.failures if one[1].data.get("node") != victim or one[0] <= when]
        if span.begun > when:  # it never runs, so nothing waits for it
            here.stranded = [id for id in here.stranded if id != victim]

    def end(self, here: _Instance, undos: list[Undo]) -> Ended:
        """It fails with the first failure once what is under way has ended; else it ends when nothing moves."""
        rest = max([here.begins, *(span.over for span in here.spans.values())])
        fails = min((when for when, _ in here.failures), default=NEVER)
        if fails < NEVER:
            error = next(error for when, error in here.failures if when == fails)
            own = _undos_by(fails, here.undos)
            when = self.stop(here.first, here.scope, fails, own)
            undos += [one for one in own if one.when <= when]
            return Ended(when, error=error)
        undos += here.undos
        if rest < NEVER and here.stranded:
            self.lenient.append((here.scope, rest))  # a `general` join may be skipped before that is seen
            error = error_named("GraphStranded", "these joins wait for what can never come")
            return Ended(rest, error=error.inside(here.stranded[0] if len(here.stranded) == 1 else Text()))
        return Ended(rest, result_of(here.body, here.names, rest) if rest < NEVER else None)

    def stop(self, first: int, scope: str, when: Moment, undos: Sequence[Undo] = ()) -> Moment:
        """Nothing begins any more inside a scope; when has what is under way in it come to its end?

        What undoes it comes after that, but for scopes inside, which undo their own things before they end.
        """
        self.cut(first, len(self.records), when, scope)
        undoing = tuple(one.scope for one in _undos_by(when, undos))
        return self.rest(when, lambda path: path.startswith(scope) and not path.startswith(undoing))

    def rest(self, when: Moment, is_meant: Callable[[str], bool]) -> Moment:
        """When has what is under way at that moment come to its end, with what follows from its being stopped?"""
        if when == NEVER:
            return NEVER
        under_way = [path for path in self.seen.begun if is_meant(path)]
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
        if node.has_condition and not is_true(rendered(node.condition, names, when)):
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
                return Left(left.when, ("error",), Failed(error=error.data))
            if how == "continue":
                return Left(left.when, ("out",), {"error": error.data})
            return Left(left.when, error=error)
        if "compensate" in node.bodies and left.when < NEVER:
            own = {node.id: left.output}
            undos.append(Undo(left.when, node, f"{inside}.compensate:1/", with_locals(own, names)))
        return left

    def _edges_beside(self, node: NodeDef) -> tuple[EdgeDef, ...]:
        return next(body.edges for body in bodies(self.definition.body) if body.nodes.get(node.id) is node)

    def wait(self, path: str, when: Moment, length: object) -> Moment:
        self.record("wait", path, when, micros(length, "a wait"))  # type: ignore[arg-type]  # a duration
        return self.seen.ended.get(path, (NEVER, None))[0]

    def _task(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        inputs = rendered(node.settings.get("inputs") or {}, names, when)
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
        holds = is_true(rendered(node.settings["when"], names, when))
        return self.passed(path, when, holds, "true" if holds else "false")

    def _switch(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        value = rendered(node.settings["value"], names, when)
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
        taken = [port for port, rule in routes.items() if is_true(rendered(rule, names, when))]
        return self.passed(path, when, taken, *(taken or ["default"]))

    def _fail(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        name = node.settings.get("type", "Failed")
        return Left(when, error=error_named(name))

    # -- containers -------------------------------------------------------------------------------------------------

    def _loop(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        given = node.settings
        items = rendered(given.get("foreach"), names, when)
        total = len(items) if items is not None else rendered(given.get("for"), names, when)
        results: list[Any] = []
        index, last = 0, None
        while True:
            loop = {"index": index, "iteration": index + 1, "total": total, "last": last}
            if total is not None and index >= total:
                break
            if (
                "do_while" in given
                and index > 0
                and not is_true(rendered(given["do_while"], with_locals({"loop": loop}, names), when))
            ):
                break
            if given.get("max") is not None and index >= given["max"]:
                if given.get("on_max", "fail") == "fail":
                    return Left(when, error=error_named("TooManyVisits"))
                break
            if given.get("interval") is not None and index > 0:
                when = self.wait(f"{inside}:{index + 1}/interval#1", when, given["interval"])
            locals: dict[str, Any] = {"loop": loop}
            if items is not None:
                locals = {"loop": {**loop, "item": items[index]}, "item": items[index]}
            ended = self.body(node.bodies["do"], f"{inside}:{index + 1}/", with_locals(locals, names), when, undos)
            if ended.error is not None or ended.when == NEVER:
                return Left(ended.when, error=ended.error)
            when, last, index = ended.when, ended.output, index + 1
            if given.get("collect", "all") == "all":
                results.append(last)
        return Left(when, ("out",), {"results": results, "iterations": index, "last": last})

    def _map(self, node: NodeDef, path: str, inside: str, when: Moment, names: Names, undos: list[Undo]) -> Left:
        given = node.settings
        items = rendered(given.get("items"), names, when)
        if isinstance(items, dict):
            items = [{"key": key, "value": value} for key, value in items.items()]
        if items is None:
            items = list(range(rendered(given["count"], names, when)))
        room = given.get("concurrency") or len(items) + 1
        first = len(self.records)
        own_undos: list[Undo] = []
        ends: list[Ended] = []
        for index, item in enumerate(items):
            begins = when if index < room else sorted(one.when for one in ends)[index - room]
            own = {"index": index, "total": len(items), "item": item, "currentItem": item}
            locals = {"item": item, "map": own, "parallel": own}
            body = node.bodies["do"]
            ends.append(self.body(body, f"{inside}:{index + 1}/", with_locals(locals, names), begins, own_undos))
        errors = sorted((one.when, index) for index, one in enumerate(ends) if one.error is not None)
        most = tolerated(given.get("tolerate", 0), len(items))
        if len([1 for at, _ in errors if at < NEVER]) > most:
            fails, _ = errors[most]
            over = self.stop(first, f"{inside}:", fails, own_undos)
            undos += _undos_by(fails, own_undos)
            cause = ends[errors[0][1]].error
            assert cause is not None
            return Left(over, error=error_named("MapFailed") if most else cause)
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
                    ended = self.body(
                        body, f"{inside}.catch.{number}:1/", with_locals(locals, names), ended.when, undos
                    )
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


def _tokens(node: NodeDef, edge: EdgeDef, left: Left) -> list[Token]:
    """What an edge brings when its source is left: a token, live if it was left by the edge's port."""
    if left.when == NEVER:
        return []
    live = edge.port in left.ports
    return [(left.when, live)] * (node.options.get("split", 1) if live else 1)
