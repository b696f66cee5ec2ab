"""Print what a run's tasks emit, as it comes: text as one text, anything else as JSON, a line each."""

from __future__ import annotations

import click
import msgspec

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import FAILED, OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client
from stepwell.cli.parts.opening import run as run_loop
from stepwell.usecases.streams import Chunk


@cli_command
@click.argument("run")
@click.option("--step", default="", metavar="PATH", help="Only what this step emits.")
def command(call: Call, run: str, step: str) -> int:
    """Print what the tasks of RUN emit: what there is, then what comes, until the run has ended or is paused.

    Chunks of text are joined, as a language model's are; others are printed as JSON, one a line. With --json each chunk
    is a line, with its step, attempt and number. The exit code is 1 when the run has not completed.
    """
    return run_loop(_stream(call, run, step))


async def _stream(call: Call, text: str, step: str) -> int:
    page = _Page(call)
    async with client(call) as app:
        row = await find_run(app, text)
        async for chunk in app.stream(row.run_id, step=step):
            page.add(chunk)
        page.end_line()
        row = await app.get(row.run_id)
    if row.status == "completed":
        return OK
    call.say(f"run {row.run_id} is {words.status(row.status)}:  {call.command('show', row.run_id)}")
    return FAILED


class _Page:
    """What has been printed, as far as it matters for what comes next."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._is_in_line = False
        self._source: tuple[str, int] | None = None

    def add(self, chunk: Chunk) -> None:
        """Print one more; where another step or attempt goes on, the line is ended and that is said."""
        if self._call.json:
            self._call.document(chunk)
            self._call.stdout.flush()
            return
        source = (chunk.step, chunk.attempt)
        if self._source not in (None, source):
            self.end_line()
            self._call.say(words.dim(f"-- {chunk.step}, attempt {chunk.attempt}"))
        self._source = source
        if isinstance(chunk.value, str):
            click.echo(chunk.value, file=self._call.stdout, nl=False)
            self._is_in_line = not chunk.value.endswith("\n") if chunk.value else self._is_in_line
        else:
            self.end_line()
            click.echo(msgspec.json.encode(chunk.value), file=self._call.stdout)
        self._call.stdout.flush()

    def end_line(self) -> None:
        """Begin a new line, unless this one is empty."""
        if self._is_in_line:
            click.echo(file=self._call.stdout)
            self._is_in_line = False
