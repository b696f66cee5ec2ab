"""Delete runs that ended long ago, with all that belongs to them."""

from __future__ import annotations

import sys

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client, data_folder, run
from stepwell.engine.clock import SystemClock
from stepwell.model.durations import micros
from stepwell.model.lifecycle import TERMINAL
from stepwell.observe.logs import log_files
from stepwell.stores.protocol import Filter

PAGE = 1000


@cli_command
@click.option("--older-than", required=True, metavar="DURATION", help="Such as 30d or 12h: how long ago they ended.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(call: Call, older_than: str, yes: bool) -> int:
    """Delete runs that ended longer ago than --older-than, their journals, payloads and logs.

    A run with child runs goes when all of them have ended as long ago.
    """
    age = micros(older_than, "--older-than")
    before = SystemClock().now() - age
    ended = run(_ended(call, before))
    if ended and not yes:
        if call.json or not sys.stdin.isatty():
            raise click.UsageError(f"{words.count(len(ended), 'run')} would be deleted: say --yes")
        click.confirm(f"delete {words.count(len(ended), 'run')} for good?", abort=True, err=True)
    deleted = run(_delete(call, older_than, ended)) if ended else 0
    if call.json:
        call.document({"deleted": deleted})
    else:
        call.answer(f"{words.count(deleted, 'run')} deleted" if deleted else f"no run ended more than {older_than} ago")
    return OK


async def _ended(call: Call, before: int) -> list[str]:
    found: list[str] = []
    async with client(call) as app:
        page = 0
        while rows := await app.runs(Filter(status=tuple(TERMINAL), limit=PAGE, offset=page * PAGE)):
            found += [row.run_id for row in rows if row.finished_at is not None and row.finished_at < before]
            page += 1
    return found


async def _delete(call: Call, older_than: str, ended: list[str]) -> int:
    folder = data_folder(call.store) / "logs"
    async with client(call) as app:
        deleted = await app.gc(older_than=older_than)
        for run_id in ended:
            if await app.store.get(run_id) is None:
                for path in log_files(folder, run_id):
                    path.unlink(missing_ok=True)
    return deleted
