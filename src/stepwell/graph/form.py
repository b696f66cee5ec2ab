"""Has a part of a definition the form that it must have? Small checks that note what is wrong and go on.

Every check returns the value when it fits and None when it does not; then the problem has been noted.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from stepwell.errors import ArgumentError, DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.graph.places import Places
from stepwell.graph.problems import Findings
from stepwell.model.checking import check_schema
from stepwell.model.durations import micros
from stepwell.nodes.protocol import NodeType

Json: TypeAlias = Any
"""Plain JSON data."""

MOST: Final = 1000
"""Problems that are noted; who has more has seen enough."""

_SHOWN: Final = 60
_GUESSES: Final = 200
_CANDIDATES: Final = 3000
_UNITS: Final = (("s", 1_000_000), ("ms", 1000), ("us", 1))


class Types(Protocol):
    """The node types that a definition may use; `nodes.registry.NodeTypes` is one."""

    def get(self, name: str) -> NodeType | None:
        """The node type of this name, or None."""

    def names(self) -> Iterable[str]:
        """The names of all of them."""


class Form:
    """What checks need to know: where problems go, which node types there are, and the names of tasks."""

    def __init__(self, findings: Findings, types: Types, tasks: Collection[str] = ()) -> None:
        self.findings = findings
        self.types = types
        self.tasks = tasks
        self._guesses = 0

    def say(self, code: str, places: Places, message: str, hint: str = "", *, warning: bool = False) -> None:
        """Note a problem, after `MOST` of them only that there are more."""
        noted = len(self.findings.problems)
        if noted < MOST:
            self.findings.add(code, places.place, message, hint, warning=warning)
        elif noted == MOST:
            self.findings.add("too-many-problems", places.place, f"and more: {MOST:,} problems are shown")

    def near(self, word: object, known: Iterable[str]) -> str:
        """`did_you_mean`, as long as not too much has been guessed already."""
        self._guesses += 1
        return did_you_mean(word, known) if self._guesses <= _GUESSES else ""

    def mapping(self, value: Json, places: Places, what: str) -> dict[str, Json] | None:
        """A mapping."""
        if isinstance(value, dict):
            return value
        self.wrong(value, places, f"{what} must be a mapping")
        return None

    def listed(self, value: Json, places: Places, what: str) -> list[Json] | None:
        """A list."""
        if isinstance(value, list):
            return value
        self.wrong(value, places, f"{what} must be a list")
        return None

    def text(self, value: Json, places: Places, what: str, *, empty: bool = False) -> str | None:
        """Text, by default not empty."""
        if isinstance(value, str) and (value.strip() or empty):
            return value
        hint = "put it in quotes" if isinstance(value, int | float) else ""
        self.wrong(value, places, f"{what} must be text", hint)
        return None

    def whole(self, value: Json, places: Places, what: str, low: int = 1, high: int = 1_000_000) -> int | None:
        """A whole number within bounds."""
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.wrong(value, places, f"{what} must be a whole number from {low:,} to {high:,}")
        return None

    def flag(self, value: Json, places: Places, what: str) -> bool | None:
        """True or false."""
        if isinstance(value, bool):
            return value
        hint = f"write {'true' if value in ('yes', 'on') else 'false'}" if value in ("yes", "on", "no", "off") else ""
        self.wrong(value, places, f"{what} must be true or false", hint)
        return None

    def choice(self, value: Json, places: Places, what: str, among: Sequence[str]) -> str | None:
        """One of some words."""
        if isinstance(value, str) and value in among:
            return value
        self.wrong(value, places, f"{what} must be {either(among)}", self.near(value, among))
        return None

    def duration(self, value: Json, places: Places, what: str, *, template: bool = False) -> str | None:
        """A duration, as text: a number of seconds becomes `"30s"`. With `template`, one that is told by a run."""
        if template and is_template(value):
            return str(value)
        try:
            exact = micros(value, what)
        except ArgumentError:
            hint = "a template cannot stand here" if is_template(value) else ""
            message = f"{what} must be a duration such as 250ms, 30s, 1h30m or 2d, up to 200 years"
            self.wrong(value, places, message, hint, code="wrong-duration")
            return None
        if isinstance(value, str):
            return value.strip()
        unit, size = next((unit, size) for unit, size in _UNITS if exact % size == 0)
        return f"{exact // size}{unit}"

    def condition(self, value: Json, places: Places, what: str) -> bool:
        """Whether it is written as a condition: true, false, a template, or a JSONLogic rule."""
        match value:
            case bool():
                return True
            case dict() if value:
                return True
            case str() if is_template(value):
                return True
        hint = 'write a path as "{{ node.field }}"' if isinstance(value, str) else ""
        message = f'{what} must be true, false, a template such as "{{{{ list.ok }}}}", or a JSONLogic rule'
        self.wrong(value, places, message, hint, code="wrong-condition")
        return False

    def schema(self, value: Json, places: Places, what: str) -> Json | None:
        """A JSON Schema that can be used."""
        if not isinstance(value, dict | bool):
            self.wrong(value, places, f"{what} must be a JSON Schema: a mapping")
            return None
        try:
            check_schema(value, what)
        except DefinitionError as error:
            self.say("wrong-schema", places, str(error))
            return None
        return value

    def texts(self, value: Json, places: Places, what: str) -> list[str] | None:
        """One text or a list of texts, as a list; the same text twice is noted."""
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            self.wrong(value, places, f"{what} must be text, or a list of it")
            return None
        found: dict[str, None] = {}  # in order, each once
        for index, item in enumerate(items):
            at = places.of(index) if items is value else places
            text = self.text(item, at, f"each of {what}")
            if text in found:
                self.say("given-twice", at, f"{what}: {text!r} is given twice", "take one away")
            elif text is not None:
                found[text] = None
        return [*found]

    def known(self, given: Iterable[str], places: Places, what: str, keys: Collection[str]) -> None:
        """Note every key that is none of `keys`."""
        for key in given:
            if key not in keys:
                hint = self.near(key, keys)
                hint = hint or (f"it may have: {', '.join(keys)}" if len(keys) <= 12 else "")
                self.say("unknown-key", places.of(key), f"{what} has no key {key!r}", hint)

    def wrong(self, value: Json, places: Places, message: str, hint: str = "", *, code: str = "wrong-value") -> None:
        """Note that something else was found than what `message` says."""
        self.say(code, places, f"{message}; found {shown(value)}", hint)


def shown(value: object) -> str:
    """A value as JSON, cut to 60 characters."""
    match value:
        case dict() | list() if len(value) > _SHOWN:
            return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value):,}"
        case _:
            text = msgspec.json.encode(value).decode()
            return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A hint with the nearest known word, or an empty one."""
    if not isinstance(word, str) or len(word) > 100:
        return ""
    words = [*islice(known, _CANDIDATES)]
    near = difflib.get_close_matches(word, words, n=1) or [one for one in words if one == word.lower()]
    return f"did you mean {near[0]!r}?" if near else ""


def either(words: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
