"""What does a streamed answer say? Server-sent events, fed with bytes in whatever pieces they come.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6. Lines are found in
the bytes and decoded whole, so that a character cut in two between pieces is no trouble, and a U+2028 in a text ends no
line. More is taken than the format allows, since endpoints differ: no empty line need be behind an event whose data are
a whole chunk, or that is the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from stepwell.nodes.parts.llm_errors import ModelError

LINE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes that an event may have: far more than any chunk, and no endless one."""

DONE: Final = "[DONE]"

_SHOWN: Final = 200


class Event(NamedTuple):
    """An event: its name (empty: none was given), and its data."""

    name: str
    data: str


class Events:
    """Cuts bytes into events."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._is_first = True
        self._after_return = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are whole with these bytes.

        Raises:
            ModelError: an event is larger than `LINE_LIMIT`.
        """
        for line in self._lines(data):
            yield from self._line(line)

    def end(self) -> Iterator[Event]:
        """The event that the end of the bytes makes whole, if there is one."""
        rest, self._rest = bytes(self._rest), bytearray()
        if rest:
            yield from self._line(rest)
        yield from self._line(b"")

    def _lines(self, data: bytes) -> Iterator[bytes]:
        if self._after_return and data:  # a line feed behind a carriage return ends no other line
            self._after_return = False
            data = data.removeprefix(b"\n")
        self._after_return = data.endswith(b"\r")
        first, *others = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest += first
        if len(self._rest) + self._size > LINE_LIMIT:
            raise ModelError(f"the endpoint sent an event of more than {LINE_LIMIT:,} bytes", retryable=False)
        if others:
            yield bytes(self._rest)
            yield from others[:-1]
            self._rest = bytearray(others[-1])

    def _line(self, line: bytes) -> Iterator[Event]:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                yield Event(self._name, "\n".join(self._data))
            self._name, self._data, self._size = "", [], 0
            return
        field, _, value = line.decode("utf-8", "replace").partition(":")  # a line that begins with ":" keeps it alive
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            if self._data and _is_whole(before := "\n".join(self._data)):  # an empty line was left out
                yield Event(self._name, before)
                self._data, self._size = [], 0
            self._data.append(value)
            self._size += len(line)


def chunk(event: Event) -> dict[str, Any]:  # Any: JSON
    """The JSON object of an event.

    Raises:
        ModelError: the event says that there is an error, or its data are no JSON object.
    """
    found = _decoded(event.data)
    if not isinstance(found, dict):
        raise ModelError(f"the endpoint sent a chunk that is no JSON object: {event.data[:_SHOWN]!r}")
    if event.name == "error" or found.get("error"):
        raise told(found)
    return found


def told(answer: dict[str, Any]) -> ModelError:  # Any: JSON
    """The error that the endpoint tells of in the middle of an answer; mostly it is worth another attempt."""
    error = answer.get("error", answer)
    parts = error if isinstance(error, dict) else {"message": str(error)}
    code, kind = parts.get("code"), str(parts.get("type") or "")
    is_final = kind == "invalid_request_error" or (
        isinstance(code, int) and 400 <= code < 500 and code not in (408, 429)
    )
    text = str(parts.get("message") or msgspec.json.encode(parts).decode())
    return ModelError(
        f"the endpoint broke its answer off: {text[:2000]}",
        status=code if isinstance(code, int) else 0,
        body=msgspec.json.encode(answer).decode()[:2000],
        retryable=not is_final,
    )


def _is_whole(data: str) -> bool:
    return data.strip() == DONE or isinstance(_decoded(data), dict)


def _decoded(data: str) -> Any:  # JSON, or None for what is none
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
