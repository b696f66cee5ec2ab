"""Try again what made a run fail; what is finished stays so."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.bulk import Many, bulk_options, for_all
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.opening import me
from stepwell.cli.parts.verbs import ask, drive_here, leave_for_later, leave_to_driver
from stepwell.cli.run import read_input
from stepwell.model.entries import OnChange
from stepwell.model.lifecycle import RETRYABLE
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run", required=False)
@bulk_options
@click.option("--step", "steps", multiple=True, metavar="STEP", help="A failed step that --input is for.")
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="JSON",
    help="Its new input, whole: JSON, @FILE or -. Without --step it is for the only step that failed.",
)
@click.option("--reason", default="", help="Why, for the journal.")
@click.option(
    "--on-change",
    type=click.Choice(["pause", "rerun", "reuse", "fail"]),
    help="What to do where the code now calls a recorded step differently.",
)
@code_option
@click.option("--no-drive", is_flag=True, help="Only ask for it; do not drive the run here.")
def command(
    call: Call,
    run: str,
    many: Many | None,
    steps: tuple[str, ...],
    inputs: tuple[str, ...],
    reason: str,
    on_change: OnChange | None,
    no_drive: bool,
) -> int:
    """Let RUN, which failed or was cancelled, go on from the steps whose failure ended it.

    When no process drives the store, this one does, with the same progress as 'stepwell run'. With --where or --all
    many runs are retried: those that failed, unless a status is named.
    """
    if len(steps) != len(inputs) and (steps or len(inputs) != 1):
        raise click.UsageError("--step and --input belong together: one of each for every step that is edited")
    if many is not None and inputs:
        raise click.UsageError("--input edits the steps of one RUN")
    if many is not None:
        return for_all(
            call,
            "retry",
            many,
            lambda app, where: app.retry_all(where, by=me(), reason=reason, on_change=on_change),
        )

    async def post(app: Stepwell, row: RunRow) -> None:
        named = steps or (await _only_failed(app, row.run_id) if inputs else ())
        edits = {step: read_input(given) for step, given in zip(named, inputs, strict=True)}
        await app.retry(row.run_id, inputs=edits, by=me(), reason=reason, on_change=on_change)

    asked = ask(call, "retry", run, post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda row: row.status not in RETRYABLE)
    if no_drive:
        return leave_for_later(call, asked, "nobody drives this store now")
    return drive_here(call, asked, beyond=asked.row.next_seq - 1, on_change=on_change)


async def _only_failed(app: Stepwell, run_id: str) -> tuple[str, ...]:
    failed = (await app.state(run_id)).failed_steps
    if len(failed) != 1:
        found = ", ".join(map(str, failed)) or "none"
        raise click.UsageError(f"run {run_id} has no single failed step ({found}): name the one to edit with --step")
    return (str(failed[0]),)
