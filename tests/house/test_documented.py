"""Whatever a user can name is in the reference: a new option, verb, entry, status, error or command brings its page."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from package import ROOT, SOURCE
from test_exports import PUBLIC, public

import stepwell
from stepwell import errors, logging, testing
from stepwell.app import Durability, Stepwell
from stepwell.authoring.ctx import ctx
from stepwell.authoring.queue import Queue
from stepwell.cli import main as entry
from stepwell.engine.limits import Limits
from stepwell.graph.bodies import RESERVED
from stepwell.graph.heads import KEYS
from stepwell.handle import Run
from stepwell.model import entries
from stepwell.model.lifecycle import MEANING, NEXT, Status
from stepwell.model.retry import Retry
from stepwell.nodes.parts.settings import names as settings_of
from stepwell.nodes.registry import NODE_KEYS, NodeTypes
from stepwell.stores.protocol import MessageKind
from stepwell.testing.kit import Bench
from stepwell.testing.runs import BenchRun

REFERENCE = ROOT / "docs" / "reference"


def page(*names: str) -> str:
    return "\n".join((REFERENCE / f"{name}.md").read_text("utf-8") for name in names)


PYTHON = ("python", "running")
"""The pages about writing workflows and about running them."""


def missing(names: Iterable[str], text: str) -> list[str]:
    """Names that do not stand in `text` as words of their own."""
    return [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)]


def options(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "function")]


def test_the_generated_parts_say_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_name_is_in_the_reference() -> None:
    assert not missing(PUBLIC, page(*PYTHON))


@pytest.mark.parametrize(
    "public", [stepwell.task, stepwell.workflow, Stepwell, Stepwell.start, Stepwell.schedule, Retry, Limits, Queue]
)
def test_every_option_is_in_the_reference(public: Callable[..., object]) -> None:
    assert not missing((f"{name}:" for name in options(public) if name not in ("args", "kwargs")), page(*PYTHON))


@pytest.mark.parametrize("public", [stepwell.task, stepwell.workflow, Stepwell, Stepwell.start, Retry, Queue, Bench])
def test_every_option_of_what_users_write_is_explained(public: Callable[..., object]) -> None:
    explained = inspect.getdoc(public) or ""
    wanted = [name for name in options(public) if not re.search(rf"\b{name}\b", explained)]
    assert not wanted, f"{public}: its docstring says nothing of {wanted}"


def test_every_verb_of_ctx_is_in_the_reference() -> None:
    assert not missing((f"ctx.{name}" for name in dir(type(ctx)) if not name.startswith("_")), page("python"))
    assert not missing((f"ctx.sync.{name}" for name in dir(type(ctx.sync)) if name[0] != "_"), page("python"))


@pytest.mark.parametrize(("kind", "variable"), [(Stepwell, "app"), (Run, "run")])
def test_every_method_is_in_the_reference(kind: type, variable: str) -> None:
    assert not missing((f"{variable}.{name}" for name in public(kind)), page("running"))


def test_every_name_of_the_testing_kit_is_in_the_reference() -> None:
    assert not missing((f"## `{name}`" for name in testing.__all__), page("testing"))
    for kind, variable in ((Bench, "bench"), (BenchRun, "run")):
        assert not missing((f"`{variable}.{name}`" for name in public(kind)), page("testing"))


def test_every_name_of_logging_is_in_the_reference() -> None:
    own = [name for name, value in vars(logging).items() if getattr(value, "__module__", "") == logging.__name__]
    assert "install" in own
    assert not missing((f"### `{name}`" for name in own), page("running"))


def test_every_entry_is_in_the_reference() -> None:
    kinds = [kind.__struct_config__.tag for kind in get_args(entries.AnyEntry)]
    assert len(kinds) > 15
    assert not missing(kinds, page("entries"))


def test_every_kind_of_message_is_in_the_reference() -> None:
    assert not missing((f"| `{kind}` |" for kind in get_args(MessageKind)), page("entries"))


def test_every_key_of_a_definition_and_of_a_node_is_in_the_reference() -> None:
    text = page("graph-format")
    assert not [key for key in (*KEYS, *NODE_KEYS) if f"| `{key}` |" not in text]
    assert not [name for name in RESERVED if f"`{name}`" not in text]


def test_every_node_type_has_a_section_with_its_settings() -> None:
    text = page("nodes")
    types = NodeTypes.standard()
    for name in types.names():
        kind = types.get(name)
        assert kind is not None
        _, _, section = text.partition(f"\n## {name}\n")
        section = section.partition("\n## ")[0]
        assert kind.summary in text
        assert not [one for one in settings_of(kind) if f"| `{one}`" not in section], name


def test_every_status_is_explained_and_drawn() -> None:
    assert set(get_args(Status)) == set(MEANING) == set(NEXT)
    assert not missing((f"| `{status}` |" for status in MEANING), page("lifecycle"))
    assert not missing((f"{before} --> {after}" for before in NEXT for after in NEXT[before]), page("lifecycle"))


def test_every_error_has_a_code_of_its_own_and_is_in_the_reference() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StepwellError)
    ]
    codes = [kind.code for kind in kinds]
    assert len(codes) == len(set(codes))
    assert not missing((f"| `{kind.code}` | `{kind.__name__}` |" for kind in kinds), page("errors"))
    tree = inspect.getdoc(errors) or ""
    assert not missing((kind.__name__ for kind in kinds), tree)


def test_every_durability_is_explained_in_its_how_to() -> None:
    text = (ROOT / "docs" / "how-to" / "durability.md").read_text("utf-8")
    assert not missing((f'`"{mode}"`' for mode in get_args(Durability)), text)


def commands(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        yield f"{path} {name}"
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_every_command_of_the_command_line_is_in_the_reference() -> None:
    group = next(value for value in vars(entry).values() if isinstance(value, click.Group))
    found = list(commands(group, "stepwell"))
    assert len(found) > 20
    assert not missing((f"# `{name}`" for name in found), page("cli"))


GLOSSARY = """
    alias answer attempt bench body branch chunk client compensation container deadline debounce draft edge entry
    event executor expression firing fork frame graph identity inbox input join journal label lease lint mailbox marker
    message node occasion orphan path patch pause plan port program queue recover replay rerun resume retry run runner
    saga schedule scope select signal singleton snapshot state step store stream stub subscription task timer token
    topic transactional trigger turn upgrade usage version wait worker workflow
"""


def test_every_word_of_the_glossary_has_its_meaning() -> None:
    text = page("glossary")
    assert not [word for word in GLOSSARY.split() if not re.search(rf"^\| {word}\b", text, re.MULTILINE)]


RETIRED = (
    r"\b(activit(y|ies)|executions?|invocations?|supersteps?|flow runs?|workflow instances?"
    r"|sub-?workflows?|hibernat\w+|suspend(ed|s)?)\b"
)


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_the_docs_use_the_glossary_s_words(path: Path) -> None:
    text = path.read_text("utf-8")
    if path.name == "glossary.md":
        text = text.split("## If you come from elsewhere")[0]
    found = [match[0] for match in re.finditer(RETIRED, text, re.IGNORECASE)]
    assert not found, f"{path}: {found} have another word in the glossary"


def test_public_classes_and_functions_of_every_module_have_docstrings() -> None:
    bare = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            is_public = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_"
            if is_public and not ast.get_docstring(node) and not _is_overload(node):  # type: ignore[arg-type]  # narrowed by is_public
                bare.append(f"{file.relative_to(SOURCE)}:{node.lineno}")
    assert not bare


def _is_overload(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)
