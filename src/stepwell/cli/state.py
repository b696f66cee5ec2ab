"""Show a run's state as its journal gives it, now or after any entry, or edit it."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client, me
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.parts.settings import read_settings
from stepwell.cli.parts.verbs import ask, leave_for_later, leave_to_driver
from stepwell.cli.show import steps_as_json, waits_as_json
from stepwell.errors import RequestRefused
from stepwell.stores.protocol import RunRow


@cli_command
@click.argument("run")
@click.option("--at", type=click.IntRange(min=1), metavar="SEQ", help="As it was after this entry of the journal.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key of ctx.state; may be repeated.")
@click.option("--unset", "gone", multiple=True, metavar="KEY", help="Remove a key of ctx.state; may be repeated.")
@click.option("--reason", default="", help="Why it is edited, for the journal.")
def command(call: Call, run: str, at: int | None, settings: tuple[str, ...], gone: tuple[str, ...], reason: str) -> int:
    """Show the state of RUN: its status, its variables, its open steps and waits.

    With --set or --unset its variables are edited instead, as an entry of its journal; VALUE is JSON, or else text. The
    body sees it the next time it looks.
    """
    if not (settings or gone):
        return run_loop(_state(call, run, at))
    if at is not None:
        raise click.UsageError("--at looks at the past, which cannot be edited: fork the run to have it otherwise")
    variables = read_settings(settings, "--set")

    async def post(app: Stepwell, row: RunRow) -> None:
        for key, value in variables.items():
            await app.set_state(row.run_id, key, value, by=me(), reason=reason)
        for key in gone:
            await app.set_state(row.run_id, key, deleted=True, by=me(), reason=reason)

    asked = ask(call, "state", run, post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda _: True)
    return leave_for_later(call, asked, "nobody drives this store now")


async def _state(call: Call, text: str, at: int | None) -> int:
    async with client(call) as app:
        row = await find_run(app, text)
        if at is not None and at >= row.next_seq:
            raise RequestRefused(f"run {row.run_id} has {row.next_seq - 1} entries; there is no entry {at}")
        state = await app.state(row.run_id, at=at)
    if call.json:
        variables = {key: words.payload(value) for key, value in state.variables.items()}
        document = {"run": row.run_id, "seq": state.seq, "at": state.updated_at, "status": state.status}
        call.document(document | {"state": variables, "steps": steps_as_json(state), "waits": waits_as_json(state)})
        return OK
    call.answer(f"{click.style(row.run_id, bold=True)} after entry {state.seq:,}, {words.moment(state.updated_at)}")
    open_steps = [f"{step.path}  attempt {step.attempt}" for step in state.steps.values()]
    waits = [f"{wait.path}" + (f"  due {words.moment(wait.due)}" if wait.due else "") for wait in state.waits.values()]
    call.answer(
        words.fields(
            [
                ("status", words.status(state.status)),
                ("steps done", f"{state.completed:,}"),
                ("open steps", "\n".join(open_steps)),
                ("waits", "\n".join(waits)),
                *((key, words.short(value, 2000)) for key, value in sorted(state.variables.items())),
            ]
        )
    )
    return OK
