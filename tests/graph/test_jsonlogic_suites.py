"""The published JSONLogic suites, through our own interface; see `corpora` for where they are."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from corpora import JSONLOGIC as SUITES
from corpora import missing

from stepwell.errors import ExpressionError
from stepwell.expressions import logic
from stepwell.expressions.conditions import compile_condition, compile_logic
from stepwell.expressions.names import MappingNames

pytestmark = pytest.mark.skipif(not SUITES.is_dir(), reason=missing(SUITES))


class Case(NamedTuple):
    """One case of a suite; `fails` where an error is expected."""

    place: str
    rule: Any  # Any: JSON
    data: Any  # Any: JSON
    expected: Any  # Any: JSON
    fails: bool = False
    templating: bool = False


def _official() -> Iterator[Case]:
    for index, case in enumerate(json.loads((SUITES / "official.json").read_text())):
        if not isinstance(case, str):
            yield Case(f"official.json#{index}", *case)


def _extended() -> Iterator[Case]:
    folder = SUITES / "extended"
    for file in sorted(folder.rglob("*.json")):
        if file.name == "index.json":
            continue
        for index, case in enumerate(json.loads(file.read_text())):
            if not isinstance(case, str):
                place = f"{file.relative_to(folder)}#{index} {case.get('description', '')}"
                templating = case.get("templating", False)
                yield Case(place, case["rule"], case.get("data"), case.get("result"), "error" in case, templating)


@functools.cache
def _all() -> tuple[Case, ...]:
    return (*_official(), *_extended())


def _same(one: object, other: object) -> bool:
    """Equal as JSON: true is not 1, but 1.0 is."""
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case list(), list():
            return len(one) == len(other) and all(map(_same, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
        case _:
            return one == other


def _differs(case: Case, outcome: object) -> bool:
    failed = isinstance(outcome, ExpressionError)
    return failed != case.fails or not (failed or _same(outcome, case.expected))


def test_the_suites_are_whole() -> None:
    assert len(list(_official())) == 278
    assert len(list(_extended())) == 1565


@pytest.mark.parametrize("suite", [_official, _extended])
def test_every_case_gives_what_the_suite_says(suite: Any) -> None:  # Any: one of the two functions above
    wrong = []
    for case in suite():
        outcome: object
        try:
            outcome = logic.evaluate(case.rule, case.data, templating=case.templating)
        except ExpressionError as error:
            outcome = error
        if _differs(case, outcome):
            wrong.append((case.place, case.expected, outcome))
    assert not wrong


NAMELESS = 5
"""Cases whose rules read all data, or a name that is computed: over names they are refused, by their text alone."""


def test_every_case_that_names_what_it_reads_gives_the_same_with_only_that() -> None:
    wrong, nameless, tried = [], 0, 0
    for case in _all():
        if not isinstance(case.data, dict):
            continue
        outcome: object
        try:
            over = compile_logic(case.rule, templating=case.templating)
            tried += 1
            outcome = over.value(MappingNames(case.data))
        except ExpressionError as error:
            if not case.fails and "does not say by name what it reads" in str(error):
                nameless += 1
                continue
            outcome = error
        if _differs(case, outcome):
            wrong.append((case.place, case.expected, outcome))
    assert not wrong
    assert nameless == NAMELESS
    assert tried > 1000


def test_a_condition_holds_where_the_outcome_of_its_case_is_true() -> None:
    """JSONLogic's truth is Python's for JSON, which conditions that are templates rest on."""
    wrong = []
    for case in _all():
        if isinstance(case.rule, dict) and case.rule and isinstance(case.data, dict) and not case.templating:
            try:
                condition = compile_condition(case.rule)
                holds = condition.holds(MappingNames(case.data))
            except ExpressionError:
                continue
            if case.fails or holds is not bool(case.expected):
                wrong.append((case.place, case.expected, holds))
    assert not wrong
