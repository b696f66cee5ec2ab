"""A picture as text for other programs that draw: Mermaid's flowcharts and Graphviz' DOT.

Mermaid: https://mermaid.js.org/syntax/flowchart.html. Labels stand in quotes; in them every character that could mean
something to Mermaid, Markdown or HTML is written as `#NN;`, its own form of a character by number.
DOT: https://graphviz.org/doc/info/lang.html. Labels are quoted strings, in which only `"` and `\\` are special.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from stepwell.observe.picture import Group, Node, Picture

_LINE: Final = 60
"""Characters of a line in a node; longer ones are cut."""

_PLAIN: Final = re.compile(r"[^\w\s.,:/+=@×…~'()-]")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")
_MERMAID: Final[dict[str, tuple[str, str]]] = {
    "begin": ("([", "])"),
    "end": ("([", "])"),
    "join": ("((", "))"),
    "task": ("[", "]"),
    "compensation": ("[/", "/]"),
    "child": ("[[", "]]"),
    "start": ("[[", "]]"),
    "choice": ("{", "}"),
    "container": ("[/", "\\]"),
    "pure": ("(", ")"),
    "stop": ("([", "])"),
}
_DOT: Final[dict[str, str]] = {
    "begin": "shape=oval",
    "end": "shape=oval",
    "join": "shape=point",
    "task": "shape=box",
    "compensation": "shape=parallelogram",
    "child": "shape=box, peripheries=2",
    "start": "shape=box, peripheries=2",
    "choice": "shape=diamond",
    "container": "shape=trapezium",
    "pure": 'shape=box, style="filled,rounded"',
    "stop": "shape=oval",
}
_COLOURS: Final[dict[str, tuple[str, str]]] = {
    "completed": ("#e6f4ea", "#34a853"),
    "satisfied": ("#e6f4ea", "#34a853"),
    "running": ("#e3f2fd", "#1e88e5"),
    "waiting": ("#e8eaf6", "#3949ab"),
    "retrying": ("#fff8e1", "#f9a825"),
    "timed_out": ("#fff8e1", "#f9a825"),
    "failed": ("#fde7e9", "#d93025"),
    "cancelled": ("#f1f3f4", "#80868b"),
    "withdrawn": ("#f1f3f4", "#80868b"),
    "skipped": ("#ffffff", "#bdc1c6"),
}
"""Fill and border by status."""


def mermaid(drawn: Picture) -> str:
    """A picture as a Mermaid flowchart, to paste into Markdown between ```` ```mermaid ```` and ```` ``` ````."""
    lines = ["flowchart TD"]
    lines += _grouped(drawn, _mermaid_node, lambda group: f'subgraph {group.id}["{_mermaid_text(group.label)}"]', "end")
    lines += [f"    {source} {_mermaid_edge(drawn, (source, target))} {target}" for source, target in drawn.edges]
    lines += [f"    {source} {_mermaid_edge(drawn, (source, target))} {target}" for source, target in drawn.backs]
    used = {node.status for node in drawn.nodes if node.kind != "join"}
    for status, (fill, border) in _COLOURS.items():
        if status in used:
            ids = ",".join(node.id for node in drawn.nodes if node.status == status and node.kind != "join")
            lines.append(f"    classDef {status} fill:{fill},stroke:{border},color:#202124")
            lines.append(f"    class {ids} {status}")
    return "\n".join(lines)


def _mermaid_node(node: Node) -> str:
    before, after = _MERMAID.get(node.kind, ("{{", "}}"))
    text = "<br/>".join(_mermaid_text(line) for line in _lines(node)) or " "
    return f'{node.id}{before}"{text}"{after}'


def _mermaid_edge(drawn: Picture, edge: tuple[str, str]) -> str:
    """`-->`, thick where it was taken, dotted where it leads back, with its words."""
    label = drawn.labels.get(edge, "")
    words = f'|"{_mermaid_text(label)}"|' if label else ""
    if drawn.taken is not None and edge in drawn.taken:
        return f"==>{words}"
    return f"-.->{words}" if edge in drawn.backs else f"-->{words}"


def _mermaid_text(text: str) -> str:
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", _cut(text))


def dot(drawn: Picture) -> str:
    """A picture as a DOT graph, for `dot -Tsvg`."""
    lines = [f"digraph {_quoted(drawn.title)} {{", "    rankdir=TB;"]
    lines.append('    node [fontname="Helvetica", fontsize=11, style=filled, fillcolor=white];')
    lines += _grouped(
        drawn, _dot_node, lambda group: f"subgraph cluster_{group.id} {{ label={_quoted(_cut(group.label))};", "}"
    )
    lines += [f"    {edge[0]} -> {edge[1]}{_dot_edge(drawn, edge)};" for edge in (*drawn.edges, *drawn.backs)]
    return "\n".join([*lines, "}"])


def _dot_node(node: Node) -> str:
    fill, border = _COLOURS.get(node.status, ("white", "black"))
    look = _DOT.get(node.kind, "shape=hexagon")
    text = _quoted("\n".join(_cut(line) for line in _lines(node)))
    return f'{node.id} [label={text}, {look}, fillcolor="{fill}", color="{border}"];'


def _dot_edge(drawn: Picture, edge: tuple[str, str]) -> str:
    label = drawn.labels.get(edge, "")
    look = [f"label={_quoted(_cut(label))}"] if label else []
    if edge in drawn.backs:
        look.append("style=dashed, constraint=false")
    if drawn.taken is not None:
        look.append("penwidth=2" if edge in drawn.taken else 'color="#bdc1c6"')
    return f" [{', '.join(look)}]" if look else ""


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{_UNPRINTABLE.sub(" ", text)}"'


def _lines(node: Node) -> list[str]:
    return [node.label, *node.details] if node.kind != "join" else []


def _cut(text: str) -> str:
    text = _UNPRINTABLE.sub(" ", text)
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"


def _grouped(drawn: Picture, node: Callable[[Node], str], begin: Callable[[Group], str], end: str) -> list[str]:
    """The nodes, those of a group between its beginning and end, groups inside groups."""
    nodes: dict[str, list[str]] = {}
    inside: dict[str, list[Group]] = {}
    for one in drawn.nodes:
        nodes.setdefault(one.group, []).append(node(one))
    for group in drawn.groups:
        inside.setdefault(group.parent, []).append(group)

    def block(group_id: str, indent: str) -> list[str]:
        lines = [indent + line for line in nodes.get(group_id, ())]
        for group in inside.get(group_id, ()):
            lines += [indent + begin(group), *block(group.id, indent + "    "), indent + end]
        return lines

    return block("", "    ")
