"""What does a JMESPath expression (https://jmespath.org) give? Walked by the library jmespath, within a budget."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from stepwell.errors import ExpressionError
from stepwell.nodes.parts.budget import LARGEST, Budget, extra, length, shown


def evaluate(expression: str, about: object, budget: Budget) -> object:
    """What an expression gives, as the library has it.

    Raises:
        ExpressionError: it is malformed, fails, or is too costly.
        DefinitionError: the library is not installed.
    """
    module = extra("jmespath")
    parsed = compiled(expression)
    try:
        return _walker(module)(budget).visit(parsed, about)
    except module.exceptions.JMESPathError as error:
        raise ExpressionError(f"{budget.said} fails on these data: {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ExpressionError(f"{budget.said} fails on these data: {type(error).__name__}: {error}") from None
    except RecursionError:
        raise budget.over("too deep a nesting") from None


@functools.cache
def _walker(module: ModuleType) -> Callable[[Budget], Any]:  # Any: the library is untyped
    interpreter = importlib.import_module("jmespath.visitor").TreeInterpreter

    class Walker(interpreter):  # type: ignore[misc, valid-type]  # the library is untyped
        """Walks an expression within a budget."""

        def __init__(self, budget: Budget) -> None:
            super().__init__()
            self._budget = budget

        def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:  # Any: the library is untyped
            result = super().visit(node, *args, **kwargs)
            self._budget.spend(result)
            return result

        def visit_function_expression(self, node: Any, value: Any) -> Any:  # Any: as above
            if node["value"] == "join":  # its result is as long as the product of what it is given
                parts = [self.visit(child, value) for child in node["children"]]
                if length(parts, 0) * length(parts, 1) > LARGEST:
                    raise self._budget.over(f"a text of more than {LARGEST:,} characters")
            return super().visit_function_expression(node, value)

    return Walker


@functools.lru_cache(maxsize=1000)
def compiled(expression: str) -> Any:  # Any: the library is untyped
    """The parsed expression; kept for the next time. Raises as `evaluate` does."""
    module = extra("jmespath")
    try:
        return module.compile(expression).parsed
    except (module.exceptions.JMESPathError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise ExpressionError(f"the jmespath expression {shown(expression)} is malformed: {text}") from None
