"""Start a new run that branches off from another one's past."""

from __future__ import annotations

from typing import Any

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.opening import me, run
from stepwell.cli.parts.settings import read_settings
from stepwell.cli.parts.verbs import branch, drive_branch
from stepwell.cli.run import read_input
from stepwell.handle import Run
from stepwell.model.ids import run_id
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run_", metavar="RUN")
@click.option("--from", "step", metavar="STEP", help="Begin with what had happened before this step, such as charge#1.")
@click.option("--at", type=click.IntRange(min=1), metavar="SEQ", help="Or: with the journal up to this entry.")
@click.option("-i", "--input", "given", metavar="JSON", help="The step's new input, whole: JSON, @FILE or -.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key of ctx.state; may be repeated.")
@click.option("--id", "id_", metavar="ID", help="The new run's id; made up when absent.")
@click.option("--reason", default="", help="Why, for the journal.")
@code_option
@click.option("--no-drive", is_flag=True, help="Only start it; do not drive it here.")
def command(
    call: Call,
    run_: str,
    step: str | None,
    at: int | None,
    given: str | None,
    settings: tuple[str, ...],
    id_: str | None,
    reason: str,
    no_drive: bool,
) -> int:
    """Start a new run that begins with the journal of RUN up to a step or entry; RUN is untouched.

    What had ended by then is not done again. 'stepwell show RUN' and 'stepwell journal RUN' list steps and entries.
    When no process drives the store, this one drives the new run, with the same progress as 'stepwell run'.
    """
    if (step is None) == (at is None):
        raise click.UsageError("say where it branches off: --from STEP or --at SEQ")
    if given is not None and step is None:
        raise click.UsageError("--input is the input of the step named with --from")
    if id_ is not None:
        run_id(id_)
    input = None if given is None else read_input(given)
    variables = read_settings(settings, "--set")
    origin = ""

    async def create(app: Stepwell, row: RunRow) -> Run[Any]:  # Any: whatever it returns
        nonlocal origin
        origin = row.run_id
        return await app.fork(
            row.run_id, before=step, at=at, new_id=id_, input=input, set=variables, by=me(), reason=reason
        )

    asked = run(branch(call, "fork", run_, create))
    return drive_branch(call, asked, origin, no_drive=no_drive)
