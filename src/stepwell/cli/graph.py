"""Draw a definition, or what happened in a run and what followed what."""

from __future__ import annotations

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.cli.parts import sources, words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.drawings import definition_as_json, drawn_lines, run_as_json
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client
from stepwell.cli.parts.opening import run as run_loop
from stepwell.errors import RunNotFound, WorkflowNotFound
from stepwell.graph.definition import Definition
from stepwell.model.versions import digest_of
from stepwell.observe.blueprint import blueprint
from stepwell.observe.diagram import dot, mermaid
from stepwell.observe.history import History
from stepwell.observe.picture import Picture, picture
from stepwell.observe.trail import Trail
from stepwell.stores.protocol import RunRow

WIDEST = 40
"""How many lanes a drawing on a terminal may have; more is for programs that draw."""


class Way(msgspec.Struct):
    """What a run's journal says for drawings: what happened, and where in its graph."""

    past: History
    trail: Trail


@cli_command
@click.argument("target", metavar="TARGET")
@click.option(
    "--format",
    "style",
    type=click.Choice(["mermaid", "dot", "ascii"]),
    help="As a Mermaid flowchart for Markdown, as a DOT graph for Graphviz, or drawn in ASCII.",
)
@click.option("--mermaid", "style", flag_value="mermaid", help="The same as --format mermaid.")
@click.option("--dot", "style", flag_value="dot", help="The same as --format dot.")
@click.option("--version", "version", metavar="VERSION", default="", help="Of a deployed workflow: which version.")
@click.option("--steps", is_flag=True, help="Of a run of a graph: its steps, and not its way through the graph.")
@click.option("--all", "everything", is_flag=True, help="Draw each item of large maps, and each of many branches.")
def command(call: Call, target: str, style: str | None, version: str, steps: bool, everything: bool) -> int:
    """Draw TARGET: a run, a definition (flow.yaml), or a deployed workflow by its name.

    Of a run: its steps, waits and child runs, and what followed what. More than eight items of a map, branches or
    rounds of a loop that are alike are drawn as one, with their number. Of a run of a graph: the graph, with what
    became of its nodes.
    """
    if sources.is_definition_file(target):
        return run_loop(_of_file(call, target, style))
    return run_loop(_of_store(call, target, style, version, steps or everything, everything))


async def _of_file(call: Call, file: str, style: str | None) -> int:
    from stepwell.graph.parse import load  # only for who draws a file
    from stepwell.nodes.registry import NodeTypes

    source, _ = sources.read_source(file)
    return _tell(call, load(source, NodeTypes.standard()), None, "", style)


async def _of_store(call: Call, text: str, style: str | None, version: str, steps: bool, everything: bool) -> int:
    async with client(call) as app:
        found = await _run_or_definition(app, text, version)
        if isinstance(found, Definition):
            return _tell(call, found, None, "", style)
        way = await read_way(app, found.run_id)
        graph = None if steps else await definition_of_run(app, found, way.trail)
    if graph is not None and not call.json:
        return _tell(call, graph, way.trail, found.status, style)
    past, status = way.past, found.status
    if call.json:
        document = run_as_json(past, picture(past, status=status, everything=everything))
        if graph is not None:
            document["graph"] = definition_as_json(graph.id, graph.digest, blueprint(graph, way.trail, status=status))
        call.document(document)
    elif style in ("mermaid", "dot"):
        drawn = picture(past, status=status, everything=everything)
        call.answer(mermaid(drawn) if style == "mermaid" else dot(drawn))
    else:
        drawn = picture(past, status=status, fan=WIDEST) if everything else picture(past, status=status)
        _draw(call, drawn, style)
        if everything and any(node.count > 1 for node in drawn.nodes):
            call.say(words.dim(f"more than {WIDEST} alike are drawn as one here; --mermaid and --dot draw each"))
    return OK


async def _run_or_definition(app: Stepwell, text: str, version: str) -> RunRow | Definition:
    """The run with this id, else the deployed workflow of this name, else the run whose id begins so.

    Raises:
        RunNotFound, WorkflowNotFound: there is neither.
    """
    if not version:
        row = await app.store.get(text)
        if row is not None:
            return row
    try:
        return await app.definition_of(text, version)
    except WorkflowNotFound as missing:
        if version or await app.store.definitions(text):
            raise
        try:
            return await find_run(app, text)
        except RunNotFound as error:
            raise RunNotFound(f"{error}; and {missing}") from None


def _tell(call: Call, definition: Definition, trail: Trail | None, status: str, style: str | None) -> int:
    drawn = blueprint(definition, trail, status=status)
    if call.json:
        call.document(definition_as_json(definition.id, definition.digest, drawn))
    elif style in ("mermaid", "dot"):
        call.answer(mermaid(drawn) if style == "mermaid" else dot(drawn))
    else:
        _draw(call, drawn, style)
    return OK


def _draw(call: Call, drawn: Picture, style: str | None) -> None:
    for line in drawn_lines(call, drawn, ascii=style == "ascii"):
        call.answer(line)


async def read_way(app: Stepwell, run_id: str) -> Way:
    """The history of a run and its trail, from its journal."""
    way = Way(History(), Trail())
    async for stored in app.scan(run_id):
        way.past.add(stored.entry)
        way.trail.add(stored.entry)
    return way


async def definition_of_run(app: Stepwell, row: RunRow, trail: Trail) -> Definition | None:
    """The definition that a run goes through, with what was added to it under way; None when it is no graph's."""
    if trail.patch is not None:
        from stepwell.graph.parse import load
        from stepwell.graph.reading import STORED

        body = await app.payload(trail.patch.definition, trail.patch.definition_blob)
        return load(body, app.types, source=row.run_id, format="json", limits=STORED)
    try:
        return await app.definition_of(row.workflow, digest_of(trail.version or row.version))
    except WorkflowNotFound:
        return None
