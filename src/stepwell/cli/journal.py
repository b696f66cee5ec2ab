"""Print a run's journal, entry by entry."""

from __future__ import annotations

import click
import msgspec

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client
from stepwell.cli.parts.opening import run as run_loop
from stepwell.model.entries import encode, kind_of
from stepwell.model.ids import SECOND
from stepwell.observe.telling import preview_of, tell
from stepwell.stores.protocol import Stored

_COLOURS = {"completed": "green", "failed": "red", "paused": "yellow", "cancelled": "yellow"}


@cli_command
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended or is paused.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only entries after this one.")
def command(call: Call, run: str, follow: bool, after: int) -> int:
    """Print the journal of RUN: every fact, in order. With --json whole entries, one a line."""
    return run_loop(_journal(call, run, follow, after))


async def _journal(call: Call, text: str, follow: bool, after: int) -> int:
    async with client(call) as app:
        row = await find_run(app, text)
        if not follow:
            async for stored in app.scan(row.run_id, after=after):
                _print(call, stored)
            return OK
        async for stored in app.follow(row.run_id, after=after):
            _print(call, stored)
            call.stdout.flush()
        row = await app.get(row.run_id)
        call.say(words.dim(f"run {row.run_id} is {row.status}"))
    return OK


def _print(call: Call, stored: Stored) -> None:
    if call.json:
        entry = msgspec.json.decode(encode(stored.entry), type=dict[str, msgspec.Raw])
        call.document({"seq": stored.seq, "epoch": stored.epoch, **entry})
        return
    entry_, kind = stored.entry, kind_of(stored.entry)
    path = getattr(entry_, "path", None)
    what = click.style(f"{kind:<20}", fg=_COLOURS.get(kind.partition(".")[2]))
    when = f"{words.moment(entry_.at)[11:]}.{entry_.at % SECOND // 1000:03}"
    parts = [str(path) if path is not None else "", tell(entry_), words.dim(preview_of(entry_))]
    call.answer(f"{stored.seq:>6}  {when}  {what}  {'  '.join(part for part in parts if click.unstyle(part))}")
