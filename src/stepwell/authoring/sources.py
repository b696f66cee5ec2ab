"""Where in which file is a function written? Its syntax tree with true line numbers, and the lines beside it."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_ALLOWED = re.compile(r"#\s*stepwell:\s*allow\b")


def find_function(code: CodeType, namespace: Mapping[str, object]) -> FunctionNode | None:
    """The syntax tree of the function with this code; None when its source is not to be had, or is another by now."""
    try:
        linecache.checkcache(code.co_filename)
        lines = linecache.getlines(code.co_filename, dict(namespace))
        functions = _functions_in("".join(lines))
    except (SyntaxError, ValueError, OSError, RecursionError):
        return None
    return functions.get((code.co_name, code.co_firstlineno))


@lru_cache(maxsize=4)  # trees are large, and a file's workflows are asked for one after the other
def _functions_in(text: str) -> dict[tuple[str, int], FunctionNode]:
    """All functions of a source text by name and first line, decorators included."""
    found: dict[tuple[str, int], FunctionNode] = {}
    for node in ast.walk(ast.parse(text)) if text else ():
        if isinstance(node, ast.Lambda):
            found.setdefault(("<lambda>", node.lineno), node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[(node.name, first)] = node
    return found


def is_allowed(filename: str, first: int, last: int) -> bool:
    """Whether one of these lines says `# stepwell: allow`."""
    return any(_ALLOWED.search(linecache.getline(filename, line)) for line in range(first, last + 1))
