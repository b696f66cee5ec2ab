"""Build a product catalogue from a local shop that misbehaves; kill it and start it again."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, cast

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.authoring.workflow import Workflow
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.driving import Driver, has_unheard_pause
from stepwell.cli.parts.graphs import label_of
from stepwell.cli.parts.opening import client, driver_of, engine, me
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.parts.reporting import Driven, report
from stepwell.cli.parts.screens import screen_for
from stepwell.cli.parts.targets import LABEL
from stepwell.errors import RequestRefused, StoreBusy
from stepwell.examples.catalogue.demo import Shop, describe, order, prepare
from stepwell.examples.catalogue.graph import GRAPH, TASKS, catalogue_graph
from stepwell.examples.catalogue.records import Report
from stepwell.examples.catalogue.workflow import catalogue
from stepwell.model.durations import spoken
from stepwell.model.entries import StepStarted
from stepwell.model.lifecycle import RETRYABLE, SET_ASIDE, TERMINAL
from stepwell.starting import StartOptions
from stepwell.stores.protocol import Filter, RunRow

_STORE: Final = "demo.db"
_FILES: Final = ("demo.db", "demo.db-*", "demo.db.*", "shop.json*", "shop.log", "shop-requests.*", "crash-*.txt")
_PAGE: Final = ("fetch_page", "page")
"""What the step is called that fetches a product's page: as a task in the function, as a node in the graph."""

_FOLDERS: Final = ("images", "results", "logs")


class Wanted(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    folder: Path
    items: int
    seed: int
    concurrency: int
    is_graph: bool = False

    @property
    def name(self) -> str:
        """The workflow's name."""
        return GRAPH if self.is_graph else catalogue.name

    @property
    def labels(self) -> dict[str, str]:
        """How a run for the same shop is found again."""
        return {"items": str(self.items), "seed": str(self.seed)}


class Plan(msgspec.Struct, frozen=True):
    """Which run it will be: a new one, or `row` that goes on."""

    run_id: str
    row: RunRow | None
    steps_done: int
    undo_pause: bool
    text: str


@cli_command
@click.option("--items", type=click.IntRange(min=1), default=10_000, show_default=True, help="Products in the shop.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed is another shop.")
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True, help="Products at once.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="~/.stepwell/demo",
    show_default=True,
    help="Where the demo keeps its store, pictures and results.",
)
@click.option("--graph", is_flag=True, help="Run its definition as a graph, in YAML; tasks and result are the same.")
@click.option("--fresh", is_flag=True, help="Delete what earlier demos left there, and begin anew.")
def command(call: Call, items: int, seed: int, concurrency: int, folder: Path, graph: bool, fresh: bool) -> int:
    """Build a product catalogue from a local shop that misbehaves.

    Kill it however you like (Ctrl-C, kill -9, the power switch) and start the same command again: it goes on where it
    was, and no finished product is fetched twice.
    """
    folder = folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    call.given_store = str(folder / _STORE)
    wanted = Wanted(folder, items, seed, concurrency, graph)
    if fresh:
        run_loop(_refuse_while_driven(call, folder))
        _delete(folder)
    plan = run_loop(_plan(call, wanted))
    call.say(f"A shop with {items:,} products is opened on this machine; some of its pages are slow, broken or gone.")
    call.say("Each is fetched, its picture measured and compared with all others; what looks alike is grouped.")
    call.say(plan.text)
    shop = prepare(folder, items, seed, run=plan.run_id)
    began = time.monotonic()
    driven = run_loop(_drive(call, wanted, plan, shop))
    seconds = time.monotonic() - began
    if driven.state.ended != "completed":
        return report(call, plan.run_id, driven)
    stats = shop.stats()
    shop.stop()
    again = run_loop(_finished_and_asked_again(call, plan.run_id, stats.get("fetched_again", [])))
    _print(call, shop, driven, stats, again, seconds)
    return driven.code


# -- which run ------------------------------------------------------------------------------------------------------


async def _plan(call: Call, wanted: Wanted) -> Plan:
    """Find the run to go on with, or a free id.

    Raises:
        RequestRefused: an unfinished run for another shop stands in the way.
        StoreBusy: a demo is running there.
    """
    await _refuse_while_driven(call, wanted.folder)
    async with client(call, create=True) as app:
        every = [row for name in (catalogue.name, GRAPH) for row in await app.runs(Filter(workflow=name, limit=1000))]
        for row in every:
            if row.status not in TERMINAL and not _is_for(row, wanted):
                options = " ".join(f"--{key} {row.labels.get(key, '?')}" for key in wanted.labels)
                raise RequestRefused(
                    f"an unfinished demo with {options} is in {wanted.folder}: finish it with these options, "
                    "begin anew with --fresh, or use another --dir"
                )
        mine = [row for row in every if row.workflow == wanted.name and _is_for(row, wanted)]
        latest = mine[0] if mine else None
        if latest is not None and latest.status not in ("completed", "cancelled"):
            state = await app.state(latest.run_id)
            undo = await has_unheard_pause(app.store, latest.run_id)
            done = words.count(state.completed, "step")
            text = f"Run {latest.run_id} goes on: {done} done before, none of them is done again."
            return Plan(latest.run_id, latest, state.completed, undo, text)
        number = 1
        kind = "demo-graph" if wanted.is_graph else "demo"
        while await app.store.get(run_id := f"{kind}-{wanted.items}-s{wanted.seed}-{number}") is not None:
            number += 1
    text = f"Run {run_id} begins; results go to {wanted.folder}."
    if latest is not None:
        text = f"The earlier run {latest.run_id} has {latest.status}; run {run_id} begins anew in {wanted.folder}."
    return Plan(run_id, None, 0, False, text)


def _is_for(row: RunRow, wanted: Wanted) -> bool:
    """Whether a run is for the same shop."""
    return wanted.labels.items() <= row.labels.items()


async def _refuse_while_driven(call: Call, folder: Path) -> None:
    driver = await driver_of(call)
    if driver is not None:
        raise StoreBusy(
            f"a demo is running in {folder} already ({driver}): watch it with  {call.command('runs')}  "
            "or use another --dir"
        )


def _delete(folder: Path) -> None:
    """Delete what demos have made in this folder, and nothing else."""
    from stepwell.examples.catalogue.where import ask, read_port_file

    place = read_port_file(folder)
    if place is not None:
        ask(place.url, "/end", method="POST")
    for pattern in _FILES:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


# -- the run --------------------------------------------------------------------------------------------------------


async def _drive(call: Call, wanted: Wanted, plan: Plan, shop: Shop) -> Driven:
    screen = screen_for(call, quiet_failures=True)
    async with engine(call, [_workflow(wanted)]) as app:
        driver = Driver(call, app, screen, undo_pause=plan.undo_pause)
        with driver.listening():
            beyond = await _begin(app, wanted, plan, shop)
            event: dict[str, Any] = {"event": "started", "run": plan.run_id, "workflow": wanted.name}
            event |= {"existed": plan.row is not None, "steps_done": plan.steps_done}
            event |= {"items": wanted.items, "seed": wanted.seed, "folder": str(wanted.folder)}
            return await driver.drive(plan.run_id, again=_again(), beyond=beyond, event=event)


async def _begin(app: Stepwell, wanted: Wanted, plan: Plan, shop: Shop) -> int:
    """Start the run or have it go on; returns the entry after which its end is awaited."""
    row = plan.row
    if row is None:
        given = order(shop, concurrency=wanted.concurrency)
        options: StartOptions = {"id": plan.run_id, "labels": wanted.labels, "by": me()}
        if wanted.is_graph:
            options["labels"] = {**wanted.labels, LABEL: label_of(wanted.name, [TASKS])}
            await app.start(_workflow(wanted), asdict(given), **options)
        else:
            await app.start(catalogue, given, **options)
        return 0
    if row.status in RETRYABLE:
        await app.retry(row.run_id, by=me(), reason="demo")
    elif row.status in SET_ASIDE:
        await app.resume(row.run_id, by=me(), reason="demo")
    else:
        return 0
    return row.next_seq - 1


def _workflow(wanted: Wanted) -> Workflow[..., Any]:  # Any: a report, or the same as plain data
    return catalogue_graph() if wanted.is_graph else catalogue


def _again() -> str:
    """The same command, as it was typed; `--fresh` would throw away what it is to go on with."""
    return " ".join(["stepwell", *(word for word in sys.argv[1:] if word != "--fresh")])


# -- how it went ----------------------------------------------------------------------------------------------------


async def _finished_and_asked_again(call: Call, run_id: str, fetched: list[int]) -> list[int]:
    """Of the pages that the shop served more than once, those whose step was not tried more than once.

    A step that was in flight when the process was killed is tried again, and so asks again; one that was finished
    never may.
    """
    if not fetched:
        return []
    numbers: dict[object, int] = {}
    attempts: dict[int, int] = {}
    async with client(call) as app:
        async for one in app.scan(run_id):
            entry = one.entry
            if isinstance(entry, StepStarted) and entry.path.name in _PAGE:
                if entry.path not in numbers:
                    numbers[entry.path] = msgspec.json.decode(entry.input)["number"]
                attempts[numbers[entry.path]] = entry.attempt
    return [number for number in fetched if attempts.get(number, 0) < 2]


def _print(
    call: Call, shop: Shop, driven: Driven, stats: dict[str, Any], again: list[int], seconds: float
) -> None:  # Any: JSON
    made = cast("Report", catalogue.codec.returns.decode(msgspec.Raw(driven.output)))
    state = driven.state
    whole = (state.updated_at - state.created_at) / 1_000_000
    peak = _peak_megabytes()
    files = [str(shop.results / name) for name in made.files]
    if call.json:
        report = msgspec.json.decode(driven.output)
        call.document(
            {
                "event": "report",
                "run": state.run_id,
                "report": report,
                "precision": made.score.precision,
                "recall": made.score.recall,
                "shop": stats,
                "finished_fetched_again": again,
                "files": files,
                "seconds_here": seconds,
                "seconds_since_created": whole,
                "peak_megabytes": peak,
            }
        )
        return
    call.answer(describe(made, stats))
    in_flight = int(stats.get("pages_fetched_again", 0)) - len(again)
    more = f" ({in_flight} were in flight when a process was killed, and were asked for again)" if in_flight else ""
    call.answer(f"finished products fetched again: {len(again)}{more}")
    call.answer(
        f"{spoken(round(seconds * 1_000_000))} here, {spoken(round(whole * 1_000_000))} since the run began; "
        f"{words.count(state.completed, 'step')}, {words.count(state.retries, 'further attempt')}"
        + (f"; peak memory {peak:,.0f} MB" if peak is not None else "")
    )
    call.answer(f"results in {shop.results}: {', '.join(made.files)}")
    call.answer(f"look at it:  {call.command('show', state.run_id)}")


def _peak_megabytes() -> float | None:
    """The most memory this process has used, without its children; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1_000_000 if sys.platform == "darwin" else peak / 1000
