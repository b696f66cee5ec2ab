"""Nodes with bodies of their own: how each opens frames and what their ends mean to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepwell.programs.graph.containers.branches import Parallel, Race
from stepwell.programs.graph.containers.loop import Loop
from stepwell.programs.graph.containers.map import Map
from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.containers.scope import Scope
from stepwell.programs.graph.containers.trying import Try

if TYPE_CHECKING:
    from stepwell.programs.graph.firing import Firing

_CONTAINERS: dict[str, type[Container]] = {
    "loop": Loop,
    "map": Map,
    "race": Race,
    "scope": Scope,
    "try": Try,
}


def container_of(name: str) -> Callable[[Firing, Any], Container]:  # Any: the type's settings
    """The container behind a node type of this name."""
    return _parallel if name == "parallel" else _CONTAINERS[name]


def _parallel(firing: Firing, settings: Any) -> Container:  # Any: the type's `Settings`
    """Branches, or one body many times."""
    return Map(firing, settings) if "do" in firing.node.bodies else Parallel(firing, settings)
