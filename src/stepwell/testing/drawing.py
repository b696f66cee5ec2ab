"""What happens in one simulation, drawn from its seed before it begins: scripts, people's commands, faults, limits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from stepwell.authoring.queue import Queue
from stepwell.engine.limits import Limits
from stepwell.model.ids import SECOND
from stepwell.testing.scenes import RESIDUES
from stepwell.testing.scripts import ALWAYS, RETRIED, Script
from stepwell.testing.unreliable import MILLISECOND, Faults
from stepwell.triggers.schedule import CatchUp, Overlap

SIGNALS = ("go", "stop")
TOPICS = ("paid", "sent")

QUEUES = {
    "slim": Queue("slim", concurrency=1),
    "keyed": Queue("keyed", concurrency=3, concurrency_per_key=1),
    "paced": Queue("paced", rate="2/400ms"),
}
"""Queues that simulated runs may have to wait in."""

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
    """A run to start, by the driving process (`inside`) or by a client; `patience` bounds the wait for the answer."""

    at: int
    run_id: str
    script: Script
    token: int
    durability: str
    priority: int
    inside: bool
    patience: int | None
    queue: str = ""
    queue_key: str = ""
    delay: int = 0
    deadline: int | None = None


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
    """The plan of a seed: in every other one runs do everything, in the rest tasks, asyncio and child runs only."""
    return _wide_plan(seed) if seed % 2 else _narrow_plan(seed)


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
    start = _start(chance, number, span, _wide_script(chance))
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
    text = repr([start.script for start in starts])
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


# -- scripts that do everything -----------------------------------------------------------------------------------


def _wide_script(chance: Random) -> Script:
    """A script in which most kinds of verbs may occur; now and then of a few kinds only, which then meet often."""
    kinds = _WIDE_COMPOSITES if chance.random() < 0.6 else tuple(chance.sample(_WIDE_COMPOSITES, 4))
    leaves = _WIDE_LEAVES if chance.random() < 0.6 else tuple(chance.sample(_WIDE_LEAVES, 4))
    return _Wide(chance, kinds, leaves).script(chance.randint(2, 16))


_WIDE_COMPOSITES = (
    *("seq",) * 5,
    *("gather",) * 2,
    *("select",) * 4,
    *("saga",) * 4,
    *("child",) * 3,
    *("timeout",) * 2,
    *("try",) * 2,
    "group",
    "each",
    "race",
    "finally",
    "children",
    "events",
    "pick",
    "patched",
)

_WIDE_LEAVES = (
    *("task",) * 4,
    *("made",) * 4,
    *("ask",) * 3,
    *("event",) * 3,
    *("publish",) * 2,
    *("talk",) * 2,
    *("book",) * 2,
    "signal",
    "sleep",
    "fail",
    "state",
    "look",
    "value",
)


class _Wide:
    """Draws scripts of some kinds of verbs."""

    def __init__(self, chance: Random, kinds: tuple[str, ...], leaves: tuple[str, ...]) -> None:
        self._chance = chance
        self._kinds = kinds
        self._leaves = leaves
        self._patches = 0

    def script(self, budget: int) -> Script:
        """A script of about `budget` steps and waits."""
        chance = self._chance
        if budget <= 1:
            return self.leaf()
        kind = chance.choice(self._kinds)
        match kind:
            case "each":
                return [kind, chance.choice((None, 1, 2)), chance.random() < 0.5, *self._parts(budget - 1)]
            case "child":
                on_cancel = chance.choice(("cancel", "cancel", "wait", "wait", "abandon"))
                deadline = chance.choice((None, None, None, 100, 1000))
                queue = chance.choice(("", "", "", *QUEUES))
                return [kind, self.script(budget - 1), on_cancel, deadline, queue]
            case "children":
                count = chance.randint(1, 4)
                part = self.script(max(1, budget // count))
                return [kind, part, count, chance.choice((None, 1, 2)), chance.random() < 0.5]
            case "timeout":
                return [kind, chance.choice((0.01, 0.1, 0.5, 2.0)), self.script(budget - 1)]
            case "try" | "finally":
                return [kind, self.script(budget - 1), self.leaf()]
            case "saga":
                made = ["made", 0, _time(chance), chance.choice((0, 0, 0, 1, 5))]
                end = [["task", "steady", _time(chance), ALWAYS]] if chance.random() < 0.4 else []
                return [kind, ["seq", made, self.script(budget - 1), *end]]
            case "events":
                return [kind, chance.choice(TOPICS), self._residue(), chance.randint(2, 3)]
            case "pick":
                return [kind, chance.choice(TOPICS), _time(chance), chance.choice(("steady", "flaky", "narrow"))]
            case "patched":
                self._patches += 1
                return ["seq", self.leaf(), [kind, f"change-{self._patches}", self.script(budget - 1)]]
            case _:
                return [kind, *self._parts(budget - 1)]

    def _parts(self, budget: int) -> list[Script]:
        parts = []
        while budget > 0:
            share = self._chance.randint(1, budget)
            parts.append(self.script(share))
            budget -= share
        self._chance.shuffle(parts)
        return parts

    def leaf(self) -> Script:
        """One step or wait."""
        chance = self._chance
        kind = chance.choice(self._leaves)
        match kind:
            case "task":
                return _task(chance)
            case "fail":
                return ["task", "steady", _time(chance), ALWAYS]
            case "made":
                return [kind, _time(chance), _time(chance), chance.choice((0, 0, 0, 0, 1, 2, 5))]
            case "ask":
                mode = chance.choice(("anybody", "somebody", "quorum", "agree"))
                return [kind, mode, _patience(chance), chance.choice(([], [], [0.03], [0.05, 0.4]))]
            case "event":
                return [kind, chance.choice(TOPICS), self._residue(), _patience(chance)]
            case "publish":
                return [kind, chance.choice(TOPICS), chance.random() < 0.2]
            case "talk":
                failures = chance.choice((0, 0, 0, 1, 2))
                return [kind, _time(chance), failures, chance.randint(0, 6), chance.choice((0, 0, 30_000))]
            case "book":
                return [kind, chance.choice((0, 0, 0, 1, ALWAYS))]
            case "signal":
                return [kind, chance.choice(SIGNALS), _patience(chance)]
            case "sleep":
                return [kind, chance.choice((0, 5, 50, 300, 1000))]
            case "state":
                return [kind, f"key-{chance.getrandbits(32)}"]
            case "look":
                return [kind]
            case _:
                return [kind, chance.choice(("now", "random", "uuid"))]

    def _residue(self) -> int | None:
        return self._chance.choice((None, None, *range(RESIDUES)))


def _patience(chance: Random) -> float | None:
    return chance.choice((None, None, 0.05, 0.5, 2.0))
