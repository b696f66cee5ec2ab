"""Does the node type `llm` take a model's answer however it comes, and say rightly what went wrong when it does not?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from acting import Acting

from stepwell.errors import DefinitionError
from stepwell.nodes.llm import LlmNode, LlmSettings
from stepwell.nodes.parts.addresses import read_allow_list
from stepwell.nodes.parts.errors import HttpError, HttpNoAnswer, HttpRefused, HttpTimedOut
from stepwell.nodes.parts.llm_errors import AnswerUnfit, ModelError
from stepwell.nodes.parts.llm_events import Event, Events

STREAM = "text/event-stream"
HANG = b"\0hang"
CUT = b"\0cut"


class Endpoint:
    """A server on this machine that answers with what it is told to, piece by piece, and keeps what it was asked."""

    def __init__(self) -> None:
        self.pieces: Sequence[bytes] = ()
        self.status = "200 OK"
        self.headers: dict[str, str] = {"content-type": STREAM}
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.acting = Acting()
        self.url = ""
        self.open: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.append(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        self.heads.append(head)
        self.asked.append(msgspec.json.decode(await reader.readexactly(length)))
        lines = [
            f"HTTP/1.1 {self.status}",
            "connection: close",
            *(f"{name}: {one}" for name, one in self.headers.items()),
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        try:
            for piece in self.pieces:
                if piece == HANG:
                    await reader.read()
                elif piece == CUT:
                    writer.transport.abort()
                    return
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        writer.close()

    async def ask(self, *, secrets: dict[str, str] | None = None, **settings: Any) -> Any:
        """Ask as a node would."""
        settings = {"model": "m", "base_url": self.url, "allow_private": True, **settings}
        if "messages" not in settings:
            settings.setdefault("prompt", "Hello there")
        self.acting = Acting(secrets=secrets)
        return await LlmNode(read_allow_list("127.0.0.1")).run(LlmSettings(**settings), self.acting)


def play(test: Callable[[Endpoint], Awaitable[None]]) -> None:
    async def run() -> None:
        endpoint = Endpoint()
        server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
        endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server:
            await test(endpoint)
            for writer in endpoint.open:
                writer.transport.abort()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    asyncio.run(run())


def chunk(text: str | None = None, *, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}
    return b"data: " + msgspec.json.encode({"model": "m-1", "choices": [choice], **more}) + b"\n\n"


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
USED = b"data: " + msgspec.json.encode({"choices": [], "usage": USAGE}) + b"\n\n"
DONE = b"data: [DONE]\n\n"
HELLO = [chunk("Hel"), chunk("lo"), chunk(reason="stop"), USED, DONE]


def test_the_text_is_streamed_as_it_comes_and_counted_as_the_endpoint_says() -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = HELLO
        output = await endpoint.ask()
        assert output == {
            "text": "Hello",
            "parsed": None,
            "finish_reason": "stop",
            "model": "m-1",
            "usage": {**USAGE, "estimated": False},
        }
        assert [one for one in endpoint.acting.chunks if one] == ["Hel", "lo"]
        assert endpoint.acting.usage == {"tokens": 7, "prompt_tokens": 5, "completion_tokens": 2}
        assert endpoint.acting.beats >= 4

    play(test)


def test_the_request_is_what_the_settings_say() -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = HELLO
        await endpoint.ask(system="Be brief.", temperature=0.5, max_tokens=9, api_key="sk-12345", extra={"seed": 3})
        assert endpoint.asked[0] == {
            "model": "m",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "max_tokens": 9,
            "seed": 3,
        }
        assert endpoint.heads[0].startswith("POST /v1/chat/completions HTTP/1.1\r\n")
        assert "bearer sk-12345" in endpoint.heads[0].lower()
        messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
        await endpoint.ask(messages=messages, extra={"stream_options": None}, headers={"api-key": "k"})
        assert endpoint.asked[1] == {"model": "m", "messages": messages, "stream": True}
        assert "authorization" not in endpoint.heads[1].lower()
        assert "api-key: k" in endpoint.heads[1].lower()

    play(test)


def test_a_secret_is_found_by_its_name_too() -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = HELLO
        await endpoint.ask(api_key="KEY", secrets={"KEY": "sk-54321"})
        assert "bearer sk-54321" in endpoint.heads[0].lower()

    play(test)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_may_be_cut_anywhere_even_within_a_character(size: int) -> None:
    text = "žluťoučký 🐎 \u2028 «line»\n"
    raw = b"\xef\xbb\xbf: hello\r\n\r\n" + b"".join(
        [chunk("A").replace(b"\n", b"\r\n"), b": still there\n\n", chunk(text), chunk(reason="stop"), USED, DONE]
    )

    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = [raw[start : start + size] for start in range(0, len(raw), size)]
        output = await endpoint.ask()
        assert output["text"] == endpoint.acting.text == "A" + text

    play(test)


def test_without_the_endpoint_s_count_an_estimate_says_that_it_is_one() -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = [chunk("12345678"), chunk("9", reason="length"), DONE]
        output = await endpoint.ask(prompt="four" * 4)
        assert output["usage"] == {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7, "estimated": True}
        assert output["finish_reason"] == "length"
        assert endpoint.acting.usage == {
            "tokens": 7,
            "prompt_tokens": 4,
            "completion_tokens": 3,
            "estimated_tokens": 7,
        }

    play(test)


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk("Hi"), chunk(reason="stop")],
        [chunk("Hi"), chunk(reason="stop").rstrip()],
        [chunk("Hi").replace(b"\n\n", b"\n"), chunk(reason="stop").replace(b"\n\n", b"\n"), b"data: [DONE]\n"],
        [chunk("Hi").replace(b"\n", b"\r"), chunk(reason="stop").replace(b"\n", b"\r")],
        [b"event: chunk\nid: 7\nretry: 9\n" + chunk("Hi").replace(b"data: ", b"data:"), chunk(reason="stop")],
        [b'data: {"choices":\ndata: [{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'],
        [chunk("Hi", reason="stop"), DONE, b"data: {\n\n"],
    ],
    ids=["no DONE", "no end of line", "no empty lines", "carriage returns", "other fields", "two lines", "rest"],
)
def test_what_endpoints_do_otherwise_is_understood(pieces: list[bytes]) -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = pieces
        output = await endpoint.ask()
        assert (output["text"], output["finish_reason"]) == ("Hi", "stop")

    play(test)


def test_an_endpoint_that_does_not_stream_is_understood_too() -> None:
    whole = msgspec.json.encode(
        {"model": "m-1", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE}
    )

    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces, endpoint.headers = [whole[:20], whole[20:]], {"content-type": "application/json"}
        for stream in (True, False):
            output = await endpoint.ask(stream=stream)
            assert (output["text"], output["usage"]["total_tokens"]) == ("Hi", 7)
            assert endpoint.acting.text == "Hi"
        assert endpoint.asked[1] == {"model": "m", "messages": endpoint.asked[0]["messages"], "stream": False}

    play(test)


def test_a_long_piece_is_emitted_in_chunks_that_a_journal_takes() -> None:
    async def test(endpoint: Endpoint) -> None:
        text = "\u0001" * 20_000
        endpoint.pieces = [chunk(text, reason="stop"), DONE]
        assert (await endpoint.ask())["text"] == endpoint.acting.text == text
        assert max(len(msgspec.json.encode(one)) for one in endpoint.acting.chunks) < 64 * 1024

    play(test)


@pytest.mark.parametrize(
    ("pieces", "mentions", "is_retryable"),
    [
        ([chunk("Hi"), b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'], "overloaded", True),
        ([chunk("Hi"), b'event: error\ndata: {"message":"worn out"}\n\n'], "worn out", True),
        ([b'data: {"error":{"message":"no such tool","type":"invalid_request_error"}}\n\n'], "no such tool", False),
        ([b'data: {"error":{"message":"slow down","code":429}}\n\n'], "slow down", True),
        ([chunk("Hi"), b"data: {truncated\n\n"], "no JSON object", True),
        ([b"data: 7\n\n"], "no JSON object", True),
        ([chunk("Hi")], "ended in its middle", True),
        ([chunk("Hi"), DONE], "ended in its middle", True),
        ([b'data: {"choices":"none"}\n\n'], "choices", True),
        ([b"data: " + b"x" * 5_000_000], "more than", False),
    ],
    ids=[
        "error",
        "named error",
        "final error",
        "code",
        "malformed",
        "number",
        "cut",
        "no reason",
        "choices",
        "endless",
    ],
)
def test_an_answer_that_breaks_off_is_an_error_worth_another_attempt_unless_it_is_final(
    pieces: list[bytes], mentions: str, is_retryable: bool
) -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = pieces
        with pytest.raises(ModelError, match=mentions) as caught:
            await endpoint.ask()
        assert caught.value.retryable is is_retryable
        assert caught.value.failure().retryable is is_retryable
        assert "/v1/chat/completions" in str(caught.value)

    play(test)


def test_what_came_before_an_error_is_counted() -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = [chunk("12345678"), b'data: {"error":{"message":"overloaded"}}\n\n']
        with pytest.raises(ModelError):
            await endpoint.ask(prompt="1234")
        assert endpoint.acting.usage["estimated_tokens"] == endpoint.acting.usage["tokens"] == 3

    play(test)


@pytest.mark.parametrize(
    ("status", "is_retryable"),
    [
        ("400 Bad", False),
        ("401 No", False),
        ("404 None", False),
        ("429 Slow", True),
        ("500 Oh", True),
        ("503 No", True),
    ],
)
def test_statuses_are_worth_another_attempt_or_final(status: str, is_retryable: bool) -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.status = status
        endpoint.headers = {"content-type": "application/json", "retry-after": "17"}
        endpoint.pieces = [b'{"error":{"message":"key sk-12345 is spent"}}']
        with pytest.raises(HttpError) as caught:
            await endpoint.ask(api_key="sk-12345")
        assert caught.value.status == int(status[:3])
        assert caught.value.retryable is is_retryable
        assert caught.value.retry_after == 17
        assert "is spent" in str(caught.value)
        assert "sk-12345" not in f"{caught.value}{caught.value.details}{caught.value.failure()}"
        assert endpoint.acting.chunks == []

    play(test)


def test_a_connection_that_breaks_or_falls_silent_is_worth_another_attempt() -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = [chunk("Hi"), CUT]
        with pytest.raises((HttpNoAnswer, ModelError)) as broken:
            await endpoint.ask()
        assert broken.value.retryable
        endpoint.pieces = [chunk("Hi"), HANG]
        with pytest.raises(HttpNoAnswer, match="Timeout") as silent:
            await endpoint.ask(silence="20ms")
        assert silent.value.retryable
        with pytest.raises(HttpTimedOut, match=r"llm\.timeout"):
            await endpoint.ask(timeout="20ms")
        with pytest.raises(HttpNoAnswer, match="no connection"):
            await endpoint.ask(base_url="http://127.0.0.1:9")

    play(test)


def test_a_redirect_is_not_followed() -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.status, endpoint.headers = "302 Found", {"location": "http://169.254.169.254/"}
        with pytest.raises(HttpError) as caught:
            await endpoint.ask()
        assert caught.value.status == 302
        assert not caught.value.retryable

    play(test)


def test_an_address_of_this_machine_is_asked_only_where_node_and_machine_allow_it() -> None:
    async def test(endpoint: Endpoint) -> None:
        with pytest.raises(HttpRefused, match="allow_private"):
            await endpoint.ask(allow_private=False)
        with pytest.raises(HttpRefused, match="STEPWELL_HTTP_ALLOW"):
            settings = LlmSettings(model="m", prompt="Hi", base_url=endpoint.url, allow_private=True)
            await LlmNode(read_allow_list("10.0.0.0/8")).run(settings, Acting())
        assert endpoint.asked == []

    play(test)


def test_a_secret_in_a_prompt_is_refused() -> None:
    async def test(endpoint: Endpoint) -> None:
        with pytest.raises(DefinitionError, match="secret") as caught:
            await endpoint.ask(prompt="Say hunter22", secrets={"PASSWORD": "hunter22"})
        assert "hunter22" not in str(caught.value)
        assert endpoint.asked == []

    play(test)


SCHEMA = {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}


def test_an_answer_that_fits_its_schema_is_parsed() -> None:
    async def test(endpoint: Endpoint) -> None:
        for text in ('{"sku":"a"}', ' \n{"sku": "a"} ', '```json\n{"sku": "a"}\n```'):
            endpoint.pieces = [chunk(text, reason="stop"), DONE]
            assert (await endpoint.ask(schema=SCHEMA))["parsed"] == {"sku": "a"}
        described = {"name": "answer", "schema": SCHEMA, "strict": False}
        assert endpoint.asked[0]["response_format"] == {"type": "json_schema", "json_schema": described}
        described = {"name": "other", "schema": SCHEMA}
        given = {"type": "json_schema", "json_schema": described}
        assert (await endpoint.ask(response_format=given))["parsed"] == {"sku": "a"}
        assert endpoint.asked[-1]["response_format"] == given
        assert (await endpoint.ask(response_format={"type": "json_object"}))["parsed"] == {"sku": "a"}

    play(test)


@pytest.mark.parametrize(
    ("text", "reason", "mentions"),
    [('{"sku":1}', "stop", "sku must be text"), ("Sure! {", "stop", "no JSON"), ('{"sku":"', "length", "max_tokens")],
)
def test_an_answer_that_does_not_fit_is_worth_another_attempt(text: str, reason: str, mentions: str) -> None:
    async def test(endpoint: Endpoint) -> None:
        endpoint.pieces = [chunk(text, reason=reason), USED, DONE]
        with pytest.raises(AnswerUnfit, match=mentions) as caught:
            await endpoint.ask(schema=SCHEMA)
        assert caught.value.retryable
        assert caught.value.details == {"text": text}
        assert endpoint.acting.usage["tokens"] == 7

    play(test)


def test_a_definition_that_cannot_work_is_told_so_when_it_is_compiled() -> None:
    def said(**settings: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        LlmNode().check(settings, lambda setting, message: found.update({setting: message}))
        return found

    assert said(model="m", prompt="Hi", api_key="{{ secret.KEY }}", schema=SCHEMA, timeout="{{ input.time }}") == {}
    assert said(model="m", messages=[{"role": "user", "content": "Hi"}], base_url="http://127.0.0.1:11434/v1") == {}
    assert "neither" in said(model="m")["prompt"]
    assert "prompt and messages" in said(model="m", prompt="Hi", messages=[{}])["prompt"]
    assert "messages" in said(model="m", messages=[{}], system="Hi")["system"]
    wrong = said(
        model="m",
        prompt="Hi",
        base_url="ftp://x",
        api_key="sk-12345",
        schema={"type": "objekt"},
        response_format={},
        timeout="soon",
        extra={"model": "other", "seed": 1},
    )
    assert sorted(wrong) == ["api_key", "base_url", "extra", "response_format", "schema", "timeout"]
    assert "sk-12345" not in str(wrong)


def test_events_are_cut_where_the_format_says() -> None:
    events = Events()
    assert list(events.feed(b"data: a\r")) == []
    assert list(events.feed(b"\ndata: b\n\r\n")) == [Event("", "a\nb")]
    assert list(events.feed(b"data\n\ndata: c: d\nevent: x\n\n\n\n")) == [Event("", ""), Event("x", "c: d")]
    assert list(events.feed(b"data: e")) == []
    assert list(events.end()) == [Event("", "e")]
    assert list(events.end()) == []


def test_nothing_of_it_is_loaded_with_the_package() -> None:
    code = (
        "import sys, stepwell; from stepwell.nodes.registry import NodeTypes; NodeTypes.standard().names();"
        "assert not [one for one in sys.modules if 'llm' in one or 'langgraph' in one or one == 'httpx2'];"
        "import stepwell.nodes.llm, stepwell.nodes.langgraph;"
        "assert not {'httpx2', 'langgraph', 'jsonschema_rs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
