"""What does the source say? Classes, signatures, texts and the types that they name, read without importing anything.

`generate.py` makes the reference of it. A `Place` is where something stands: a module of the package, such as
`authoring/task.py`, and a name in it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "stepwell"

_SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Class attributes):$", re.MULTILINE)
_LONGEST = 100

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.AnnAssign | ast.Assign


class Place(NamedTuple):
    """A name in a module of the package."""

    file: str
    name: str


class NotThere(Exception):
    """What the reference is about has moved or has another name: say so in `generate.py`."""


# -- finding --------------------------------------------------------------------------------------------------------


@cache
def module(file: str) -> ast.Module:
    """A module of the package, parsed."""
    return ast.parse((SOURCE / file).read_text("utf-8"))


def defined(place: Place) -> Definition | None:
    """What a module defines under a name: of a function with overloads the last, None when it defines nothing."""
    found: Definition | None = None
    for node in module(place.file).body:
        if isinstance(node, ast.ClassDef | Function):
            found = node if node.name == place.name else found
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = node if any(is_name(target, place.name) for target in targets) else found
    return found


@cache
def imports(file: str) -> dict[str, Place]:
    """What a module calls the things that it has from other modules of the package."""
    found = {}
    for node in ast.walk(module(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stepwell":
            parts = (node.module or "").split(".")[1:]
            for one in node.names:
                ways = [
                    "/".join([*parts, one.name]) + ".py",
                    "/".join(parts) + ".py",
                    "/".join([*parts, "__init__.py"]),
                ]
                path = next((way for way in ways if (SOURCE / way).is_file()), None)
                if path is not None:
                    found[one.asname or one.name] = Place(path, one.name)
    return found


def resolve(file: str, name: str) -> Place | None:
    """Where the thing is defined that a module calls `name`; None when it is not the package's."""
    place: Place | None = Place(file, name)
    for _ in range(10):  # a name may be handed on by several modules
        if place is None or defined(place) is not None:
            return place
        place = imports(place.file).get(place.name)
    return None


def class_at(place: Place) -> ast.ClassDef:
    """A class.

    Raises:
        NotThere: the module has none of this name.
    """
    found = defined(place)
    if not isinstance(found, ast.ClassDef):
        raise NotThere(f"{place.file} has no class {place.name}")
    return found


def lineage(place: Place) -> list[Place]:
    """A class and those of the package that it inherits from, itself first; what several inherit from comes last."""
    found = [place]
    for base in class_at(place).bases:
        name = base.value if isinstance(base, ast.Subscript) else base
        above = resolve(place.file, name.id) if isinstance(name, ast.Name) else None
        if above is not None and isinstance(defined(above), ast.ClassDef):
            found += lineage(above)
    return [one for number, one in enumerate(found) if one not in found[number + 1 :]]


def functions_in(tree: ast.Module | ast.ClassDef, name: str) -> list[Function]:
    """A function with its overloads, in order; the implementation is the last."""
    return [node for node in tree.body if isinstance(node, Function) and node.name == name]


def public_methods(tree: ast.ClassDef) -> list[str]:
    """The names of a class's public methods, in the order in which they stand."""
    names = [node.name for node in tree.body if isinstance(node, Function) and not node.name.startswith("_")]
    return list(dict.fromkeys(names))


def is_name(node: ast.expr, name: str) -> bool:
    """Whether an expression is this name and nothing else."""
    return isinstance(node, ast.Name) and node.id == name


def names_in(node: ast.AST) -> Iterator[str]:
    """The names that an annotation, or all annotations of a definition, mention; quoted ones too."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name):
            yield one.id
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value.isidentifier():
            yield one.value


def hints_of(node: ast.AST) -> Iterator[ast.expr]:
    """The annotations of the public functions and fields of a class, or of a function."""
    for one in [node] if isinstance(node, Function) else list(ast.iter_child_nodes(node)):
        if isinstance(one, Function) and (not one.name.startswith("_") or one.name == "__init__"):
            arguments = one.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            yield from (given.annotation for given in every if given is not None and given.annotation is not None)
            if one.returns is not None:
                yield one.returns
        elif isinstance(one, ast.AnnAssign):
            yield one.annotation


# -- signatures -----------------------------------------------------------------------------------------------------


def signatures(functions: list[Function], shown: str, *, bound: bool) -> str:
    """One signature for each overload, or that of the only definition."""
    several = [one for one in functions if any(is_name(mark, "overload") for mark in one.decorator_list)]
    return "\n".join(_signature(one, shown, bound) for one in several or functions[-1:])


def _signature(function: Function, shown: str, bound: bool) -> str:
    if any(is_name(mark, "property") for mark in function.decorator_list):
        return f"{shown}: {ast.unparse(function.returns) if function.returns else 'object'}"
    parts = list(_parameters(function.args, bound))
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    prefix = "async " if isinstance(function, ast.AsyncFunctionDef) and "AsyncIterator" not in returns else ""
    line = f"{prefix}{shown}({', '.join(parts)}){returns}"
    if len(line) <= _LONGEST:
        return line
    inner = "".join(f"    {part},\n" for part in parts)
    return f"{prefix}{shown}(\n{inner}){returns}"


def _parameters(given: ast.arguments, bound: bool) -> Iterator[str]:
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    for number, (one, default) in enumerate(zip(positional, [*defaults, *given.defaults], strict=True)):
        if not (bound and number == 0):
            yield _parameter(one, default)
        if given.posonlyargs and number == len(given.posonlyargs) - 1:
            yield "/"
    if given.vararg is not None:
        yield "*" + _parameter(given.vararg, None)
    elif given.kwonlyargs:
        yield "*"
    for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _parameter(one, default)
    if given.kwarg is not None:
        yield "**" + _parameter(given.kwarg, None)


def _parameter(one: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(one.annotation)}" if one.annotation is not None else ""
    if default is None:
        return one.arg + kind
    return f"{one.arg}{kind} = {ast.unparse(default)}" if kind else f"{one.arg}={ast.unparse(default)}"


def fields(tree: ast.ClassDef) -> str:
    """The fields of a struct, one a line; what begins with an underscore is not there."""
    lines = [
        ast.unparse(node)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and not (isinstance(node.target, ast.Name) and node.target.id[0] == "_")
    ]
    return "\n".join(line for line in lines if not line.split(":")[1].startswith(" ClassVar")).replace("msgspec.", "")


# -- texts ----------------------------------------------------------------------------------------------------------


def prose(docstring: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    pieces = _SECTION.split(docstring)
    lines = [pieces[0].strip()]
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        items, rest = _items(body)
        lines.append(f"{title}:\n\n" + "\n".join(items))
        if rest:
            lines.append(rest)
    return "\n\n".join(line for line in lines if line)


def _items(body: str) -> tuple[list[str], str]:
    """The items of a section, each on one line, and what follows the section unindented."""
    items: list[str] = []
    rest: list[str] = []
    for line in body.strip("\n").splitlines():
        if rest or (line and not line.startswith(" ")):
            rest.append(line)
        elif items and (line.startswith("     ") or not line.strip()):
            items[-1] = f"{items[-1]} {line.strip()}".rstrip()
        elif line.strip():
            name, colon, text = line.strip().partition(": ")
            items.append(f"- `{name}`: {text}" if colon and "`" not in name else f"- {line.strip()}")
    return items, "\n".join(rest).strip()


def first_sentence(docstring: str) -> str:
    """The first paragraph of a docstring on one line."""
    return docstring.split("\n\n")[0].replace("\n", " ").strip()
