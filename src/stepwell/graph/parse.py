"""What does a document define? A `Definition`, and all that is wrong with its form at once.

Form is what can be seen without looking at how nodes hang together: keys, types of values, durations, node types and
their settings. What edges, joins and expressions come to is for the compiler to say.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import msgspec

from stepwell.graph.bodies import Bodies
from stepwell.graph.canonical import canonical, digest
from stepwell.graph.definition import BodyDef, Definition
from stepwell.graph.dialect import is_dialect, parse_events
from stepwell.graph.form import Form, Json, Types, shown
from stepwell.graph.heads import FORMAT, KEYS, head
from stepwell.graph.places import Places
from stepwell.graph.problems import Findings, InvalidDefinition
from stepwell.graph.reading import LIMITS, STORED, Document, Format, ReadingLimits, document_of, read, read_file


def parse(document: Document, types: Types, findings: Findings, tasks: Collection[str] = ()) -> Definition | None:
    """Parse what was read. What is wrong goes to `findings`; a definition may come back all the same, for a compiler
    to look on; None when the document is no definition at all.

    Args:
        types: the node types that may be used.
        tasks: the names of registered tasks, which may stand in the place of a node type.
    """
    form = Form(findings, types, tasks)
    given, places = document.data, document.places
    if not isinstance(given, dict):
        found = "it is empty" if given is None else f"a definition must be a mapping; found {shown(given)}"
        form.say("not-a-definition", places, found, "begin with stepwell: 1")
        return None
    if is_dialect(given):
        return parse_events(form, given, places)
    if not _is_ours(form, given, places):
        return None
    form.known(given, places, "a definition", KEYS)
    definition = msgspec.structs.replace(head(form, given, places), body=_body(form, given, places))
    return msgspec.structs.replace(definition, canonical=canonical(definition), digest=digest(definition))


def load(
    text: str | bytes | os.PathLike[str],
    types: Types,
    *,
    tasks: Collection[str] = (),
    source: str = "",
    format: Format = "auto",
    limits: ReadingLimits = LIMITS,
) -> Definition:
    """Read and parse a text, or the file at a path.

    Raises:
        InvalidDefinition: it cannot be read, or its form is wrong; with all problems.
    """
    findings = Findings()
    if isinstance(text, os.PathLike):
        source = source or os.fspath(text)
        document = read_file(text, findings, format=format, limits=limits)
    else:
        document = read(text, findings, source=source, format=format, limits=limits)
    return _sound(document, types, findings, tasks, source)


def definition_of(
    data: Json, types: Types, *, tasks: Collection[str] = (), source: str = "", limits: ReadingLimits = STORED
) -> Definition:
    """Parse data that was no text, such as a canonical form.

    Raises:
        InvalidDefinition: it is not plain JSON, or its form is wrong; with all problems.
    """
    findings = Findings()
    return _sound(document_of(data, findings, source=source, limits=limits), types, findings, tasks, source)


def _sound(
    document: Document | None, types: Types, findings: Findings, tasks: Collection[str], source: str
) -> Definition:
    definition = None if document is None else parse(document, types, findings, tasks)
    findings.check(source)
    if definition is None:
        raise InvalidDefinition(findings.problems, source)
    return definition


def _is_ours(form: Form, given: dict[str, Json], places: Places) -> bool:
    version = given.get("stepwell")
    if version in (FORMAT, str(FORMAT)) and not isinstance(version, bool):
        return True
    if "stepwell" in given:
        hint = "a newer Stepwell may know it" if isinstance(version, int) and version > FORMAT else "write stepwell: 1"
        form.wrong(version, places.of("stepwell"), "the format's version must be 1", hint, code="unknown-format")
        return False
    if {"id", "nodes"} & given.keys():
        form.say("unknown-format", places, "the key 'stepwell' is missing", "begin with stepwell: 1")
    else:
        message = "this is no definition: it has neither 'stepwell' nor 'workflow_id' and 'tasks'"
        form.say("unknown-format", places, message, "begin with stepwell: 1, an id, and nodes")
    return False


def _body(form: Form, given: dict[str, Json], places: Places) -> BodyDef:
    if "nodes" not in given:
        form.say("no-nodes", places, "the definition has no nodes", "write at least one, such as a: {noop: {}}")
        return BodyDef(place=places.place)
    keys = ("nodes", "edges", "result")
    return Bodies(form).body({key: given[key] for key in keys if key in given}, places, "the definition")
