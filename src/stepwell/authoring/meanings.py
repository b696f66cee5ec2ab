"""What does an expression in a function stand for? Names are looked up as Python would, and nothing is run.

An answer is an object that exists (a module, a class, a function, a global), or only the class of what it will be
(`Path("x")`, an annotated parameter), or only a dotted name (`requests.get` after an import inside the function).
Nothing is guessed: what is bound twice, or computed, means nothing here.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

from stepwell.authoring.hazards import member_names, names_of
from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow


class _Nothing:
    """No object is known."""


NOTHING: Final = _Nothing()


class Meaning(NamedTuple):
    """`thing` is the object itself, `kind` its class where only that is known, `names` how it may be documented.

    `owner` is set for a member that was looked up on an object which exists.
    """

    thing: object = NOTHING
    kind: type | None = None
    names: tuple[str, ...] = ()
    owner: object = NOTHING


UNKNOWN: Final = Meaning()


class Bound(NamedTuple):
    """One place where a name gets a value: an expression, an import, an annotation; or none that says anything."""

    value: ast.expr | None = None
    annotation: ast.expr | None = None
    module: str = ""
    member: str = ""


class Scope:
    """The names of one function (or comprehension), and where to look for others.

    `outer` is the scope around it; the outermost looks into the function's closure, globals and the builtins.
    """

    def __init__(
        self, bound: Mapping[str, list[Bound]], outer: Scope | None = None, known: Mapping[str, object] | None = None
    ) -> None:
        self.bound = bound
        self.outer = outer
        self.known: Mapping[str, object] = known if known is not None else outer.known if outer is not None else {}
        self.kinds: dict[str, type] = {}
        self._busy: set[str] = set()

    def holder(self, name: str) -> Scope | None:
        """The scope in which a name is bound; None for globals and builtins."""
        scope: Scope | None = self
        while scope is not None and name not in scope.bound:
            scope = scope.outer
        return scope

    def bindings(self, name: str) -> list[Bound]:
        """Every place where a local name gets a value."""
        holder = self.holder(name)
        return [] if holder is None else holder.bound[name]

    def meaning(self, node: ast.expr) -> Meaning:
        """What an expression stands for."""
        match node:
            case ast.Name():
                return self._of_name(node.id)
            case ast.Attribute():
                return _member(self.meaning(node.value), node.attr)
            case ast.Call():
                return self._of_call(node)
            case ast.NamedExpr():
                return self.meaning(node.value)
            case ast.BinOp(op=ast.Div()):
                left = self.meaning(node.left)
                return left if _is_path(left) else UNKNOWN
            case _:
                return UNKNOWN

    def _of_name(self, name: str) -> Meaning:
        holder = self.holder(name)
        if holder is None:
            return _of_object(self.known.get(name, vars(builtins).get(name, NOTHING)))
        if name in holder.kinds:
            return Meaning(kind=holder.kinds[name])
        bindings = holder.bound[name]
        if len(bindings) != 1 or name in holder._busy:
            return UNKNOWN
        holder._busy.add(name)
        try:
            return holder._of_bound(bindings[0])
        finally:
            holder._busy.discard(name)

    def _of_bound(self, bound: Bound) -> Meaning:
        if bound.module:
            return _of_import(bound.module, bound.member, self.known)
        found = self.meaning(bound.value) if bound.value is not None else UNKNOWN
        if found is UNKNOWN and bound.annotation is not None:
            kind = self.meaning(bound.annotation).thing
            return Meaning(kind=kind) if isinstance(kind, type) else UNKNOWN
        return found

    def _of_call(self, node: ast.Call) -> Meaning:
        called = self.meaning(node.func)
        if isinstance(called.thing, type):
            return Meaning(kind=called.thing)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _GIVE_PATHS:
            base = self.meaning(node.func.value)
            return Meaning(kind=base.kind or type(base.thing)) if _is_path(base) else UNKNOWN
        return UNKNOWN


_GIVE_PATHS: Final = frozenset(
    (
        "joinpath",
        "with_name",
        "with_stem",
        "with_suffix",
        "with_segments",
        "relative_to",
        "expanduser",
        "absolute",
        "resolve",
        "cwd",
        "home",
    )
)


def _is_path(meaning: Meaning) -> bool:
    kind = meaning.kind or type(meaning.thing)
    return issubclass(kind, PurePath)


def _of_object(thing: object, names: tuple[str, ...] = (), owner: object = NOTHING) -> Meaning:
    if thing is NOTHING:
        return Meaning(names=names)
    return Meaning(thing, names=(*names, *(names_of(thing) if callable(thing) else ())), owner=owner)


def _of_import(module: str, member: str, known: Mapping[str, object]) -> Meaning:
    """What an import inside the function gives; a module that is not loaded is known by its name only."""
    if module.startswith("."):
        try:
            module = importlib.util.resolve_name(module, str(known.get("__package__") or ""))
        except (ImportError, ValueError):
            return UNKNOWN
    loaded = sys.modules.get(module)
    if not member:
        return Meaning(names=(module,)) if loaded is None else Meaning(loaded)
    return _member(Meaning(names=(module,)) if loaded is None else Meaning(loaded), member)


def _member(base: Meaning, name: str) -> Meaning:
    """An attribute, found without running any code of the object's."""
    if isinstance(base.thing, ModuleType):
        whole = f"{base.thing.__name__}.{name}"
        found = vars(base.thing).get(name, sys.modules.get(whole, NOTHING))
        return _of_object(found, (whole,), owner=base.thing)
    kind = base.thing if isinstance(base.thing, type) else base.kind
    if kind is None and base.thing is not NOTHING:
        kind = type(base.thing)
    if kind is not None:
        thing = inspect.getattr_static(kind, name, NOTHING)
        owner = NOTHING if base.kind is not None else base.thing
        nested = thing if isinstance(thing, type | FunctionType | staticmethod | classmethod | property) else NOTHING
        return Meaning(nested, names=tuple(member_names(kind, name)), owner=owner)
    return Meaning(names=tuple(f"{one}.{name}" for one in base.names))


# -- functions behind what is called ----------------------------------------------------------------------------------


def function_behind(thing: object) -> FunctionType | None:
    """The plain function that runs when `thing` is called or read, through methods and honest wrappers.

    None for tasks and workflows: what they do is no part of the body that calls them.
    """
    seen = 0
    while not isinstance(thing, FunctionType) or hasattr(thing, "__wrapped__"):
        seen += 1
        if seen > 20 or isinstance(thing, Task | Workflow):
            return None
        match thing:
            case staticmethod() | classmethod() | MethodType():
                thing = thing.__func__
            case property():
                thing = thing.fget
            case _:
                thing = inspect.getattr_static(thing, "__wrapped__", None)
    return thing


def known_to(function: Callable[..., object]) -> dict[str, object]:
    """What the free names of a function stand for now: its globals, and over them what it closes over."""
    known: dict[str, Any] = dict(getattr(function, "__globals__", {}))  # Any: whatever a module has
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            known[name] = cell.cell_contents
        except ValueError:  # the enclosing function has not given it a value yet
            known[name] = NOTHING
    return known


# -- names that a function binds --------------------------------------------------------------------------------------


def bindings_in(node: ast.AST) -> dict[str, list[Bound]]:
    """The names that a function, lambda or comprehension binds itself, with every place where it does."""
    bound: dict[str, list[Bound]] = {}
    free: set[str] = set()
    for name, place in _bindings(node, free):
        bound.setdefault(name, []).append(place)
    return {name: places for name, places in bound.items() if name not in free}


def _bindings(node: ast.AST, free: set[str]) -> Iterator[tuple[str, Bound]]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            given = node.args
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                yield argument.arg, Bound(annotation=argument.annotation)
            for rest in (given.vararg, given.kwarg):
                if rest is not None:
                    yield rest.arg, Bound()
            todo: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            todo = [generator.target for generator in node.generators]
        case _:
            todo = []
    while todo:
        current = todo.pop()
        yield from _bound_by(current, free)
        if isinstance(current, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(current, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            continue
        todo.extend(_parts(current))


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What is inside a node, but for targets whose value is known (they were taken already)."""
    match node:
        case ast.Assign():
            yield node.value
            yield from (target for target in node.targets if not isinstance(target, ast.Name))
        case ast.AnnAssign():
            yield from filter(None, (node.value,))
        case ast.AugAssign():
            yield node.value  # `x |= y` leaves x what it is
        case ast.NamedExpr():
            yield node.value
        case _:
            yield from ast.iter_child_nodes(node)


def _bound_by(node: ast.AST, free: set[str]) -> Iterator[tuple[str, Bound]]:
    match node:
        case ast.Assign():
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, Bound(value=node.value)
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name, Bound(value=node.value, annotation=node.annotation)
        case ast.NamedExpr(target=ast.Name(id=name)):
            yield name, Bound(value=node.value)
        case ast.Name(id=name, ctx=ast.Store()):
            yield name, Bound()
        case ast.Import():
            for one in node.names:
                top = one.name.partition(".")[0]
                yield one.asname or top, Bound(module=one.name if one.asname else top)
        case ast.ImportFrom():
            module = "." * node.level + (node.module or "")
            for one in node.names:
                yield one.asname or one.name, Bound(module=module, member=one.name)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name, Bound()
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name, Bound()
        case ast.MatchMapping(rest=str(name)):
            yield name, Bound()
        case ast.Global() | ast.Nonlocal():
            free.update(node.names)
        case _:
            return
