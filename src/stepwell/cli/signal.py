"""Send a signal to a run; it is kept until the run takes it."""

from __future__ import annotations

import click
import msgspec

from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client, me
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.run import read_input
from stepwell.errors import ArgumentError


@cli_command
@click.argument("run")
@click.argument("name")
@click.option(
    "--payload", metavar="JSON", help="What it carries: JSON, @FILE, or - for standard input.  [default: null]"
)
@click.option("--key", default="", help="Makes sending it twice harmless: the second one is dropped.")
def command(call: Call, run: str, name: str, payload: str | None, key: str) -> int:
    """Send the signal NAME to RUN."""
    text = b"null" if payload is None else read_input(payload)
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"--payload is not JSON: {error}; text needs quotes of its own: '\"text\"'") from None
    return run_loop(_send(call, run, name, value, key))


async def _send(call: Call, run: str, name: str, value: object, key: str) -> int:
    async with client(call) as app:
        row = await find_run(app, run)
        is_new = await app.signal(row.run_id, name, value, key=key, by=me())
    if call.json:
        call.document({"run": row.run_id, "signal": name, "accepted": True, "new": is_new})
    elif is_new:
        call.answer(f"signal {name!r} is kept for run {row.run_id}")
    else:
        call.answer(f"signal {name!r} with key {key!r} was sent to run {row.run_id} before; nothing was added")
    return OK
