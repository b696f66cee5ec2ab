"""What has a model answered? Its text, put together from chunks, why it ended, and what it cost.

Source of the format: the chat completions of OpenAI's HTTP API, https://platform.openai.com/docs/api-reference/chat,
which other endpoints speak too. Of several choices the first counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stepwell.errors import DefinitionError
from stepwell.nodes.parts.llm_errors import AnswerUnfit, ModelError
from stepwell.nodes.parts.tokens import estimate

TEXT_LIMIT: Final = 8 * 1024 * 1024
"""Characters that an answer may have."""

_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


class Answer:
    """An answer as it comes."""

    def __init__(self) -> None:
        self.model = ""
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None  # Any: JSON, as the endpoint says it
        self._parts: list[str] = []
        self._size = 0

    @property
    def text(self) -> str:
        """All of its text so far."""
        return "".join(self._parts)

    @property
    def has_begun(self) -> bool:
        """Whether anything of it came."""
        return bool(self._parts) or self.usage is not None or self.finish_reason is not None

    def take(self, found: Mapping[str, Any], part: str = "delta") -> str:  # Any: JSON
        """Take a chunk, or with `part="message"` a whole answer; the text that is new.

        Raises:
            ModelError: it is none, or the text is longer than `TEXT_LIMIT`.
        """
        if isinstance(model := found.get("model"), str) and model:
            self.model = model
        if isinstance(usage := found.get("usage"), dict) and usage:
            self.usage = usage
        choices = found.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
            raise ModelError(f"the endpoint sent choices that are no list of objects: {str(choices)[:200]}")
        new = ""
        for choice in choices:
            if choice.get("index", 0) != 0:
                continue
            if isinstance(reason := choice.get("finish_reason"), str) and reason:
                self.finish_reason = reason
            said = choice.get(part)
            new += _text(said.get("content") or said.get("refusal")) if isinstance(said, dict) else ""
        if new:
            self._size += len(new)
            if self._size > TEXT_LIMIT:
                raise ModelError(f"the answer is longer than {TEXT_LIMIT:,} characters", retryable=False)
            self._parts.append(new)
        return new

    def counted(self, asked: int) -> dict[str, Any]:  # Any: JSON
        """What was used: as the endpoint says, else an estimate, with `estimated` true, from `asked` characters."""
        known = self.usage or {}
        if all(_is_count(known.get(name)) for name in _COUNTS[:2]):
            total = known["prompt_tokens"] + known["completion_tokens"]
            return {**known, "total_tokens": known.get("total_tokens") or total, "estimated": False}
        prompt, completion = estimate(asked), estimate(self._size)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "estimated": True,
        }


def parsed(text: str, schema: Any, finish_reason: str | None) -> Any:  # Any: JSON, and a JSON Schema
    """The JSON that an answer holds, fit for `schema` (None: any JSON).

    A model that was not told otherwise often puts its JSON between fences of Markdown; they are taken off.

    Raises:
        AnswerUnfit: it is no JSON, or does not fit; the text names each place.
    """
    from stepwell.model.checking import check  # jsonschema-rs is loaded when a schema is met

    try:
        value = msgspec.json.decode(_unfenced(text))
    except (msgspec.DecodeError, RecursionError) as error:
        cut = "; it was cut off: give it more max_tokens" if finish_reason == "length" else ""
        raise AnswerUnfit(f"the model's answer is no JSON: {error}{cut}", text) from None
    if schema is None:
        return value
    try:
        problems = check(schema, value)
    except DefinitionError as error:
        raise DefinitionError(f"schema: {error}") from None
    if problems:
        said = "; ".join(str(problem) for problem in problems[:10])
        raise AnswerUnfit(f"the model's answer does not fit the schema: {said}", text)
    return value


def _unfenced(text: str) -> str:
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped.partition("\n")[2].removesuffix("```")
    return stripped


def _text(content: object) -> str:
    """The text of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _is_count(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 0
