"""Publish an event on a topic, for all runs that wait for it and for triggers; it is kept for those that wait later."""

from __future__ import annotations

import click
import msgspec

from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.run import read_input
from stepwell.errors import ArgumentError
from stepwell.model import cloudevents

SOURCE = "stepwell"


@cli_command
@click.argument("topic", required=False)
@click.option("--data", metavar="JSON", help="What there is to know: JSON, @FILE, or - for standard input.")
@click.option("--id", default="", help="With the source the event's identity: a second one of both is not published.")
@click.option("--source", help=f"Who publishes.  [default: {SOURCE}]")
@click.option("--subject", default="", help="What it is about, within the source.")
@click.option("--transient", is_flag=True, help="For those who wait now; it is not kept for others.")
@click.option(
    "--event", metavar="FILE", help="A whole CloudEvent as JSON, kept as it is: a file, or - for standard input."
)
def command(
    call: Call,
    topic: str | None,
    data: str | None,
    id: str,
    source: str | None,
    subject: str,
    transient: bool,
    event: str | None,
) -> int:
    """Publish an event on TOPIC, or with --event the one in a file, whose type is its topic."""
    if event is not None:
        if topic is not None or data is not None or id or source is not None or subject:
            raise click.UsageError("--event gives topic, data, id, source and subject: leave them out beside it")
        whole = _read(event if event == "-" else f"@{event}", "--event")
        return run_loop(_publish_event(call, whole, transient))
    if not topic:
        raise click.UsageError("name the TOPIC, or give a whole event with --event FILE")
    text = b"null" if data is None else _read(data, "--data")
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"--data is not JSON: {error}; text needs quotes of its own: '\"text\"'") from None
    return run_loop(_publish(call, topic, value, id, SOURCE if source is None else source, subject, transient))


def _read(given: str, option: str) -> bytes:
    try:
        return read_input(given)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("--input", option)) from None


async def _publish(call: Call, topic: str, value: object, id: str, source: str, subject: str, transient: bool) -> int:
    async with client(call) as app:
        is_new = await app.publish(topic, value, id=id, source=source, subject=subject, transient=transient)
    return _tell(call, topic, source, id, is_new, transient)


async def _publish_event(call: Call, whole: bytes, transient: bool) -> int:
    found = cloudevents.read(whole)
    async with client(call) as app:
        is_new = await app.publish_event(whole, transient=transient)
    return _tell(call, found.type, found.source, found.id, is_new, transient)


def _tell(call: Call, topic: str, source: str, id: str, is_new: bool, transient: bool) -> int:
    if call.json:
        call.document({"topic": topic, "source": source, "id": id or None, "accepted": True, "new": is_new})
    elif not is_new:
        call.answer(f"event {id!r} of source {source!r} was published before; nothing was added")
    elif transient:
        call.answer(f"event {topic!r} is published to whoever waits for it now")
    else:
        call.answer(f"event {topic!r} is published")
    return OK
