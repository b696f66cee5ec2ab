"""What is wrong with a definition: every problem at once, each with its place and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stepwell.errors import DefinitionError


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where something stands in a definition: line and column from 1 (0: unknown), and its JSON path.

    The path is written as JSONPath: `$.nodes.fetch.retry`, `$.nodes[2]["odd name"]`.
    """

    path: str = "$"
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}, {self.path}" if self.line else self.path


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong: a stable `code` (such as `unknown-task`), where, what was found, what to do.

    A `warning` does not keep the definition from being deployed or run.
    """

    code: str
    message: str
    place: Place = Place()
    hint: str = ""
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidDefinition(DefinitionError):
    """A definition has problems; `problems` has all of them, in the order of their places."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = f"{len(self.problems)} problems" if len(self.problems) != 1 else "a problem"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{source or 'the definition'} has {count}:{lines}")


class Findings:
    """Gathers problems while a definition is read and compiled."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, code: str, place: Place, message: str, hint: str = "", *, warning: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(code, message, place, hint, warning))

    @property
    def has_errors(self) -> bool:
        """Whether one of them keeps the definition from running."""
        return any(not problem.warning for problem in self.problems)

    def check(self, source: str = "") -> None:
        """Give up if there are errors.

        Raises:
            InvalidDefinition: with all problems, warnings included.
        """
        if self.has_errors:
            key = sorted(self.problems, key=lambda one: (one.place.line, one.place.column))
            raise InvalidDefinition(key, source)
