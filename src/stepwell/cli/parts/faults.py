"""How is what is wrong with a definition shown? Each problem with its place, the line that it is in, and a hint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.graph.problems import InvalidDefinition, Problem

SHOWN: Final = 50
"""Problems of one definition that are shown to people; `--json` has them all."""

UNCHECKED: Final = "unknown-task"
"""The code of the warning that a task is not known since none are: one line for all of them is enough for people."""

_BREAK: Final = re.compile(r"\r\n|\n|\r")
_WIDEST: Final = 110
_LARGEST: Final = 16 * 1024 * 1024


def tell(call: Call, problems: Sequence[Problem], source: str, *, text: str | None = None) -> None:
    """Say what is wrong, on standard error; `source` names the file, `text` is its content, if it is known."""
    for line in lines(problems, source, text=text):
        call.say(line)


def lines(problems: Sequence[Problem], source: str, *, text: str | None = None) -> list[str]:
    """What is wrong, line by line."""
    content = _content(source) if text is None else text
    rows = _BREAK.split(content)
    unchecked = [problem for problem in problems if problem.warning and problem.code == UNCHECKED]
    told = [problem for problem in problems if problem not in unchecked]
    shown: list[str] = []
    for problem in told[:SHOWN]:
        shown += _one(problem, source, rows)
    if len(told) > SHOWN:
        shown.append(words.dim(f"and {len(told) - SHOWN:,} more; --json shows them all"))
    if unchecked:
        calls = words.count(len(unchecked), "call")
        shown.append(words.dim(f"{source}: {calls} of tasks not checked; name the tasks with --tasks to have it done"))
    return shown


def counted(problems: Sequence[Problem]) -> str:
    """`2 problems, 1 warning`."""
    errors = sum(not problem.warning for problem in problems)
    warnings = sum(problem.warning and problem.code != UNCHECKED for problem in problems)
    parts = [words.count(errors, "problem")] if errors else []
    parts += [words.count(warnings, "warning")] if warnings else []
    return ", ".join(parts)


def as_json(problem: Problem) -> dict[str, object]:
    """A problem for `--json`; line and column are null where they are not known."""
    return {
        "code": problem.code,
        "message": problem.message,
        "path": problem.place.path,
        "line": problem.place.line or None,
        "column": problem.place.column or None,
        "hint": problem.hint or None,
        "warning": problem.warning,
    }


def refused(invalid: InvalidDefinition) -> tuple[str, Mapping[str, object]]:
    """The message of a definition that was refused, and the fields of its error for `--json`."""
    source = invalid.source or "the definition"
    message = "\n".join([f"{source}: {counted(invalid.problems)}", *lines(invalid.problems, invalid.source)])
    return message, {"source": invalid.source, "problems": [as_json(one) for one in invalid.problems]}


def _one(problem: Problem, source: str, rows: Sequence[str]) -> list[str]:
    place = problem.place
    where = ":".join(str(part) for part in (source, place.line, place.column) if part)
    colour = "yellow" if problem.warning else "red"
    kind = click.style("warning" if problem.warning else "error", fg=colour)
    found = [f"{click.style(where, bold=True)}: {kind}: {problem.message} {words.dim(f'[{problem.code}]')}"]
    if not place.line or place.path != "$":
        found.append(f"    {words.dim('at')} {place.path}")
    if 0 < place.line <= len(rows):
        found += _excerpt(rows[place.line - 1], place.line, place.column, colour)
    if problem.hint:
        found.append(f"    {words.dim('hint:')} {problem.hint}")
    return found


def _excerpt(row: str, line: int, column: int, colour: str) -> list[str]:
    """The line, cut to what fits, and a mark under the column."""
    start = max(0, column - 1 - _WIDEST // 2) if len(row) > _WIDEST else 0
    cut = "".join(one if one.isprintable() else " " for one in row[start : start + _WIDEST])
    head = f"{line:>6} | "
    mark = " " * max(0, column - 1 - start)
    return [words.dim(head) + cut, words.dim(" " * 6 + " | ") + mark + click.style("^", fg=colour)]


def _content(source: str) -> str:
    """The text of a file; "" when it cannot be read, or not as UTF-8: then no lines are shown."""
    path = Path(source) if source else None
    try:
        if path is None or not path.is_file() or path.stat().st_size > _LARGEST:
            return ""
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError):
        return ""
