"""A type checker sees through the decorators: right calls have their types, wrong ones are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

_NOTE = re.compile(r'public_api\.py:(\d+): note: Revealed type is "(.*)"$', re.MULTILINE)
_ERROR = re.compile(r"^.*: error: .*$", re.MULTILINE)
_MODULE = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])")


@pytest.fixture(scope="module")
def mypy() -> str:
    """What `mypy --strict` says of both files, in one run because most of its time goes into the package."""
    files = [str(HERE / "public_api.py"), str(HERE / "wrong_calls.py")]
    flags = ["--strict", "--no-error-summary", "--hide-error-context", "--no-pretty", "--follow-imports=silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *flags, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert not done.stderr, done.stderr
    return done.stdout


def expected() -> dict[int, str]:
    """By line of `public_api.py`: what is written behind its `reveal_type`."""
    lines = (HERE / "public_api.py").read_text("utf-8").splitlines()
    return {number: line.rsplit("  # ", 1)[1] for number, line in enumerate(lines, 1) if "reveal_type(" in line}


def short(revealed: str) -> str:
    """Without the modules that names are from, and with unions written one way: mypy's releases differ in both."""
    text = _MODULE.sub("", revealed)
    return re.sub(r"Union\[([^\[\]]*)\]", lambda union: union[1].replace(", ", " | "), text)


def test_public_calls_have_the_types_that_are_written_beside_them(mypy: str) -> None:
    assert {int(line): short(text) for line, text in _NOTE.findall(mypy)} == expected()


def test_right_calls_are_accepted_and_wrong_ones_are_refused(mypy: str) -> None:
    assert _ERROR.findall(mypy) == []
