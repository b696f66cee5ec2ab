"""What every module keeps to: a first line that answers, a size that can be read, no clock, no synonyms."""

from __future__ import annotations

import ast
import re

from package import Module, modules, product

LONGEST_MODULE = 500
LONGEST_FUNCTION = 80

LONG: dict[str, str] = {}
"""Modules and `module:function`s over the limit, each with the reason why it is not two things."""

CLOCK = "engine/clock.py"

READS_CLOCK = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "monotonic"),
    ("time", "monotonic_ns"),
    ("time", "perf_counter"),
    ("time", "perf_counter_ns"),
    ("time", "sleep"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("uuid", "uuid1"),
    ("uuid", "uuid4"),
    ("os", "urandom"),
}

REAL_TIME = {
    "cli/": "screens tick, and say how long things took, for the person who looks at them",
    "stores/sqlite/": "it waits for other processes' file locks, measures the disk, and makes a store's own id",
}
"""Folders that read the machine's clock or chance themselves: no journal ever sees what they read."""

RETIRED = {
    "activity": "task, or step",
    "activities": "tasks, or steps",
    "execution": "run",
    "executions": "runs",
    "invocation": "run",
    "superstep": "turn",
    "suspend": "wait, or pause",
    "suspended": "waiting, or paused",
    "hibernate": "wait",
    "orchestrator": "program, or runner",
    "dispatcher": "worker",
    "checkpoint": "entry, or snapshot",
    "checkpoints": "entries, or snapshots",
    "subworkflow": "child run",
    "approval": "signal",
    "manager": "what it does",
    "helper": "what it does",
    "helpers": "what they do",
    "util": "what it does",
    "utils": "what they do",
    "impl": "what it is",
}
"""Words that have a glossary word in their place."""

SPOKEN_BY_OTHERS = {
    "stores/sqlite/": {"checkpoint", "checkpoints"},
    "nodes/langgraph.py": {"checkpoint", "checkpoints"},
    "nodes/parts/langgraph_": {"checkpoint", "checkpoints"},
}
"""Where another system's own word is meant: SQLite moves its log into the file in *checkpoints*, LangGraph has them."""


def test_the_first_line_of_every_module_is_a_sentence() -> None:
    firsts = {module.name: (ast.get_docstring(module.tree) or "").split("\n")[0] for module in modules()}
    bad = {name: first for name, first in firsts.items() if not re.fullmatch(r"\S.*[.?!:]", first)}
    assert not bad, f"say in the first line what question the module answers: {bad}"


def test_every_module_can_be_read_at_once() -> None:
    long = {module.name: module.lines for module in modules() if module.lines > LONGEST_MODULE}
    assert not {name: lines for name, lines in long.items() if name not in LONG}, "each is two things, or is in LONG"


def test_every_function_fits_a_screen() -> None:
    long = {
        f"{module.name}:{function.name}": lines
        for module in modules()
        for function in module.functions()
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    }
    assert not {name: lines for name, lines in long.items() if name not in LONG}, "each is two things, or is in LONG"


def test_nothing_is_excused_that_needs_no_excuse() -> None:
    sizes = {module.name: module.lines for module in modules()}
    short = [name for name in LONG if ":" not in name and sizes.get(name, 0) <= LONGEST_MODULE]
    assert not short, f"take {short} out of LONG"
    reads = [module.name for module in product() if clock_reads(module)]
    unused = [folder for folder in REAL_TIME if not any(name.startswith(folder) for name in reads)]
    assert not unused, f"take {unused} out of REAL_TIME"


def test_only_the_clock_reads_the_clock() -> None:
    found = {module.name: clock_reads(module) for module in product()}
    bad = {name: places for name, places in found.items() if places and not name.startswith((CLOCK, *REAL_TIME))}
    assert not bad, f"take a Clock, or a Random that {CLOCK} made: {bad}"


def clock_reads(module: Module) -> list[str]:
    """Places where a module asks the machine for time or chance. To name the class `Random` is not to make one."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and (name := _last(node.value)) is not None:
            if (name, node.attr) in READS_CLOCK or (name in ("random", "secrets") and node.attr != "Random"):
                found.append(f"line {node.lineno}: {name}.{node.attr}")
        elif isinstance(node, ast.Call) and _last(node.func) in ("Random", "SystemRandom") and not node.args:
            found.append(f"line {node.lineno}: a source of chance without a seed")
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "random", "secrets"):
            names = [one.name for one in node.names if one.name != "Random"]
            found += [f"line {node.lineno}: from {node.module} import {name}" for name in names]
    return found


def _last(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def test_names_are_made_of_the_glossary_s_words() -> None:
    found = [
        f"{module.name}:{line}: {name} (say {RETIRED[word]})"
        for module in modules()
        for name, line in module.defined()
        for word in words_of(name)
        if word in RETIRED and word not in spoken_in(module)
    ]
    assert not found


def spoken_in(module: Module) -> set[str]:
    return {word for folder, words in SPOKEN_BY_OTHERS.items() if module.name.startswith(folder) for word in words}


def words_of(name: str) -> list[str]:
    """The words that a name is made of, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def test_what_the_rules_look_for_is_found() -> None:
    text = (
        '"""A module."""\nimport time\nimport random\nfrom time import monotonic\n'
        "def later(): return time.time() + random.random()\nr = random.Random()\ns = random.Random(1)\n"
    )
    module = Module("seen.py", text, ast.parse(text))
    assert len(clock_reads(module)) == 4
    assert words_of("runFlow_HTTPJob") == ["run", "flow", "http", "job"]
