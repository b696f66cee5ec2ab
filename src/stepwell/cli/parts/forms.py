"""Fill in a form on a terminal: field by field from its JSON Schema, asking again where an answer does not fit.

Questions go to standard error. What a schema says in ways that cannot be asked field by field is asked for as JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import click
import msgspec

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.typed import SCALARS, Json, clean, in_words, reader, types_of, written
from stepwell.errors import DefinitionError
from stepwell.model.forms import check

_ABSENT: Final = object()
"""A field that is left out, or a form that was not filled in before."""

_DEPTH: Final = 12
"""Levels of nesting that are asked field by field; a form in a form in a form … is better written as JSON."""


def is_terminal(call: Call) -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and call.stderr.isatty()


def fill(call: Call, schema: Json) -> Json:
    """Ask for an answer that fits; one of several fields is shown before it is returned, and can be mended.

    Raises:
        click.Abort: Ctrl-C, or the end of the input.
    """
    form = _Form(call, schema)
    value: Json = _ABSENT
    only: frozenset[str] | None = None
    while True:
        value = form.ask(_Field(schema, before=value, only=only))
        problems = check(schema, value)
        for problem in problems:
            form.complain(str(problem))
        if not problems and (not isinstance(value, dict | list) or form.is_confirmed(value)):
            return value
        wrong = frozenset(problem.path.split(".")[0].split("[")[0] for problem in problems)
        only = wrong if problems and isinstance(value, dict) and "" not in wrong else None


@dataclass(frozen=True)
class _Field:
    """One thing to ask. `label` is its path as problems name it, `before` what was typed for it the last time.

    `only` are the fields of an object that are asked again; `depth` counts the forms around it.
    """

    schema: Json
    label: str = ""
    required: bool = True
    nullable: bool = False
    before: Json = _ABSENT
    only: frozenset[str] | None = None
    depth: int = 0

    def inner(self, schema: Json, label: str, *, required: bool = True, before: Json = _ABSENT) -> _Field:
        return _Field(schema, label, required, before=before, depth=self.depth + 1)


class _Form:
    """The questions of one form; each returns a value, or `_ABSENT` for a field that is left out."""

    def __init__(self, call: Call, root: Json) -> None:
        self._call = call
        self._root = root

    def ask(self, field: _Field) -> Json:
        """Ask in the way that suits the field's schema."""
        schema = self._resolved(field.schema)
        branches = [self._resolved(one) for one in schema.get("anyOf") or schema.get("oneOf") or ()]
        if branches:
            rest = {key: held for key, held in schema.items() if key not in ("anyOf", "oneOf")}
            field = replace(field, nullable=field.nullable or {"type": "null"} in branches)
            branches = [branch for branch in branches if branch != {"type": "null"}]
            if len(branches) == 1:
                return self.ask(replace(field, schema=branches[0] | rest))
            if not all(types_of(branch) and SCALARS.issuperset(types_of(branch)) for branch in branches):
                return self._one_of(field, branches)
            schema = schema | {"type": [kind for branch in branches for kind in types_of(branch)]}
        types = types_of(schema)
        field = replace(field, schema=schema, nullable=field.nullable or "null" in types)
        kind = next((kind for kind in types if kind != "null"), "")
        fixed = [schema["const"]] if "const" in schema else schema.get("enum", [])
        if len(fixed) == 1 and field.required:
            return fixed[0]
        if field.label and schema.get("description"):
            self.say(words.dim(clean(str(schema["description"]).strip())))
        if fixed:
            return self._choice(field, fixed)
        if kind in ("array", "object") and field.depth < _DEPTH:
            return self._nested(field, kind)
        return self._line(field, *reader(schema))

    # -- one line -----------------------------------------------------------------------------------------------

    def _line(self, field: _Field, read: Callable[[str], Json], wanted: str) -> Json:
        """One line, asked for until it fits; an empty one is the default, null, or leaves the field out."""
        schema = field.schema
        default = field.before if field.before is not _ABSENT else schema.get("default", _ABSENT)
        if default is _ABSENT and field.required and field.nullable:
            default = None
        hint = "" if default is _ABSENT else written(default)
        if not hint and (default is None or not field.required):
            hint = "none"
        hidden = bool(schema.get("writeOnly")) or schema.get("format") == "password"
        question = f"{clean(field.label) or 'answer'} ({wanted})" + (
            f" [{'…' if hidden else clean(hint)}]" if hint else ""
        )
        while True:
            text = click.prompt(question, default="", show_default=False, err=True, hide_input=hidden).strip()
            if not text:
                if default is not _ABSENT or not field.required:
                    return default
                self.complain('an answer is required here; type "" for an empty text')
                continue
            try:
                value = read(text)
            except ValueError as error:
                self.complain(str(error))
                continue
            problems = self._check(schema, value)
            if not problems:
                return value
            for problem in problems:
                self.complain(problem)

    def _choice(self, field: _Field, options: list[Json]) -> Json:
        """One of several values: by its number, or as it is written; where values are numbers, as written only."""
        field = replace(field, nullable=field.nullable or None in options)
        options = [option for option in options if option is not None]
        texts = [written(option) for option in options]
        numbered = not any(isinstance(option, int | float) for option in options)
        for number, text in enumerate(texts, 1):
            self.say(f"  {f'{number}) ' if numbered else ''}{clean(text)}")

        def read(text: str) -> Json:
            if text in texts:
                return options[texts.index(text)]
            if numbered and text.isdecimal() and 1 <= int(text) <= len(options):
                return options[int(text) - 1]
            begins = [option for option in texts if option.lower().startswith(text.lower())]
            if numbered and len(begins) == 1:
                return options[texts.index(begins[0])]
            raise ValueError(f"{text!r} is none of them" + (f": type 1 to {len(options)}" if numbered else ""))

        return self._line(field, read, "choose one")

    def _one_of(self, field: _Field, branches: list[Json]) -> Json:
        """One of several forms: first which one, then that."""
        names = [str(branch.get("title") or in_words(types_of(branch)) or "JSON") for branch in branches]
        names = [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names, 1)]
        fitting = [name for name, branch in zip(names, branches, strict=True) if not self._check(branch, field.before)]
        before = fitting[0] if fitting and field.before is not _ABSENT else _ABSENT
        chosen = self._choice(replace(field, schema={}, before=before), list(names))
        if chosen is _ABSENT or chosen is None:
            return chosen
        again = field.before if chosen == before else _ABSENT
        return self.ask(field.inner(branches[names.index(chosen)], field.label, before=again))

    # -- what has parts -----------------------------------------------------------------------------------------

    def _nested(self, field: _Field, kind: str) -> Json:
        label = clean(field.label)
        if label and field.before is not _ABSENT and self.confirm(f"keep {label} {clean(_short(field.before))}?", True):
            return field.before
        if kind == "array":
            return self._list(field)
        if label and (field.nullable or not field.required) and not self.confirm(f"fill in {label}?", False):
            return None if field.required else field.schema.get("default", _ABSENT)
        return self._object(field)

    def _object(self, field: _Field) -> Json:
        schema, label = field.schema, field.label
        before = field.before if isinstance(field.before, dict) else {}
        value: Json = {}
        for name, part in schema.get("properties", {}).items():
            found = before.get(name, _ABSENT)
            if field.only is None or name in field.only:
                place = f"{label}.{name}" if label else name
                found = self.ask(field.inner(part, place, required=name in schema.get("required", ()), before=found))
            if found is not _ABSENT:
                value[name] = found
        others = schema.get("additionalProperties", "properties" not in schema)
        if others is not False and field.only is None:
            value |= self._members(field, others)
        return value

    def _members(self, field: _Field, member: Json) -> Json:
        """Members whose names are not given by the form: a name, what it holds, and so on until an empty name."""
        names = {"type": "string"} | self._resolved(field.schema.get("propertyNames", {}))
        value: Json = {}
        while True:
            asked = _Field(names, f"{field.label or 'member'}: name", required=False)
            name = self._line(asked, lambda text: text, "text, nothing ends")
            if name is _ABSENT:
                return value
            value[name] = self.ask(field.inner(member, f"{field.label}.{name}" if field.label else name))

    def _list(self, field: _Field) -> Json:
        schema = field.schema
        places, rest = schema.get("prefixItems", []), schema.get("items", True)
        least, most = schema.get("minItems", 0), schema.get("maxItems", sys.maxsize)
        most = min(most, len(places)) if rest is False else most
        value: list[Json] = []
        while len(value) < most:
            place = f"{field.label}[{len(value)}]"
            if len(value) >= least and not self.confirm(f"add {clean(place)}?", False):
                break
            item = places[len(value)] if len(value) < len(places) else rest
            value.append(self.ask(field.inner(item, place)))
        return value

    # -- talking ------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        click.echo(text, file=self._call.stderr)

    def complain(self, text: str) -> None:
        self.say(f"  {click.style('!', fg='red')} {clean(text)}")

    def confirm(self, question: str, default: bool) -> bool:
        return click.confirm(question, default=default, err=True)

    def is_confirmed(self, value: Json) -> bool:
        self.say(clean(words.pretty(msgspec.json.encode(value))))
        return self.confirm("send this answer?", True)

    # -- what the schema says -----------------------------------------------------------------------------------

    def _resolved(self, schema: Json) -> Json:
        """The schema with its `$ref` and `allOf` written out, one level of it; `{}` for one that allows anything."""
        for _ in range(_DEPTH):
            if not isinstance(schema, dict):
                return {}
            if "$ref" in schema:
                rest = {key: held for key, held in schema.items() if key != "$ref"}
                schema = self._pointed(schema["$ref"]) | rest
            elif "allOf" in schema:
                merged = {key: held for key, held in schema.items() if key != "allOf"}
                for part in map(self._resolved, schema["allOf"]):
                    merged = part | merged | _joined(part, merged)
                schema = merged
            else:
                return schema
        return {}

    def _pointed(self, reference: str) -> Json:
        """What a `$ref` within the schema leads to (RFC 6901); `{}` when it cannot be told here."""
        spot = self._root
        try:
            for step in reference.removeprefix("#").split("/")[1:]:
                key = step.replace("~1", "/").replace("~0", "~")
                spot = spot[int(key)] if isinstance(spot, list) else spot[key]
        except (LookupError, TypeError, ValueError):
            return {}
        return spot if isinstance(spot, dict) else {}

    def _check(self, schema: Json, value: Json) -> list[str]:
        """What is wrong with the value of one field. The whole answer is checked in the end, so doubt is no fault."""
        if value is _ABSENT:
            return ["is missing"]
        kept = {key: self._root[key] for key in ("$schema", "$defs", "definitions") if key in self._root}
        try:
            return [f"{problem.path} {problem.message}".strip() for problem in check(schema | kept, value)]
        except DefinitionError:  # its references lead to another part of the form
            return []


def _joined(left: Json, right: Json) -> Json:
    """What two parts of an `allOf` have together."""
    joined = {}
    if "properties" in left or "properties" in right:
        joined["properties"] = left.get("properties", {}) | right.get("properties", {})
    if "required" in left or "required" in right:
        joined["required"] = [*left.get("required", ()), *right.get("required", ())]
    return joined


def _short(value: Json) -> str:
    return words.short(msgspec.json.encode(value), 60)
