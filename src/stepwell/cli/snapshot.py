"""Export a whole run as JSON, and import it into a store."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_group
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client, run
from stepwell.errors import ArgumentError
from stepwell.model.ids import run_id


@cli_group
def command(call: Call) -> int:
    """Take a run along: its row, journal, payloads and unconsumed messages, as one JSON document."""
    raise click.UsageError("say what to do: 'snapshot export RUN' or 'snapshot import FILE'")


@command.own("export")
@click.argument("run_", metavar="RUN")
@click.option(
    "-o", "--output", metavar="FILE", help="Where to write it, replacing what is there.  [default: standard output]"
)
@click.option("--tree", is_flag=True, help="With all runs that it started, and they theirs.")
def export(call: Call, run_: str, output: str | None, tree: bool) -> int:
    """Write RUN, in any status, as one JSON document; it is only read."""
    return run(_export(call, run_, output, tree))


async def _export(call: Call, text: str, output: str | None, tree: bool) -> int:
    async with client(call) as app:
        row = await find_run(app, text)
        data = await app.export(row.run_id, tree=tree)
    if output is None:
        call.answer(data.decode())
        return OK
    path = Path(output)
    beside = path.with_name(f".{path.name}.part")  # an interrupted export leaves no half a file under the name
    try:
        beside.write_bytes(data + b"\n")
        os.replace(beside, path)
    except OSError as error:
        raise ArgumentError(f"--output {output}: it cannot be written: {error.strerror}") from None
    if call.json:
        call.document({"run": row.run_id, "file": str(path), "bytes": len(data)})
    else:
        call.answer(f"run {row.run_id} is in {path} ({len(data):,} bytes)")
    return OK


@command.own("import")
@click.argument("file", metavar="FILE")
@click.option("--id", "id_", metavar="ID", help="Another id for the run.")
def import_(call: Call, file: str, id_: str | None) -> int:
    """Create the run in FILE (- for standard input) in this store; one that had not ended goes on here."""
    if id_ is not None:
        run_id(id_)
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ArgumentError(f"{file}: the snapshot cannot be read: {error.strerror}") from None
    return run(_import(call, data, id_))


async def _import(call: Call, data: bytes, id: str | None) -> int:
    async with client(call, create=True) as app:
        made = await app.import_run(data, id)
        row = await app.get(made.id)
    if call.json:
        call.document({"run": row.run_id, "status": row.status})
    else:
        call.answer(f"run {row.run_id} is {words.status(row.status)} here")
    return OK
