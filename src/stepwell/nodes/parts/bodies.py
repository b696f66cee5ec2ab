"""What is in an HTTP body? Read up to a limit, unpacked, and made JSON, text or Base64."""

from __future__ import annotations

import base64
import zlib
from collections.abc import AsyncIterator
from email.message import Message
from typing import Any, Final, Literal, TypeAlias

import msgspec

Form: TypeAlias = Literal["json", "text", "base64"]

EXCERPT: Final = 500
"""How many characters of a body an error shows."""

_TEXTS: Final = ("xml", "javascript", "yaml", "x-www-form-urlencoded", "x-ndjson", "graphql", "toml", "sql")


class BadBody(Exception):
    """The body is not what it says that it is, or not what is wanted; the text says how."""


class TooLarge(BadBody):
    """The body is longer than the limit; it was not read to its end."""


async def gather(chunks: AsyncIterator[bytes], encoding: str, limit: int) -> bytes:
    """The body of an answer, unpacked, at most `limit` bytes; no more than a chunk beyond it is ever held.

    Raises:
        TooLarge: it has more.
        BadBody: it is packed in another way than was asked for, or badly.
    """
    unpack = _unpacker(encoding)
    body = bytearray()
    async for chunk in chunks:
        body += unpack(chunk, limit + 1 - len(body))
        if len(body) > limit:
            raise TooLarge(f"the body has more than {limit:,} bytes (max_bytes)")
    return bytes(body)


class _Unpacker:
    """Inflates gzip or deflate piece by piece, never more than there is room for."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._inner = zlib.decompressobj(31 if encoding == "gzip" else 15)
        self._is_first = True

    def __call__(self, chunk: bytes, room: int) -> bytes:
        made = bytearray()
        rest = chunk
        while rest and room > len(made):
            try:
                made += self._inner.decompress(rest, room - len(made))
            except zlib.error as error:
                if not self._is_first or self._encoding != "deflate":
                    raise BadBody(f"the body is no {self._encoding}: {error}") from None
                self._inner = zlib.decompressobj(-15)  # some servers leave zlib's header out
                self._is_first = False
                continue
            self._is_first = False
            rest = self._inner.unconsumed_tail
            if self._inner.eof:
                rest = self._inner.unused_data.lstrip(b"\0")
                if rest:
                    self._inner = zlib.decompressobj(31 if self._encoding == "gzip" else 15)
        return bytes(made)


def _plain(chunk: bytes, room: int) -> bytes:
    return chunk[:room]


def _unpacker(encoding: str) -> Any:  # Any: a function of a chunk and the room there is
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _plain
    if name in ("gzip", "x-gzip", "deflate"):
        return _Unpacker(name.removeprefix("x-"))
    raise BadBody(f"the body is packed with {name!r}, which was not asked for")


def parse(body: bytes, content_type: str, wanted: Form | Literal["auto"]) -> tuple[Any, Form]:  # Any: JSON
    """The body as JSON data, and which form it has; an empty one is null.

    With `auto` the content type decides: JSON types are read, textual types are text, all else is Base64; without a
    content type it is text if it is UTF-8.

    Raises:
        BadBody: it is not what it says that it is, or not what is wanted.
    """
    kind, charset = _content_type(content_type)
    form = _form_of(kind, body) if wanted == "auto" else wanted
    if form == "base64":
        return base64.b64encode(body).decode(), form
    if not body:
        return None if form == "json" or wanted == "auto" else "", form
    text = _decoded(body, charset, said=content_type or "no content type")
    if form == "text":
        return text, form
    try:
        return msgspec.json.decode(text), form
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadBody(
            f"the body is no JSON ({error}), though {'it says so' if wanted == 'auto' else 'it should be'}; "
            f"it begins {excerpt(body)!r}; take `response: text` to have it as it is"
        ) from None


def excerpt(body: bytes) -> str:
    """The beginning of a body for an error, readable whatever it is."""
    text = body[: EXCERPT * 4].decode("utf-8", "replace")
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def _content_type(header: str) -> tuple[str, str]:
    message = Message()
    message["content-type"] = header.replace("\r", " ").replace("\n", " ") or "application/x-unknown"
    return message.get_content_type() if header else "", message.get_content_charset() or ""


def _form_of(kind: str, body: bytes) -> Form:
    if not body:
        return "text"
    if not kind:
        try:
            body.decode()
        except UnicodeDecodeError:
            return "base64"
        return "base64" if b"\0" in body else "text"
    _, _, name = kind.partition("/")
    last = name.rpartition("+")[2]
    if last == "json":
        return "json"
    return "text" if kind.startswith("text/") or last in _TEXTS else "base64"


def _decoded(body: bytes, charset: str, said: str) -> str:
    try:
        text = body.decode("utf-8-sig" if charset in ("", "utf-8", "utf8") else charset)
        text.encode()  # some encodings can say what is no text
        return text
    except LookupError:
        problem = f"the body is said to be {charset!r} ({said}), which nobody here can read"
    except (UnicodeError, ValueError) as error:
        problem = f"the body is not the text that it is said to be ({said}): {error}"
    raise BadBody(f"{problem}; take `response: base64` to have its bytes")
