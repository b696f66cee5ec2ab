"""Write a copy of the store while work goes on."""

from __future__ import annotations

from pathlib import Path

import click

from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client, run


@cli_command
@click.argument("file", type=click.Path(path_type=Path))
def command(call: Call, file: Path) -> int:
    """Write a consistent copy of the store to FILE, which must not exist yet. Runs go on meanwhile."""
    run(_backup(call, file))
    size = file.stat().st_size
    if call.json:
        call.document({"file": str(file.resolve()), "bytes": size})
    else:
        call.answer(f"{file}: {size:,} bytes")
    return OK


async def _backup(call: Call, file: Path) -> None:
    async with client(call) as app:
        await app.backup(file)
