"""Which LangGraph graphs may nodes name? Those that the program has registered: the registry is the whitelist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from stepwell.errors import DefinitionError

_NEEDED = ("astream", "aget_state", "copy")


class Graphs:
    """Compiled LangGraph graphs by name. They may be added and removed while an engine runs.

    Args:
        graphs: the first ones.

    Raises:
        DefinitionError: as `add` does.
    """

    def __init__(self, graphs: Mapping[str, Any] | None = None) -> None:  # Any: LangGraph's Pregel
        self._graphs: dict[str, Any] = {}
        for name, graph in (graphs or {}).items():
            self.add(name, graph)

    def add(self, name: str, graph: Any) -> None:  # Any: LangGraph's Pregel
        """Take a compiled graph in; one of the same name is replaced. A checkpointer of its own is not used.

        Raises:
            DefinitionError: it is none, is not compiled, or stops at nodes by itself (`interrupt_before`, `_after`).
        """
        place = f"LangGraph graph {name!r}"
        if not all(hasattr(graph, needed) for needed in _NEEDED):
            what = "is not compiled: call compile() on it" if hasattr(graph, "compile") else "is none"
            raise DefinitionError(f"{place}: found {type(graph).__name__}, which {what}")
        if getattr(graph, "interrupt_before_nodes", ()) or getattr(graph, "interrupt_after_nodes", ()):
            raise DefinitionError(
                f"{place} is compiled with interrupt_before or interrupt_after, which ask nobody anything: call "
                "interrupt() in the node instead"
            )
        self._graphs[name] = graph

    def remove(self, name: str) -> bool:
        """Take a graph out; False when there is none of this name."""
        return self._graphs.pop(name, None) is not None

    def names(self) -> list[str]:
        """The names of all, in alphabetical order."""
        return sorted(self._graphs)

    def get(self, name: str) -> Any:  # LangGraph's Pregel
        """The graph of this name.

        Raises:
            DefinitionError: there is none.
        """
        graph = self._graphs.get(name)
        if graph is None:
            raise DefinitionError(self.unknown(name))
        return graph

    def unknown(self, name: str) -> str:
        """That there is no graph of this name, and what to do."""
        near = difflib.get_close_matches(name, self._graphs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"registered are: {', '.join(self.names()) or 'none'}"
        return (
            f"no LangGraph graph is registered as {name!r} ({hint}); give it to LangGraphNode({{…}}), and that to "
            "Stepwell(node_types=[…])"
        )
