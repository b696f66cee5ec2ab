"""Where does the order of a set get out into a function? Sets of texts are ordered differently in every process.

Only what is surely a set counts: a literal, a call of `set`, what is bound to nothing else, or is declared as one.
Sets of numbers and of asyncio tasks are left alone, since their order is the same on every replay, and so is whatever
does not care for order: `sorted(s)`, `len(s)`, `x in s`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from stepwell.authoring.meanings import NOTHING, Bound, Scope, bindings_in

_KEEP_ORDER: Final = (list, tuple, enumerate, zip, map, filter, iter)
_WITHOUT_ORDER: Final = (sorted, len, sum, min, max, any, all, set, frozenset, bool, isinstance)
_MAKE_SETS: Final = frozenset(("union", "intersection", "difference", "symmetric_difference", "copy"))
_MAPS: Final = frozenset(("map", "map_sync", "join"))
_MAKE_TASKS: Final = frozenset(("create_task", "ensure_future"))
_SETS: Final = frozenset(("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"))
_NUMBERS: Final = frozenset(("int", "float", "bool"))
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def set_uses(function: ast.AST, scope: Scope) -> Iterator[ast.expr]:
    """The expressions in a function, outside functions defined in it, whose order is used though they are sets."""
    body = function.body if isinstance(function, _FUNCTIONS) else []
    for part in body if isinstance(body, list) else [body]:
        yield from _uses(part, _Sets(function), scope)


class _Sets:
    """Knows which expressions of one function are sets."""

    def __init__(self, function: ast.AST) -> None:
        self.function = function
        self._busy: set[str] = set()

    def holds(self, node: ast.expr, scope: Scope) -> bool:
        """Whether an expression is surely a set whose order may differ."""
        match node:
            case ast.Set():
                return not _all_numbers(node.elts) and not any(_is_task(one) for one in node.elts)
            case ast.SetComp():
                return not _is_task(node.elt)
            case ast.Call():
                return self._is_made(node, scope)
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return self.holds(node.left, scope) or self.holds(node.right, scope) or _is_keys(node.left)
            case ast.IfExp():
                return self.holds(node.body, scope) and self.holds(node.orelse, scope)
            case ast.NamedExpr():
                return self.holds(node.value, scope)
            case ast.Name():
                return self._is_bound(node.id, scope)
            case _:
                return False

    def _is_made(self, node: ast.Call, scope: Scope) -> bool:
        if isinstance(node.func, ast.Attribute):
            return node.func.attr in _MAKE_SETS and self.holds(node.func.value, scope)
        if scope.meaning(node.func).thing not in (set, frozenset):
            return False
        for given in node.args:
            if isinstance(given, ast.Call) and isinstance(given.func, ast.Name) and given.func.id == "range":
                return False
            if isinstance(given, ast.ListComp | ast.GeneratorExp | ast.SetComp) and _is_task(given.elt):
                return False
            if isinstance(given, ast.List | ast.Tuple | ast.Set) and (
                _all_numbers(given.elts) or any(_is_task(one) for one in given.elts)
            ):
                return False
        return True

    def _is_bound(self, name: str, scope: Scope) -> bool:
        holder = scope.holder(name)
        if holder is None:
            found = scope.known.get(name, NOTHING)
            return isinstance(found, set | frozenset) and not all(isinstance(one, int | float) for one in found)
        bindings = holder.bound[name]
        if not bindings or name in self._busy or self._takes_tasks(name):
            return False
        self._busy.add(name)
        try:
            return all(self._says_set(bound, holder) for bound in bindings)
        finally:
            self._busy.discard(name)

    def _says_set(self, bound: Bound, scope: Scope) -> bool:
        if bound.annotation is not None:
            return _is_set_type(bound.annotation)
        return bound.value is not None and self.holds(bound.value, scope)

    def _takes_tasks(self, name: str) -> bool:
        """Whether asyncio tasks are put into the set of this name."""
        for node in ast.walk(self.function):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=known), attr="add"), args=[given]) if known == name:
                    if _is_task(given) or (isinstance(given, ast.Name) and self._is_task_name(given.id)):
                        return True
        return False

    def _is_task_name(self, name: str) -> bool:
        values = [bound.value for bound in bindings_in(self.function).get(name, ())]
        return any(value is not None and _is_task(value) for value in values)


def _uses(node: ast.AST, sets: _Sets, scope: Scope, *, ordered: bool = True) -> Iterator[ast.expr]:
    """`ordered` is false directly inside a call that does not care for the order of what it is given."""
    if isinstance(node, _FUNCTIONS):
        return
    inner = Scope(bindings_in(node), scope) if isinstance(node, _COMPREHENSIONS) else scope
    if ordered or not isinstance(node, (*_COMPREHENSIONS, ast.Call)):
        yield from (one for one in _ordered_in(node, scope) if sets.holds(one, scope))
    is_free = isinstance(node, ast.Call) and _is_builtin(node.func, _WITHOUT_ORDER, scope)
    for child in ast.iter_child_nodes(node):
        yield from _uses(child, sets, inner, ordered=not is_free)


def _ordered_in(node: ast.AST, scope: Scope) -> list[ast.expr]:
    """The expressions directly in a node whose order matters there."""
    match node:
        case ast.For():
            return [node.iter]
        case ast.ListComp() | ast.GeneratorExp():
            return [generator.iter for generator in node.generators]
        case ast.SetComp() | ast.DictComp() if any(isinstance(one, ast.Await) for one in ast.walk(node)):
            return [generator.iter for generator in node.generators]
        case ast.Assign(targets=[ast.Tuple() | ast.List()]):
            return [node.value]
        case ast.Starred(ctx=ast.Load()) | ast.YieldFrom():
            return [node.value]
        case ast.Call(func=ast.Attribute(value=of, attr="pop"), args=[]):
            return [of]
        case ast.Call():
            if _is_builtin(node.func, _KEEP_ORDER, scope):
                return list(node.args)
            if isinstance(node.func, ast.Attribute) and (
                node.func.attr in _MAPS
                or (node.func.attr == "fromkeys" and scope.meaning(node.func.value).thing is dict)
            ):
                return list(node.args)
    return []


def _is_builtin(node: ast.expr, wanted: tuple[object, ...], scope: Scope) -> bool:
    return isinstance(node, ast.Name) and any(scope.meaning(node).thing is one for one in wanted)


def _all_numbers(nodes: list[ast.expr]) -> bool:
    return all(isinstance(one, ast.Constant) and isinstance(one.value, int | float) for one in nodes)


def _is_task(node: ast.expr) -> bool:
    """Whether an expression makes an asyncio task; their hashes are numbers that replay gives again."""
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in _MAKE_TASKS


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"


def _is_set_type(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _SETS
        case ast.Subscript():
            of = node.slice
            return _is_set_type(node.value) and not (isinstance(of, ast.Name) and of.id in _NUMBERS)
        case ast.BinOp(op=ast.BitOr()):
            return _is_set_type(node.left) or _is_set_type(node.right)
        case _:
            return False
