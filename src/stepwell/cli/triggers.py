"""List what starts runs by itself, make it, pause it, fire it, and see what it has fired."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_group
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client, me, run
from stepwell.cli.parts.targets import LABEL, find_target
from stepwell.cli.run import read_input, read_labels
from stepwell.engine.clock import SystemClock
from stepwell.errors import ArgumentError
from stepwell.stores.tables import Firing, TriggerRow
from stepwell.triggers.schedule import schedule
from stepwell.usecases.triggers import describe_trigger

_SCHEDULING = ("cron", "every", "at", "timezone", "jitter", "catch_up", "grace", "overlap", "start", "end")


@cli_group
def command(call: Call) -> int:
    """List triggers: what starts runs by the clock, or when an event is published."""
    return run(_list(call))


async def _list(call: Call) -> int:
    async with client(call) as app:
        triggers = await app.triggers()
    if call.json:
        call.document({"triggers": [as_json(one) for one in triggers]})
    elif triggers:
        now = SystemClock().now()
        call.answer(words.table(("trigger", "workflow", "when", "next"), [_cells(one, now) for one in triggers]))
    else:
        call.say("no triggers yet; make one with 'stepwell triggers add NAME TARGET --cron …'")
    return OK


def _cells(trigger: TriggerRow, now: int) -> tuple[str, ...]:
    if trigger.paused:
        coming = click.style("paused", fg="yellow")
    elif trigger.next_at is None:
        coming = words.dim("when it is published" if trigger.kind == "event" else "never again")
    else:
        coming = f"{words.moment(trigger.next_at)}, {words.ago(trigger.next_at, now)}"
    return trigger.name, trigger.workflow, describe_trigger(trigger), coming


def as_json(trigger: TriggerRow) -> dict[str, object]:
    """A trigger for `--json`; times in microseconds since the epoch."""
    return {
        "trigger": trigger.name,
        "kind": trigger.kind,
        "workflow": trigger.workflow,
        "when": describe_trigger(trigger),
        "spec": msgspec.Raw(trigger.spec),
        "input": msgspec.Raw(trigger.input),
        "options": msgspec.Raw(trigger.options),
        "paused": trigger.paused,
        "next_at": None if trigger.paused else trigger.next_at,
        "created_at": trigger.created_at,
        "updated_at": trigger.updated_at,
        "by": trigger.by,
    }


@command.own("add")
@click.argument("name")
@click.argument("target")
@click.option("--cron", metavar="LINE", help="Five fields, or six with seconds first, or @daily and its like.")
@click.option("--every", metavar="DURATION", help="A fixed interval, such as 15m.")
@click.option("--at", metavar="MOMENT", help="One moment, such as 2026-11-20T06:00:00+01:00.")
@click.option("--on", "topic", metavar="TOPIC", help="Each event published on this topic.")
@click.option("-i", "--input", "given", metavar="JSON", help="The runs' input: JSON, @FILE, or - for standard input.")
@click.option("--timezone", metavar="ZONE", help="Whose wall clock --cron means.  [default: UTC]")
@click.option("--jitter", metavar="DURATION", help="Fire up to so much later.")
@click.option("--catch-up", type=click.Choice(["skip", "one", "all"]), help="What was missed.  [default: one]")
@click.option("--grace", metavar="DURATION", help="Missed is what is noticed later than this.  [default: 1m]")
@click.option(
    "--overlap",
    type=click.Choice(["skip", "queue", "cancel", "allow"]),
    help="When the run before has not ended.  [default: skip; allow with --catch-up all]",
)
@click.option("--start", metavar="MOMENT", help="Nothing before this moment.")
@click.option("--end", metavar="MOMENT", help="Nothing from this moment on.")
@click.option("--where", metavar="JSON", help="With --on: only events for which this JSONLogic rule holds.")
@click.option("--data", is_flag=True, help="With --on: the input is the event's data, without its envelope.")
@click.option("--map", "mapping", metavar="JSON", help="With --on: an object of JSONLogic rules, by parameter.")
@click.option("--paused", is_flag=True, help="Make it paused.")
@click.option("--queue", metavar="NAME", help="The queue that its runs wait in.")
@click.option("--queue-key", metavar="KEY", default="", help="What the queue's limits per key count them under.")
@click.option("--priority", type=int, help="Of its runs; higher goes first.")
@click.option("--deadline", metavar="DURATION", help="How long each run may take.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="For finding its runs; may be repeated.")
def add(
    call: Call,
    name: str,
    target: str,
    topic: str | None,
    given: str | None,
    where: str | None,
    data: bool,
    mapping: str | None,
    paused: bool,
    labels: tuple[str, ...],
    **options: Any,  # Any: texts, as the schedule and the start take them
) -> int:
    """Let trigger NAME start runs of TARGET, or change the one of that name.

    They are started while a process drives the store: one of yours that knows the workflow, or 'stepwell run'.
    """
    found = find_target(target)
    scheduling = {key: options.pop(key) for key in _SCHEDULING}
    scheduling = {key: value for key, value in scheduling.items() if value is not None}
    options |= {"labels": {**read_labels(labels), LABEL: found.label}, "by": me(), "paused": paused or None}
    if topic is None:
        for option, value in (("--where", where), ("--data", data), ("--map", mapping)):
            if value:
                raise click.UsageError(f"{option} is for events: give --on too")
        plan = schedule(name, **scheduling)
        encoded = found.workflow.codec.parse(read_input(given))
        return run(_add(call, lambda app: app.schedule_encoded(plan, found.workflow, encoded, **options)))
    if scheduling or given is not None:
        raise click.UsageError(
            "with --on it is events that start runs, and their input: leave the clock and --input out"
        )
    rule, rules = _json(where, "--where"), _json(mapping, "--map")
    if rules is not None and not isinstance(rules, dict):
        raise ArgumentError("--map: write a JSON object with a rule for each parameter")
    return run(
        _add(call, lambda app: app.on(topic, found.workflow, name=name, where=rule, map=rules, data=data, **options))
    )


async def _add(call: Call, make: Any) -> int:  # Any: a coroutine function from Stepwell to TriggerRow
    async with client(call, create=True) as app:
        made: TriggerRow = await make(app)
    return _say(call, made)


def _say(call: Call, trigger: TriggerRow) -> int:
    if call.json:
        call.document(as_json(trigger))
        return OK
    what = f"trigger {trigger.name} starts runs of {trigger.workflow}, {describe_trigger(trigger)}"
    if trigger.paused:
        call.answer(f"{what}; it is paused")
    elif trigger.next_at is not None:
        call.answer(f"{what}; next at {words.moment(trigger.next_at)}")
    else:
        call.answer(what)
    return OK


@command.own("pause")
@click.argument("name")
def pause_trigger(call: Call, name: str) -> int:
    """Let trigger NAME fire nothing; its runs go on."""
    return run(_change(call, name, "pause"))


@command.own("resume")
@click.argument("name")
def resume_trigger(call: Call, name: str) -> int:
    """Let trigger NAME fire again; what came meanwhile starts nothing."""
    return run(_change(call, name, "resume"))


async def _change(call: Call, name: str, verb: str) -> int:
    async with client(call) as app:
        await (app.pause_trigger(name) if verb == "pause" else app.resume_trigger(name))
        return _say(call, await app.trigger(name))


@command.own("remove")
@click.argument("name")
def remove_trigger(call: Call, name: str) -> int:
    """Delete trigger NAME; its runs stay."""
    return run(_remove(call, name))


async def _remove(call: Call, name: str) -> int:
    async with client(call) as app:
        await app.remove_trigger(name)
    if call.json:
        call.document({"trigger": name, "removed": True})
    else:
        call.answer(f"trigger {name} is removed")
    return OK


@command.own("fire")
@click.argument("name")
def fire(call: Call, name: str) -> int:
    """Start a run of trigger NAME now."""
    return run(_fire(call, name))


async def _fire(call: Call, name: str) -> int:
    async with client(call) as app:
        started = await app.fire_trigger(name, by=me())
    return _started(call, name, [started.id])


@command.own("backfill")
@click.argument("name")
@click.argument("start")
@click.argument("end")
def fill_in(call: Call, name: str, start: str, end: str) -> int:
    """Start runs for the occasions of trigger NAME from START on and before END that have none."""
    return run(_fill_in(call, name, start, end))


async def _fill_in(call: Call, name: str, start: str, end: str) -> int:
    async with client(call) as app:
        ids = await app.backfill(name, start, end, by=me())
    return _started(call, name, ids)


def _started(call: Call, name: str, ids: list[str]) -> int:
    if call.json:
        call.document({"trigger": name, "runs": ids})
        return OK
    for id in ids:
        call.answer(id)
    call.say(f"{words.count(len(ids), 'run')} of trigger {name} accepted; whoever drives this store takes them")
    return OK


@command.own("firings")
@click.argument("name")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
def list_firings(call: Call, name: str, limit: int) -> int:
    """List what trigger NAME has fired, newest first."""
    return run(_firings(call, name, limit))


async def _firings(call: Call, name: str, limit: int) -> int:
    async with client(call) as app:
        firings = await app.firings(name, limit=limit)
        statuses = {one.run_id: await _status(app, one) for one in firings}
    if call.json:
        shown = [{**msgspec.structs.asdict(one), "status": statuses[one.run_id]} for one in firings]
        call.document({"trigger": name, "firings": shown})
    elif firings:
        cells = [
            (
                words.moment(one.occasion),
                one.run_id or words.dim("none"),
                words.status(statuses[one.run_id]) if one.run_id else "",
                one.note,
            )
            for one in firings
        ]
        call.answer(words.table(("occasion", "run", "status", "note"), cells))
    else:
        call.say(f"trigger {name} has fired nothing yet")
    return OK


async def _status(app: Stepwell, firing: Firing) -> str:
    row = await app.store.get(firing.run_id) if firing.run_id else None
    return "" if row is None else row.status


def _json(text: str | None, option: str) -> Any:  # Any: JSON
    if text is None:
        return None
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        raise ArgumentError(f"{option} is not JSON: {error}") from None
