"""Where does a value of a definition stand? A cursor that knows line, column and JSON path of every part of a text.

A text's reader keeps, beside the value, a tree of the same shape with the offset of each part: of a member its key's,
of an item its first character's. Lines and columns are worked out when they are asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import Final, TypeAlias

import msgspec

from stepwell.graph.problems import Place

Marks: TypeAlias = "int | tuple[int, dict[str, Marks]] | tuple[int, list[Marks]]"
"""The offset of a scalar, or a container's and what it holds."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BREAK: Final = re.compile(r"\r\n|\n|\r")
_SHOWN: Final = 60


class Lines:
    """Turns offsets in a text into lines and columns, both from 1, counted in characters."""

    def __init__(self, text: str) -> None:
        self._text = text

    def at(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at `offset`."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in _BREAK.finditer(self._text))]


class Places:
    """The place of one value, and the way to those of its members and items.

    Without marks (data that no text stands for) there are paths and no lines. A member that is not there stands where
    what should hold it does.
    """

    __slots__ = ("_lines", "_marks", "_offset", "path")

    def __init__(self, marks: Marks | None = None, lines: Lines | None = None, path: str = "$") -> None:
        self._marks = marks
        self._lines = lines
        self._offset = marks[0] if isinstance(marks, tuple) else marks
        self.path = path

    def of(self, step: str | int) -> Places:
        """The places of a member, by its key, or of an item, by its index."""
        marks = self._marks
        found: Marks | None = None
        if type(marks) is tuple:
            held = marks[1]
            if type(held) is dict:
                found = held.get(step) if type(step) is str else None
            elif type(step) is int and step < len(held):
                found = held[step]  # type: ignore[index]  # a list: it is no dict
        inner = Places(found, self._lines, self.path + segment(step))
        if found is None:
            inner._offset = self._offset
        return inner

    @property
    def place(self) -> Place:
        """Path, line and column."""
        if self._offset is None or self._lines is None:
            return Place(self.path)
        line, column = self._lines.at(self._offset)
        return Place(self.path, line, column)


def segment(step: str | int) -> str:
    """One step of a JSONPath: `.name`, `[0]`, `["odd name"]`."""
    if type(step) is int:
        return f"[{step}]"
    name = str(step)
    if _NAME.fullmatch(name):
        return f".{name}"
    shown = name if len(name) <= _SHOWN else name[: _SHOWN - 1] + "…"
    return f"[{msgspec.json.encode(shown).decode()}]"
