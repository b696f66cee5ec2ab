"""Definitions that are well formed but cannot mean what they say: each problem is told with its place and a hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from compiling import codes, compiled, problems_of

from stepwell.graph.problems import InvalidDefinition

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("wrong_meaning.yaml").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_is_wrong_is_said_with_its_place_and_a_hint(case: dict[str, Any]) -> None:
    found = [
        {
            "code": problem.code,
            "at": [problem.place.line, problem.place.column],
            "path": problem.place.path,
            "says": problem.message,
            **({"hint": problem.hint} if problem.hint else {}),
            **({"warning": True} if problem.warning else {}),
        }
        for problem in problems_of(case["nodes"])
    ]
    assert found == case["problems"]


def test_an_invalid_definition_says_everything_in_one_error() -> None:
    with pytest.raises(InvalidDefinition) as caught:
        compiled("""
  a: {task: fetsh}
  b: {set: {x: "{{ q }}"}, needs: [a, zz]}
""")
    text = str(caught.value)
    assert "shop has 3 problems" in text
    assert "did you mean 'fetch'?" in text and "'zz'" in text and "`q`" in text
    assert [problem.place.line for problem in caught.value.problems] == sorted(
        problem.place.line for problem in caught.value.problems
    )


def test_where_no_tasks_are_known_each_name_is_one_warning() -> None:
    assert codes("  a: {task: x}\n  b: {task: x, needs: a}\n  c: {task: y, inputs: {q: 1}}", tasks=None) == [
        "unknown-task",
        "unknown-task",
    ]


def test_what_a_parser_has_said_is_not_said_again() -> None:
    assert codes("  a: {task: work, tsk: 1}\n  b: {wait: {for: [1]}}") == ["unknown-key", "wrong-setting"]


def test_a_task_may_choose_a_port_of_its_own_and_other_nodes_may_not() -> None:
    assert codes('  a: {task: work}\n  b: {noop: {}, needs: "a:later"}') == []
    assert codes('  a: {noop: {}}\n  b: {noop: {}, needs: "a:later"}') == ["unknown-port"]


def test_the_winner_of_a_race_is_a_port() -> None:
    race = "  r: {race: {branches: {one: {a: {noop: {}}}, two: {b: {noop: {}}}}}}\n"
    assert codes(race + '  c: {noop: {}, needs: "r:one"}\n  d: {noop: {}, needs: r}') == []
    assert codes(race + '  c: {noop: {}, needs: "r:three"}') == ["unknown-port"]


def test_a_thousand_problems_are_enough() -> None:
    many = "\n".join(f'  a{number}: {{set: {{x: "{{{{ nothing }}}}"}}}}' for number in range(1500))
    found = codes(many)
    assert len(found) == 1001 and found.count("too-many-problems") == 1


def test_in_the_event_dialect_a_doubtful_reference_is_a_warning() -> None:
    from compiling import SHOP, TYPES

    from stepwell.graph.compile import compile_plan
    from stepwell.graph.parse import load

    text = """
workflow_id: welcome
tasks:
  - {task_id: profile, type: work, inputs: {email: "{{ user_email }}"}, triggers: [user.created]}
  - {task_id: mail, type: work, inputs: {to: "{{ profile.mail }}"}, triggers: [profile.completed, profile.failed]}
"""
    plan = compile_plan(load(text, TYPES, tasks=SHOP.names()), TYPES, SHOP)
    assert [problem.code for problem in plan.warnings] == ["may-be-missing"]
