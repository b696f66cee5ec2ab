"""Which names does a JSONLogic rule look up? Found before it runs, so that its data hold only what it reads.

The library says what a compiled rule reads; what it does not say is found by walking the rule: whether a missing value
is provided for, and what is read where a path is computed. A path that starts with a computed name is refused, as are
rules that read all data: neither says what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from stepwell.errors import ExpressionError
from stepwell.expressions import logic
from stepwell.expressions.names import Reference, shortened, spelled
from stepwell.expressions.texts import Json, json_of

Path: TypeAlias = tuple[str, ...]

Wanted: TypeAlias = dict[str, "Wanted | None"]
"""What to take of the data: fields of objects, and None where all is taken."""

_ITEMS = 1
"""A depth above 0: inside an argument that is about an item, where plain names are the item's."""


def references(source: Json, rule: logic.Rule) -> tuple[Reference, ...]:
    """What a rule reads, each path once, by name.

    A reference is `defaulted` where the rule itself provides for what is not there: `var` with a default, the first
    operands of `??`, `exists`, `missing`. Everything else that is not there is null to the rule.

    Raises:
        ExpressionError: it reads all data, or something of which not even the first name is written out.
    """
    facts = rule.facts
    walk = _Walk()
    walk.visit(source, 0, lenient=False)
    paths = {tuple(path) for path in facts["reads"]}
    if facts["computed_reads"]:
        if walk.unknown is not None:
            raise _unnamed(walk.unknown)
        paths |= walk.found
    if () in paths:
        raise _unnamed(source)
    return tuple(
        Reference(
            path[0],
            path[1:],
            defaulted=not any(read[: len(path)] == path for read in walk.strict),
            text=spelled(path[0], path[1:]),
        )
        for path in sorted(paths)
    )


def wanted(found: Sequence[Reference]) -> Wanted:
    """The references as a tree: where a whole is read, its parts are not."""
    tree: Wanted = {}
    for reference in found:
        here = tree
        *before, last = reference.root, *map(str, reference.path)
        for key in before:
            inner = here.setdefault(key, {})
            if inner is None:
                break
            here = inner
        else:
            here[last] = None
    return tree


def taken(value: object, wish: Wanted | None) -> object:
    """The part of a value that is wanted; what is no object is taken whole."""
    if wish is None or not isinstance(value, Mapping):
        return value
    return {key: taken(value[key], inner) for key, inner in wish.items() if key in value}


class _Walk:
    """Goes through a rule, operators and arguments.

    `strict` are the paths that it counts on; `found` are those that the library calls computed but that start with a
    name; `unknown` is an operator whose path does not.
    """

    def __init__(self) -> None:
        self.operators = logic.inner_arguments()
        self.strict: set[Path] = set()
        self.found: set[Path] = set()
        self.unknown: Json | None = None

    def visit(self, node: Json, depth: int, *, lenient: bool) -> None:
        """Look at a rule. Above depth 0, plain names are an item's; `lenient`: what is missing is provided for."""
        if isinstance(node, list | tuple):
            for one in node:
                self.visit(one, depth, lenient=lenient)
        elif isinstance(node, dict):
            operator, arguments = next(iter(node.items())) if len(node) == 1 else ("", None)
            if operator in self.operators:
                self._operator(operator, arguments, node, depth, lenient)
            else:
                for one in node.values():
                    self.visit(one, depth, lenient=lenient)

    def _operator(self, operator: str, arguments: Json, node: Json, depth: int, lenient: bool) -> None:
        listed = list(arguments) if isinstance(arguments, list | tuple) else [arguments]
        match operator:
            case "var":
                self._var(listed, node, depth, lenient)
            case "val" if listed and isinstance(listed[0], list | tuple):
                self._outward(listed, node, depth, lenient)
            case "val" | "exists":
                self._val(listed, node, depth, depth, lenient or operator == "exists")
            case "missing" | "missing_some":
                names = listed[1] if operator == "missing_some" and len(listed) > 1 else arguments
                self._missing(names, node, depth)
                self.visit(listed, depth, lenient=lenient)
            case "??":
                for one in listed[:-1]:
                    self.visit(one, depth, lenient=True)
                self.visit(listed[-1:], depth, lenient=lenient)
            case _:
                inner = _inner(self.operators[operator], len(listed))
                for place, one in enumerate(listed):
                    self.visit(one, _ITEMS if place == inner else depth, lenient=lenient)

    def _var(self, arguments: list[Json], node: Json, depth: int, lenient: bool) -> None:
        for name in _literals(arguments[:1] or [""]) if not depth else ():
            if isinstance(name, str | int | float) and not isinstance(name, bool):
                self._add(tuple(str(name).split(".")), lenient or len(arguments) > 1)
            else:
                self.unknown = node
        self.visit(arguments, depth, lenient=lenient)

    def _outward(self, arguments: list[Json], node: Json, depth: int, lenient: bool) -> None:
        """A path that starts so many scopes further out, such as `[[2], "name"]`: it may well be one of the data."""
        match arguments[0]:
            case [int(level)] if level:
                self._val(arguments[1:], node, 0, depth, lenient, listed=False)
            case [0]:
                self._val(arguments[1:], node, depth, depth, lenient)
            case _:
                self.unknown = node

    def _val(self, path: list[Json], node: Json, depth: int, inner: int, lenient: bool, *, listed: bool = True) -> None:
        """A path given part by part; computed parts are read at the depth `inner`. Not `listed`: the library has it."""
        start: list[str] = []
        for part in path:
            if not isinstance(part, str | int) or isinstance(part, bool):
                break
            start.append(str(part))
        if not depth:
            whole = len(start) == len(path)
            if not start or start == [""]:
                self.unknown = node
            elif listed or not whole:
                self._add(tuple(start), lenient)
            elif not lenient:
                self.strict.add(tuple(start))
        self.visit(path[len(start) :], inner, lenient=lenient)

    def _missing(self, names: Json, node: Json, depth: int) -> None:
        if depth:
            return
        for one in _literals(names):
            if isinstance(one, str):
                self._add(tuple(one.split(".")), lenient=True)
            else:
                self.unknown = node

    def _add(self, path: Path, lenient: bool) -> None:
        self.found.add(path)
        if not lenient:
            self.strict.add(path)


def _literals(names: Json) -> Iterator[Json]:
    """The names that lists, `merge` and the outcomes of `if` can give; what else there is, as it is."""
    match names:
        case list() | tuple():
            for one in names:
                yield from _literals(one)
        case {"merge": inner, **rest} if not rest:
            yield from _literals(inner)
        case {"if": [*branches], **rest} | {"?:": [*branches], **rest} if not rest:
            for place, branch in enumerate(branches):
                if place % 2 or place == len(branches) - 1:
                    yield from _literals(branch)
        case _:
            yield names


def _inner(which: int | Literal["last"] | None, count: int) -> int:
    if which == "last":
        return count - 1 if count > 1 else -1
    return -1 if which is None else which


def _unnamed(rule: Json) -> ExpressionError:
    return ExpressionError(
        f"{shortened(json_of(rule), 300)} does not say by name what it reads; write the first name out, such as "
        '{"var": "name.field"} or {"val": ["name", {"var": "key"}]}'
    )
