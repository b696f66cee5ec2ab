"""What does a LangGraph graph say to those outside? Its interrupts as questions to people, its values as plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from stepwell.nodes.protocol import Ask

PROMPTS: Final = ("prompt", "question", "message")
"""Keys of an interrupt's value that hold what is asked, the first that is there."""

FORMS: Final = ("form", "schema")
"""Keys of an interrupt's value that hold the JSON Schema of an answer."""

PROMPT_LIMIT: Final = 8_000
LINE_LIMIT: Final = 2_000


def asks(interrupts: Iterable[Any]) -> dict[str, Ask]:  # Any: LangGraph's Interrupt
    """A question for each interrupt, by the interrupt's id.

    What is asked is the interrupt's value when that is a text. Of a mapping it is `prompt`, `question` or `message`,
    with what else there is as JSON below it; `form` (or `schema`) is the JSON Schema of an answer, `who` says who may
    answer. The interrupt's own `response_schema` goes before `form`.
    """
    return {one.id: _ask(plain(one.value), getattr(one, "response_schema", None)) for one in interrupts}


def _ask(value: Any, schema: object) -> Ask:  # Any: JSON
    form = schema if isinstance(schema, dict) else None
    if isinstance(value, str):
        return Ask(_cut(value, PROMPT_LIMIT), form)
    if not isinstance(value, dict):
        return Ask(_shown(value), form)
    rest = dict(value)
    name = next((key for key in PROMPTS if isinstance(rest.get(key), str)), "")
    prompt = rest.pop(name, "")
    for key in FORMS:
        if isinstance(rest.get(key), dict):
            form = form or rest.pop(key)
    who = rest.pop("who") if _is_names(rest.get("who")) else ()
    below = _shown(rest) if rest or not prompt else ""
    return Ask(_cut("\n\n".join(text for text in (prompt, below) if text), PROMPT_LIMIT), form, _names(who))


def plain(value: Any) -> Any:  # anything in, JSON out where it is known how
    """A value of a graph with its messages and models as plain JSON; what else there is stays as it is."""
    if hasattr(value, "model_dump"):  # pydantic's models, LangChain's messages among them
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def line(value: Any) -> str:  # anything
    """A value for a line of the log: JSON, cut to `LINE_LIMIT` characters."""
    return _cut(_json(value), LINE_LIMIT)


def text_of(message: Any) -> str:  # Any: a message, or a part of one, of LangChain
    """The text of a message of a model; empty for those of people and tools."""
    if getattr(message, "type", "") not in ("ai", "AIMessageChunk"):
        return ""
    content = getattr(message, "content", "")
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | dict)]
    return "".join(part for part in parts if isinstance(part, str))


def _shown(value: object) -> str:
    return _cut(msgspec.json.format(_json(value), indent=2), PROMPT_LIMIT)


def _json(value: object) -> str:
    return msgspec.json.encode(plain(value), enc_hook=repr).decode()


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _is_names(who: object) -> bool:
    return isinstance(who, str) or (isinstance(who, list) and all(isinstance(one, str) for one in who))


def _names(who: Any) -> tuple[str, ...]:  # Any: a name, or several
    return (who,) if isinstance(who, str) else tuple(who)
