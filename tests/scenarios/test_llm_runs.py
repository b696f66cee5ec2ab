"""Is a model's answer in the run's stream, attempt by attempt, and counted once, whatever happens on the way?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stepwell import Stepwell
from stepwell.authoring.graph import graph_workflow


def chunk(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + msgspec.json.encode({"model": "m", "choices": [choice]}) + b"\n\n"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
BUSY = b"HTTP/1.1 429 Busy\r\nretry-after: 0\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy"
BROKEN = HEAD + chunk("The answer") + b'data: {"error":{"message":"overloaded"}}\n\n'
WHOLE = (
    HEAD
    + chunk("The answer ")
    + chunk("is 42", "stop")
    + b'data: {"choices":[],"usage":{"prompt_tokens":6,"completion_tokens":4,"total_tokens":10}}\n\ndata: [DONE]\n\n'
)


def flow(url: str, **settings: Any) -> dict[str, Any]:
    asked = {"model": "m", "prompt": "What is it?", "base_url": url, "allow_private": True, **settings}
    return {
        "stepwell": 1,
        "id": "flow",
        "secrets": ["MODEL_KEY"],
        "nodes": {"ask": {"llm": asked, "retry": {"attempts": 3, "first": "1ms"}}},
    }


def test_each_attempt_streams_its_own_text_and_all_that_was_spent_is_counted(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWELL_HTTP_ALLOW", "127.0.0.1")
    monkeypatch.setenv("MODEL_KEY", "sk-only-for-the-endpoint")
    answers = [BUSY, BROKEN, WHOLE]
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await reader.readuntil(b'"stream_options":{"include_usage":true}}')
        writer.write(answers[len(heads) - 1])
        await writer.drain()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, make() as app:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            definition = flow(url, api_key="{{ secret.MODEL_KEY }}")
            run = await app.start(graph_workflow(definition, types=app.types), id="r1")
            texts: dict[int, str] = {}
            async for one in run.stream():
                texts[one.attempt] = texts.get(one.attempt, "") + one.value
            output = await run.result()
            assert output["text"] == "The answer is 42"
            assert texts == {2: "The answer", 3: "The answer is 42"}
            usage = (await run.state()).usage
            assert usage["tokens"] == 10 + usage["estimated_tokens"]
            assert usage["estimated_tokens"] == 3 + 3, "the attempt that broke off: eleven and ten characters"
            assert all("bearer sk-only-for-the-endpoint" in head.lower() for head in heads)
            journal = msgspec.json.encode(await app.entries("r1"))
            assert b"sk-only" not in journal

    play(scenario)


def test_a_schema_with_references_reaches_the_model_and_the_check_as_it_is(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWELL_HTTP_ALLOW", "127.0.0.1")
    monkeypatch.setenv("MODEL_KEY", "")
    schema = {"$defs": {"sku": {"type": "string"}}, "properties": {"$sku": {"$ref": "#/$defs/sku"}}, "type": "object"}
    asked: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
        asked.append(msgspec.json.decode(await reader.readexactly(length)))
        writer.write(HEAD + chunk('{"$sku": "a"}', "stop"))
        await writer.drain()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, make() as app:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            run = await app.start(graph_workflow(flow(url, schema=schema), types=app.types))
            assert (await run.result())["parsed"] == {"$sku": "a"}
            assert asked[0]["response_format"]["json_schema"]["schema"] == schema

    play(scenario)
