"""The package as the house rules see it: its modules, parsed, and the names they define."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "stepwell"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module of the package; `name` is its path below `src/stepwell`."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How long it is."""
        return self.text.count("\n")

    def functions(self) -> Iterator[Function]:
        """Every function in it, methods and inner ones included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def defined(self) -> Iterator[tuple[str, int]]:
        """Names that the module gives to things of its own, with their lines; names of others' are not here."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function | ast.ClassDef):
                yield node.name, node.lineno
            elif isinstance(node, ast.arg):
                yield node.arg, node.lineno
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, node.lineno
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.attr, node.lineno


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the package, in alphabetical order."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text("utf-8")
        found.append(Module(path.relative_to(SOURCE).as_posix(), text, ast.parse(text)))
    return tuple(found)


def product() -> list[Module]:
    """The modules that are the engine: examples are programs of a user, and may do what users do."""
    return [module for module in modules() if not module.name.startswith("examples/")]
