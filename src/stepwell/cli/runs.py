"""List runs, newest first."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import LOOKED_AT, did_you_mean
from stepwell.cli.parts.opening import client, run
from stepwell.engine.clock import SystemClock
from stepwell.model.durations import spoken
from stepwell.model.lifecycle import MEANING
from stepwell.stores.protocol import Filter, RunRow


@cli_command
@click.option("--status", "statuses", multiple=True, type=click.Choice(list(MEANING)), help="May be repeated.")
@click.option("--workflow", default="", help="Only runs of this workflow.")
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only runs with this label; may be repeated."
)
@click.option("--search", default="", help="Only runs whose id or workflow has this text in it.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
def command(
    call: Call, statuses: tuple[str, ...], workflow: str, labels: tuple[str, ...], search: str, limit: int
) -> int:
    """List the runs in the store, newest first."""
    pairs = {}
    for one in labels:
        key, equals, value = one.partition("=")
        if not equals:
            raise click.BadParameter(f"{one!r}: write KEY=VALUE", param_hint="--label")
        pairs[key] = value
    where = Filter(status=statuses, workflow=workflow, labels=pairs, search=search, limit=limit)
    return run(_list(call, where))


async def _list(call: Call, where: Filter) -> int:
    async with client(call) as app:
        rows = await app.runs(where)
        counts = await app.counts()
        if call.json:
            call.document({"runs": [as_json(row) for row in rows], "counts": counts})
        elif rows:
            _print(call, rows, counts, where)
        else:
            call.say(await _nothing(app, where, counts))
    return OK


def _print(call: Call, rows: list[RunRow], counts: dict[str, int], where: Filter) -> None:
    now = SystemClock().now()
    cells = [
        (
            row.run_id,
            row.workflow,
            words.status(row.status),
            words.moment(row.created_at),
            spoken((row.finished_at or now) - row.created_at) if row.finished_at else words.dim(_since(row, now)),
        )
        for row in rows
    ]
    call.answer(words.table(("run", "workflow", "status", "created", "took"), cells))
    total = sum(counts.values())
    if len(rows) < total:
        more = "; more with --limit" if len(rows) == where.limit else ""
        call.say(words.dim(f"{len(rows):,} of {words.count(total, 'run')}{more}"))


def _since(row: RunRow, now: int) -> str:
    if row.wake_at is not None and row.status == "waiting" and row.wake_at > now:
        return f"until {words.moment(row.wake_at)}"
    return f"last moved {words.ago(row.updated_at, now)}"


async def _nothing(app: Stepwell, where: Filter, counts: dict[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return "no runs yet; start one with 'stepwell run'"
    hint = ""
    if where.workflow:
        known = {row.workflow for row in await app.runs(Filter(limit=LOOKED_AT))}
        hint = "" if where.workflow in known else f"; no run has the workflow {where.workflow!r}"
        hint += did_you_mean(where.workflow, sorted(known - {where.workflow}))
    return f"none of {words.count(total, 'run')} fits{hint}"


def as_json(row: RunRow) -> dict[str, object]:
    """A row for `--json`; times in microseconds since the epoch."""
    return {
        "run": row.run_id,
        "workflow": row.workflow,
        "version": row.version,
        "status": row.status,
        "parent": row.parent,
        "root": row.root,
        "priority": row.priority,
        "labels": row.labels,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "finished_at": row.finished_at,
        "wake_at": row.wake_at,
        "entries": row.next_seq - 1,
        "owner": row.owner,
    }
