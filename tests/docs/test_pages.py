"""Every program in the docs runs, and prints what the page says it prints."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from doc_pages import ROOT, Scenario, blocks_of, pages

from stepwell import Stepwell

_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _programs() -> list[object]:
    """The tutorial's pages in the default run, the many others in the campaign."""
    return [
        pytest.param(
            page,
            id=page.relative_to(ROOT).as_posix(),
            marks=[] if page.parent.name in ("tutorial", ROOT.name) else [pytest.mark.campaign],
        )
        for page in pages()
    ]


@pytest.mark.parametrize("page", _programs())
def test_every_program_on_the_page_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    Scenario(page, tmp_path).run()


def all_pages() -> list[Path]:
    return [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link[0]]
    broken = [target for target, _ in links if not (page.parent / target).exists()]
    assert not broken, f"{page.relative_to(ROOT)} links to {broken}, which are not there"


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_page_begins_with_a_title_and_has_lines_that_can_be_read(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.startswith("# "), f"{page}: the first line is the title"
    assert text.count("```") % 2 == 0, f"{page}: a fence is not closed"


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_whole_definition_on_a_page_can_be_deployed(page: Path) -> None:
    app = Stepwell("memory://", drive=False)
    for block in blocks_of(page):
        if block.language == "yaml" and re.search(r"^(stepwell|workflow_id):", block.text, re.MULTILINE):
            problems = asyncio.run(app.validate(block.text))
            wrong = [str(problem) for problem in problems if not problem.warning]
            assert not wrong, f"{page.relative_to(ROOT)}:{block.line}: {wrong}"


def test_every_page_can_be_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    listed = {target for target, _ in _LINK.findall(index)}
    missing = [
        path.relative_to(ROOT / "docs").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
        if path.name != "README.md" and path.relative_to(ROOT / "docs").as_posix() not in listed
    ]
    assert not missing, f"docs/README.md does not lead to {missing}"


def test_the_readme_shows_the_two_commands_once_each_on_one_line() -> None:
    commands = [block.text for block in blocks_of(ROOT / "README.md") if block.language == "sh"][:2]
    assert [text.count("\n") for text in commands] == [1, 1]
    assert "stepwell demo" in commands[0]
    assert "pytest" in commands[1]


def test_the_integration_runs_the_readme_s_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, ".ci/run is not executable"
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "README.md" in script.read_text("utf-8")
