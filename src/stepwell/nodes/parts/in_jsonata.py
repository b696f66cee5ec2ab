"""What does a JSONata expression (https://jsonata.org) give? Walked by the library jsonata-python, within a budget.

A regular expression runs to its end whatever it costs: only the length of the text that it is matched with is bounded.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

from stepwell.errors import ExpressionError
from stepwell.nodes.parts.budget import DEEPEST, LARGEST, LONGEST_MATCHED, Budget, extra, length, shown


def evaluate(expression: str, about: object, budget: Budget) -> object:
    """What an expression gives, as the library has it.

    Raises:
        ExpressionError: it is malformed, fails, or is too costly.
        DefinitionError: the library is not installed.
    """
    query = compiled(expression)
    errors = _errors()
    frame = query.environment

    def entered(found: object, value: object, names: object) -> None:
        budget.depth += 1
        if budget.depth > DEEPEST:
            raise budget.over(f"more than {DEEPEST} levels of nesting")

    def left(found: object, value: object, names: object, result: object) -> None:
        budget.depth -= 1
        budget.spend(result)

    frame.set_evaluate_entry_callback(entered)
    frame.set_evaluate_exit_callback(left)
    for name, limited in _limited(query, budget).items():
        frame.bind(name, limited)
    try:
        return query.evaluate(about)
    except errors as error:
        raise ExpressionError(f"{budget.said} fails on these data: {error}") from None
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError) as error:
        raise ExpressionError(f"{budget.said} fails on these data: {type(error).__name__}: {error}") from None
    except RecursionError:
        raise budget.over("too deep a nesting") from None


def _limited(compiled: Any, budget: Budget) -> dict[str, Any]:  # Any: the library is untyped
    """Functions of JSONata's that are bounded before they begin, or that would make a query give what it likes."""
    kind = type(compiled)

    def bounded(name: str, size: Callable[[list[Any]], int]) -> Any:  # Any: the library is untyped
        original = kind.static_frame.lookup(name)

        class Bounded(kind.JFunctionCallable):  # type: ignore[misc, name-defined]  # the library is untyped
            """Looks at the size of what it would make."""

            def call(self, value: Any, args: Any) -> Any:  # Any: as above
                if size(list(args or ())) > LARGEST:
                    raise budget.over(f"a text of more than {LARGEST:,} characters")
                return original.call(value, args)

        made = kind.JFunction(Bounded(), None)
        made.signature = original.signature
        made.function_name = name
        made.get_number_of_args = original.get_number_of_args
        return made

    def refused(name: str) -> Any:  # Any: as above
        def refuse(*args: object) -> object:
            raise ExpressionError(
                f"{budget.said} calls ${name}, which gives something else each time, or runs text as code; give it "
                "the value as data"
            )

        return kind.JLambda(refuse)

    return {
        "pad": bounded("pad", lambda args: abs(_number(args, 1)) * max(1, length(args, 2))),
        "join": bounded("join", lambda args: length(args, 0) * length(args, 1)),
        "replace": bounded("replace", lambda args: length(args, 0) * length(args, 2)),
        **{name: refused(name) for name in ("now", "millis", "random", "shuffle", "eval")},
    }


def _number(args: list[Any], index: int) -> int:  # Any: JSON
    found = args[index] if index < len(args) else None
    return int(found) if isinstance(found, int | float) and math.isfinite(found) else 0


def compiled(expression: str) -> Any:  # Any: the library is untyped
    """A new one each time: an expression of the library's keeps its variables and limits inside."""
    module = extra("jsonata")
    try:
        return module.Jsonata(expression, _matching)
    except (_errors(), RecursionError, ValueError) as error:
        raise ExpressionError(f"the jsonata expression {shown(expression)} is malformed: {error}") from None


def _errors() -> type[Exception]:
    found: type[Exception] = importlib.import_module("jsonata.jexception").JException
    return found


def _matching(pattern: str, flags: Any) -> Any:  # Any: the library is untyped
    compiled = importlib.import_module("jsonata.regex_engine").default_regex_engine(pattern, flags)
    return _Matcher(compiled)


class _Matcher:
    """A compiled regular expression that refuses long texts."""

    def __init__(self, pattern: Any) -> None:  # Any: a compiled pattern
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:  # Any: a pattern's method
        method = getattr(self._pattern, name)
        if name not in ("search", "finditer", "sub", "split", "match", "fullmatch", "findall"):
            return method

        def limited(*args: Any, **kwargs: Any) -> Any:  # Any: as above
            texts = [one for one in (*args, *kwargs.values()) if isinstance(one, str)]
            if any(len(one) > LONGEST_MATCHED for one in texts):
                raise ExpressionError(f"a regular expression is matched with at most {LONGEST_MATCHED:,} characters")
            return method(*args, **kwargs)

        return limited
