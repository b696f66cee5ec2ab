"""What do rules and queries make of data? JSONLogic templates, JSONata and JMESPath, within limits.

JSONata and JMESPath belong to the extra `stepwell[transforms]` and are imported when the first expression is compiled.
Both walk their syntax tree in Python, where a `Budget` is asked at every node of it.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Final

import msgspec

from stepwell.errors import ExpressionError
from stepwell.expressions.conditions import Logic, compile_logic
from stepwell.expressions.logic import evaluate, source_of, template
from stepwell.expressions.names import Reference
from stepwell.nodes.parts import in_jmespath, in_jsonata
from stepwell.nodes.parts.budget import Budget, plain, shown
from stepwell.nodes.protocol import View

_LANGUAGES: Final[dict[str, ModuleType]] = {"jsonata": in_jsonata, "jmespath": in_jmespath}


def query(language: str, expression: str, about: object) -> object:
    """What a JSONata or JMESPath expression gives for some plain data, as plain data of its own.

    Raises:
        ExpressionError: it is malformed, fails on these data, is too costly, or gives what is no JSON.
        DefinitionError: the extra is not installed.
    """
    said = f"the {language} expression {shown(expression)}"
    budget = Budget(said)
    result = _LANGUAGES[language].evaluate(expression, about, budget)
    return plain(result, budget)


def check(language: str, expression: object) -> None:
    """Compile an expression only. Raises as `query` does."""
    if not isinstance(expression, str) or not expression.strip():
        raise ExpressionError(f"{language}: found {shown(expression)}; give an expression as text")
    _LANGUAGES[language].compiled(expression)


def logic(rule: Any, about: Any, view: View) -> object:  # Any: JSON
    """What a JSONLogic template gives for `about`, or, when that is unset, for the names that it reads.

    Raises:
        ExpressionError: it is no JSONLogic, fails on these data, or is too costly.
    """
    if about is msgspec.UNSET:
        return _compiled_logic(source_of(rule)).value(view)
    return evaluate(rule, about)


def check_logic(rule: Any, sees_names: bool) -> None:  # Any: JSON
    """Compile a JSONLogic template; one that sees the names in sight must say which.

    Raises:
        ExpressionError: it is no JSONLogic, reads the clock or chance, or reads names that it computes.
    """
    source = source_of(rule)
    if sees_names:
        _compiled_logic(source)
    facts = template(source).facts
    if not facts["deterministic"]:
        raise ExpressionError(
            f"the rule {shown(rule)} reads the clock or chance ({', '.join(facts['operators'])}): it would give "
            'something else each time; use {"var": "run.now"}, the time as the journal has it'
        )


def logic_references(rule: Any) -> tuple[Reference, ...]:  # Any: JSON
    """The names that a JSONLogic template reads when no data are given.

    Raises:
        ExpressionError: it is no JSONLogic, or reads names that it computes.
    """
    return _compiled_logic(source_of(rule)).references


@functools.lru_cache(maxsize=1000)
def _compiled_logic(source: bytes) -> Logic:
    return compile_logic(msgspec.json.decode(source))
