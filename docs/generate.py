"""The generated parts of the reference are written here, from the code: `python docs/generate.py`, or `--check` it.

A part stands between `<!-- generated: name -->` and `<!-- end -->`; what stands around it is written by people. Names,
signatures and texts are read from the source, so the page says what the code says on every Python alike.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "stepwell"
REFERENCE = ROOT / "docs" / "reference"

_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SECTION = re.compile(r"^(Args|Raises|Returns|Yields):$", re.MULTILINE)
_LONGEST = 100

_OBJECTS = {"Stepwell": "app", "Run": "run"}
"""What the docs call an object of a class."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    """Write all pages; with `--check` write nothing and return 1 when one is out of date."""
    stale = [page for page in sorted(REFERENCE.glob("*.md")) if not _bring_up_to_date(page, "--check" in sys.argv)]
    for page in stale:
        sys.stdout.write(f"{page.relative_to(ROOT)} is not what the code says: run python docs/generate.py\n")
    return 1 if stale else 0


def _bring_up_to_date(page: Path, check: bool) -> bool:
    before = page.read_text("utf-8")
    after = filled(before)
    if before == after:
        return True
    if check:
        return False
    page.write_text(after, "utf-8")
    return True


def filled(text: str) -> str:
    """The page with its generated parts made anew."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]().strip()}\n\n{part[3]}", text)


# -- Python ---------------------------------------------------------------------------------------------------------


def module(name: str) -> ast.Module:
    """A module of the package, parsed; `name` such as `authoring/task.py`."""
    return ast.parse((SOURCE / name).read_text("utf-8"))


def class_in(tree: ast.Module, name: str) -> ast.ClassDef:
    """A class of a module."""
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def functions_in(tree: ast.Module | ast.ClassDef, name: str) -> list[Function]:
    """A function with its overloads, in order; the implementation is the last."""
    return [node for node in tree.body if isinstance(node, Function) and node.name == name]


def public_methods(tree: ast.ClassDef) -> list[str]:
    """The names of a class's public methods, in the order in which they stand."""
    names = [node.name for node in tree.body if isinstance(node, Function) and not node.name.startswith("_")]
    return list(dict.fromkeys(names))


def signatures(functions: list[Function], shown: str, *, bound: bool) -> str:
    """One signature for each overload, or that of the only definition."""
    several = [one for one in functions if any(_is(mark, "overload") for mark in one.decorator_list)]
    return "\n".join(_signature(one, shown, bound) for one in several or functions[-1:])


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _signature(function: Function, shown: str, bound: bool) -> str:
    if any(_is(mark, "property") for mark in function.decorator_list):
        return f"{shown}: {ast.unparse(function.returns) if function.returns else 'object'}"
    parts = list(_parameters(function.args, bound))
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    prefix = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
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


def documented(tree: ast.Module | ast.ClassDef, name: str, shown: str, *, level: int) -> str:
    """A heading, the signatures, and the docstring as Markdown."""
    functions = functions_in(tree, name)
    code = signatures(functions, shown, bound=isinstance(tree, ast.ClassDef))
    text = next((doc for one in reversed(functions) if (doc := ast.get_docstring(one))), "")
    return f"{'#' * level} `{shown}`\n\n```text\n{code}\n```\n\n{prose(text)}\n"


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
        if not line.startswith(" "):
            rest.append(line)
        elif not line.startswith("     "):
            name, colon, text = line.strip().partition(": ")
            items.append(f"- `{name}`: {text}" if colon else f"- {line.strip()}")
        else:
            items[-1] += " " + line.strip()
    return items, "\n".join(rest).strip()


def of_class(file: str, name: str, shown: str, prefix: str, *, methods: bool = True, level: int = 2) -> str:
    """A class: what it is, how it is made (when `shown` is its own name), and its public methods on `prefix`."""
    tree = class_in(module(file), name)
    parts = [f"{'#' * level} `{shown}`\n"]
    if shown == name and functions_in(tree, "__init__"):
        parts.append(f"```text\n{signatures(functions_in(tree, '__init__'), name, bound=True)}\n```\n")
    parts.append(prose(ast.get_docstring(tree) or "") + "\n")
    if functions_in(tree, "__call__"):
        parts.append(documented(tree, "__call__", prefix, level=level + 1))
        parts += [f"`{prefix}.{same}` is the same as calling it.\n" for same in _same_as_call(tree)]
    if methods:
        parts += [documented(tree, one, f"{prefix}.{one}", level=level + 1) for one in public_methods(tree)]
    return "\n".join(parts)


def _same_as_call(tree: ast.ClassDef) -> list[str]:
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and _is(node.value, "__call__")]
    return [target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)]


def of_struct(file: str, name: str, *, level: int = 3) -> str:
    """A struct: what it is, and its fields."""
    tree = class_in(module(file), name)
    return f"{'#' * level} `{name}`\n\n{prose(ast.get_docstring(tree) or '')}\n\n```text\n{_fields(tree)}\n```\n"


def _fields(tree: ast.ClassDef) -> str:
    lines = [ast.unparse(node) for node in tree.body if isinstance(node, ast.AnnAssign)]
    return "\n".join(lines).replace("msgspec.Raw", "Raw")


def _decorators() -> str:
    tasks, workflows = module("authoring/task.py"), module("authoring/workflow.py")
    parts = [documented(tasks, "task", "task", level=2), documented(workflows, "workflow", "workflow", level=2)]
    return "\n".join([*parts, of_class("model/retry.py", "Retry", "Retry", "retry", methods=False)])


def _objects() -> str:
    parts = []
    for file, name, own in (
        ("authoring/task.py", "task", ("AsyncTask", "SyncTask", "Task")),
        ("authoring/workflow.py", "workflow", ("AsyncWorkflow", "SyncWorkflow", "Workflow")),
    ):
        parts += [of_class(file, kind, f"{kind}[P, T]", name, level=3) for kind in own]
    return "\n".join(parts)


def _ctx() -> str:
    file = "authoring/ctx.py"
    return of_class(file, "_Ctx", "ctx", "ctx") + "\n" + of_class(file, "_SyncCtx", "ctx.sync", "ctx.sync")


def _app() -> str:
    return of_class("app.py", "Stepwell", "Stepwell", "app")


def _run() -> str:
    return of_class("handle.py", "Run", "Run[T]", "run")


def _values() -> str:
    structs = [
        ("stores/protocol.py", "RunRow"),
        ("stores/protocol.py", "Stored"),
        ("stores/protocol.py", "Filter"),
        ("stores/protocol.py", "Finding"),
        ("model/state.py", "State"),
        ("model/state.py", "OpenStep"),
        ("model/ids.py", "StepPath"),
        ("model/failure.py", "Failure"),
        ("authoring/context.py", "Identity"),
    ]
    return "\n".join(of_struct(file, name) for file, name in structs)


def _limits() -> str:
    return of_struct("engine/limits.py", "Limits", level=2)


def _blocking() -> str:
    if not (SOURCE / "blocking.py").exists():
        return "(This version has no blocking facade yet.)"
    tree = module("blocking.py")
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    classes = [of_class("blocking.py", name, name, _OBJECTS.get(name, name.lower()), level=3) for name in names]
    return "\n".join([prose(ast.get_docstring(tree) or ""), "", *classes])


# -- entries, lifecycle, errors -------------------------------------------------------------------------------------


def _entries() -> str:
    parts = []
    for node in module("model/entries.py").body:
        if isinstance(node, ast.ClassDef) and (tag := _tag(node)):
            fields = _fields(node)
            block = f"\n```text\n{fields}\n```\n" if fields else ""
            parts.append(f"### `{tag}`\n\n{prose(ast.get_docstring(node) or '')}\n{block}")
    return "\n".join(parts)


def _tag(node: ast.ClassDef) -> str:
    tags = [one.value.value for one in node.keywords if one.arg == "tag" and isinstance(one.value, ast.Constant)]
    return str(tags[0]) if tags else ""


def _statuses() -> str:
    from stepwell.model.lifecycle import MEANING, NEXT, SET_ASIDE, TERMINAL

    lines = ["| status | meaning | may become |", "|---|---|---|"]
    for status, meaning in MEANING.items():
        after = ", ".join(f"`{one}`" for one in MEANING if one in NEXT[status]) or "(nothing)"
        lines.append(f"| `{status}` | {meaning} | {after} |")
    ended = ", ".join(f"`{one}`" for one in MEANING if one in TERMINAL)
    aside = ", ".join(f"`{one}`" for one in MEANING if one in SET_ASIDE)
    return "\n".join([*lines, "", f"A run has *ended* in {ended}. It is *set aside* in {aside}."])


def _drawing() -> str:
    from stepwell.model.lifecycle import NEXT, TERMINAL

    arrows = [f"    {before} --> {after}" for before, afters in NEXT.items() for after in NEXT if after in afters]
    ends = [f"    {status} --> [*]" for status in NEXT if status in TERMINAL]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> pending", *arrows, *ends, "```"])


def _errors() -> str:
    tree = module("errors.py")
    drawn = re.search(r"```\n(.*?)```", ast.get_docstring(tree) or "", re.DOTALL)
    lines = ["```text", (drawn[1] if drawn else "").strip(), "```", "", "| code | class | when |", "|---|---|---|"]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and (code := _code(node)):
            first = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"| `{code}` | `{node.name}` | {first} |")
    return "\n".join(lines)


def _code(node: ast.ClassDef) -> str:
    """The value that the class gives to `code`, or nothing."""
    for line in node.body:
        targets = (
            line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        )
        value = getattr(line, "value", None)
        if any(_is(target, "code") for target in targets) and isinstance(value, ast.Constant):
            return str(value.value)
    return ""


# -- the command line -----------------------------------------------------------------------------------------------


def _cli() -> str:
    group = _group()
    runner = CliRunner()
    parts = []
    for name in group.list_commands(click.Context(group)):
        done = runner.invoke(group, [name, "--help"], prog_name="stepwell", terminal_width=100, color=False)
        parts.append(f"## `stepwell {name}`\n\n```text\n{done.output.strip()}\n```\n")
    return "\n".join(parts)


def _group() -> click.Group:
    from stepwell.cli import main as entry

    return next(value for value in vars(entry).values() if isinstance(value, click.Group))


PARTS: dict[str, Callable[[], str]] = {
    "decorators": _decorators,
    "objects": _objects,
    "ctx": _ctx,
    "app": _app,
    "run": _run,
    "limits": _limits,
    "values": _values,
    "blocking": _blocking,
    "entries": _entries,
    "statuses": _statuses,
    "drawing": _drawing,
    "errors": _errors,
    "cli": _cli,
}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    sys.exit(main())
