"""How much may a query do and give? Counted, not timed: the same expression over the same data always ends alike."""

from __future__ import annotations

import importlib
import math
import sys
from types import ModuleType
from typing import Any, Final

from stepwell.errors import DefinitionError, ExpressionError

EXTRA: Final = "transforms"
MOST_RESULTS: Final = 500_000
"""How many sub-expressions one query may evaluate; items and each 64 characters of what they give count too."""

LARGEST: Final = 32_000_000
"""How many characters one text of a query may have, and all texts of its result."""

LONGEST_MATCHED: Final = 1_000_000
"""How long a text may be that a regular expression is matched with."""

DEEPEST: Final = 200


class Budget:
    """Counts what a query does.

    Raises:
        ExpressionError: from `spend`, when it is too much; `said` names the query.
    """

    def __init__(self, said: str) -> None:
        self.said = said
        self.left = MOST_RESULTS
        self.depth = 0

    def spend(self, result: object) -> None:
        """A sub-expression has given `result`."""
        size = len(result) if isinstance(result, str | list | dict) else 0
        if isinstance(result, str):
            if size > LARGEST:
                raise self.over(f"a text of more than {LARGEST:,} characters")
            size //= 64
        self.left -= 1 + size // 8
        if self.left < 0:
            raise self.over(f"more than {MOST_RESULTS:,} steps")

    def over(self, what: str) -> ExpressionError:
        """The error of a query that is too costly."""
        return ExpressionError(f"{self.said} takes {what}; ask for less, or do it in a task")


def plain(found: Any, budget: Budget, depth: int = 0) -> Any:  # Any: what a query gave in, JSON out
    """A copy of a result as plain JSON, so that what shares its parts many times over is counted, and not kept."""
    budget.spend(found)
    if found is None or isinstance(found, bool | int):
        return found
    if isinstance(found, str):
        budget.left -= len(found) * MOST_RESULTS // LARGEST
        return str(found)
    if isinstance(found, float):
        if not math.isfinite(found):
            raise ExpressionError(f"{budget.said} gives {found}, which is no JSON")
        return int(found) if found.is_integer() and abs(found) < 2**53 else found
    if depth >= DEEPEST:
        raise budget.over(f"more than {DEEPEST} levels of nesting")
    if isinstance(found, dict):
        return {str(key): plain(one, budget, depth + 1) for key, one in found.items()}
    if isinstance(found, list | tuple | range):
        return [plain(one, budget, depth + 1) for one in found]
    raise ExpressionError(f"{budget.said} gives a {type(found).__name__}, which is no JSON")


def length(args: list[Any], index: int) -> int:  # Any: JSON
    """How long the argument at this place is, if it has a length."""
    found = args[index] if index < len(args) else None
    return len(found) if isinstance(found, str | list) else 0


def shown(found: object) -> str:
    """The beginning of an expression, for an error."""
    text = found if isinstance(found, str) else repr(found)
    return text if len(text) <= 200 else f"{text[:199]}…"


def extra(name: str) -> ModuleType:
    """A library of the extra `stepwell[transforms]`. Raises `DefinitionError` when it is not installed.

    jsonata-python lets the whole process recurse ten times as deep when it is imported: values that are nested too deep
    would then end a thread with a small stack, and the process with it. That is taken back.
    """
    limit = sys.getrecursionlimit()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DefinitionError(
            f"{name} expressions need the extra {EXTRA!r}: pip install 'stepwell[{EXTRA}]' ({error})"
        ) from None
    finally:
        if sys.getrecursionlimit() != limit:
            sys.setrecursionlimit(limit)
