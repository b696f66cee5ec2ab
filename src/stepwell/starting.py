"""How may a run be started? The options of a start, checked, and what follows from them for the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict, get_args

import msgspec

from stepwell.authoring.graph import UNTIL, GraphWorkflow
from stepwell.authoring.workflow import RunOptions, Workflow
from stepwell.engine.creation import Terms, fresh_id, new_run
from stepwell.errors import ArgumentError, DefinitionError
from stepwell.model.durations import Duration, micros
from stepwell.stores.protocol import NewRun

if TYPE_CHECKING:
    from stepwell.triggers.schedule import Moment

Durability: TypeAlias = Literal["sync", "async", "exit", "memory"]
OnConflict: TypeAlias = Literal["attach", "refuse", "replace"]

_DURABILITIES: Final[tuple[Durability, ...]] = get_args(Durability)
_CONFLICTS: Final[tuple[OnConflict, ...]] = get_args(OnConflict)


class StartOptions(TypedDict, total=False):
    """The options of `Stepwell.start`, which says what they mean."""

    id: str | None
    priority: int | None
    labels: Mapping[str, str] | None
    durability: Durability
    by: str
    queue: str | None
    queue_key: str
    delay: Duration | None
    at: Moment | None
    deadline: Duration | None
    singleton: str | None
    on_conflict: OnConflict
    debounce: Duration | None
    debounce_key: str
    debounce_max: Duration | None
    until: str | None


class Order(msgspec.Struct, frozen=True):
    """A start that is in order: the run to create, and what to do when another one has its unique key.

    `debounce` is how long the run waits for further starts, `debounce_max` how long after the first at most
    (microseconds; None: no debounce, no bound).
    """

    run: NewRun
    durability: Durability
    on_conflict: OnConflict = "attach"
    debounce: int | None = None
    debounce_max: int | None = None


def order(
    workflow: Workflow[..., Any],  # Any: whatever it returns
    data: msgspec.Raw,
    options: StartOptions,
    *,
    now: int,
    chance: Random,
) -> Order:
    """What follows from a start at `now`.

    Raises:
        ArgumentError: an option is not usable, or does not go with another one.
        DefinitionError: the input is too large.
    """
    _refuse_contradictions(options)
    own = workflow.options
    durability = _one_of(options.get("durability", "sync"), _DURABILITIES, "durability")
    on_conflict = _one_of(options.get("on_conflict", "attach"), _CONFLICTS, "on_conflict")
    debounce = _duration(options, "debounce")
    begin_at = _begin_at(options, now, debounce)
    limit = _duration(options, "deadline")
    limit = own.deadline if limit is None else limit
    singleton = options.get("singleton")
    unique = ""
    if singleton is not None:
        unique = f"singleton:{workflow.name}:{singleton}"
    elif debounce is not None:
        unique = f"debounce:{workflow.name}:{options.get('debounce_key', '')}"
    given_id = options.get("id")
    id = own.id if given_id is None else given_id
    queue, queue_key = _queue(workflow, options)
    terms = Terms(
        id=fresh_id(workflow.name, now, chance) if id is None else id,
        workflow=workflow.name,
        version=workflow.version,
        priority=_priority(options, own),
        labels={**own.labels, **(options.get("labels") or {}), **_until(workflow, options.get("until"))},
        durability=durability,
        by=options.get("by", ""),
        queue=queue,
        queue_key=queue_key,
        begin_at=begin_at,
        deadline=None if limit is None else (begin_at or now) + limit,
        unique=unique,
        unique_until="ended" if debounce is None else "begun",
    )
    run = new_run(terms, data, now=now, chance=chance)
    return Order(run, durability, on_conflict, debounce, _duration(options, "debounce_max"))


def refuse_ambiguous(workflow: Workflow[..., Any], positional: int, options: Collection[str]) -> None:
    """Refuse an option that may have been meant as the workflow's parameter of the same name.

    `positional` arguments were given by position, `options` are the names of those given by keyword.

    Raises:
        ArgumentError: there is one; the text says how both can be given.
    """
    for name in workflow.codec.parameters[positional:]:
        if name in options:
            raise ArgumentError(
                f"{name}= is an option of the start and a parameter of {workflow.name}: give the parameter by "
                "position; or the arguments to app.start_encoded, as JSON"
            )


def _refuse_contradictions(options: StartOptions) -> None:
    def both(one: str, other: str, why: str) -> None:
        if options.get(one) is not None and options.get(other) is not None:
            raise ArgumentError(f"{one}= and {other}= do not go together: {why}")

    both("delay", "at", "both say when the run begins; give one")
    both("debounce", "delay", "both say when the run begins; give one")
    both("debounce", "at", "both say when the run begins; give one")
    both("debounce", "id", "the run keeps the id of the first start; say with debounce_key what belongs together")
    both("debounce", "singleton", "give one of the two policies")
    if options.get("debounce") is None:
        for name in ("debounce_key", "debounce_max"):
            if options.get(name):
                raise ArgumentError(f"{name}= says how to debounce: give debounce= too")
    if options.get("singleton") is None and "on_conflict" in options:
        raise ArgumentError("on_conflict= says what a singleton does when there is one: give singleton= too")


def _begin_at(options: StartOptions, now: int, debounce: int | None) -> int | None:
    delay, at = _duration(options, "delay"), options.get("at")
    if at is not None:
        from stepwell.triggers.schedule import instant  # loaded when it is wanted

        return instant(at, "at")
    wait = delay if debounce is None else debounce
    return None if wait is None else now + wait


def _until(workflow: Workflow[..., Any], node: str | None) -> Mapping[str, str]:
    """The label of a run that ends with a node.

    Raises:
        ArgumentError: there is no such node in the graph's own body, or it is no graph.
    """
    if node is None:
        return {}
    if not isinstance(workflow, GraphWorkflow):
        raise ArgumentError(f"until={node!r}: {workflow.name} is a function, and only graphs have nodes to end with")
    known = workflow.plan.body.by_id
    if node not in known:
        import difflib  # only for who has mistyped

        near = difflib.get_close_matches(node, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(list(known)[:20])}"
        inside = " (a node inside a container cannot be named)" if "/" in node else ""
        raise ArgumentError(f"until={node!r}: graph {workflow.name} has no such node{inside}; {hint}")
    return {UNTIL: node}


def _queue(workflow: Workflow[..., Any], options: StartOptions) -> tuple[str, str]:
    given = options.get("queue")
    queue = workflow.queue if given is None else given
    key = options.get("queue_key", "") or workflow.options.queue_key
    if key and not queue:
        raise ArgumentError(f"queue_key={key!r}: the run has no queue; give queue= too")
    return queue, key


def _priority(options: StartOptions, own: RunOptions) -> int:
    given = options.get("priority")
    return (own.priority or 0) if given is None else given


def _duration(options: StartOptions, name: Literal["delay", "deadline", "debounce", "debounce_max"]) -> int | None:
    found = options.get(name)
    return None if found is None else micros(found, f"{name}=")


def _one_of(found: Any, choices: tuple[Any, ...], name: str) -> Any:  # Any: a member of the choices
    if found not in choices:
        raise DefinitionError(f"{name}={found!r}: use {', '.join(repr(one) for one in choices)}")
    return found
