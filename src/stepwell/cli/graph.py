"""Draw what happened in a run, and what followed what."""

from __future__ import annotations

import click

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.parts.timeline import fit, fit_path, knows_boxes, width_of
from stepwell.observe.diagram import dot, mermaid
from stepwell.observe.history import History
from stepwell.observe.picture import Group, Node, Picture, picture
from stepwell.observe.sketch import Row, plain, sketch

WIDEST = 40
"""How many lanes a drawing on a terminal may have; more is for programs that draw."""


@cli_command
@click.argument("run")
@click.option("--mermaid", "style", flag_value="mermaid", help="As a Mermaid flowchart, for Markdown.")
@click.option("--dot", "style", flag_value="dot", help="As a DOT graph, for Graphviz.")
@click.option("--all", "everything", is_flag=True, help="Draw each item of large maps, and each of many branches.")
def command(call: Call, run: str, style: str | None, everything: bool) -> int:
    """Draw what happened in RUN: its steps, waits and child runs, and what followed what.

    More than eight items of a map, branches or rounds of a loop that are alike are drawn as one, with their number.
    """
    return run_loop(_graph(call, run, style, everything))


async def _graph(call: Call, text: str, style: str | None, everything: bool) -> int:
    async with client(call) as app:
        row = await find_run(app, text)
        past = await read_history(app, row.run_id)
    if call.json:
        call.document(_document(past, picture(past, status=row.status, everything=everything)))
    elif style is not None:
        drawn = picture(past, status=row.status, everything=everything)
        call.answer(mermaid(drawn) if style == "mermaid" else dot(drawn))
    else:
        drawn = picture(past, status=row.status, fan=WIDEST) if everything else picture(past, status=row.status)
        for line in lines(call, sketch(drawn)):
            call.answer(line)
        if everything and any(node.count > 1 for node in drawn.nodes):
            call.say(words.dim(f"more than {WIDEST} alike are drawn as one here; --mermaid and --dot draw each"))
    return OK


async def read_history(app: Stepwell, run_id: str) -> History:
    """The history of a run, from its journal."""
    past = History()
    async for stored in app.scan(run_id):
        past.add(stored.entry)
    return past


def lines(call: Call, rows: list[Row]) -> list[str]:
    """The rows of a sketch with what is known of their nodes, no wider than the terminal."""
    boxes = knows_boxes(call)
    width = width_of(call)
    lanes = max(len(row.lanes) for row in rows)
    label = max((len(row.node.scope + row.node.label) for row in rows if row.node is not None), default=0)
    label = min(label, max(12, (width - lanes) // 2))
    shown = []
    for row in rows:
        text = row.lanes if boxes else plain(row.lanes)
        if row.node is not None and row.node.kind != "join":
            text += " " * (lanes - len(row.lanes) + 2) + _told(row.node, label, width - lanes - label - 6, boxes)
        shown.append(text.rstrip())
    return shown


def _told(node: Node, label: int, rest: int, boxes: bool) -> str:
    name = fit_path(node.scope + node.label, label)
    gap = " " * (label - len(name))
    details = fit(" · ".join(node.details), max(10, rest))
    if not boxes:
        name, details = plain(name), plain(details.replace("·", "-"))
    scope = node.scope if boxes and name.startswith(node.scope) else ""
    styled = words.dim(scope) + click.style(name[len(scope) :], fg=words.COLOURS.get(node.status))
    return f"{styled}{gap}  {details}"


def _document(past: History, drawn: Picture) -> dict[str, object]:
    return {
        "run": past.run_id,
        "workflow": past.workflow,
        "nodes": [_node(node) for node in drawn.nodes],
        "edges": [{"from": source, "to": target} for source, target in drawn.edges],
        "groups": [_group(group) for group in drawn.groups],
    }


def _node(node: Node) -> dict[str, object]:
    document: dict[str, object] = {"id": node.id, "kind": node.kind, "label": node.label, "group": node.group or None}
    if node.kind == "join":
        return document
    document |= {"status": node.status, "started_at": node.started_at, "ended_at": node.ended_at}
    if not node.parts:
        return document
    document |= {"count": node.count, "statuses": node.statuses, "retries": node.retries}
    if node.count == 1:
        (part,) = node.parts
        document |= {"step": str(part.path), "seq": part.seq, "child": part.child or None, "error": part.error or None}
    return document


def _group(group: Group) -> dict[str, object]:
    return {"id": group.id, "label": group.label, "parent": group.parent or None}
