"""Every row of the tables of features and of other engines' behaviours names a test that is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from package import ROOT

FEATURES = ROOT / "docs" / "reference" / "features.md"
PEERS = ROOT / "docs" / "explanation" / "peers.md"

_PROOF = re.compile(r"\[`([^`]+)`\]\(([^)]+)\)")
_CLAIM = re.compile(r"[ypn]( \([^()]*(\([^()]*\))?[^()]*\))?")


def rows(page: Path) -> list[list[str]]:
    """The cells of every table row of a page, without heads and rules."""
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = {number for number, cells in enumerate(found) if set("".join(cells)) <= {"-"}}
    return [cells for number, cells in enumerate(found) if not {number, number + 1} & rules]


@cache
def names_in(file: Path) -> frozenset[str]:
    """The tests of a file; in a class `Class::test`; rows of a table of edits as parameters of their test."""
    found = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            inner = [one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}::{name}" for name in inner if name.startswith("test_")}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_"):
                found.add(node.name)
            if any(isinstance(mark, ast.Name) and mark.id == "edit" for mark in node.decorator_list):
                found.add(f"test_an_edit_between_a_crash_and_recovery[{node.name}]")
    return frozenset(found)


def proofs(cell: str) -> list[str]:
    return [name for name, _ in _PROOF.findall(cell)]


@pytest.mark.parametrize("page", [FEATURES, PEERS], ids=lambda page: page.name)
def test_every_test_that_is_named_exists_and_its_link_leads_to_its_file(page: Path) -> None:
    wrong = []
    for cells in rows(page):
        for name, target in _PROOF.findall(cells[-1]):
            path, _, test = name.partition("::")
            file = ROOT / path
            if not file.is_file() or test not in names_in(file) or (page.parent / target).resolve() != file:
                wrong.append(name)
    assert not wrong, f"{page.name}: not there, or linked to elsewhere: {wrong}"


def test_every_feature_that_is_claimed_has_its_proof_and_every_other_says_why_not() -> None:
    claims = [cells for cells in rows(FEATURES) if len(cells) > 2]
    assert len(claims) > 60
    assert {len(cells) for cells in claims} == {10}
    assert not [cells for cells in claims for claim in cells[1:-1] if not _CLAIM.fullmatch(claim)]
    bare = [cells[0] for cells in claims if cells[-2][0] in "yp" and not proofs(cells[-1])]
    assert not bare, f"claimed without a test: {bare}"
    silent = [cells[0] for cells in claims if cells[-2][0] == "n" and (not cells[-1] or proofs(cells[-1]))]
    assert not silent, f"not there, and nothing says what instead: {silent}"


def test_what_nobody_else_has_is_proven_or_said_not_to_be_there_yet() -> None:
    firsts = [cells for cells in rows(FEATURES) if len(cells) == 2]
    assert len(firsts) > 5
    assert not [what for what, proof in firsts if not proofs(proof) and not proof.startswith("not yet")]


def test_every_behaviour_of_others_has_its_counterpart() -> None:
    found = rows(PEERS)
    assert len(found) > 60
    assert not [cells[0] for cells in found if len(cells) != 3 or not proofs(cells[-1])]


def test_every_counterpart_is_in_one_of_the_tables() -> None:
    named = {name for page in (FEATURES, PEERS) for cells in rows(page) for name in proofs(cells[-1])}
    files = sorted((ROOT / "tests" / "peers").glob("test_*.py"))
    ours = {f"{file.relative_to(ROOT).as_posix()}::{name}" for file in files for name in names_in(file)}
    assert not ours - named, f"say in peers.md what they prove: {sorted(ours - named)}"
