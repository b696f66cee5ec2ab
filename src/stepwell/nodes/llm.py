"""The node type `llm`: a language model is asked, and its answer streamed to whoever reads the run's stream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepwell.errors import DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.model.durations import micros
from stepwell.nodes.parts import bodies, sending
from stepwell.nodes.parts.addresses import VARIABLE, AllowList, read_allow_list
from stepwell.nodes.parts.answers import failed
from stepwell.nodes.parts.errors import HttpError, HttpNoAnswer, HttpRefused, HttpTimedOut, NodeFailed
from stepwell.nodes.parts.llm_answers import Answer, parsed
from stepwell.nodes.parts.llm_errors import ModelError
from stepwell.nodes.parts.llm_events import DONE, Event, Events, chunk
from stepwell.nodes.parts.redaction import Redactor
from stepwell.nodes.parts.requests import Auth, Body, outgoing
from stepwell.nodes.parts.times import check_duration
from stepwell.nodes.parts.tokens import emit_counts, emit_text
from stepwell.nodes.protocol import TIMEOUT, ActionContext, NodeType

if TYPE_CHECKING:
    import httpx2

BASE_URL: Final = "https://api.openai.com/v1"
MAX_BYTES: Final = 64 * 1024 * 1024
RETRIED: Final = frozenset({408, 409, 425, 429, *range(500, 600)})
"""Statuses worth another attempt."""

LONG_SECRET: Final = 8
"""Secrets with fewer characters may be words that a prompt says for its own reasons."""

OWN: Final = ("model", "messages", "stream", "temperature", "max_tokens", "response_format")
"""Members of the request that have settings of their own."""


class LlmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model is asked what, where, and what its answer must be.

    Attributes:
        model: the model's name, as the endpoint knows it.
        prompt: what is asked; or `messages`.
        system: what goes before the prompt as the system's message.
        messages: the whole conversation, `{role, content}` each, instead of `prompt`.
        base_url: where the endpoint is, without `/chat/completions`.
        api_key: write it as `{{ secret.NAME }}`; endpoints of one's own may need none.
        headers: further headers by name, for endpoints that take their key elsewhere.
        temperature: how much the answer varies.
        max_tokens: how long it may be.
        schema: the JSON Schema that the answer must fit; the output's `parsed` then is that JSON.
        strict: whether the endpoint is told to hold the model to the schema, for which it may ask for more of it.
        response_format: the request's `response_format` as it is, instead of `schema`.
        extra: further members of the request; null takes one out that would be there.
        stream: whether the answer is asked for piece by piece.
        timeout: a duration for the whole answer.
        silence: the longest time between two pieces of it.
        allow_private: whether an address that is not public may be asked, if the machine allows it too.
    """

    model: str
    prompt: str = ""
    system: str = ""
    messages: list[dict[str, Any]] = []  # Any: JSON
    base_url: str = BASE_URL
    api_key: str = ""
    headers: dict[str, str | int | float | bool] = {}
    temperature: float | None = None
    max_tokens: int | None = None
    schema: dict[str, Any] | bool | None = None  # Any: JSON Schema
    strict: bool = False
    response_format: dict[str, Any] | None = None  # Any: JSON
    extra: dict[str, Any] = {}  # Any: JSON
    stream: bool = True
    timeout: str | int | float = "10m"
    silence: str | int | float = "1m"
    allow_private: bool = False


class LlmNode(NodeType):
    """Asks a language model over OpenAI's protocol for chat completions, which most providers and local servers speak.

    The text is in the run's stream as it comes, and what was used is counted in the step's usage: as the endpoint says,
    else as an estimate (a token for four characters) that says so. With a `schema` the answer is checked; one that does
    not fit is worth another attempt. So are the statuses 408, 409, 425, 429 (a `Retry-After` header is honoured) and
    5xx, a broken or silent connection, and an error in the middle of an answer; other statuses are final. An attempt's
    text is its own: what the one before emitted stays under its number.

    A secret in a prompt is refused: models repeat what they read. Tools are out of scope. Which addresses may be asked
    is said at the node type `http`; for a server on this machine write `allow_private: true`, and name it in
    `STEPWELL_HTTP_ALLOW`. Needs `pip install "stepwell[llm]"`.

    Ports: `out`; `error`; `timeout`, if wired, when a time limit ended it.
    Output: `{text, parsed, finish_reason, model, usage}`; `usage` has `prompt_tokens`, `completion_tokens`,
    `total_tokens` and `estimated`; `parsed` is null without a `schema` or a `response_format` of JSON.

    Example:
        ```yaml
        describe:
          llm:
            model: gpt-4o-mini
            api_key: "{{ secret.OPENAI_API_KEY }}"
            system: You describe products in one sentence.
            prompt: "Describe {{ input.product }}."
            schema: {type: object, required: [text], properties: {text: {type: string}}}
          retry: {attempts: 4, first: 2s}
        ```
    """

    name = "llm"
    summary = "Ask a language model; its answer is streamed."
    kind = "action"
    Settings = LlmSettings
    main = "prompt"
    ports = (TIMEOUT,)

    def __init__(self, allow: AllowList | None = None) -> None:
        """With `allow` the environment is not asked which private addresses may be."""
        self._allow = allow

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """One way of asking is given, the schema is one, durations are, and no secret is written out."""
        asked = [name for name in ("prompt", "messages") if settings.get(name)]
        if len(asked) != 1:
            say("prompt", f"found {' and '.join(asked) or 'neither'}; give one of prompt and messages")
        if settings.get("system") and "messages" in asked:
            say("system", "it goes before a `prompt`; among `messages` write it as one with the role system")
        url, key, schema = (settings.get(name) for name in ("base_url", "api_key", "schema"))
        if isinstance(url, str) and not is_template(url) and not url.lower().startswith(("http://", "https://")):
            say("base_url", f"found {url!r}; only http:// and https:// can be asked")
        if isinstance(key, str) and key and not is_template(key):
            say("api_key", "a secret is not written out: declare it under `secrets` and write {{ secret.NAME }}")
        if schema is not None and settings.get("response_format") is not None:
            say("response_format", "the `schema` says it already: give one of both")
        if isinstance(schema, dict | bool):
            _check_schema(schema, say)
        for name in ("timeout", "silence"):
            check_duration(settings.get(name), name, say)
        extra = settings.get("extra")
        for name in (name for name in OWN if isinstance(extra, Mapping) and extra.get(name) is not None):
            say("extra", f"{name!r} has a setting of its own: write it there")

    async def run(self, settings: LlmSettings, context: ActionContext) -> object:
        """Ask the model.

        Raises:
            HttpError, HttpNoAnswer, HttpTimedOut, HttpRefused: the endpoint refused, or was not to be reached.
            ModelError: it broke its answer off, or what it sent is none.
            AnswerUnfit: the answer does not fit the schema.
            DefinitionError: the request cannot be sent so.
        """
        content = _content(settings)
        known = context.secrets
        key = known.get(settings.api_key, settings.api_key)
        redactor = Redactor([*known.values(), key])
        body = msgspec.json.encode(content).decode()
        if Redactor(one for one in known.values() if len(one) >= LONG_SECRET).text(body) != body:
            raise DefinitionError(
                "llm: a secret is in what the model would be asked, which might repeat it; leave it out"
            )
        request = outgoing(
            method="POST",
            url=f"{settings.base_url.rstrip('/')}/chat/completions",
            params={},
            headers={
                "Accept": "text/event-stream, application/json",
                "Accept-Encoding": "identity",
                **settings.headers,
            },
            auth=Auth(bearer=key) if key else None,
            body=Body(json=content),
            idempotency_key="",
            secrets=tuple(known.values()),
        )
        wire = sending.Wire(
            allow=self._allowed() if settings.allow_private else None,
            redirects=0,
            max_bytes=MAX_BYTES,
            seconds=micros(settings.silence, "llm.silence") / 1_000_000,
            accepts=frozenset({200}),
        )
        place = f"POST {sending.said(sending.parsed(request.url))}"
        answer, asked = Answer(), _letters(content.get("messages"))
        try:
            await self._take(answer, request, wire, settings, context, redactor, place)
        finally:
            used = answer.counted(asked)
            if answer.has_begun:  # what was spent was spent, also when the attempt fails
                prompt, completion, total = (used[f"{name}_tokens"] for name in ("prompt", "completion", "total"))
                await emit_counts(context, prompt, completion, total, estimated=used["estimated"])
        wanted, schema = _wanted(settings)
        return {
            "text": answer.text,
            "parsed": parsed(answer.text, schema, answer.finish_reason) if wanted else None,
            "finish_reason": answer.finish_reason,
            "model": answer.model or settings.model,
            "usage": used,
        }

    async def _take(
        self,
        answer: Answer,
        request: sending.Outgoing,
        wire: sending.Wire,
        settings: LlmSettings,
        context: ActionContext,
        redactor: Redactor,
        place: str,
    ) -> None:
        """Take the answer piece by piece, and hand on its text; what goes wrong is said without secrets."""
        try:
            async with asyncio.timeout(micros(settings.timeout, "llm.timeout") / 1_000_000):
                async with sending.streamed(request, wire) as response:
                    if response.status_code != 200:
                        raise await _refusal(response, place, redactor)
                    async for piece, part in _pieces(response):
                        context.heartbeat()
                        await emit_text(context, answer.take(piece, part))
        except TimeoutError:
            raise HttpTimedOut(f"{place}: no whole answer within {settings.timeout} (llm.timeout)") from None
        except HttpError:
            raise
        except (HttpRefused, HttpNoAnswer) as error:
            raise type(error)(f"{place}: {redactor.text(str(error))}") from None
        except ModelError as error:
            raise error.with_text(f"{place}: {redactor.text(str(error))}", redactor.text(error.body)) from None
        if answer.finish_reason is None:
            raise ModelError(f"{place}: the answer ended in its middle, without a reason")

    def _allowed(self) -> AllowList:
        return self._allow if self._allow is not None else read_allow_list(os.environ.get(VARIABLE, ""))


async def _pieces(response: httpx2.Response) -> AsyncIterator[tuple[dict[str, Any], str]]:  # Any: JSON
    """What the endpoint sends: chunks with `delta`, or the whole with `message` from one that does not stream."""
    if "text/event-stream" not in response.headers.get("content-type", ""):
        async for piece in _whole(response):
            yield piece
        return
    events = Events()
    async for data in response.aiter_bytes():
        for event in events.feed(data):
            if event.data.strip() == DONE:
                return
            yield chunk(event), "delta"
    for event in events.end():
        if event.data.strip() != DONE:
            yield chunk(event), "delta"


async def _whole(response: httpx2.Response) -> AsyncIterator[tuple[dict[str, Any], str]]:  # Any: JSON
    """The whole answer of an endpoint that does not stream it; or a stream that does not say that it is one."""
    try:
        data = await bodies.gather(response.aiter_bytes(), "", MAX_BYTES)
    except bodies.BadBody as error:
        raise ModelError(f"the answer cannot be read: {error}") from None
    if data.lstrip()[:5] in (b"data:", b"event"):
        events = Events()
        for event in [*events.feed(data), *events.end()]:
            if event.data.strip() != DONE:
                yield chunk(event), "delta"
        return
    yield chunk(Event("", data.decode("utf-8", "replace").strip())), "message"


async def _refusal(response: httpx2.Response, place: str, redactor: Redactor) -> NodeFailed:
    """The error of an answer that is none of success."""
    try:
        content, is_cut = await bodies.gather(response.aiter_bytes(), "", sending.LARGEST_ERROR), False
    except bodies.BadBody:
        content, is_cut = b"", True
    answer = sending.Incoming(
        status=response.status_code,
        reason=response.reason_phrase,
        url=str(response.url),
        headers=tuple((name.lower(), value) for name, value in response.headers.multi_items()),
        content=content,
        is_cut=is_cut,
    )
    return failed(answer, place, redactor, response.status_code in RETRIED)


def _content(settings: LlmSettings) -> dict[str, Any]:  # Any: JSON
    """The request's body."""
    if bool(settings.prompt) == bool(settings.messages):
        raise DefinitionError("llm: give one of prompt and messages")
    messages = list(settings.messages)
    if settings.prompt:
        system = [{"role": "system", "content": settings.system}] if settings.system else []
        messages = [*system, {"role": "user", "content": settings.prompt}]
    body: dict[str, Any] = {"model": settings.model, "messages": messages, "stream": settings.stream}  # Any: JSON
    if settings.stream:
        body["stream_options"] = {"include_usage": True}
    for name in ("temperature", "max_tokens", "response_format"):
        if (value := getattr(settings, name)) is not None:
            body[name] = value
    if settings.schema is not None:
        described = {"name": "answer", "schema": settings.schema, "strict": settings.strict}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    body.update(settings.extra)
    return {name: value for name, value in body.items() if value is not None}


def _wanted(settings: LlmSettings) -> tuple[bool, Any]:  # Any: JSON Schema
    """Whether the answer is to be JSON, and the schema that it must fit."""
    given = settings.response_format or {}
    if given.get("type") == "json_schema":
        described = given.get("json_schema")
        return True, described.get("schema") if isinstance(described, dict) else None
    return settings.schema is not None or given.get("type") == "json_object", settings.schema


def _letters(found: object) -> int:
    """How many characters of text are in messages: an estimate of their tokens counts nothing else."""
    if isinstance(found, str):
        return len(found)
    if isinstance(found, Mapping):
        return sum(_letters(value) for name, value in found.items() if name in ("content", "text"))
    return sum(map(_letters, found)) if isinstance(found, list) else 0


def _check_schema(schema: Any, say: Callable[[str, str], None]) -> None:  # Any: JSON Schema
    from stepwell.model.checking import check_schema  # jsonschema-rs is loaded when a schema is met

    try:
        check_schema(schema, "schema")
    except DefinitionError as error:
        say("schema", str(error))


TYPE = LlmNode()
