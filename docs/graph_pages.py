"""What can a definition of a graph say, and which node types are there? Tables and sections of the reference.

They are made of what the published JSON Schema is made of (`graph.shapes`, the `Settings` of the node types) and of the
types' docstrings, so a new type or setting brings its documentation along. Types of other distributions are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Work": ("task", "http", "llm", "langgraph", "workflow"),
    "Data": ("transform", "set"),
    "Ways": ("condition", "switch", "router", "noop"),
    "Waiting": ("human", "wait", "wait_signal", "wait_event"),
    "Telling others": ("emit", "signal", "respond", "log"),
    "Containers": ("map", "loop", "parallel", "race", "try", "scope"),
    "Ends": ("end", "break", "fail"),
}
"""In which order the types are shown; one that is in no group comes last."""


# -- node types -----------------------------------------------------------------------------------------------------


def nodes() -> str:
    """A table of all node types, and a section for each."""
    from stepwell.graph.pages import page

    types = _types()
    lines = ["| type | what it does | ports |", "|---|---|---|"]
    for group, found in _grouped(types):
        lines.append(f"| **{group}** | | |")
        for one in found:
            ports = one.ports_of({}) if one.kind != "container" else ("out", *one.ports)
            lines.append(f"| [`{one.name}`](#{one.name}) | {one.summary} | {_listed(ports)} |")
    return "\n".join([*lines, "", *(page(one) for _, found in _grouped(types) for one in found)])


def _types() -> dict[str, Any]:  # Any: NodeType, which is imported when the pages are made
    from stepwell.nodes.registry import NodeTypes

    types = NodeTypes.standard()
    found = {name: types.get(name) for name in types.names()}
    return {name: one for name, one in found.items() if type(one).__module__.startswith("stepwell.nodes.")}


def _grouped(types: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    shown = {name for names in GROUPS.values() for name in names}
    for group, names in {**GROUPS, "More": tuple(sorted(types.keys() - shown))}.items():
        if names:
            yield group, [types[name] for name in names]


def _listed(ports: tuple[str, ...]) -> str:
    return ", ".join(f"`{port}`" for port in ports) or "none"


# -- the format -----------------------------------------------------------------------------------------------------


def head_keys() -> str:
    """A table of what a definition may say."""
    from stepwell.graph.heads import KEYS
    from stepwell.graph.shapes import head_keys as shapes

    found = shapes()
    return _keys({key: found[key] for key in KEYS})


def node_keys() -> str:
    """A table of what every node may say."""
    from stepwell.graph.shapes import node_keys as shapes

    others = {
        "type": {"description": "Its type, or the name of a task; or the type is a key, as in `task: fetch`."},
        "with": {"description": "The settings of its type; or they stand beside the type, or below it."},
    }
    found = shapes()
    return _keys({"id": found.pop("id"), **others, **found})


def _keys(shapes: Mapping[str, Any]) -> str:
    from stepwell.graph.pages import row, words

    lines = ["| key | may be | |", "|---|---|---|"]
    lines += [row(f"`{key}`", words(shape), str(shape.get("description", ""))) for key, shape in shapes.items()]
    return "\n".join(lines)


def triggers() -> str:
    """A table of what a trigger may say, by kind."""
    from stepwell.graph.pages import row, words
    from stepwell.graph.shapes import COMMON

    lines = ["| kind | besides it may have |", "|---|---|"]
    for shape in COMMON["trigger"]["anyOf"]:
        (kind,) = shape["required"]
        others = [f"`{key}`: {words(one)}" for key, one in shape["properties"].items() if key != kind]
        lines.append(row(f"`{kind}`", "; ".join(others)))
    return "\n".join(lines)


def joins() -> str:
    """What `join` may say, in the words of the plan."""
    from stepwell.graph.plan import Join

    text = inspect.getdoc(Join) or ""
    _, _, behind = text.partition("\n\n")
    return behind


def reserved() -> str:
    """Names that no node can have."""
    from stepwell.graph.bodies import RESERVED

    return ", ".join(f"`{name}`" for name in sorted(RESERVED)) + "."
