"""Let runs go on under another version of their workflow."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.bulk import Many, for_all
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.opening import me
from stepwell.cli.parts.verbs import ask, drive_here, leave_for_later, leave_to_driver
from stepwell.model.lifecycle import SET_ASIDE
from stepwell.stores.protocol import Filter, RunRow


@cli_command
@click.argument("run", required=False)
@click.option("--to", required=True, metavar="LABEL", help='The version\'s label; "" for code without one.')
@click.option("--workflow", metavar="NAME", help="Upgrade all runs of this workflow that have not ended.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask whether all of them are meant.")
@click.option("--reason", default="", help="Why, for the journal.")
@code_option
@click.option("--no-drive", is_flag=True, help="Only ask for it; do not drive the run here.")
def command(call: Call, run: str | None, to: str, workflow: str | None, yes: bool, reason: str, no_drive: bool) -> int:
    """Let RUN, or with --workflow all runs of a workflow, go on under the version labelled LABEL.

    For a graph LABEL is the label or digest of a deployed version ("" for the one that serves new runs).
    The body is rebuilt with that version's function. Where it calls a recorded step otherwise the run is paused, with
    the difference. Attempts in flight are begun again: pause the run first where that matters.
    """
    if (run is None) == (workflow is None):
        raise click.UsageError("name one RUN, or a workflow with --workflow")
    if workflow is not None:
        return for_all(
            call,
            "upgrade",
            Many(Filter(workflow=workflow), yes),
            lambda app, where: app.upgrade_all(where, to=to, by=me(), reason=reason),
        )

    async def post(app: Stepwell, row: RunRow) -> None:
        await app.upgrade(row.run_id, to=to, by=me(), reason=reason)

    asked = ask(call, "upgrade", run or "", post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda row: row.status not in SET_ASIDE)
    if no_drive:
        return leave_for_later(call, asked, "nobody drives this store now")
    return drive_here(call, asked, beyond=asked.row.next_seq - 1 if asked.row.status in SET_ASIDE else 0)
