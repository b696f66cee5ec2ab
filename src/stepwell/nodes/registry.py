"""Which node types are there? Those of this package, those of other distributions, and what a program adds.

The file's name is the type's name: `nodes/http.py` is the type `http`, and is imported when a node of it is met (a
name that is a word of Python's has an underscore behind it: `try_.py` is `try`). Other distributions register theirs
under the entry point group `stepwell.nodes`: the entry's name is the type's, its value an instance of `NodeType`, or a
module that has one under the name `TYPE`.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from stepwell.errors import DefinitionError
from stepwell.nodes.protocol import NodeType

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "stepwell.nodes"

NODE_KEYS = frozenset(
    {
        *("id", "type", "with", "needs", "next", "join", "if", "retry", "timeout", "on_error", "cache", "concurrency"),
        *("rate", "priority", "idempotency_key", "mock", "compensate", "cancels", "completes", "milestone", "critical"),
        *("split", "output", "delay", "disabled", "title", "description", "tags", "ui"),
    }
)
"""What every node may say, whatever its type: no type can have such a name."""

_NO_TYPES = {"protocol", "registry", "parts"}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class NodeTypes:
    """The node types that definitions may name; each is loaded when it is asked for.

    They may be added and removed while an engine runs: a definition that is compiled later sees the change, plans that
    were compiled before keep what they have.
    """

    def __init__(self, types: Iterable[NodeType] = ()) -> None:
        self._added: dict[str, NodeType] = {}
        self._removed: set[str] = set()
        self._modules: dict[str, str] | None = {}
        self._foreign: dict[str, EntryPoint] | None = {}
        for one in types:
            self.add(one)

    @classmethod
    def standard(cls) -> NodeTypes:
        """The types of this package and of what is installed beside it; nothing is imported yet."""
        found = cls()
        found._modules = None
        found._foreign = None
        return found

    def get(self, name: str) -> NodeType | None:
        """The type of this name, or None.

        Raises:
            DefinitionError: another distribution registered it, and it cannot be loaded.
        """
        known = self._added.get(name)
        if known is not None:
            return known
        if name in self._removed:
            return None
        own = self._own()
        if name in own:
            known = _type_in(importlib.import_module(own[name]))
        elif name in (foreign := self._others()):
            known = _loaded(foreign[name])
        else:
            return None
        self._added[name] = known
        return known

    def names(self) -> list[str]:
        """The names of all types, in alphabetical order."""
        return sorted({*self._added, *self._own(), *self._others()} - self._removed)

    def add(self, type: NodeType) -> None:
        """Take a type in; one of the same name is replaced.

        Raises:
            DefinitionError: its name is none (lower case, digits and `_`), or is a key that every node may have.
        """
        _check(type, "NodeTypes.add")
        self._removed.discard(type.name)
        self._added[type.name] = type

    def remove(self, name: str) -> bool:
        """Take a type out, one of this package too; False when there is none of this name."""
        if name not in self.names():
            return False
        self._removed.add(name)
        self._added.pop(name, None)
        return True

    def suggest(self, name: str) -> str:
        """The name most like this one, or nothing."""
        import difflib  # only for who has mistyped

        near = difflib.get_close_matches(name, self.names(), n=1)
        return near[0] if near else ""

    def _own(self) -> dict[str, str]:
        if self._modules is None:
            self._modules = dict(_own())
        return self._modules

    def _others(self) -> dict[str, EntryPoint]:
        if self._foreign is None:
            from importlib import metadata  # slow to load, and only for types that others wrote

            points = metadata.entry_points(group=ENTRY_POINTS)
            self._foreign = {point.name: point for point in points if point.name not in self._own()}
        return self._foreign


@functools.cache
def _own() -> dict[str, str]:
    """The modules of this package's types, by the types' names."""
    import pkgutil  # only where there is a graph

    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return {name.rstrip("_"): f"stepwell.nodes.{name}" for name in found if name not in _NO_TYPES}


def _type_in(module: ModuleType) -> NodeType:
    found = getattr(module, "TYPE", None)
    if not isinstance(found, NodeType):
        raise DefinitionError(f"{module.__name__} has no TYPE that is an instance of stepwell.nodes.protocol.NodeType")
    return found


def _loaded(point: EntryPoint) -> NodeType:
    source = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "another distribution"
    place = f"node type {point.name!r} of {source} ({point.value})"
    try:
        target = point.load()
        found = target if isinstance(target, NodeType) else _type_in(target)
        _check(found, place)
    except Exception as error:  # code of others, which may fail in any way
        raise DefinitionError(
            f"{place} cannot be loaded: {type(error).__name__}: {error}; mend or uninstall that distribution, or do "
            "without the type"
        ) from error
    if found.name != point.name:
        raise DefinitionError(f"{place} calls itself {found.name!r}: name and entry point must be the same")
    return found


def _check(found: NodeType, place: str) -> None:
    name = getattr(found, "name", None)
    if not isinstance(found, NodeType) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"{place}: found {found!r} named {name!r}; a name has lower case letters, digits and '_'")
    if name in NODE_KEYS:
        raise DefinitionError(f"{place}: a type cannot be called {name!r}, which is a key that every node may have")
