"""List queues, set their limits, pause and resume them."""

from __future__ import annotations

import click
import msgspec

from stepwell.authoring.queue import Queue
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_group
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client, run
from stepwell.errors import ArgumentError
from stepwell.model.rates import written
from stepwell.stores import tables
from stepwell.stores.tables import QueueRow

NO_LIMIT = "none"


@cli_group
def command(call: Call) -> int:
    """List queues: their limits, and how many runs wait in them and are under way."""
    return run(_list(call))


async def _list(call: Call) -> int:
    async with client(call) as app:
        rows = await app.queues()
    if call.json:
        call.document({"queues": [as_json(row) for row in rows]})
    elif rows:
        heads = ("queue", "at once", "per key", "rate", "rate per key", "waiting", "under way", "")
        call.answer(words.table(heads, [_cells(row) for row in rows], right=frozenset({5, 6})))
    else:
        call.say("no queues yet; make one with 'stepwell queues set NAME', or start a run with --queue")
    return OK


def _cells(row: QueueRow) -> tuple[str, ...]:
    queue = row.queue
    limits = [
        words.dim("any") if limit is None else f"{limit}" for limit in (queue.concurrency, queue.concurrency_per_key)
    ]
    rates = [
        words.dim("any") if limit is None else written(limit, queue.period)
        for limit in (queue.rate, queue.rate_per_key)
    ]
    paused = click.style("paused", fg="yellow") if queue.paused else ""
    return queue.name, *limits, *rates, f"{row.waiting:,}", f"{row.active:,}", paused


def as_json(row: QueueRow) -> dict[str, object]:
    """A queue for `--json`; `period` in microseconds."""
    return {**msgspec.structs.asdict(row.queue), "waiting": row.waiting, "under_way": row.active}


@command.own("set")
@click.argument("name")
@click.option("--concurrency", metavar="N", help="How many runs may be under way at once.")
@click.option("--concurrency-per-key", metavar="N", help="The same for the runs of one key.")
@click.option("--rate", metavar="RATE", help="How many are let in, such as 50/1m.")
@click.option("--rate-per-key", metavar="RATE", help="The same for the runs of one key.")
def set_queue(
    call: Call,
    name: str,
    concurrency: str | None,
    concurrency_per_key: str | None,
    rate: str | None,
    rate_per_key: str | None,
) -> int:
    """Make queue NAME, or change its limits.

    What is not given stays as it is; 'none' takes a limit away. Limits that a program gives with
    Stepwell(queues=...) are set again when it opens the store.
    """
    given = {
        "concurrency": _number(concurrency, "--concurrency"),
        "concurrency_per_key": _number(concurrency_per_key, "--concurrency-per-key"),
        "rate": rate,
        "rate_per_key": rate_per_key,
    }
    return run(_set(call, name, {key: value for key, value in given.items() if value is not None}))


async def _set(call: Call, name: str, given: dict[str, int | str]) -> int:
    async with client(call, create=True) as app:
        known = next((row.queue for row in await app.queues() if row.queue.name == name), tables.Queue(name=name))
        fields: dict[str, object] = {
            "concurrency": known.concurrency,
            "concurrency_per_key": known.concurrency_per_key,
            "rate": None if known.rate is None else written(known.rate, known.period),
            "rate_per_key": None if known.rate_per_key is None else written(known.rate_per_key, known.period),
        }
        fields |= {key: None if value == NO_LIMIT else value for key, value in given.items()}
        await app.put_queue(Queue(name, **fields))  # type: ignore[arg-type]  # checked there
        row = next(row for row in await app.queues() if row.queue.name == name)
    return _say(call, row)


@command.own("pause")
@click.argument("name")
def pause_queue(call: Call, name: str) -> int:
    """Let no run into queue NAME; those that are under way go on."""
    return run(_set_paused(call, name, paused=True))


@command.own("resume")
@click.argument("name")
def resume_queue(call: Call, name: str) -> int:
    """Let runs into queue NAME again."""
    return run(_set_paused(call, name, paused=False))


async def _set_paused(call: Call, name: str, *, paused: bool) -> int:
    async with client(call) as app:
        await (app.pause_queue(name) if paused else app.resume_queue(name))
        row = next(row for row in await app.queues() if row.queue.name == name)
    return _say(call, row)


def _say(call: Call, row: QueueRow) -> int:
    if call.json:
        call.document(as_json(row))
    else:
        call.answer(
            f"queue {row.queue.name} {'is paused' if row.queue.paused else 'lets runs in'}: "
            f"{row.active:,} under way, {row.waiting:,} waiting"
        )
    return OK


def _number(text: str | None, option: str) -> int | str | None:
    if text is None or text == NO_LIMIT:
        return text
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentError(f"{option} {text}: give a whole number from 1, or 'none' for no limit")
    return int(text)
