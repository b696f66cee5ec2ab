"""The catalogue is whole: each pattern has a definition that compiles, a row in the reference, and its tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from playing import PATTERNS, Stage, _calls, pattern

import stepwell

ROOT = PATTERNS.parents[1]
PAGE = ROOT / "docs" / "reference" / "patterns.md"
NUMBERS = range(1, 44)

_LINK = re.compile(r"\[`([^`]+)`\]\(([^)]+)\)")


def rows() -> dict[int, list[str]]:
    """The cells of the table's rows by number."""
    found = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.read_text("utf-8").splitlines() if line[:1] == "|"]
    return {int(cells[0]): [cell.strip() for cell in cells] for cells in found if cells[0].strip().isdigit()}


def test_there_is_one_definition_for_each_of_the_43_patterns() -> None:
    found = sorted(int(file.name[:2]) for file in PATTERNS.iterdir())
    assert found == list(NUMBERS)
    assert sorted(rows()) == list(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_pattern_is_introduced_as_the_reference_has_it_and_named_as_its_file(number: int) -> None:
    file = pattern(number)
    head, *lines = file.read_text("utf-8").splitlines()
    _, name, *_ = rows()[number]
    assert head == f"# {number} {name}"
    comment = [line for line in lines if line.startswith("#")]
    assert any(line.startswith("# Written ") for line in comment), "it says how it is written"
    assert f"id: {file.stem[3:]}" in lines


@pytest.mark.parametrize("number", NUMBERS)
def test_a_pattern_compiles_without_a_warning(number: int) -> None:
    text = pattern(number).read_text("utf-8")
    stage = Stage({})
    tasks = [stage.task(name, inputs) for name, inputs in _calls([text]).items()]
    workflow = stepwell.graph_workflow(text, tasks=tasks)
    assert workflow.name == pattern(number).stem[3:]
    assert not workflow.plan.warnings


@pytest.mark.parametrize("number", NUMBERS)
def test_the_reference_links_to_the_definition_and_names_all_the_tests_of_a_pattern(number: int) -> None:
    *_, file, tests = rows()[number]
    ((name, target),) = _LINK.findall(file)
    assert (PAGE.parent / target).resolve() == pattern(number).resolve()
    assert name == pattern(number).name
    linked = {(test, (PAGE.parent / target).resolve()) for test, target in _LINK.findall(tests)}
    assert linked == {(test, path) for test, path in _tests() if test.startswith(f"test_pattern_{number:02d}_")}
    assert linked


def _tests() -> list[tuple[str, Path]]:
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    parsed = [(file, ast.parse(file.read_text("utf-8"))) for file in files]
    return [(node.name, file) for file, tree in parsed for node in tree.body if isinstance(node, ast.FunctionDef)]
