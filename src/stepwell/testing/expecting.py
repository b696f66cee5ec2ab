"""What must a script come to? Its result and what must have been undone on the way, worked out without any engine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from stepwell.testing.scenes import TRIES
from stepwell.testing.scripts import BROKEN, BULK, RETRIED, Script, Tripped, mix

UNSURE = frozenset(
    {"signal", "value", "timeout", "race", "start", "ask", "event", "events", "select", "pick", "patched", "look"}
)
"""Verbs whose result depends on time, chance or other people."""

_BRISK_TASKS = frozenset({*RETRIED, "talk", "book"})
"""Tasks with four attempts."""


@dataclass
class Expected:
    """`result` is None when the script raises; `undone` are the tokens of what was undone, `()` unless known."""

    result: int | None
    undone: tuple[int, ...] | None


def is_sure(script: Script) -> bool:
    """Whether the script's result depends on nothing but its token."""
    if script[0] in UNSURE or script[1:2] == ["hasty"]:
        return False
    if script[0] == "child" and len(script) > 3 and script[3] is not None:  # a deadline
        return False
    return all(is_sure(part) for part in script[1:] if isinstance(part, list))


def expect(script: Script, token: int) -> Expected:
    """What playing a sure script as a run of its own comes to, when nobody meddles."""
    undone: list[int] = []
    known = _Known()
    try:
        result: int | None = _Playing(undone, known).run(script, token)
    except Tripped:
        result = None
    return Expected(result, tuple(sorted(undone)) if known.undone else None)


@dataclass
class _Known:
    """Whether it is known what was undone: not when something failed beside work that goes on."""

    undone: bool = True


class _Stopped(Exception):
    """A compensation has failed for good, which no part of a script can catch."""


_Call = tuple[int, int]


@dataclass
class _Playing:
    """One run being worked out; child runs add to the same `undone`."""

    undone: list[int]
    known: _Known
    state: dict[str, int] = field(default_factory=dict)
    calls: list[_Call] = field(default_factory=list)
    stopped: bool = False
    depth: int = 0
    is_mixed: bool = False
    """Whether parts that went on side by side said how to undo their work: in which order, nobody knows."""

    def run(self, script: Script, token: int) -> int:
        """The whole run: what it said how to undo is undone when it fails."""
        try:
            return self.value(script, token)
        except _Stopped:
            raise Tripped from None
        except Tripped:
            if not self.stopped:
                with contextlib.suppress(_Stopped):
                    self._undo(self.calls)
            raise

    def _undo(self, calls: list[_Call]) -> None:
        while calls:
            token, failures = calls[-1]
            if failures >= TRIES:
                self.stopped = True
                self.known.undone &= not self.is_mixed
                raise _Stopped
            self.undone.append(token)
            calls.pop()

    def _beside(self, script: Script, token: int) -> int:
        """One of several parts that go on at once."""
        self.depth += 1
        try:
            return self.value(script, token)
        except (Tripped, _Stopped):
            self.known.undone = False
            raise
        finally:
            self.depth -= 1

    def _task(self, name: str, token: int, failures: int) -> int:
        if failures >= (4 if name in _BRISK_TASKS else 1):
            raise Tripped
        return mix(name, token)

    def value(self, script: Script, token: int) -> int:
        """The token that comes out. Raises `Tripped`."""
        verb, rest = script[0], script[1:]
        match verb:
            case "task":
                return self._task(rest[0], token, rest[2])
            case "seq":
                for part in rest:
                    token = self.value(part, token)
                return token
            case "gather" | "group":
                return mix(verb, *(self._beside(part, mix(token, n)) for n, part in enumerate(rest)))
            case "limited":
                return mix(verb, *(self._beside(part, mix(token, n)) for n, part in enumerate(rest[1:])))
            case "calls":
                return mix(verb, *(mix(rest[0], mix(token, n)) for n in range(len(rest) - 1)))
            case "same":
                return mix(verb, *(mix("steady", mix(rest[0], token)) for _ in rest[1:]))
            case "map":
                return self._map(token, *rest)
            case "each":
                return mix(verb, *(self._collected(rest[1], part, mix(token, n)) for n, part in enumerate(rest[2:])))
            case "sleep" | "publish":
                return token
            case "child":
                return _Playing(self.undone, self.known).run(rest[0], token)
            case "children":
                return self._children(token, *rest)
            case "bulk":
                return mix(token, len(f"{mix('bulky', token)}:") + BULK, True)
            case "state":
                self.state[rest[0]] = mix(token, self.state.get(rest[0]))
                return mix(token, self.state[rest[0]])
            case "try":
                try:
                    return self.value(rest[0], token)
                except Tripped:
                    return self.value(rest[1], mix(token, BROKEN))
            case "finally":
                try:
                    token = self.value(rest[0], token)
                finally:
                    token = self.value(rest[1], token)
                return token
            case "queue":
                return mix(verb, sum(mix("flaky", mix(token, n)) for n in range(len(rest) - 1)))
            case "made":
                token = mix("make", token)
                self.calls.append((token, rest[2]))
                self.is_mixed |= self.depth > 0
                return token
            case "saga":
                return self._saga(rest[0], token)
            case "talk" | "book":
                return self._task(verb, token, rest[1 if verb == "talk" else 0])
            case _:
                raise AssertionError(f"{verb} is not sure")

    def _map(self, token: int, name: str, items: int, window: int | None, time: int, failures: int, ok: bool) -> int:
        broken = failures >= (4 if name in RETRIED else 1)
        if broken and not ok:
            raise Tripped
        return mix("map", *(BROKEN if broken else mix(name, mix(token, n)) for n in range(items)))

    def _collected(self, collect: bool, part: Script, token: int) -> int:
        try:
            return self._beside(part, token)
        except Tripped:
            if not collect:
                raise
            return BROKEN

    def _children(self, token: int, script: Script, count: int, window: int | None, collect: bool) -> int:
        results = []
        for n in range(count):
            try:
                results.append(_Playing(self.undone, self.known).run(script, mix(token, n)))
            except Tripped:
                if not collect:
                    self.known.undone = False
                    raise
                results.append(BROKEN)
        return mix("children", *results)

    def _saga(self, part: Script, token: int) -> int:
        outer, self.calls = self.calls, []
        inner = self.calls
        try:
            token = self.value(part, token)
        except Tripped:
            if not self.stopped:  # what is around a compensation that has failed waits
                self._undo(inner)
            raise
        finally:
            self.calls = outer
        outer += inner
        return token
