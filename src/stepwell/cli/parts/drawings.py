"""How is a picture shown: line by line on a terminal, and as data?"""

from __future__ import annotations

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.timeline import fit, fit_path, knows_boxes, width_of
from stepwell.observe.history import History
from stepwell.observe.picture import Group, Node, Picture
from stepwell.observe.sketch import Row, plain, sketch


def drawn_lines(call: Call, drawn: Picture, *, ascii: bool = False) -> list[str]:
    """A picture as a sketch with what is known of its nodes, no wider than the terminal."""
    return lines(call, sketch(drawn), words_on(drawn), ascii=ascii)


def words_on(drawn: Picture) -> dict[str, str]:
    """What stands on the edges that lead to a node, and on those that lead back from one, by the node's id."""
    names = {node.id: node.label for node in drawn.nodes}
    told: dict[str, list[str]] = {}
    for (source, target), label in drawn.labels.items():
        if (source, target) in drawn.backs:
            told.setdefault(source, []).append(f"{label} → {names[target]}")
        else:
            told.setdefault(target, []).append(f"on {names[source]}:{label}" if names[source] else label)
    return {node: ", ".join(said) for node, said in told.items()}


def lines(call: Call, rows: list[Row], said: dict[str, str] | None = None, *, ascii: bool = False) -> list[str]:
    """The rows of a sketch with what is known of their nodes, no wider than the terminal."""
    boxes = knows_boxes(call) and not ascii
    width = width_of(call)
    lanes = max(len(row.lanes) for row in rows)
    label = max((len(row.node.scope + row.node.label) for row in rows if row.node is not None), default=0)
    label = min(label, max(12, (width - lanes) // 2))
    shown = []
    for row in rows:
        text = row.lanes if boxes else plain(row.lanes)
        if row.node is not None and row.node.kind != "join":
            before = (said or {}).get(row.node.id, "")
            rest = width - lanes - label - 6
            text += " " * (lanes - len(row.lanes) + 2) + _told(row.node, before, label, rest, boxes)
        shown.append(text.rstrip())
    return shown


def _told(node: Node, before: str, label: int, rest: int, boxes: bool) -> str:
    name = fit_path(node.scope + node.label, label)
    gap = " " * (label - len(name))
    details = fit(" · ".join([*filter(None, [before]), *node.details]), max(10, rest))
    if not boxes:
        name, details = plain(name), plain(details.replace("·", "-"))
    scope = node.scope if boxes and name.startswith(node.scope) else ""
    styled = words.dim(scope) + click.style(name[len(scope) :], fg=words.COLOURS.get(node.status))
    return f"{styled}{gap}  {details}"


def run_as_json(past: History, drawn: Picture) -> dict[str, object]:
    """What happened in a run, for `--json`."""
    return {"run": past.run_id, "workflow": past.workflow, **_picture(drawn)}


def definition_as_json(name: str, digest: str, drawn: Picture) -> dict[str, object]:
    """A definition, and the way of a run through it if there is one, for `--json`."""
    taken = drawn.taken
    return {
        "workflow": name,
        "digest": digest,
        "nodes": [_node(node) | ({"details": node.details} if node.details else {}) for node in drawn.nodes],
        "edges": [
            {
                "from": source,
                "to": target,
                "label": drawn.labels.get((source, target)),
                "back": (source, target) in drawn.backs,
                "taken": None if taken is None else (source, target) in taken,
            }
            for source, target in (*drawn.edges, *drawn.backs)
        ],
        "groups": [_group(group) for group in drawn.groups],
    }


def _picture(drawn: Picture) -> dict[str, object]:
    return {
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
