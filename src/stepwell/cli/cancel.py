"""Cancel a run; its workflow may clean up."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.bulk import Many, bulk_options, for_all
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.opening import me
from stepwell.cli.parts.verbs import ask, drive_here, leave_to_driver
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run", required=False)
@bulk_options
@click.option("--reason", default="", help="Why, for the journal.")
def command(call: Call, run: str, many: Many | None, reason: str) -> int:
    """Cancel RUN, or with --where or --all many runs.

    The workflow may clean up: its body gets asyncio.CancelledError. When no process drives the store, this one does
    until the run has ended.
    """
    if many is not None:
        return for_all(call, "cancel", many, lambda app, where: app.cancel_all(where, by=me(), reason=reason))

    async def post(app: Stepwell, row: RunRow) -> None:
        await app.cancel(row.run_id, by=me(), reason=reason)

    asked = ask(call, "cancel", run, post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda row: row.status in TERMINAL)
    return drive_here(call, asked, beyond=asked.row.next_seq - 1, settle=lambda state: state.ended is not None)
