"""Start a new run with the input of another one, or of a graph with all that came before one of its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.graphs import file_in
from stepwell.cli.parts.opening import me, run
from stepwell.cli.parts.verbs import branch, drive_branch, target_of
from stepwell.handle import Run
from stepwell.model.ids import run_id
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run_", metavar="RUN")
@click.option(
    "--from", "node", metavar="NODE", help="Of a graph: do only this node, such as each:17/image, and what follows."
)
@click.option("--version", default="", metavar="VERSION", help="Of a graph: by this version, a label or digest.")
@click.option("--id", "id_", metavar="ID", help="The new run's id; made up when absent.")
@click.option("--reason", default="", help="Why, for the journal.")
@code_option
@click.option("--no-drive", is_flag=True, help="Only start it; do not drive it here.")
def command(call: Call, run_: str, node: str | None, version: str, id_: str | None, reason: str, no_drive: bool) -> int:
    """Start a new run with the input that RUN had, by today's code; RUN is untouched.

    With --from the new run takes over what RUN, of a graph, has done, but for a node and all that follows from it, and
    stays with its version unless another one is named. When no process drives the store, this one drives the new run,
    with the same progress as 'stepwell run'.
    """
    if id_ is not None:
        run_id(id_)
    origin = ""

    async def create(app: Stepwell, row: RunRow) -> Run[Any]:  # Any: whatever it returns
        nonlocal origin
        origin = row.run_id
        if node is not None:
            return await app.rerun_from(row.run_id, node, version=version, new_id=id_, by=me(), reason=reason)
        wanted = version or await _in_file_today(app, row)
        return await app.rerun(row.run_id, id_, by=me(), reason=reason, version=wanted)

    asked = run(branch(call, "rerun", run_, create))
    return drive_branch(call, asked, origin, no_drive=no_drive)


async def _in_file_today(app: Stepwell, row: RunRow) -> str:
    """The version of the definition in the file that the run was started from; "" when it was none, or it is gone."""
    file = file_in(await target_of(app, row)) if row.parent is None else None
    if file is None or not file.is_file():
        return ""
    deployed = await app.deploy(Path(file), activate=False, by=me())
    return deployed.digest if deployed.name == row.workflow else ""
