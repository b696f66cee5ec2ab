"""Run a workflow, a graph or a task, and follow it to its end."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from stepwell.app import Durability, Stepwell
from stepwell.authoring.graph import GraphWorkflow
from stepwell.cli.parts import detaching, words
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.driving import Driver, has_unheard_pause
from stepwell.cli.parts.endings import FAILED, OK, TargetMissing
from stepwell.cli.parts.graphs import deployed_graph, graph_in_file, may_be_deployed
from stepwell.cli.parts.opening import client, engine, me, store_path
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.parts.reporting import Driven, cause_of, output_of, report
from stepwell.cli.parts.screens import screen_for
from stepwell.cli.parts.sources import STDIN, is_definition_file
from stepwell.cli.parts.starts import start_options
from stepwell.cli.parts.targets import LABEL, Target, find_target
from stepwell.errors import ArgumentError, StoreBusy
from stepwell.model.entries import OnChange
from stepwell.model.ids import run_id as checked_id
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.model.state import State
from stepwell.starting import StartOptions
from stepwell.stores.protocol import RunRow


class Order(msgspec.Struct, frozen=True):
    """What is to be run, and how."""

    target: Target
    data: msgspec.Raw
    id: str | None
    options: StartOptions
    labels: dict[str, str]
    on_change: OnChange | None

    async def start(self, app: Stepwell) -> str:
        """Start it, or find it; returns the run's id."""
        labels = {**self.labels, LABEL: self.target.label}
        options: StartOptions = {**self.options, "id": self.id, "labels": labels, "by": me()}
        return (await app.start_encoded(self.target.workflow, self.data, **options)).id


@cli_command
@click.argument("target")
@click.option("-i", "--input", "given", metavar="JSON", help="The input: JSON, @FILE, or - for standard input.")
@click.option("--id", "id_", metavar="ID", help="The run's id; the same id and input again goes on with that run.")
@click.option("--version", default="", metavar="VERSION", help="Of a deployed workflow: a label or digest.")
@click.option("--until", default="", metavar="NODE", help="Of a graph: run NODE and what leads to it only.")
@code_option
@click.option("--detach", is_flag=True, help="Start it in the background and return at once.")
@click.option("--priority", type=int, help="Higher goes first.  [default: the workflow's, else 0]")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="For finding the run; may be repeated.")
@start_options
@click.option(
    "--durability",
    type=click.Choice(["sync", "async", "exit", "memory"]),
    default="sync",
    show_default=True,
    help="When outcomes are written: before what depends on them, soon, at the end, never.",
)
@click.option(
    "--on-change",
    type=click.Choice(["pause", "rerun", "reuse", "fail"]),
    help="What to do where the code now calls a recorded step differently.",
)
def command(
    call: Call,
    target: str,
    given: str | None,
    id_: str | None,
    version: str,
    until: str,
    detach: bool,
    priority: int | None,
    labels: tuple[str, ...],
    start: StartOptions,
    durability: Durability,
    on_change: OnChange | None,
) -> int:
    """Run TARGET and follow it to its end.

    TARGET is file.py:name, module:name, or file.py when it has one workflow; a definition of a graph (flow.yaml, - for
    standard input), or the name of a deployed one. The result is printed as JSON; progress goes to standard error.
    Ctrl-C pauses the run; twice stops at once. Nothing that is finished is done again.
    """
    if id_ is not None:
        checked_id(id_)
    found = _find(call, target, version, is_checked=not detach or bool(call.tasks))
    data = found.workflow.codec.parse(read_input(given))
    options: StartOptions = {**start, "priority": priority, "durability": durability, "until": until or None}
    order = Order(found, data, id_, options, read_labels(labels), on_change)
    if detach:
        if durability == "memory":
            raise click.UsageError("--detach with --durability memory: such a run lives in the process that runs it")
        return detaching.detach(call, order.start)
    return run_loop(_run(call, order))


def _find(call: Call, text: str, version: str, *, is_checked: bool) -> Target:
    """The workflow that the target names: in a file, in the store, or in a script or module."""
    if text == STDIN or is_definition_file(text):
        if version:
            raise click.UsageError("--version is for deployed workflows; a file has one version")
        return graph_in_file(text, call.tasks, checked=is_checked)
    deployed = None
    if may_be_deployed(text):
        deployed = run_loop(_find_deployed(call, text, version, is_checked))
    elif version:
        raise click.UsageError("--version is for deployed workflows: give the name of one as TARGET")
    if deployed is not None:
        return deployed
    try:
        return find_target(text)
    except TargetMissing as error:
        if may_be_deployed(text):
            raise TargetMissing(f"{error}; and no workflow {text!r} is deployed in this store") from None
        raise


async def _find_deployed(call: Call, name: str, version: str, is_checked: bool) -> Target | None:
    path = store_path(call.store)
    if path is not None and not path.exists() and not version:
        return None
    async with client(call) as app:
        return await deployed_graph(app, name, version, call.tasks, checked=is_checked)


async def _run(call: Call, order: Order) -> int:
    screen = screen_for(call)
    app = engine(call, order.target.workflows, order.target.tasks)
    await app.store.open()  # before the engine: it may take the run up at once
    known = await app.store.get(order.id) if order.id is not None else None
    undo = known is not None and await has_unheard_pause(app.store, known.run_id)
    try:
        await app.open()
    except StoreBusy as busy:
        raise StoreBusy(f"{busy}. With --detach the run is handed to that process") from None
    try:
        driver = Driver(call, app, screen, on_change=order.on_change, undo_pause=undo)
        with driver.listening():
            id = await order.start(app)
            if known is not None and known.status in TERMINAL:
                return await _over(call, app, known)
            driven = await _drive(call, app, driver, order, id, known)
        return report(call, id, driven)
    finally:
        await app.close()


async def _drive(call: Call, app: Stepwell, driver: Driver, order: Order, id: str, known: RunRow | None) -> Driven:
    beyond = 0
    if known is not None and known.status in SET_ASIDE:
        beyond = known.next_seq - 1
        await app.resume(id, by=me(), reason="run again", on_change=order.on_change)
    state = await app.state(id)
    event: dict[str, Any] = {"event": "started", "run": id, "workflow": order.target.workflow.name}
    event |= {"existed": known is not None, "steps_done": state.completed}
    text = f"run {click.style(id, bold=True)} of {order.target.workflow.name}"
    if known is not None:
        text += f" goes on: {words.count(state.completed, 'step')} done before"
        if isinstance(order.target.workflow, GraphWorkflow) and state.version != order.target.workflow.version:
            text += f", under version {state.version} ({order.target.workflow.version} is for new runs)"
    return await driver.drive(id, again=call.command("resume", id), beyond=beyond, event=event, text=text)


async def _over(call: Call, app: Stepwell, row: RunRow) -> int:
    """The run had ended before: show how, and do nothing."""
    state: State = await app.state(row.run_id)
    completed = state.ended == "completed"
    output = await output_of(app, row.run_id, state) if completed else b""
    when = words.moment(row.finished_at)
    if call.json:
        event: dict[str, Any] = {"event": "ended", "run": row.run_id, "status": row.status, "before": True}
        event |= {"finished_at": row.finished_at}
        event |= {"result": words.payload(output)} if completed else {"error": words.as_json(state.error)}
        call.document(event)
        return OK if completed else FAILED
    if completed:
        call.say(f"run {row.run_id} had {words.status('completed')} before, at {when}; nothing was run")
        call.answer(words.pretty(output))
        return OK
    call.say(f"run {row.run_id} ended before, at {when}; nothing was run")
    return report(call, row.run_id, Driven(FAILED, state, cause=await cause_of(app, row.run_id, state)))


def read_input(given: str | None) -> bytes:
    """The JSON text of `--input`.

    Raises:
        ArgumentError: the file cannot be read.
    """
    if given is None:
        return b"{}"
    if given == "-":
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        return given.encode("utf-8", "surrogateescape")
    try:
        with open(given[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise ArgumentError(f"--input {given}: the file cannot be read: {error.strerror}") from None


def read_labels(given: tuple[str, ...]) -> dict[str, str]:
    """The labels that `--label` options give."""
    labels = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{one!r}: write KEY=VALUE", param_hint="--label")
        if key == LABEL:
            raise click.BadParameter(f"{LABEL!r} is written by this command itself", param_hint="--label")
        labels[key] = value
    return labels
