"""The rules and templates that node types compile by themselves; each text is compiled once.

The expressions' modules are imported when the first rule is compiled: most node types need none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.errors import DefinitionError

if TYPE_CHECKING:
    from stepwell.expressions.conditions import Condition
    from stepwell.expressions.names import Reference
    from stepwell.expressions.templates import Value

Say = Callable[[str, str], None]


def condition(source: Any) -> Condition:  # Any: JSON
    """The compiled condition.

    Raises:
        DefinitionError: it is none.
    """
    return _condition(msgspec.json.encode(source))


def value(source: Any) -> Value:  # Any: JSON
    """The compiled template.

    Raises:
        DefinitionError: an expression in it is wrong.
    """
    return _value(msgspec.json.encode(source))


@functools.lru_cache(maxsize=2000)
def _condition(source: bytes) -> Condition:
    from stepwell.expressions.conditions import compile_condition

    return compile_condition(msgspec.json.decode(source))


@functools.lru_cache(maxsize=2000)
def _value(source: bytes) -> Value:
    from stepwell.expressions.templates import compile_value

    return compile_value(msgspec.json.decode(source))


READS_CLOCK = (
    'the rule reads the clock or chance, and would say something else when the run is rebuilt: use {"var": "run.now"}, '
    "the time as the journal has it, or let a task say"
)
"""What is wrong with a condition that asks for the time by itself."""


def check_condition(source: Any, setting: str, say: Say) -> None:  # Any: JSON
    """Say what is wrong with a condition, if anything is."""
    try:
        found = condition(source)
    except DefinitionError as error:
        say(setting, str(error))
    else:
        if found.uses_clock:
            say(setting, READS_CLOCK)


def check_value(source: Any, setting: str, say: Say) -> None:  # Any: JSON
    """Say what is wrong with the expressions of a setting that the type renders by itself, if anything is."""
    try:
        value(source)
    except DefinitionError as error:
        say(setting, str(error))


def references(
    conditions: Iterable[Any] = (), values: Iterable[Any] = (), own: Iterable[str] = ()
) -> list[Reference]:  # Any: JSON
    """What these conditions and templates refer to, the roots `own` excepted; nothing for those that are wrong.

    What is wrong with them is said by `check`.
    """
    found: list[Reference] = []
    for compiled, sources in ((condition, conditions), (value, values)):
        for source in sources:
            try:
                found.extend(compiled(source).references)
            except DefinitionError:
                continue
    mine = frozenset(own)
    return [one for one in found if one.root not in mine]
