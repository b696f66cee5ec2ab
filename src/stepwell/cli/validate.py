"""Check definitions of graphs, and say all that is wrong with them at once."""

from __future__ import annotations

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.authoring.registry import Registry
from stepwell.cli.parts import faults, words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK, REFUSED
from stepwell.cli.parts.opening import run
from stepwell.cli.parts.sources import read_source
from stepwell.cli.parts.whitelist import tasks_option
from stepwell.graph.problems import Problem
from stepwell.stores.memory import MemoryStore


class Checked(msgspec.Struct, frozen=True):
    """A file, its text if it was not read from a place, and what is wrong with it."""

    file: str
    text: str | None
    problems: list[Problem]

    @property
    def is_valid(self) -> bool:
        """Whether it could be deployed."""
        return all(problem.warning for problem in self.problems)


@cli_command
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@tasks_option
def command(call: Call, files: tuple[str, ...], tasks: Registry | None) -> int:
    """Check definitions in YAML or JSON (- for standard input); nothing is stored.

    Every problem is told with its line, column and path. Without --tasks nodes may call any task, and what they hand
    over is not checked. Exits with 4 when a definition could not be deployed.
    """
    return run(_validate(call, files, tasks))


async def _validate(call: Call, files: tuple[str, ...], tasks: Registry | None) -> int:
    app = Stepwell(MemoryStore(), drive=False)
    checked = []
    for file in files:
        source, text = read_source(file)
        checked.append(Checked(file, text, await app.validate(source, tasks=tasks)))
    if call.json:
        call.document({"files": [_as_json(one) for one in checked]})
    else:
        for one in checked:
            _tell(call, one)
    return OK if all(one.is_valid for one in checked) else REFUSED


def _tell(call: Call, checked: Checked) -> None:
    faults.tell(call, checked.problems, checked.file, text=checked.text)
    verdict = click.style("valid", fg="green") if checked.is_valid else click.style("refused", fg="red")
    count = faults.counted(checked.problems)
    call.answer(f"{checked.file}: {verdict}" + (f" {words.dim(f'({count})')}" if count else ""))


def _as_json(checked: Checked) -> dict[str, object]:
    problems = [faults.as_json(one) for one in checked.problems]
    return {"file": checked.file, "valid": checked.is_valid, "problems": problems}
