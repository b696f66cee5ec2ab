"""What in a workflow's body would not be the same on replay? Found in its source, with file and line, before it runs.

The body is read with the functions, lambdas and methods of its own file that it mentions, at any depth, but not the
tasks: what they do is recorded. Names are resolved as Python would resolve them (`meanings`), so aliases are seen
through and a local variable called `time` is not taken for the module. A call that is meant is marked with
`# stepwell: allow` on its line.
"""

from __future__ import annotations

import ast
import logging
import os
import weakref
from collections.abc import Iterator
from random import Random
from types import FunctionType, ModuleType
from typing import Any, Final

import msgspec

import stepwell.errors
from stepwell.authoring.hazards import CHANCE, ENVIRONMENT, NETWORK, SET_ORDER, THREAD, Hazard, find, is_environment
from stepwell.authoring.meanings import NOTHING, Meaning, Scope, bindings_in, function_behind, known_to
from stepwell.authoring.ordering import set_uses
from stepwell.authoring.sources import FunctionNode, find_function, is_allowed
from stepwell.authoring.task import Task, TaskDecorator
from stepwell.authoring.task import task as task_decorator
from stepwell.authoring.workflow import Workflow
from stepwell.errors import DefinitionError

_log = logging.getLogger("stepwell.lint")

_HERE: Final = os.path.dirname(stepwell.errors.__file__) + os.sep
_EXAMPLES: Final = _HERE + "examples" + os.sep

_CLIENTS: Final = frozenset(("requests", "httpx", "httpx2", "aiohttp", "urllib3"))
_VERBS: Final = frozenset(
    ["get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "send", "urlopen", "ws_connect"]
)
"""Methods of a client that exists already, by which it goes to the network."""


class Finding(msgspec.Struct, frozen=True, order=True):
    """One place in a workflow's body, or in what it calls, that would not be the same on replay.

    `line` and `column` count from 1; `code` is stable and may be matched by programs; `call` is the source's text.
    """

    file: str
    line: int
    column: int
    code: str
    call: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.code} {self.call} — {self.advice}"


def lint(workflow: Workflow[..., Any]) -> list[Finding]:  # Any: whatever it returns
    """What in the workflow's body would not be the same on replay, in the order of the source.

    Nothing is found where the source is not to be had (typed at a prompt, compiled away). Nothing is run.
    """
    function = function_behind(workflow.function)
    if function is None or is_machinery(function.__code__.co_filename):
        return []
    return sorted(set(_Reading(function.__code__.co_filename).all(function)))


def check(workflow: Workflow[..., Any], *, strict: bool) -> None:  # Any: whatever it returns
    """What registration does: log each finding, once for a workflow in a process; with `strict` refuse them.

    Raises:
        DefinitionError: `strict`, and there are findings in it, or in a workflow that it mentions.
    """
    if not strict:
        _tell(workflow)
        return
    findings = [one for member in _family(workflow) for one in lint(member)]
    if findings:
        lines = "\n  ".join(str(one) for one in sorted(set(findings)))
        raise DefinitionError(
            f"workflow {workflow.name!r} does what may differ on replay, and strict=True refuses that:\n  {lines}\n"
            "what is meant is marked with  # stepwell: allow  on its line"
        )


_told: weakref.WeakSet[Workflow[..., Any]] = weakref.WeakSet()  # Any: whatever they return


def _tell(workflow: Workflow[..., Any]) -> None:
    if workflow in _told:
        return
    _told.add(workflow)
    try:
        findings = lint(workflow)
    except Exception:  # a source that the lint cannot make sense of must not keep a workflow from running
        _log.warning("the source of workflow %s could not be read; please report it", workflow.name, exc_info=True)
        return
    for one in findings:
        _log.warning(
            "%s:%d: workflow %s: %s may differ on replay (%s): %s",
            *(one.file, one.line, workflow.name, one.call, one.code, one.advice),
        )


def _family(workflow: Workflow[..., Any]) -> list[Workflow[..., Any]]:
    """The workflow, those that its body mentions, and so on: all that are registered with it."""
    family = [workflow]
    for member in family:
        family += [child for child in member.mentioned() if child not in family]
    return family


def is_machinery(filename: str) -> bool:
    """Whether a file is Stepwell's own; its examples are not."""
    return filename.startswith(_HERE) and not filename.startswith(_EXAMPLES)


class _Reading:
    """Reads a body and what it mentions, one function after the other."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[Finding] = []
        self._seen: set[object] = set()
        self._waiting: list[tuple[FunctionType, type | None]] = []

    def all(self, function: FunctionType) -> list[Finding]:
        """The findings in `function` and in what it leads to."""
        self._seen.add(function.__code__)
        self._waiting.append((function, None))
        while self._waiting:
            current, kind = self._waiting.pop()
            node = find_function(current.__code__, current.__globals__)
            if node is None:
                continue
            scope = Scope(bindings_in(node), known=known_to(current))
            if kind is not None and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = [*node.args.posonlyargs, *node.args.args][:1]
                scope.kinds = {argument.arg: kind for argument in first}
            self._read_body(node, scope)
        return self._found

    def _follow(self, thing: object, kind: type | None = None) -> None:
        """Read the function behind `thing` too, if it is in this file."""
        function = function_behind(thing)
        if function is None or function.__code__.co_filename != self._file or function.__code__ in self._seen:
            return
        self._seen.add(function.__code__)
        self._waiting.append((function, kind))

    # -- one function -------------------------------------------------------------------------------------------

    def _read_body(self, node: FunctionNode, scope: Scope) -> None:
        for use in set_uses(node, scope):
            self._add(use, SET_ORDER, ast.unparse(use))
        for part in [node.body] if isinstance(node, ast.Lambda) else node.body:
            self._read(part, scope)

    def _read(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._read_inner(node, scope)
                return
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                scope = Scope(bindings_in(node), scope)
            case ast.Call():
                called = scope.meaning(node.func)
                self._read_call(node, called)
                if is_environment(called.owner):
                    for argument in (*node.args, *node.keywords):
                        self._read(argument, scope)
                    return
            case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
                if self._read_name(node, scope):
                    return
            case ast.Subscript() if is_environment(scope.meaning(node.value).thing):
                self._add(node, ENVIRONMENT, ast.unparse(node))
                self._read(node.slice, scope)
                return
        for child in _children(node):
            self._read(child, scope)

    def _read_inner(self, node: FunctionNode, scope: Scope) -> None:
        """A function defined in the body belongs to it, unless it is a task."""
        if not isinstance(node, ast.Lambda):
            if any(_makes_task(decorator, scope) for decorator in node.decorator_list):
                return
            for decorator in node.decorator_list:
                self._read(decorator, scope)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self._read(default, scope)
        self._read_body(node, Scope(bindings_in(node), scope))

    def _read_call(self, node: ast.Call, called: Meaning) -> None:
        hazard = _hazard_of(called, node)
        if hazard is not None:
            self._add(node, hazard, _shown(node))
        if isinstance(called.thing, type) and called.thing.__module__ != "builtins":
            for name in ("__init__", "__post_init__"):
                self._follow(vars(called.thing).get(name), called.thing)

    def _read_name(self, node: ast.Name | ast.Attribute, scope: Scope) -> bool:
        """A function that is named is taken for called; True when there is nothing more to read in the expression."""
        meaning = scope.meaning(node)
        if is_environment(meaning.thing) or is_environment(meaning.owner):
            self._add(node, ENVIRONMENT, ast.unparse(node))
            return True
        if meaning.thing is not NOTHING and not isinstance(meaning.thing, type):
            base = scope.meaning(node.value) if isinstance(node, ast.Attribute) else None
            self._follow(meaning.thing, None if base is None else _kind_behind(base))
        return False

    def _add(self, node: ast.expr, hazard: Hazard, text: str) -> None:
        last = node.end_lineno or node.lineno
        if not is_allowed(self._file, node.lineno, last):
            text = text if len(text) <= 60 else text[:57] + "…"
            self._found.append(Finding(self._file, node.lineno, node.col_offset + 1, hazard.code, text, hazard.advice))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a node, without annotations: they are not run, or say nothing."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        if isinstance(value, ast.AST):
            yield value
        elif isinstance(value, list):
            yield from (one for one in value if isinstance(one, ast.AST))


def _kind_behind(base: Meaning) -> type | None:
    """The class whose methods are called on it; None for functions of modules."""
    if base.kind is not None:
        return base.kind
    if isinstance(base.thing, type):
        return base.thing
    return None if base.thing is NOTHING or isinstance(base.thing, ModuleType) else type(base.thing)


def _hazard_of(called: Meaning, node: ast.Call) -> Hazard | None:
    if is_environment(called.owner):
        return ENVIRONMENT
    given = len(node.args) + len(node.keywords)
    for name in called.names:
        found = find(name)
        if found is not None:
            _, hazard = found
            is_harmless = hazard.harmless_above is not None and given > hazard.harmless_above
            return None if is_harmless else hazard
    if not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr == "run_in_executor" and called.thing is NOTHING:
        return THREAD
    if called.owner is NOTHING or isinstance(called.owner, ModuleType | type):
        return None
    # A method of an object that was there before the run, and is still there when it is replayed.
    if isinstance(called.owner, Random) and not node.func.attr.startswith("_"):
        return CHANCE
    packages = {kind.__module__.partition(".")[0] for kind in type.mro(type(called.owner))}
    return NETWORK if node.func.attr in _VERBS and packages & _CLIENTS else None


def _makes_task(decorator: ast.expr, scope: Scope) -> bool:
    """Whether a decorator makes a function a task: `@task`, `@task(…)`, or an object that stands for one."""
    made = scope.meaning(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return made.thing is task_decorator or isinstance(made.thing, Task | TaskDecorator)


def _shown(node: ast.Call) -> str:
    return ast.unparse(node.func) + ("(…)" if node.args or node.keywords else "()")
