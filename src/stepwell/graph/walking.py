"""What do the walks through YAML and JSON share? Counting, numbers, and how problems of a text are noted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isinf
from typing import Any, Final, NoReturn, TypeAlias

import msgspec

from stepwell.graph.places import Lines, Marks
from stepwell.graph.problems import Place, Problem

Json: TypeAlias = Any
"""Plain JSON data."""

MOST_TWICE: Final = 100
"""Keys given twice that are noted before the text is given up."""

NUMBER: Final = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WHOLE: Final = re.compile(r"[-+]?[0-9]+")
_LEAST, _GREATEST = -(2**63), 2**63 - 1


def scalars(data: Json) -> Iterator[Json]:
    """All values in plain JSON data that are neither an object nor an array."""
    left = [data]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
        else:
            yield one


class Stopped(Exception):
    """A text cannot be read any further; the walk has noted why."""


class WalkLimits(msgspec.Struct, frozen=True):
    """Levels of nesting, values, and characters of scalars with all aliases written out."""

    depth: int
    values: int
    characters: int


class Walk:
    """One walk through a text: what it found, its problems, and whether it got to the end."""

    def __init__(self, lines: Lines, limits: WalkLimits) -> None:
        self.lines = lines
        self.limits = limits
        self.problems: list[Problem] = []
        self.data: Json = None
        self.marks: Marks = 0
        self.is_done = False

    def finish(self, data: Json, marks: Marks) -> None:
        """The text was read to its end."""
        self.data, self.marks = data, marks
        self.is_done = True

    def stop(self, code: str, offset: int, message: str, hint: str = "", path: str = "$") -> NoReturn:
        """Note why the text cannot be read any further.

        Raises:
            Stopped: always.
        """
        self.note(code, offset, message, hint, path)
        raise Stopped

    def note(self, code: str, offset: int, message: str, hint: str = "", path: str = "$") -> None:
        """Note a problem."""
        line, column = self.lines.at(offset)
        self.problems.append(Problem(code, message, Place(path, line, column), hint))

    def twice(self, key: str, offset: int, first: int, path: str) -> None:
        """Note that a key was given before.

        Raises:
            Stopped: that was so too often.
        """
        line, column = self.lines.at(first)
        shown = key if len(key) <= 60 else key[:59] + "…"
        message = f"the key {shown!r} was already given at line {line}, column {column}"
        self.note("duplicate-key", offset, message, "give each key once", path)
        if len(self.problems) >= MOST_TWICE:
            self.stop("duplicate-key", offset, "too many keys are given twice", path=path)

    def too_deep(self, offset: int, path: str) -> NoReturn:
        """More than `limits.depth` levels.

        Raises:
            Stopped: always.
        """
        cut = path if len(path) <= 200 else path[:199] + "…"
        self.stop("too-deep", offset, f"it is nested deeper than {self.limits.depth} levels", "flatten it", cut)

    def too_many(self, offset: int, path: str) -> NoReturn:
        """More than `limits.values` values.

        Raises:
            Stopped: always.
        """
        message = f"it has more than {self.limits.values:,} keys and values"
        self.stop("too-many-values", offset, message, "keep bulk out of definitions: hand it over as input", path)

    def number(self, text: str, offset: int, path: str) -> int | float:
        """The number that a text of the form `NUMBER` stands for.

        Raises:
            Stopped: it is outside of 64 bits, or a float that is infinite, lost or another number.
        """
        if _WHOLE.fullmatch(text):
            number = int(text) if len(text) <= 20 else _GREATEST + 1
            if _LEAST <= number <= _GREATEST:
                return number
            self._out_of_range(text, offset, path, "is beyond 64 bits")
        value = float(text)
        mantissa = text.lower().partition("e")[0]
        if isinf(value):
            self._out_of_range(text, offset, path, "is beyond what a 64-bit float can hold")
        if value == 0 and mantissa.strip("+-0.") != "":
            self._out_of_range(text, offset, path, "is too small for a 64-bit float and would become 0")
        if abs(value) >= 2**53 and mantissa == text and int(value) != int(text.partition(".")[0]):
            self._out_of_range(text, offset, path, f"would become {value!r}")
        return value

    def _out_of_range(self, text: str, offset: int, path: str, why: str) -> NoReturn:
        shown = text if len(text) <= 40 else f"{text[:39]}… ({len(text):,} digits)"
        self.stop("number-range", offset, f"the number {shown} {why}", "write it as text, in quotes", path)

    def not_finite(self, text: str, offset: int, path: str) -> NoReturn:
        """NaN or an infinity.

        Raises:
            Stopped: always.
        """
        message = f"{text} is no number that JSON can hold"
        self.stop("not-finite", offset, message, "use null, or put it in quotes if text is meant", path)
