"""Second stage: what does each name in an expression mean, and is it sure to be there?

A name is first one that the container around the body gives (`item`, `loop`, …), then a node of the body, then what it
means where the container stands, and so on outwards; last of all what is there everywhere: `input`, `var`, `env` and
the like, and the input's own fields.

A node that is referred to must be *certain* where the reference is looked up (`graph.certain` has the rule), or the
reference must say what to take instead, with `??`; and edges must lead from it to there in any case, since otherwise
the two run in no order and the value depends on which is faster. After an error port `<node>.error` is there. In the
condition of a `join` nothing is certain yet. The condition of a loop's `while` is looked at before the body has run;
that of `do_while`, and the result of a body, when it has come to its end. What undoes a node sees that node's output.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain

import msgspec

from stepwell.expressions.names import Reference
from stepwell.expressions.templates import Value
from stepwell.graph.certain import Certain, upstream
from stepwell.graph.cover import Cover
from stepwell.graph.definition import NodeDef
from stepwell.graph.homes import Homes
from stepwell.graph.problems import Place
from stepwell.graph.reach import Reached
from stepwell.graph.roots import COMPENSATE, EDGES, NODES, Around, check_fields, check_outermost, given_to, node_of
from stepwell.graph.saying import Say
from stepwell.graph.uses import Compiled, Moment, Use, compile_node, compile_result
from stepwell.nodes.protocol import ERROR


class Scoped(msgspec.Struct, frozen=True):
    """A body whose expressions are compiled and checked.

    `readers` says of each node whose output is looked up by which nodes, what is in these included; -1 stands for what
    is done at the end of the body, or later.
    """

    reached: Reached
    compiled: tuple[Compiled, ...]
    result: Value | None
    readers: Mapping[int, frozenset[int]]
    bodies: tuple[Mapping[str, Scoped], ...]


def scope(reached: Reached, known: Around, homes: Homes, say: Say, *, result_at: Place | None = None) -> Scoped:
    """Compile and check all expressions of a body, and of the bodies in it."""
    scoping = _Scoping(known, homes, say)
    scoped, free = scoping.body(reached, frozenset(), (), result_at or reached.body.place)
    for use in free:
        scoping.outermost(use, reached)
    return scoped


class _Scoping:
    def __init__(self, known: Around, homes: Homes, say: Say) -> None:
        self.known = known
        self.homes = homes
        self.say = say
        self._ids: dict[object, Collection[str]] = {}

    def body(
        self, reached: Reached, given: frozenset[str], more: Sequence[Use], place: Place
    ) -> tuple[Scoped, list[Use]]:
        """One body, and the lookups in it that are of what is around it; `more` are those that its container makes."""
        self._ids[reached.where] = reached.by_id
        checks = _Checks(reached, self.known.lenient, self.say)
        free: list[Use] = []
        compiled, bodies = [], []
        for index, node in enumerate(reached.nodes):
            found = compile_node(node, reached.types[index], reached.where, self.say)
            inner, uses = self._bodies(reached.bodies[index], node, found.inside)
            compiled.append(found)
            bodies.append(inner)
            for use in (*found.uses, *uses):
                self._sort(use, index, reached, given, checks, free)
        result, uses = compile_result(reached.body, reached.where, place, self.say)
        for use in (*uses, *more):
            self._sort(use, -1, reached, given, checks, free)
        checks.run()
        return Scoped(reached, tuple(compiled), result, _frozen(checks.readers), tuple(bodies)), free

    def _bodies(
        self, bodies: Mapping[str, Reached], node: NodeDef, inside: Sequence[Use]
    ) -> tuple[Mapping[str, Scoped], list[Use]]:
        if not bodies:
            return {}, list(inside)
        scoped: dict[str, Scoped] = {}
        free: list[Use] = []
        for name, reached in bodies.items():
            more = inside if name == "do" else ()
            scoped[name], uses = self.body(reached, given_to(node, name), more, node.at("do.result"))
            moment: Moment = "undo" if name == COMPENSATE else "fire"
            free += [msgspec.structs.replace(use, moment=moment, forgives=False) for use in uses]
        return scoped, free

    def _sort(
        self, use: Use, index: int, reached: Reached, given: frozenset[str], checks: _Checks, free: list[Use]
    ) -> None:
        """Find out what a lookup is of: what the container gives, a node of this body, or something around it."""
        root = use.reference.root
        if root in given:
            check_fields(use, self.say)
            return
        if root == EDGES and use.moment == "join" and index >= 0:
            checks.edges(use, index)
            return
        id, path = node_of(use.reference)
        if id is None:
            self.say.error("unknown-name", use.place, f"{use.text}: which node?", 'write `nodes["id"]`')
        elif id in reached.by_id:
            checks.add(use, reached.by_id[id], index, path)
        else:
            free.append(use)

    def outermost(self, use: Use, reached: Reached) -> None:
        """A lookup that no body had an answer to."""
        id, _ = node_of(use.reference)
        if use.reference.root == NODES and id in self.known.names:
            return
        home = self.homes.elsewhere(id or "", use.where)
        if not home or use.reference.root in self.known.names:
            if use.reference.root == NODES:
                hint = self.say.meant(id, self._ids.get(use.where, ()))
                self.say.error("unknown-name", use.place, f"{use.text}: there is no node {id!r} here", hint)
            else:
                near = chain(self._ids.get(use.where, ()), reached.by_id)  # looked at only when a name is unknown
                check_outermost(use, self.known, near, self.say)
            return
        holder = self.homes.holder(id or "", use.where)
        hint = f"refer to {holder!r}, whose output has what its body gives" if holder else "names end at a container"
        message = f"{use.text}: the node {id!r} stands {home}, and cannot be seen from here"
        self.say.error("outside-container", use.place, message, hint)


def _alternatives(use: Use) -> Sequence[Reference]:
    """The lookups of which one must find something: all of a chain of `??` that ends with this one."""
    is_chain = use.reference.before and use.moment in ("fire", "end")
    return (*use.reference.before, use.reference) if is_chain else ()


def _frozen(readers: Mapping[int, set[int]]) -> Mapping[int, frozenset[int]]:
    return {node: frozenset(found) for node, found in readers.items()}


class _Checks:
    """The lookups of nodes in one body."""

    def __init__(self, reached: Reached, lenient: bool, say: Say) -> None:
        self.reached = reached
        self.lenient = lenient
        self.say = say
        self.readers: dict[int, set[int]] = {}
        self._at: dict[int, list[tuple[int, Use, tuple[str | int, ...]]]] = {}

    def add(self, use: Use, node: int, at: int, path: tuple[str | int, ...]) -> None:
        """A lookup of `node`, made at another one (-1: at the body's end)."""
        self.readers.setdefault(node, set()).add(-1 if use.moment == "undo" else at)
        self._check_field(use, node, path)
        if use.moment == "undo" and node == at:
            return
        self._at.setdefault(at, []).append((node, use, path))

    def _check_field(self, use: Use, node: int, path: tuple[str | int, ...]) -> None:
        type, options = self.reached.types[node], self.reached.nodes[node].options
        if type is None or not type.fields or not path or path[0] in (*type.fields, ERROR) or "mock" in options:
            return
        hint = self.say.meant_or_listed(path[0], type.fields, "there are")
        message = f"{use.text}: the output of {self.reached.name(node)}, a {type.name}, has no {path[0]!r}"
        self.say.error("unknown-field", use.place, message, hint)

    def edges(self, use: Use, at: int) -> None:
        """A lookup of an in-edge's state, by its source or by source and port."""
        links = [self.reached.links[number] for number in self.reached.ins[at]]
        names = [self.reached.name(link.source) for link in links]
        names += [f"{self.reached.name(link.source)}:{link.port}" for link in links]
        path = use.reference.path
        if path and path[0] not in names:
            hint = self.say.meant_or_listed(path[0], names, "there are")
            self.say.error("unknown-name", use.place, f"{use.text}: no edge from {path[0]!r} leads here", hint)

    def run(self) -> None:
        """Check them all, with joins on the way."""
        certain = Certain(self.reached, set(self.readers))
        unsure: list[tuple[int, int, Use, int]] = []
        failed: set[tuple[int, int]] = set()
        for node, facts in certain.sweep(self.say):
            for target, use, path in self._at.get(node, ()):
                if use.moment == "join" or not self._is_there(certain, facts, target, node, use, path):
                    unsure.append((target, node, use, facts if use.reference.before else 0))
                    if certain.has_failed(facts, target):
                        failed.add((target, node))
        cover = Cover(self.reached, certain)
        leading = upstream(self.reached, {(target, node) for target, node, _, _ in unsure if target != node})
        for target, node, use, facts in unsure:
            has_failed = (target, node) in failed
            if self._is_before(target, node, use, leads=(target, node) in leading):
                through = cover.through(_alternatives(use))
                if not (through and cover.is_sure_at(node, facts, through)):
                    self._may_be_missing(target, node, use, has_failed=has_failed)
        for target, use, path in self._at.get(-1, ()):
            through = cover.through(_alternatives(use))
            if not (through and cover.is_sure_in_the_end(through)):
                self._at_end(certain, target, use, path)
        self._responses(certain)

    def _is_there(
        self, certain: Certain, facts: int, target: int, node: int, use: Use, path: tuple[str | int, ...]
    ) -> bool:
        if certain.is_done(facts, target, node):
            return not self._is_soft(target, path) or use.reference.defaulted
        return certain.has_failed(facts, target) and path[:1] == (ERROR,)

    def _is_soft(self, target: int, path: tuple[str | int, ...]) -> bool:
        """Whether a node that has failed goes on by `out`, so that what is wanted of its output may not be there."""
        return bool(path) and self.reached.nodes[target].options.get("on_error") == "continue"

    def _is_before(self, target: int, node: int, use: Use, *, leads: bool) -> bool:
        """Whether the node that is looked up comes before the other one, as it must."""
        id, here = self.reached.name(target), self.reached.name(node)
        if target == node:
            if self.reached.cycle[node] < 0:
                self._say("not-upstream", use, f"{id} has no output while it runs", "refer to a node before it")
                return False
        elif not leads:
            message = f"no edge leads from {id} to {here}, so it may not have run yet"
            self._say("not-upstream", use, message, f"let {here} need {id!r}")
            return False
        return True

    def _may_be_missing(self, target: int, node: int, use: Use, *, has_failed: bool) -> None:
        if use.reference.defaulted or use.forgives:
            return
        if has_failed:
            id, here = self.reached.name(target), self.reached.name(node)
            message = f"{id} has failed where {here} runs, and has only `{id}.error`"
            self._say("may-be-missing", use, message, f"read {id} after its `out`")
            return
        reason = "nothing is certain while a join decides" if use.moment == "join" else self._reason(target, node, use)
        self._say("may-be-missing", use, reason, "say what to take instead: `?? …`")

    def _reason(self, target: int, node: int, use: Use) -> str:
        definition = self.reached.nodes[target]
        id, here = definition.id, self.reached.name(node)
        wired = {self.reached.links[number].port for number in self.reached.outs[target]}
        if definition.options.get("on_error") == "continue":
            return f"{id} may have failed when {here} runs, and then has only `{id}.error`"
        if wired & {ERROR, "timeout"} and use.reference.path[:1] != (ERROR,):
            return f"{id} may have failed or been skipped when {here} runs"
        is_join = len(self.reached.ins[node]) > 1
        if is_join and self.reached.join_of(node) in ("any", "first", "each", "threads", "when"):
            return f"{here} does not wait for all that comes before it, so {id} may not have run"
        return f"{id} may have been skipped when {here} runs"

    def _at_end(self, certain: Certain, target: int, use: Use, path: tuple[str | int, ...]) -> None:
        if use.reference.defaulted or use.forgives:
            return
        id = self.reached.name(target)
        if use.moment == "before":
            message = f"`while` is looked at before the body has run, and {id} has no output then"
            self._say("may-be-missing", use, message, "say what to take instead: `?? …`, or use `do_while`")
        elif not certain.is_done_at_end(target) or self._is_soft(target, path):
            message = f"{id} may have been skipped or have failed when the body has ended"
            self._say("may-be-missing", use, message, "say what to take instead: `?? …`")

    def _say(self, code: str, use: Use, message: str, hint: str) -> None:
        say = self.say.warning if self.lenient else self.say.error
        say(code, use.place, f"{use.text}: {message}", hint)

    def _responses(self, certain: Certain) -> None:
        """Only the first answer of a run counts."""
        found = [index for index, node in enumerate(self.reached.nodes) if node.type == "respond"]
        for place, node in enumerate(found[1:20], 1):
            for other in found[:place]:
                if not certain.exclude_each_other(other, node):
                    message = f"{self.reached.name(node)} may answer after {self.reached.name(other)} has"
                    hint = "only the first answer of a run counts"
                    self.say.warning("responds-twice", self.reached.nodes[node].place, message, hint)
                    break
