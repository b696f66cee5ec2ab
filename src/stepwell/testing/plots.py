"""Which scripts do simulated runs play? Drawn at random, small ones and ones that use every verb."""

from __future__ import annotations

from random import Random

from stepwell.authoring.queue import Queue
from stepwell.testing.scenes import RESIDUES
from stepwell.testing.scripts import ALWAYS, RETRIED, Script

SIGNALS = ("go", "stop")
TOPICS = ("paid", "sent")

QUEUES = {
    "slim": Queue("slim", concurrency=1),
    "keyed": Queue("keyed", concurrency=3, concurrency_per_key=1),
    "paced": Queue("paced", rate="2/400ms"),
}
"""Queues that simulated runs may have to wait in."""


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


def draw_wide_script(chance: Random) -> Script:
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
                return [kind, mode, patience(chance), chance.choice(([], [], [0.03], [0.05, 0.4]))]
            case "event":
                return [kind, chance.choice(TOPICS), self._residue(), patience(chance)]
            case "publish":
                return [kind, chance.choice(TOPICS), chance.random() < 0.2]
            case "talk":
                failures = chance.choice((0, 0, 0, 1, 2))
                return [kind, _time(chance), failures, chance.randint(0, 6), chance.choice((0, 0, 30_000))]
            case "book":
                return [kind, chance.choice((0, 0, 0, 1, ALWAYS))]
            case "signal":
                return [kind, chance.choice(SIGNALS), patience(chance)]
            case "sleep":
                return [kind, chance.choice((0, 5, 50, 300, 1000))]
            case "state":
                return [kind, f"key-{chance.getrandbits(32)}"]
            case "look":
                return [kind]
            case _:
                return [kind, chance.choice(("now", "random", "uuid"))]

    def _residue(self) -> int | None:
        drawn: int | None = self._chance.choice((None, None, *range(RESIDUES)))
        return drawn


def patience(chance: Random) -> float | None:
    """How long somebody waits (seconds), or for ever."""
    return chance.choice((None, None, 0.05, 0.5, 2.0))
