"""What does the engine run for a definition? A plan, made in four stages of pure functions: reach, scope, expand, wire.

Each stage takes what the one before it made and adds to it; none changes anything. All that is wrong is gathered on the
way and said at once; the last stage runs only when nothing is. The same definition gives an equal plan every time, and
the cost is in proportion to its nodes and edges.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from stepwell.errors import ExpressionError
from stepwell.expressions.templates import Value, compile_value
from stepwell.graph.definition import BodyDef, Definition
from stepwell.graph.expand import expand
from stepwell.graph.form import Types
from stepwell.graph.homes import Homes
from stepwell.graph.plan import Plan, PlanBody
from stepwell.graph.problems import Findings, Place
from stepwell.graph.reach import reach
from stepwell.graph.roots import Around, around, check_outermost
from stepwell.graph.saying import Say
from stepwell.graph.scope import scope
from stepwell.graph.tasks import Tasks
from stepwell.graph.uses import Use
from stepwell.graph.wire import wire
from stepwell.model.versions import version_text

_EARLY = ("input", "env", "secret", "run", "event")
"""What there is when a run's variables get their first values."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a body sees that is compiled by itself while a run is under way.

    `definition` is that of the run: its variables, environment, secrets, input and defaults hold. `names` are further
    names that stand for something: outputs of nodes, what containers give, the inputs of an expansion. `in_loop` says
    that there is a loop around it, which `break` would end.
    """

    definition: Definition
    names: Collection[str] = ()
    in_loop: bool = False


def compile_plan(
    definition: Definition, types: Types, tasks: Tasks | None, *, findings: Findings | None = None
) -> Plan:
    """Compile a definition.

    Args:
        definition: as parsed; what is wrong with its form should have been found before.
        types: the node types that there are.
        tasks: the tasks that there are; None when that is not known here: then task nodes get a warning.
        findings: what was found wrong before; everything that is found is added.

    Raises:
        InvalidDefinition: it cannot run; with all problems, and warnings.
    """
    findings = Findings() if findings is None else findings
    with _uncollected():
        return _plan(definition, types, tasks, findings)


def _plan(definition: Definition, types: Types, tasks: Tasks | None, findings: Findings) -> Plan:
    say = Say(findings)
    homes = Homes(definition.body)
    known = around(definition)
    variables = _variables(definition, known, say)
    reached = reach(definition.body, types, say, homes)
    scoped = scope(reached, known, homes, say, result_at=definition.places.get("result"))
    expanded = expand(scoped, definition.options.get("defaults") or {}, tasks, say)
    findings.check(definition.id)
    warnings = [problem for problem in findings.problems if problem.warning]
    return Plan(
        name=definition.id,
        version=version_text(definition.label, definition.digest),
        definition=definition,
        body=wire(expanded),
        vars=variables,
        on_failure=definition.on_failure,
        tasks=expanded.tasks,
        workflows=expanded.workflows,
        warnings=tuple(sorted(warnings, key=lambda one: (one.place.line, one.place.column))),
    )


def compile_body(
    body: BodyDef,
    surroundings: Surroundings,
    types: Types,
    tasks: Tasks | None,
    *,
    findings: Findings | None = None,
    source: str = "",
) -> PlanBody:
    """Compile a body by itself: a sub-graph that a task decided, or one that a patch changes.

    `source` is what errors call it; for the rest see `compile_plan`.

    Raises:
        InvalidDefinition: it cannot run; with all problems, and warnings.
    """
    findings = Findings() if findings is None else findings
    say = Say(findings)
    homes = Homes(body)
    definition = surroundings.definition
    known = around(definition, surroundings.names, (body,))
    reached = reach(body, types, say, homes, in_loop=surroundings.in_loop)
    scoped = scope(reached, known, homes, say)
    expanded = expand(scoped, definition.options.get("defaults") or {}, tasks, say)
    findings.check(source or "the sub-graph")
    return wire(expanded)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the garbage collector rest: all that a compilation makes stays, and looking it over again and again took
    two thirds of the time (10,000 nodes: 1.5 s with it, 0.6 s without)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _variables(definition: Definition, known: Around, say: Say) -> Mapping[str, Value]:
    """The first values of the run's variables. They may refer to what is there before anything has run."""
    found: dict[str, Value] = {}
    for name, source in definition.vars.items():
        place = _place(definition.places, f"vars.{name}")
        try:
            found[name] = compile_value(source)
        except ExpressionError as error:
            say.error("bad-expression", place, f"the variable {name}: {error}")
            continue
        for reference in found[name].references:
            use = Use(reference, place, f"vars.{name}")
            if reference.root in definition.body.nodes or reference.root in ("var", "nodes"):
                message = f"{use.text}: a variable has its first value before any node has run"
                say.error("not-upstream", place, message, f"refer to {', '.join(_EARLY[:-1])}, or use a `set` node")
            else:
                check_outermost(use, known, (), say)
    return found


def _place(places: Mapping[str, Any], key: str) -> Place:  # Any: Place
    while key:
        if key in places:
            found: Place = places[key]
            return found
        key = key.rpartition(".")[0]
    return Place()
