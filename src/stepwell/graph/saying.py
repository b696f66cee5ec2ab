"""How does the compiler say what is wrong? Once per place, up to a limit, with a guess at what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Final

from stepwell.graph.problems import Findings, Place

MOST: Final = 1000
"""Problems that are noted; who has more has seen enough."""

_GUESSES: Final = 100
_CANDIDATES: Final = 1000
"""Guessing compares a word with each known name, which is slow: so many times, with so many names of like length."""


class Say:
    """Notes problems in `findings`. What was noted there before at the same place, by a parser, is not said again."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._known = {problem.place for problem in findings.problems if not problem.warning}
        self._guesses = _GUESSES

    def error(self, code: str, place: Place, message: str, hint: str = "") -> None:
        """Note what keeps the definition from running."""
        self._add(code, place, message, hint, warning=False)

    def warning(self, code: str, place: Place, message: str, hint: str = "") -> None:
        """Note what is suspicious only."""
        self._add(code, place, message, hint, warning=True)

    def error_once(self, code: str, place: Place, message: str, hint: str = "") -> None:
        """Note it unless a parser has found fault with this very place."""
        if place not in self._known or place.path == "$":
            self.error(code, place, message, hint)

    def _add(self, code: str, place: Place, message: str, hint: str, *, warning: bool) -> None:
        noted = len(self.findings.problems)
        if noted < MOST:
            self.findings.add(code, place, message, hint, warning=warning)
        elif not warning and not self.findings.has_errors:  # room is taken up by warnings: an error must not be lost
            self.findings.add(code, place, message, hint)
        elif noted == MOST:
            self.findings.add("too-many-problems", place, f"and more: {MOST:,} problems are shown", warning=warning)

    def meant(self, word: object, known: Iterable[str]) -> str:
        """`did you mean 'x'?`, or nothing."""
        if not isinstance(word, str) or len(word) > 100 or self._guesses <= 0:
            return ""
        self._guesses -= 1
        length, spread = len(word), 1 + len(word) // 3
        alike = dict.fromkeys(name for name in known if abs(len(name) - length) <= spread)
        near = difflib.get_close_matches(word, list(islice(alike, _CANDIDATES)), n=1)
        return f"did you mean {near[0]!r}?" if near else ""

    def meant_or_listed(self, word: object, known: Collection[str], what: str) -> str:
        """The guess; without one all names when they are few: `it has: a, b`."""
        return self.meant(word, known) or (f"{what}: {', '.join(known)}" if 0 < len(known) <= 12 else "")
