"""Start a new run with the input of another one."""

from __future__ import annotations

from typing import Any

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.opening import me, run
from stepwell.cli.parts.verbs import branch, drive_branch
from stepwell.handle import Run
from stepwell.model.ids import run_id
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run_", metavar="RUN")
@click.option("--id", "id_", metavar="ID", help="The new run's id; made up when absent.")
@click.option("--reason", default="", help="Why, for the journal.")
@code_option
@click.option("--no-drive", is_flag=True, help="Only start it; do not drive it here.")
def command(call: Call, run_: str, id_: str | None, reason: str, no_drive: bool) -> int:
    """Start a new run with the input that RUN had, by today's code; RUN is untouched.

    When no process drives the store, this one drives the new run, with the same progress as 'stepwell run'.
    """
    if id_ is not None:
        run_id(id_)
    origin = ""

    async def create(app: Stepwell, row: RunRow) -> Run[Any]:  # Any: whatever it returns
        nonlocal origin
        origin = row.run_id
        return await app.rerun(row.run_id, id_, by=me(), reason=reason)

    asked = run(branch(call, "rerun", run_, create))
    return drive_branch(call, asked, origin, no_drive=no_drive)
