"""By which ports may a node be left? As its type says, with `error` and `timeout` where they are wired."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from stepwell.graph.definition import NodeDef
from stepwell.nodes.protocol import ERROR, OUT, TIMEOUT, NodeType

CANCELLED: Final = "cancelled"

_CHOOSING: Final = ("task", "action")
"""Kinds whose code may name a port of its own (`Outcome.port`)."""

_TIMED: Final = ("task", "action", "child", "wait", "container")
"""Kinds that a time limit can end."""

_SINGLE: Final = ("condition", "switch")
"""Pure types that are left by one port at a time; other pure types may be left by several."""


def ports_of(node: NodeDef, type: NodeType | None) -> tuple[tuple[str, ...], bool]:
    """All ports that edges of a node may start at, and whether others are allowed too."""
    if type is None:
        return (OUT, ERROR, TIMEOUT), True
    own = _declared(node, type)
    timed = (TIMEOUT,) if type.kind in _TIMED else ()
    return tuple(dict.fromkeys((*own, ERROR, *timed))), type.kind in _CHOOSING


def ways_of(node: NodeDef, type: NodeType | None, wired: Collection[str]) -> tuple[str, ...]:
    """The ports by which a node may be left, of which one is taken whenever it runs and its body does not fail.

    `wired` are those where edges start. A time limit that passes fails the body unless `timeout` or `error` is wired,
    and so does any other failure unless `error` is wired or the node says `on_error`.
    """
    if type is None:
        return tuple(dict.fromkeys((OUT, *sorted(wired))))
    mock = node.options.get("mock")
    if mock and "error" not in mock:
        return (str(mock.get("port", OUT)),)
    found = [port for port in _declared(node, type) if port not in (TIMEOUT, CANCELLED)]
    if CANCELLED in _declared(node, type) and (CANCELLED in wired or node.settings.get("cancel_on")):
        found.append(CANCELLED)
    if TIMEOUT in wired:
        found.append(TIMEOUT)
    if type.kind in _CHOOSING:
        found += sorted(port for port in wired if port not in found and port != ERROR)
    if type.kind != "end" and (ERROR in wired or node.options.get("on_error") == "port"):
        found.append(ERROR)
    return tuple(found)


def are_exclusive(type: NodeType | None, one: str, other: str) -> bool:
    """Whether a node that is left by one port is not left by the other in the same execution."""
    if type is None or one == other:
        return False
    return bool({one, other} & {ERROR, TIMEOUT}) or not leaves_by_several(type)


def leaves_by_several(type: NodeType) -> bool:
    """Whether nodes of this type may be left by several ports at once; one that has `out` is always left by it."""
    return type.name == "race" or (type.kind == "pure" and type.name not in _SINGLE and bool(type.ports))


def _declared(node: NodeDef, type: NodeType) -> tuple[str, ...]:
    settings = node.settings
    if "branches" in type.bodies:
        settings = {**settings, "branches": {name: None for name in node.bodies if name != "compensate"}}
    try:
        return tuple(type.ports_of(settings))
    except Exception:  # the settings are not as the type expects them, which its checks say better
        return (OUT, *type.ports)
