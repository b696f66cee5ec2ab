"""How does a file, a text or data become a definition that can be stored, and a stored one a definition again?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from stepwell.authoring.registry import KnownTasks, Registry
from stepwell.graph.compile import compile_plan
from stepwell.graph.definition import Definition
from stepwell.graph.dialect import is_dialect
from stepwell.graph.heads import ID
from stepwell.graph.parse import load, parse
from stepwell.graph.problems import Findings, InvalidDefinition, Problem
from stepwell.graph.reading import STORED, Document, document_of, read, read_file
from stepwell.nodes.registry import NodeTypes
from stepwell.stores.tables import DefinitionRow

DefinitionSource: TypeAlias = str | Path | Mapping[str, Any]
"""A definition: a `Path` or the name of a `.yaml`, `.yml` or `.json` file, a text in YAML or JSON, or the data."""

FILES: Final = (".yaml", ".yml", ".json")
"""How the names of files with definitions end."""


class Draft(msgspec.Struct, frozen=True):
    """What is kept as a draft: with problems as it was written, without any in canonical form."""

    name: str
    body: bytes
    dialect: str
    problems: tuple[Problem, ...]


def checked(
    source: DefinitionSource, tasks: Registry | None, types: NodeTypes
) -> tuple[Definition, tuple[Problem, ...]]:
    """Read, parse and compile a definition; gives it, and its warnings.

    With `tasks` None nodes may call any task.

    Raises:
        InvalidDefinition: it has problems; all are told, warnings too.
    """
    findings = Findings()
    name = called(source)
    document = _read(source, findings)
    definition = None if document is None else _parsed(document, findings, tasks, types)
    if definition is not None:
        _compiled(definition, findings, tasks, types)
    if definition is not None and definition.triggers:
        from stepwell.usecases.standing import standing  # with all that knows the calendar

        standing(definition, findings)
    problems = in_order(findings.problems)
    if definition is None or findings.has_errors:
        raise InvalidDefinition(problems, name)
    return definition, problems


def drafted(source: DefinitionSource, tasks: Registry | None, types: NodeTypes) -> Draft:
    """Read what is to be a draft, whatever its problems.

    Raises:
        InvalidDefinition: it cannot be read, or has no name.
    """
    findings = Findings()
    document = _read(source, findings)
    if document is None:
        raise InvalidDefinition(in_order(findings.problems), called(source))
    data = document.data if isinstance(document.data, dict) else {}
    dialect = "events" if is_dialect(data) else "stepwell"
    key = "workflow_id" if dialect == "events" else "id"
    name = data.get(key)
    if not isinstance(name, str) or not re.match(ID, name):
        message = f"a draft needs {key}: letters, digits, _ and -, beginning with a letter or _"
        problem = Problem("missing-key", message, document.places.of(key).place)
        raise InvalidDefinition([problem], document.source)
    definition = _parsed(document, findings, tasks, types)
    if definition is not None:
        _compiled(definition, findings, tasks, types)
    is_sound = definition is not None and not findings.has_errors
    body = body_of(definition) if definition is not None and is_sound else msgspec.json.encode(document.data)
    return Draft(name, body, dialect, in_order(findings.problems))


def body_of(definition: Definition) -> bytes:
    """A definition as it is stored: its canonical form, keys in the order in which they stand."""
    return msgspec.json.encode(definition.canonical)


def restored(row: DefinitionRow, types: NodeTypes) -> Definition:
    """The definition that a store keeps.

    Raises:
        InvalidDefinition: it is a draft with problems, or was deployed where node types were known that are not here.
    """
    name = f"{row.name} {row.digest}"
    return load(row.body, types, source=name, format="json", limits=STORED)


def called(source: DefinitionSource) -> str:
    """What a definition is called in messages: the file's name, if it is one."""
    return str(source) if _is_file(source) else ""


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems by their places."""
    return tuple(sorted(problems, key=lambda one: (one.place.line, one.place.column)))


def _is_file(source: DefinitionSource) -> bool:
    if isinstance(source, str):
        return source.lower().endswith(FILES) and "\n" not in source
    return isinstance(source, Path)


def _read(source: DefinitionSource, findings: Findings) -> Document | None:
    if isinstance(source, Mapping):
        return document_of(dict(source), findings)
    if isinstance(source, Path) or _is_file(source):
        return read_file(source, findings)
    return read(source, findings)


def _parsed(document: Document, findings: Findings, tasks: Registry | None, types: NodeTypes) -> Definition | None:
    return parse(document, types, findings, () if tasks is None else tasks.names())


def _compiled(definition: Definition, findings: Findings, tasks: Registry | None, types: NodeTypes) -> None:
    """Add what the compiler finds."""
    try:
        compile_plan(definition, types, None if tasks is None else KnownTasks(tasks), findings=findings)
    except InvalidDefinition:
        pass  # it is in the findings
