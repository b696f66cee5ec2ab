"""Let a paused or stuck run go on, or one whose process has ended."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.bulk import Many, bulk_options, for_all
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.opening import me
from stepwell.cli.parts.verbs import ask, drive_here, leave_for_later, leave_to_driver
from stepwell.model.entries import OnChange
from stepwell.model.lifecycle import SET_ASIDE
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run", required=False)
@bulk_options
@click.option("--reason", default="", help="Why, for the journal.")
@click.option(
    "--on-change",
    type=click.Choice(["pause", "rerun", "reuse", "fail"]),
    help="What to do where the code now calls a recorded step differently.",
)
@code_option
@click.option("--no-drive", is_flag=True, help="Only ask for it; do not drive the run here.")
def command(call: Call, run: str, many: Many | None, reason: str, on_change: OnChange | None, no_drive: bool) -> int:
    """Let RUN go on, or with --where or --all many runs.

    When no process drives the store, this one does, with the same progress as 'stepwell run'. Nothing that is
    finished is done again.
    """
    if many is not None:
        return for_all(
            call,
            "resume",
            many,
            lambda app, where: app.resume_all(where, by=me(), reason=reason, on_change=on_change),
        )

    async def post(app: Stepwell, row: RunRow) -> None:
        await app.resume(row.run_id, by=me(), reason=reason, on_change=on_change)

    asked = ask(call, "resume", run, post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda row: row.status not in SET_ASIDE)
    if no_drive:
        return leave_for_later(call, asked, "nobody drives this store now")
    beyond = asked.row.next_seq - 1 if asked.row.status in SET_ASIDE else 0
    return drive_here(call, asked, beyond=beyond, on_change=on_change)
