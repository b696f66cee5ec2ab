"""What happens in one simulation, drawn from its seed before it begins: scripts, people's commands, faults, limits."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from stepwell.engine.limits import Limits
from stepwell.model.ids import SECOND
from stepwell.testing.scripts import ALWAYS, RETRIED, Script
from stepwell.testing.unreliable import MILLISECOND, Faults

SIGNALS = ("go", "stop")

Verb: TypeAlias = Literal["signal", "pause", "resume", "cancel", "retry"]
FaultKind: TypeAlias = Literal["kill", "freeze", "nap", "restart", "jump", "trouble"]


@dataclass(frozen=True)
class Start:
    """A run to start, by the driving process (`inside`) or by a client; `patience` bounds the wait for the answer."""

    at: int
    run_id: str
    script: Script
    token: int
    durability: str
    priority: int
    inside: bool
    patience: int | None


@dataclass(frozen=True)
class Want:
    """Somebody wants something of a run, `after` microseconds behind the want before it.

    `via` is the driving process or one of the clients. Resuming and retrying wait a while until the run lets them.
    """

    after: int
    verb: Verb
    name: str
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


def draw_plan(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(f"plan {seed}")
    span = chance.choice((1, 2, 4)) * SECOND
    starts = tuple(_start(chance, number, span) for number in range(chance.choice((1, 1, 2, 2, 3, 4))))
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


def _start(chance: Random, number: int, span: int) -> Start:
    return Start(
        at=0 if number == 0 else chance.randrange(span),
        run_id=f"run-{number}",
        script=draw_script(chance, chance.randint(2, 14)),
        token=chance.randrange(1_000_000),
        durability=chance.choice(("sync",) * 7 + ("async", "async", "exit")),
        priority=chance.choice((0, 0, 0, 1, -1)),
        inside=chance.random() < 0.6,
        patience=chance.choice((None, None, None, None, 3 * MILLISECOND)),
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


def _visits(chance: Random, starts: tuple[Start, ...]) -> tuple[Visit, ...]:
    verbs = chance.choice(_VERBS)
    return tuple(
        Visit(chance.choice(starts).at + _soon(chance), chance.getrandbits(16), _wants(chance, verbs))
        for _ in range(chance.choice((0, 0, 1, 2, 3, 4)))
    )


def _wants(chance: Random, verbs: tuple[Verb, ...]) -> tuple[Want, ...]:
    sequence = chance.choice(_SEQUENCES) or [chance.choice(verbs) for _ in range(chance.randint(1, 3))]
    pace = chance.choice((5, 30, 120)) * MILLISECOND
    names = chance.choice((SIGNALS, SIGNALS[:1], SIGNALS[1:]))
    return tuple(
        Want(
            after=chance.choice((0, chance.randrange(pace))),
            verb=verb,
            name=chance.choice(names),
            via=chance.choice(("driver", "driver", "client", "other")),
        )
        for verb in sequence
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


# -- scripts ------------------------------------------------------------------------------------------------------


def draw_script(chance: Random, budget: int) -> Script:
    """A script of about `budget` steps and waits."""
    if budget <= 1:
        return _leaf(chance)
    kind = chance.choice(_COMPOSITES)
    parts = _parts(chance, budget - 1)
    match kind:
        case "seq" | "gather" | "group" | "race":
            return [kind, *parts]
        case "each":
            return [kind, chance.choice((None, 1, 2, 3)), chance.random() < 0.5, *parts]
        case "limited":
            return [kind, chance.randint(1, 2), *parts]
        case "calls" | "same":
            name = chance.choice(("steady", "flaky", "narrow", "keyed", "urgent"))
            return [kind, name, *(_time(chance) for _ in range(min(budget, 5)))]
        case "map":
            name = chance.choice(("steady", "flaky", "hasty", "narrow", "keyed"))
            failures = chance.choice((0, 0, 1, 2, ALWAYS)) if name in RETRIED else chance.choice((0, 0, 0, ALWAYS))
            collect = failures == ALWAYS or chance.random() < 0.3
            return [kind, name, budget, chance.choice((None, 1, 2, 3)), _time(chance), failures, collect]
        case "queue":
            return [kind, chance.randint(1, 3), *(_time(chance) for _ in range(budget))]
        case "child":
            return [kind, draw_script(chance, budget - 1)]
        case "start":
            return ["seq", [kind, draw_script(chance, budget // 2)], draw_script(chance, budget // 2)]
        case "timeout":
            return [kind, chance.choice((0.01, 0.1, 0.5, 2.0)), draw_script(chance, budget - 1)]
        case "try" | "finally":
            return [kind, draw_script(chance, budget - 1), _leaf(chance)]
        case _:
            raise AssertionError(kind)


_COMPOSITES = (
    *("seq",) * 5,
    *("gather",) * 3,
    *("map",) * 3,
    *("child",) * 2,
    *("timeout",) * 2,
    *("try",) * 2,
    "group",
    "each",
    "limited",
    "calls",
    "same",
    "queue",
    "start",
    "race",
    "finally",
)


def _parts(chance: Random, budget: int) -> list[Script]:
    parts = []
    while budget > 0:
        share = chance.randint(1, budget)
        parts.append(draw_script(chance, share))
        budget -= share
    chance.shuffle(parts)
    return parts


def _leaf(chance: Random) -> Script:
    draw = chance.random()
    if draw < 0.54:
        return _task(chance)
    if draw < 0.66:
        return ["sleep", chance.choice((0, 5, 50, 300, 1000))]
    if draw < 0.84:
        return ["signal", chance.choice(SIGNALS), chance.choice((None, None, 0.05, 0.5, 2.0))]
    if draw < 0.90:
        return ["state", f"key-{chance.getrandbits(32)}"]
    if draw < 0.985:
        return ["value", chance.choice(("now", "random", "uuid"))]
    return ["bulk"]


def _task(chance: Random) -> Script:
    name = chance.choice(("steady", "steady", "flaky", "flaky", "hasty", "narrow", "keyed", "urgent"))
    if name in RETRIED:
        failures = chance.choice((0, 0, 0, 0, 1, 2, 3, ALWAYS))
    else:
        failures = chance.choice((0, 0, 0, 0, 0, 0, ALWAYS))
    return ["task", name, _time(chance), failures]


def _time(chance: Random) -> int:
    return chance.choice((0, 1, 5, 20, 60, 200))
