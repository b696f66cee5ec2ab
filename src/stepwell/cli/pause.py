"""Pause a run: attempts in flight end, no new one starts."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.bulk import Many, bulk_options, for_all
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.opening import me
from stepwell.cli.parts.verbs import ask, drive_here, leave_to_driver
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run", required=False)
@bulk_options
@click.option("--reason", default="", help="Why, for the journal.")
def command(call: Call, run: str, many: Many | None, reason: str) -> int:
    """Pause RUN, or with --where or --all many runs.

    RUN is a run's id or an unambiguous beginning of one. Timers and signals that come meanwhile are kept.
    """
    if many is not None:
        return for_all(call, "pause", many, lambda app, where: app.pause_all(where, by=me(), reason=reason))

    async def post(app: Stepwell, row: RunRow) -> None:
        await app.pause(row.run_id, by=me(), reason=reason)

    asked = ask(call, "pause", run, post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda row: row.status in SET_ASIDE | TERMINAL)
    return drive_here(call, asked, beyond=0, settle=lambda state: state.pause is not None or state.ended is not None)
