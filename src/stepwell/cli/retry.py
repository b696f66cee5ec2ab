"""Try again what made a run fail; what is finished stays so."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.opening import me
from stepwell.cli.parts.verbs import ask, drive_here, leave_for_later, leave_to_driver
from stepwell.model.entries import OnChange
from stepwell.model.lifecycle import RETRYABLE
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run")
@click.option("--reason", default="", help="Why, for the journal.")
@click.option(
    "--on-change",
    type=click.Choice(["pause", "rerun", "reuse", "fail"]),
    help="What to do where the code now calls a recorded step differently.",
)
@click.option("--no-drive", is_flag=True, help="Only ask for it; do not drive the run here.")
def command(call: Call, run: str, reason: str, on_change: OnChange | None, no_drive: bool) -> int:
    """Let RUN, which failed or was cancelled, go on from the steps whose failure ended it.

    When no process drives the store, this one does, with the same progress as 'stepwell run'.
    """

    async def post(app: Stepwell, row: RunRow) -> None:
        await app.retry(row.run_id, by=me(), reason=reason, on_change=on_change)

    asked = ask(call, "retry", run, post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda row: row.status not in RETRYABLE)
    if no_drive:
        return leave_for_later(call, asked, "nobody drives this store now")
    return drive_here(call, asked, beyond=asked.row.next_seq - 1, on_change=on_change)
