"""The generated parts of the reference are written here, from the code: `python docs/generate.py`, or `--check` it.

A part stands between `<!-- generated: name -->` and `<!-- end -->`; what stands around it is written by people. Names,
signatures and texts are read from the source (`sources.py`), so the pages say what the code says on every Python alike.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import graph_pages
from click.testing import CliRunner
from sources import (
    ROOT,
    SOURCE,
    Function,
    NotThere,
    Place,
    class_at,
    defined,
    fields,
    first_sentence,
    functions_in,
    hints_of,
    imports,
    is_name,
    lineage,
    module,
    names_in,
    prose,
    public_methods,
    resolve,
    signatures,
)

REFERENCE = ROOT / "docs" / "reference"

_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


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


def documented(tree: ast.Module | ast.ClassDef, name: str, shown: str, *, level: int) -> str:
    """A heading, the signatures, and the docstring as Markdown."""
    functions = functions_in(tree, name)
    if not functions:
        raise NotThere(f"there is no function {name} for `{shown}`")
    code = signatures(functions, shown, bound=isinstance(tree, ast.ClassDef))
    text = next((doc for one in reversed(functions) if (doc := ast.get_docstring(one))), "")
    return f"{'#' * level} `{shown}`\n\n```text\n{code}\n```\n\n{prose(text)}\n"


def of_class(place: Place, shown: str, prefix: str, *, methods: bool = True, level: int = 2) -> str:
    """A class: what it is, how it is made (when `shown` is its own name), and its public methods on `prefix`.

    Methods that it inherits stand below what the class they come from says of itself.
    """
    tree = class_at(place)
    parts = [f"{'#' * level} `{shown}`\n"]
    if shown == place.name and functions_in(tree, "__init__"):
        parts.append(f"```text\n{signatures(functions_in(tree, '__init__'), shown, bound=True)}\n```\n")
    parts.append(prose(ast.get_docstring(tree) or "") + "\n")
    if functions_in(tree, "__call__"):
        parts.append(documented(tree, "__call__", prefix, level=level + 1))
        parts += [f"`{prefix}.{same}` is the same as calling it.\n" for same in _same_as_call(tree)]
    if methods:
        parts += _methods(place, prefix, level)
    return "\n".join(parts)


GROUPS = (
    ("UseCases", "Stepwell"),
    ("Starting",),
    ("Graphs",),
    ("Steering",),
    ("Looking",),
    ("People",),
    ("Events",),
    ("Streams",),
    ("FlowControl",),
    ("Triggers",),
    ("History", "Partial"),
    ("Tasks",),
)
"""In which order what a class inherits is shown, by the names of the classes that it is made of; others come after."""


def _methods(place: Place, prefix: str, level: int) -> Iterator[str]:
    seen: set[str] = set()
    own: dict[Place, list[str]] = {}
    for one in lineage(place):
        own[one] = [name for name in public_methods(class_at(one)) if name not in seen]
        seen.update(own[one])
    for one in sorted(own, key=lambda one: (one != place, _rank(one.name))):
        has_title = one != place and _rank(one.name) > 0
        if has_title and own[one]:
            yield f"{'#' * (level + 1)} {first_sentence(ast.get_docstring(class_at(one)) or one.name).rstrip('.')}\n"
        below = level + 1 + has_title
        yield from (documented(class_at(one), name, f"{prefix}.{name}", level=below) for name in own[one])


def _rank(name: str) -> int:
    return next((number for number, group in enumerate(GROUPS) if name in group), len(GROUPS))


def _same_as_call(tree: ast.ClassDef) -> list[str]:
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and is_name(node.value, "__call__")]
    return [target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)]


def of_struct(place: Place, *, level: int = 3) -> str:
    """A struct: what it is, and its fields."""
    tree = class_at(place)
    return f"{'#' * level} `{place.name}`\n\n{prose(ast.get_docstring(tree) or '')}\n\n```text\n{fields(tree)}\n```\n"


def _decorators() -> str:
    tasks, workflows = module("authoring/task.py"), module("authoring/workflow.py")
    retry = of_class(Place("model/retry.py", "Retry"), "Retry", "retry", methods=False)
    return "\n".join(
        [documented(tasks, "task", "task", level=2), documented(workflows, "workflow", "workflow", level=2), retry]
    )


def _objects() -> str:
    parts = []
    for file, name, own in (
        ("authoring/task.py", "task", ("AsyncTask", "SyncTask", "Task")),
        ("authoring/workflow.py", "workflow", ("AsyncWorkflow", "SyncWorkflow", "Workflow")),
    ):
        for kind in own:
            tree = class_at(Place(file, kind))
            parts.append(of_class(Place(file, kind), f"{kind}[P, T]", name, methods=False, level=3))
            parts += [documented(tree, one, f"{name}.{one}", level=4) for one in public_methods(tree)]
    return "\n".join(parts)


CTX = Place("authoring/ctx.py", "_Ctx")
APP = Place("app.py", "Stepwell")
RUN = Place("handle.py", "Run")


def _ctx() -> str:
    waiting = of_class(Place("authoring/syncctx.py", "SyncCtx"), "ctx.sync", "ctx.sync")
    return of_class(CTX, "ctx", "ctx") + "\n" + waiting


def _app() -> str:
    return of_class(APP, "Stepwell", "app")


def _run() -> str:
    return of_class(RUN, "Run[T]", "run")


def _settings() -> str:
    return (
        of_struct(Place("engine/limits.py", "Limits"), level=2)
        + "\n"
        + of_struct(Place("authoring/queue.py", "Queue"), level=2)
    )


# -- the types that the interface names -----------------------------------------------------------------------------

INTERFACE = (CTX, APP, RUN, Place("authoring/syncctx.py", "SyncCtx"))

MORE = (
    Place("model/state.py", "OpenStep"),
    Place("model/ids.py", "StepPath"),
    Place("model/failure.py", "Failure"),
    Place("model/checking.py", "Problem"),
)
"""What fields of those types are, as far as callers look at it."""

ELSEWHERE = {"Retry", "Limits", "Queue", "Run", "Task", "Workflow", "Stepwell", "NodeType"}
"""What has a place of its own in the reference."""

OF_GRAPHS = (
    Place("graph/problems.py", "Problem"),
    Place("graph/problems.py", "Place"),
    Place("nodes/protocol.py", "Outcome"),
    Place("nodes/protocol.py", "Ask"),
    Place("nodes/protocol.py", "Expand"),
    Place("nodes/protocol.py", "Routed"),
)
"""Structs that stand where graphs are."""


def named_by(places: Iterable[Place], *, more: Iterable[Place] = ()) -> list[Place]:
    """What the annotations of classes name of the package, in the order in which they do."""
    found: dict[Place, None] = {}
    for place in [one for given in places for one in lineage(given)]:
        for annotation in hints_of(class_at(place)):
            for name in names_in(annotation):
                at = resolve(place.file, name)
                if at is not None and at.name not in ELSEWHERE:
                    found[at] = None
    return [*found, *(one for one in more if one not in found)]


def _is_struct(place: Place) -> bool:
    tree = defined(place)
    if not isinstance(tree, ast.ClassDef) or tree.name.startswith("_"):
        return False
    bases = {ast.unparse(base).split("[")[0] for base in tree.bases}
    return bool(bases & {"msgspec.Struct", "NamedTuple", "Entry"})


def _values() -> str:
    places = [one for one in named_by(INTERFACE, more=MORE) if _is_struct(one) and one not in OF_GRAPHS]
    return "\n".join(of_struct(one) for one in sorted(places, key=lambda one: one.name))


def _aliases() -> str:
    lines = ["| name | is |", "|---|---|"]
    own = [Place("authoring/task.py", "task"), Place("authoring/workflow.py", "workflow")]
    extra = [at for one in own if (at := _alias_names(one))]
    places = {at: None for group in [named_by(INTERFACE), *extra] for at in group}
    for place in sorted(places, key=lambda one: one.name):
        found = defined(place)
        if isinstance(found, ast.AnnAssign) and found.value is not None and is_name(found.annotation, "TypeAlias"):
            text = found.value.value if isinstance(found.value, ast.Constant) else ast.unparse(found.value)
            value = str(text).replace("|", "\\|")
            shown = ", ".join(f"`{one}`" for one in _choices(found.value)) or f"`{value}`"
            lines.append(f"| `{place.name}` | {shown} |")
    return "\n".join(lines)


def _alias_names(place: Place) -> list[Place]:
    functions = functions_in(module(place.file), place.name)
    names = [name for one in functions for annotation in hints_of(one) for name in names_in(annotation)]
    return [at for name in names if (at := resolve(place.file, name)) is not None]


def _choices(value: ast.expr) -> list[str]:
    """The values of a `Literal`, as they are written in a call."""
    if not (isinstance(value, ast.Subscript) and is_name(value.value, "Literal")):
        return []
    choices = value.slice.elts if isinstance(value.slice, ast.Tuple) else [value.slice]
    return [f'"{one.value}"' for one in choices if isinstance(one, ast.Constant) and isinstance(one.value, str)]


# -- the blocking facade --------------------------------------------------------------------------------------------

_FACADES = {
    "_waits": "gives what that one gives when it is awaited",
    "_gives_run": "gives a blocking `Run`",
    "_iterates": "is an ordinary iterator",
}


def _blocking() -> str:
    tree = module("blocking.py")
    parts = [prose(ast.get_docstring(tree) or ""), ""]
    for name, shown in (("Stepwell", "app"), ("Run", "run")):
        own = class_at(Place("blocking.py", name))
        parts += [f"### `blocking.{name}`\n", prose(ast.get_docstring(own) or "") + "\n"]
        for method in public_methods(own):
            parts.append(documented(own, method, f"{shown}.{method}", level=4))
        parts += [
            "These have the parameters of the ones of the same names above, and block:\n",
            *_facades(own, shown),
            "",
        ]
    return "\n".join(parts)


def _facades(tree: ast.ClassDef, shown: str) -> Iterator[str]:
    for kind, meaning in _FACADES.items():
        names = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and is_name(node.value.func, kind)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        if names:
            yield f"- {', '.join(f'`{shown}.{name}`' for name in names)}: each {meaning}"


# -- graphs ---------------------------------------------------------------------------------------------------------


def _graphs() -> str:
    parts = [documented(module("authoring/graph.py"), "graph_workflow", "graph_workflow", level=3)]
    parts.append(of_class(Place("graph/problems.py", "InvalidDefinition"), "InvalidDefinition", "error", level=3))
    parts += [of_struct(one) for one in OF_GRAPHS]
    for name, shown in (("NodeType", "type"), ("ActionContext", "context"), ("View", "view")):
        parts.append(of_class(Place("nodes/protocol.py", name), name, shown, level=3))
    return "\n".join(parts)


# -- the testing kit ------------------------------------------------------------------------------------------------

_BENCH = {"Bench": "bench", "BenchRun": "run"}
"""What the docs call an object of a class."""


def _kit() -> str:
    found = {name: place for name, place in imports("testing/__init__.py").items() if name[0] != "_"}
    parts = [_kit_part(name, place) for name, place in sorted(found.items(), key=lambda one: one[0] not in _BENCH)]
    return "\n".join(parts)


def _kit_part(name: str, place: Place) -> str:
    tree = defined(place)
    if isinstance(tree, Function):
        return documented(module(place.file), name, name, level=2)
    if not isinstance(tree, ast.ClassDef):
        text = _text_below(place)
        return f"## `{name}`\n\n{prose(text)}\n"
    if _is_struct(place):
        return of_struct(place, level=2)
    return of_class(place, name, _BENCH.get(name, name.lower()))


def _text_below(place: Place) -> str:
    """The string that stands below a name in its module and tells what it is."""
    body = module(place.file).body
    after = next((below for above, below in itertools.pairwise(body) if above is defined(place)), None)
    text = after.value if isinstance(after, ast.Expr) else None
    return str(text.value) if isinstance(text, ast.Constant) else ""


def _plugin() -> str:
    tree = module("testing/plugin.py")
    return prose(ast.get_docstring(tree) or "") + "\n\n" + documented(tree, "bench", "bench", level=3)


def _logging() -> str:
    tree = module("logging.py")
    parts = [prose(ast.get_docstring(tree) or ""), ""]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            parts.append(of_class(Place("logging.py", node.name), node.name, node.name.lower(), methods=False, level=3))
        elif isinstance(node, Function) and not node.name.startswith("_"):
            parts.append(documented(tree, node.name, node.name, level=3))
    return "\n".join(parts)


# -- entries, messages, lifecycle, errors ---------------------------------------------------------------------------


def _entries() -> str:
    parts = []
    for node in module("model/entries.py").body:
        if isinstance(node, ast.ClassDef) and (tag := _tag(node)):
            listed = fields(node)
            block = f"\n```text\n{listed}\n```\n" if listed else ""
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
    lines += [
        f"| `{code}` | `{node.name}` | {first_sentence(ast.get_docstring(node) or '')} |"
        for node in tree.body
        if isinstance(node, ast.ClassDef) and (code := _code(node))
    ]
    return "\n".join(lines)


def _code(node: ast.ClassDef) -> str:
    """The value that the class gives to `code`, or nothing."""
    for line in node.body:
        targets = (
            line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        )
        value = getattr(line, "value", None)
        if any(is_name(target, "code") for target in targets) and isinstance(value, ast.Constant):
            return str(value.value)
    return ""


# -- the command line -----------------------------------------------------------------------------------------------


def _cli() -> str:
    return "\n".join(_commands(_group(), ()))


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        words = (*path, name)
        done = CliRunner().invoke(_group(), [*words, "--help"], prog_name="stepwell", terminal_width=100, color=False)
        if done.exit_code:
            raise NotThere(f"stepwell {' '.join(words)} --help: {done.exception!r}")
        yield f"{'#' * (1 + len(words))} `stepwell {' '.join(words)}`\n\n```text\n{done.output.strip()}\n```\n"
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, words)


def _group() -> click.Group:
    from stepwell.cli import main as entry

    return next(value for value in vars(entry).values() if isinstance(value, click.Group))


PARTS: dict[str, Callable[[], str]] = {
    "decorators": _decorators,
    "objects": _objects,
    "ctx": _ctx,
    "app": _app,
    "run": _run,
    "settings": _settings,
    "values": _values,
    "aliases": _aliases,
    "blocking": _blocking,
    "graphs": _graphs,
    "nodes": graph_pages.nodes,
    "head-keys": graph_pages.head_keys,
    "node-keys": graph_pages.node_keys,
    "triggers": graph_pages.triggers,
    "joins": graph_pages.joins,
    "reserved": graph_pages.reserved,
    "kit": _kit,
    "plugin": _plugin,
    "logging": _logging,
    "entries": _entries,
    "statuses": _statuses,
    "drawing": _drawing,
    "errors": _errors,
    "cli": _cli,
}

if __name__ == "__main__":
    sys.path.insert(0, str(SOURCE.parent))
    sys.exit(main())
