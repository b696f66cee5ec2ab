"""What happens in one simulation, drawn from its seed before it begins: scripts, people's commands, faults, limits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from stepwell.engine.limits import Limits
from stepwell.model.ids import SECOND
from stepwell.testing.graphics import draw_graph
from stepwell.testing.plots import QUEUES, SIGNALS, TOPICS, draw_script, draw_wide_script
from stepwell.testing.scripts import Script
from stepwell.testing.unreliable import MILLISECOND, Faults
from stepwell.testing.vertices import Graph
from stepwell.triggers.schedule import CatchUp, Overlap
from stepwell.usecases.starting import Durability

Verb: TypeAlias = Literal[
    "signal",
    "pause",
    "resume",
    "cancel",
    "retry",
    "answer",
    "answer twice",
    "answer as a stranger",
    "withdraw",
    "reassign",
    "publish",
    "publish again",
    "publish in passing",
    "set",
]
FaultKind: TypeAlias = Literal["kill", "freeze", "nap", "restart", "jump", "trouble"]


@dataclass(frozen=True)
class Start:
    """A run to start, by the driving process (`inside`) or by a client; `patience` bounds the wait for the answer.

    It plays `script`, or with `graph` goes through that instead. `again` is when the driving process starts the same
    run once more, as one does that does not know whether it was started.
    """

    at: int
    run_id: str
    script: Script
    token: int
    durability: Durability
    priority: int
    inside: bool
    patience: int | None
    queue: str = ""
    queue_key: str = ""
    delay: int = 0
    deadline: int | None = None
    graph: Graph | None = None
    again: tuple[int, ...] = ()


@dataclass(frozen=True)
class Standing:
    """A trigger that is made at `at`: for a topic's events, or for a second's occasions until `until`."""

    at: int
    name: str
    topic: str
    until: int
    catch_up: CatchUp
    overlap: Overlap
    script: Script
    via: Literal["driver", "client"]


@dataclass(frozen=True)
class Want:
    """Somebody wants something of a run, `after` microseconds behind the want before it.

    `via` is the driving process or one of the clients. Resuming and retrying wait a while until the run lets them.
    """

    after: int
    verb: Verb
    name: str
    via: Literal["driver", "client", "other"]
    choice: int = 0


@dataclass(frozen=True)
class Listener:
    """Somebody reads the stream of a run from here on, and comes back when the process that read it is gone."""

    at: int
    run: int
    via: Literal["driver", "client", "other"]


@dataclass(frozen=True)
class Visit:
    """People turn to one of the runs that have not ended at that moment, children included, with what they want."""

    at: int
    run: int
    wants: tuple[Want, ...]


@dataclass(frozen=True)
class Fault:
    """Something goes wrong at `at`, or (kills only) right before or after the commit of that number."""

    kind: FaultKind
    at: int
    amount: int = 0
    commit: int | None = None
    before: bool = False


@dataclass(frozen=True)
class Plan:
    """All that a seed decides about the world; what the processes do follows from it and from drawn delays."""

    seed: int
    starts: tuple[Start, ...]
    visits: tuple[Visit, ...]
    faults: tuple[Fault, ...]
    weather: Faults
    limits: Limits
    warm_wait: int
    grace: int
    dawdle: float
    fresh_end: bool
    listeners: tuple[Listener, ...] = ()
    triggers: tuple[Standing, ...] = ()
    deploy_at: int = 1
    """The number of the first driving process whose code is new."""


def draw_plan(seed: int) -> Plan:
    """The plan of a seed: in every other one runs do everything, in the rest tasks, asyncio and child runs only.

    In every fifth one most runs go through graphs.
    """
    plan = _wide_plan(seed) if seed % 2 else _narrow_plan(seed)
    return _started_again(_graph_plan(plan) if seed % 5 == 1 else plan)


def _started_again(plan: Plan) -> Plan:
    """The same plan, in which some runs are started more than once: around faults, and at any time."""
    chance = Random(f"again {plan.seed}")
    starts = []
    for start in plan.starts:
        times = [fault.at + chance.randrange(20 * MILLISECOND) for fault in plan.faults if chance.random() < 0.5]
        times += [start.at + _soon(chance) for _ in range(chance.randrange(3))]
        later = tuple(sorted(at for at in times if at > start.at))
        starts.append(dataclasses.replace(start, again=later if chance.random() < 0.5 else ()))
    return dataclasses.replace(plan, starts=tuple(starts))


def _graph_plan(plan: Plan) -> Plan:
    """The same plan for other runs: people come at the same times, and do what fits graphs."""
    chance = Random(f"graphs {plan.seed}")
    starts = tuple(
        dataclasses.replace(start, graph=draw_graph(chance, f"graph-{number}"))
        if number == 0 or chance.random() < 0.8
        else start
        for number, start in enumerate(plan.starts)
    )
    visits = _wide_visits(chance, starts) if plan.seed % 2 else plan.visits
    if chance.random() < 0.3:  # whatever has failed is tried again, if it may be
        wants = tuple(Want(chance.randrange(100) * MILLISECOND, "retry", "", "client") for _ in range(2))
        visits += tuple(Visit(start.at + _soon(chance), number, wants) for number, start in enumerate(starts))
    return dataclasses.replace(plan, starts=starts, visits=visits)


def _wide_plan(seed: int) -> Plan:
    chance = Random(f"wide plan {seed}")
    span = chance.choice((1, 2, 4)) * SECOND
    count = chance.choice((1, 1, 2, 2, 3))
    starts = tuple(_wide_start(chance, number, span) for number in range(count))
    plan = _narrow_plan(seed)
    return dataclasses.replace(
        plan,
        starts=starts,
        visits=_wide_visits(chance, starts),
        faults=_faults(chance, starts),
        weather=dataclasses.replace(plan.weather, again=chance.choice((0.0, 0.0, 0.3))),
        listeners=_listeners(chance, starts),
        triggers=_triggers(chance, span),
        deploy_at=chance.choice((1, 2, 2, 3)),
    )


def _narrow_plan(seed: int) -> Plan:
    chance = Random(f"plan {seed}")
    span = chance.choice((1, 2, 4)) * SECOND
    count = chance.choice((1, 1, 2, 2, 3, 4))
    starts = tuple(_start(chance, number, span) for number in range(count))
    return Plan(
        seed=seed,
        starts=starts,
        visits=_visits(chance, starts),
        faults=_faults(chance, starts),
        weather=_weather(chance),
        limits=Limits(
            attempts=chance.choice((1, 2, 3, 8, 1000)),
            runs=chance.choice((1, 1, 2, 3, 8, 2000)),
            threads=1,
            processes=1,
        ),
        warm_wait=chance.choice((0, 0, 20 * MILLISECOND, 200 * MILLISECOND, SECOND, 30 * SECOND)),
        grace=chance.choice((0, 30 * MILLISECOND, SECOND)),
        dawdle=chance.choice((0.0, 0.02, 0.1)),
        fresh_end=chance.random() < 0.5,
    )


def _start(chance: Random, number: int, span: int, script: Script | None = None) -> Start:
    return Start(
        at=0 if number == 0 else chance.randrange(span),
        run_id=f"run-{number}",
        script=script or draw_script(chance, chance.randint(2, 14)),
        token=chance.randrange(1_000_000),
        durability=chance.choice(("sync",) * 7 + ("async", "async", "exit")),
        priority=chance.choice((0, 0, 0, 1, -1)),
        inside=chance.random() < 0.6,
        patience=chance.choice((None, None, None, None, 3 * MILLISECOND)),
    )


def _wide_start(chance: Random, number: int, span: int) -> Start:
    start = _start(chance, number, span, draw_wide_script(chance))
    if chance.random() < 0.5:
        return start
    return dataclasses.replace(
        start,
        queue=chance.choice(("", *QUEUES)),
        queue_key=chance.choice(("", "a", "b")),
        delay=chance.choice((0, 0, chance.randrange(SECOND))),
        deadline=chance.choice((None, None, None, 100 * MILLISECOND, SECOND)),
    )


def _triggers(chance: Random, span: int) -> tuple[Standing, ...]:
    if chance.random() < 0.8:
        return ()
    at = chance.randrange(span)
    return (
        Standing(
            at=at,
            name="standing",
            topic=chance.choice(("", "", *TOPICS)),
            until=at + chance.randint(2, 5) * SECOND,
            catch_up=chance.choice(("skip", "one", "all")),
            overlap=chance.choice(("skip", "queue", "cancel", "allow")),
            script=draw_script(chance, 2),
            via=chance.choice(("driver", "client")),
        ),
    )


_VERBS: tuple[tuple[Verb, ...], ...] = (
    ("signal",),
    ("signal", "signal", "pause", "resume"),
    ("cancel", "retry"),
    ("signal", "signal", "pause", "resume", "cancel", "retry", "retry"),
)

_SEQUENCES: tuple[tuple[Verb, ...], ...] = (
    *((),) * 4,
    ("signal", "signal", "signal"),
    ("pause", "resume"),
    ("pause", "signal", "signal", "resume"),
    ("cancel", "retry", "signal"),
    ("retry", "retry"),
)
"""What people want of one run within a moment; mostly nothing in particular."""


_WIDE_VERBS: dict[str, tuple[tuple[Verb, ...], ...]] = {
    "human": (
        ("answer", "answer", "answer twice", "withdraw"),
        ("answer", "answer", "reassign", "cancel", "retry", "pause", "resume"),
    ),
    "ask": (
        ("answer", "answer", "answer twice", "answer as a stranger"),
        ("answer", "withdraw", "reassign"),
        ("answer", "answer", "cancel", "retry"),
        ("answer", "answer", "pause", "resume"),
    ),
    "event": (
        ("publish",),
        ("publish", "publish", "publish again", "publish in passing"),
        ("publish", "publish", "cancel", "retry", "pause", "resume"),
    ),
    "signal": (("signal",), ("signal", "signal", "pause", "resume")),
    "look": (("set",),),
    "": (("cancel", "retry", "retry"), ("pause", "resume"), ("cancel", "retry", "answer", "publish", "signal", "set")),
}
"""What people may want of runs whose scripts have such a verb."""

_WIDE_SEQUENCES: tuple[tuple[Verb, ...], ...] = (
    *((),) * 8,
    ("answer", "answer", "answer"),
    ("publish", "publish in passing", "publish"),
    ("pause", "answer", "publish", "resume"),
    ("cancel", "retry", "answer"),
    ("answer", "cancel", "retry"),
    ("retry", "retry"),
    ("reassign", "answer", "withdraw"),
)


def _wide_visits(chance: Random, starts: tuple[Start, ...]) -> tuple[Visit, ...]:
    """People do what fits the scripts."""
    text = repr([start.graph or start.script for start in starts])
    fitting = [group for verb, groups in _WIDE_VERBS.items() if f"'{verb}" in text for group in groups]
    few = chance.sample(fitting, min(2, len(fitting)))
    return tuple(
        visit
        for _ in range(chance.choice((1, 1, 2, 3)))
        for visit in _visits(chance, starts, tuple(few), _WIDE_SEQUENCES)
    )


def _visits(
    chance: Random,
    starts: tuple[Start, ...],
    verbs: tuple[tuple[Verb, ...], ...] = _VERBS,
    sequences: tuple[tuple[Verb, ...], ...] = _SEQUENCES,
) -> tuple[Visit, ...]:
    some = chance.choice(verbs)
    return tuple(
        Visit(chance.choice(starts).at + _soon(chance), chance.getrandbits(16), _wants(chance, some, sequences))
        for _ in range(chance.choice((0, 0, 1, 2, 3, 4)))
    )


def _wants(chance: Random, verbs: tuple[Verb, ...], sequences: tuple[tuple[Verb, ...], ...]) -> tuple[Want, ...]:
    sequence = chance.choice(sequences) or [chance.choice(verbs) for _ in range(chance.randint(1, 3))]
    pace = chance.choice((5, 30, 120)) * MILLISECOND
    names = chance.choice((SIGNALS, SIGNALS[:1], SIGNALS[1:]))
    return tuple(
        Want(
            after=chance.choice((0, chance.randrange(pace))),
            verb=verb,
            name=chance.choice(TOPICS if verb.startswith("publish") else names),
            via=chance.choice(("driver", "driver", "client", "other")),
            choice=chance.getrandbits(16) if sequences is _WIDE_SEQUENCES else 0,
        )
        for verb in sequence
    )


def _listeners(chance: Random, starts: tuple[Start, ...]) -> tuple[Listener, ...]:
    return tuple(
        Listener(
            chance.choice(starts).at + _soon(chance),
            chance.getrandbits(16),
            chance.choice(("driver", "driver", "client", "other")),
        )
        for _ in range(chance.choice((0, 0, 1, 2)))
    )


def _soon(chance: Random) -> int:
    return int(chance.expovariate(1 / 300) * MILLISECOND)


def _faults(chance: Random, starts: tuple[Start, ...]) -> tuple[Fault, ...]:
    count = chance.choice((0, 1, 1, 2, 2, 3, 4))
    kinds: tuple[FaultKind, ...] = ("kill", "kill", "kill", "restart", "nap", "jump", "trouble", "trouble", "freeze")
    faults = (_fault(chance, chance.choice(kinds), chance.choice(starts).at + _soon(chance)) for _ in range(count))
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _fault(chance: Random, kind: FaultKind, at: int) -> Fault:
    match kind:
        case "kill":
            if chance.random() < 0.7:
                return Fault(kind, at, commit=chance.randint(1, 60), before=chance.random() < 0.3)
            return Fault(kind, at)
        case "freeze":
            return Fault(kind, at, amount=chance.randint(14, 19) * SECOND)
        case "nap":
            return Fault(kind, at, amount=chance.randrange(2 * SECOND))
        case "jump":
            return Fault(kind, at, amount=chance.randint(-4, 4) * SECOND)
        case _:
            return Fault(kind, at, amount=chance.randrange(SECOND))


def _weather(chance: Random) -> Faults:
    return Faults(
        delay=chance.choice((50, MILLISECOND, 5 * MILLISECOND, 40 * MILLISECOND)),
        late=chance.choice((0.0, 0.0, 0.02, 0.1)),
        inline=chance.random() < 0.1,
    )
