"""How parent and child process talk: frames of a length, a kind and a body over one pair of pipes.

A frame is 9 bytes of header (`>QB`: body length, kind) and the body, which is always JSON or empty. The child
process sends READY once, then for each ENVELOPE it gets: BEGUN, any number of NOTEs, one REPLY.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO

_HEADER = struct.Struct(">QB")


class Kind(IntEnum):
    """What a frame is."""

    ENVELOPE = 1
    """To the child: run this step."""
    QUIT = 2
    """To the child: end. Without it the end of the pipe means that the parent has died."""
    READY = 3
    """From the child: imports are done."""
    BEGUN = 4
    """From the child: from here on the user's code may have run."""
    NOTE = 5
    """From the child: a heartbeat, progress or log message of the attempt."""
    REPLY = 6
    """From the child: the attempt has ended."""


def header(kind: Kind, length: int) -> bytes:
    """Return what stands before a body of so many bytes."""
    return _HEADER.pack(length, kind)


def frame(kind: Kind, body: bytes = b"") -> bytes:
    """Return the frame as bytes."""
    return header(kind, len(body)) + body


def read_frame(pipe: BinaryIO) -> tuple[Kind, bytes] | None:
    """Block until a whole frame has come; None at the end of the pipe, also in the middle of a frame."""
    first = pipe.read(_HEADER.size)
    if len(first) < _HEADER.size:
        return None
    length, kind = _HEADER.unpack(first)
    body = pipe.read(length)
    return (Kind(kind), body) if len(body) == length else None


class Frames:
    """Cuts a stream that arrives in pieces of any size into frames."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Yield the frames that this piece completes."""
        pending = self._pending
        pending += piece
        while len(pending) >= _HEADER.size:
            length, kind = _HEADER.unpack_from(pending)
            end = _HEADER.size + length
            if len(pending) < end:
                return
            body = bytes(memoryview(pending)[_HEADER.size : end])
            del pending[:end]
            yield Kind(kind), body
