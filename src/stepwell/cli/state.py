"""Show a run's state as its journal gives it, now or after any entry."""

from __future__ import annotations

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.show import steps_as_json, waits_as_json
from stepwell.errors import RequestRefused


@cli_command
@click.argument("run")
@click.option("--at", type=click.IntRange(min=1), metavar="SEQ", help="As it was after this entry of the journal.")
def command(call: Call, run: str, at: int | None) -> int:
    """Show the state of RUN: its status, its variables, its open steps and waits."""
    return run_loop(_state(call, run, at))


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
