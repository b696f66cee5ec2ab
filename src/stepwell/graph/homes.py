"""In which bodies is there a node of some name? For problems that name what is there, but somewhere else."""

from __future__ import annotations

from typing import Final, TypeAlias

from stepwell.graph.definition import BodyDef

Where: TypeAlias = tuple[tuple[str, str], ...]
"""Which body: the containers around it and the names of their bodies, from outside; () is the run's own."""

DEEPEST: Final = 50
"""How deep bodies may be nested in bodies."""


class Homes:
    """Where the nodes of a definition stand; looked over when it is first asked for."""

    def __init__(self, whole: BodyDef) -> None:
        self._whole = whole
        self._found: dict[str, list[Where]] | None = None

    def elsewhere(self, id: str, where: Where) -> str:
        """Where else than in this body such a node stands: `inside 'each' (its do)`, `outside`, or nothing."""
        for home in self._all().get(id, ()):
            if home != where:
                return f"inside {home[-1][0]!r} (its {home[-1][1]})" if home else "outside every container"
        return ""

    def holder(self, id: str, where: Where) -> str:
        """The container, of this body, that such a node stands in; "" when there is none."""
        for home in self._all().get(id, ()):
            if len(home) > len(where) and home[: len(where)] == where:
                return home[len(where)][0]
        return ""

    def _all(self) -> dict[str, list[Where]]:
        if self._found is None:
            self._found = {}
            waiting: list[tuple[Where, BodyDef]] = [((), self._whole)]
            while waiting:
                where, body = waiting.pop()
                for node in body.nodes.values():
                    self._found.setdefault(node.id, []).append(where)
                    if len(where) < DEEPEST:
                        waiting.extend(((*where, (node.id, name)), inner) for name, inner in node.bodies.items())
        return self._found
