"""What is there to know of a node type? Its page in Markdown, made of what it says itself; third parties' types too."""

from __future__ import annotations

import inspect
import re
import textwrap

import msgspec

from stepwell.nodes.parts.settings import explained, schema
from stepwell.nodes.protocol import NodeType

_KINDS = {
    "task": "a step: an attempt with retries and limits",
    "action": "a step: an attempt with retries and limits",
    "pure": "in the turn itself, without an attempt",
    "wait": "a wait: it costs rows, not memory",
    "effect": "in the turn itself, with the next commit",
    "child": "a run of its own",
    "container": "a body with a scope of its own",
    "end": "in the turn itself",
}


def page(type: NodeType) -> str:
    """The page of a node type: what it does, its settings, ports, output and an example."""
    settings = schema(type)["properties"]
    lines = [f"## `{type.name}`", "", type.summary, "", f"It runs as {_KINDS[type.kind]}.", ""]
    text = inspect.getdoc(type.__class__) or ""
    lines += [_without_indents(text), ""]
    if settings:
        meanings = explained(type)
        lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
        needed = set(schema(type).get("required", ()))
        for name, part in settings.items():
            default = "**needed**" if name in needed else _code(part.get("default"))
            mark = " (what stands after the type's name)" if name == type.main else ""
            lines.append(f"| `{name}` | {_type(part)} | {default} | {_cell(meanings.get(name, ''))}{mark} |")
        lines.append("")
    if type.bodies:
        lines += [f"Bodies: {', '.join(f'`{name}`' for name in type.bodies)}.", ""]
    return "\n".join(lines)


def _without_indents(text: str) -> str:
    """`Example:` blocks of a docstring, which are indented there, as they stand in a page."""
    head, found, example = text.partition("Example:\n")
    head = re.sub(r"^(Ports|Output): ", r"**\1**: ", head.rstrip(), flags=re.MULTILINE)
    return f"{head}\n\n{textwrap.dedent(example)}".rstrip() if found else head


def _type(part: dict[str, object]) -> str:
    options = part.get("anyOf")
    if isinstance(options, list):
        found = [_type(one) for one in options if not (isinstance(one, dict) and one.get("pattern") == r"\{\{")]
        return " or ".join(dict.fromkeys(one for one in found if one))
    if "enum" in part:
        values = part["enum"]
        return ", ".join(_code(one) for one in values) if isinstance(values, list) else ""
    if "$ref" in part:
        return str(part["$ref"]).rpartition("/")[2]
    kind = part.get("type", "anything")
    return " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def _code(value: object) -> str:
    return f"`{msgspec.json.encode(value).decode()}`" if value is not None else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
