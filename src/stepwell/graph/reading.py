"""What does a text in YAML or JSON say, and where? Plain JSON data, and the place of every part of it.

Limits hold before damage is done: a file is not read further than its size allows, nesting and the number of values
are counted while the text is walked, without recursion, and what an alias stands for counts as if it were written out.

Both formats give the same values. Plain words of YAML are text except what JSON knows: `null` (also `~` and nothing at
all), `true`, `false`, and decimal numbers without leading zeros. So `on`, `no`, `2026-11-20`, `0777`, `1_000`, `0x1f`
and `12:30` are text. Refused: keys that are no text, keys given twice, tags other than `!!str`, merge keys, a second
document, infinite numbers and those that a 64-bit number cannot hold.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from stepwell.graph.jsontext import walk_json
from stepwell.graph.places import Lines, Places
from stepwell.graph.problems import Findings, Place
from stepwell.graph.walking import Json, Stopped, Walk, WalkLimits, scalars
from stepwell.graph.yamltext import walk_yaml
from stepwell.model.tagging import is_plain

Format: TypeAlias = Literal["auto", "json", "yaml"]

SIZE: Final = 16 * 1024 * 1024
"""Bytes that a definition may have, when nothing else is said."""

_LOOKS_LIKE_JSON: Final = re.compile(r'\s*(?:\{\s*["}]|\[\s*["\]{\[\d])')
_MARKS: Final = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class ReadingLimits(msgspec.Struct, frozen=True):
    """How large a definition may be: bytes of text, levels of nesting, values (keys and aliases' contents too)."""

    size: int = SIZE
    depth: int = 100
    values: int = 1_000_000


LIMITS: Final = ReadingLimits()

STORED: Final = ReadingLimits(size=16 * SIZE, depth=300, values=16_000_000)
"""For canonical forms, which are larger and nested deeper than what was written, and for data that was no text."""

_FORMATS: Final[dict[str, Format]] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


class Document(msgspec.Struct, frozen=True):
    """A text that was read: its data, the place of each part of that, and what the text is called in messages."""

    data: Json
    places: Places = Places()
    source: str = ""


def read(
    text: str | bytes,
    findings: Findings,
    *,
    source: str = "",
    format: Format = "auto",
    limits: ReadingLimits = LIMITS,
) -> Document | None:
    """Read a text; None when it cannot be read, and then `findings` says why.

    Bytes are UTF-8, or UTF-16 or UTF-32 with a byte order mark. With `auto` a text that begins as JSON does (a bracket
    and a double quote) is JSON. A key that is given twice is a problem; its first value stays.
    """
    decoded = _decoded(text, findings, limits) if isinstance(text, bytes) else text
    if decoded is None or not _is_sound(decoded, findings, limits):
        return None
    decoded = decoded.removeprefix("\ufeff")
    lines = Lines(decoded)
    is_json = format == "json" or (format == "auto" and _LOOKS_LIKE_JSON.match(decoded) is not None)
    walk = Walk(lines, WalkLimits(limits.depth, limits.values, limits.size))
    try:
        (walk_json if is_json else walk_yaml)(decoded, walk)
    except Stopped:
        pass  # it has noted why
    findings.problems += walk.problems
    if not walk.is_done:
        return None
    return Document(walk.data, Places(walk.marks, lines), source)


def read_file(
    path: str | os.PathLike[str], findings: Findings, *, format: Format = "auto", limits: ReadingLimits = LIMITS
) -> Document | None:
    """Read a file; None when it cannot be read, and then `findings` says why.

    No more of it is read than `limits.size` and a byte. What ends in `.json`, `.yaml` or `.yml` is that.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            content = stream.read(limits.size + 1)
            size = os.fstat(stream.fileno()).st_size if len(content) > limits.size else 0
    except OSError as error:
        findings.add("unreadable", Place(), f"{file} cannot be read: {error.strerror or error}")
        return None
    if size:
        _too_large(findings, f"{size:,} bytes" if size > limits.size else "more", limits)
        return None
    if format == "auto":
        format = _FORMATS.get(file.suffix.lower(), "auto")
    return read(content, findings, source=str(file), format=format, limits=limits)


def document_of(
    data: object, findings: Findings, *, source: str = "", limits: ReadingLimits = STORED
) -> Document | None:
    """Take data that was no text, such as JSON that came over the wire; None when it is not plain JSON."""
    if is_plain(data, limits.depth) and all(
        not isinstance(one, int) or one.bit_length() <= 63 for one in scalars(data)
    ):
        try:
            size = len(msgspec.json.encode(data))
        except UnicodeEncodeError:  # half of a surrogate pair
            size = -1
        if size > limits.size:
            _too_large(findings, f"{size:,} bytes of JSON", limits)
            return None
        if size >= 0:
            return Document(data, source=source)
    message = f"it is not plain JSON of at most {limits.depth} levels"
    hint = "use dicts with text keys, lists, text, numbers of 64 bits, booleans and None"
    findings.add("not-json", Place(), message, hint)
    return None


def _is_sound(text: str, findings: Findings, limits: ReadingLimits) -> bool:
    if len(text) > limits.size:
        _too_large(findings, f"{len(text):,} characters", limits)
        return False
    lone = re.search("[\ud800-\udfff]", text) if not text.isascii() else None
    if lone is not None:
        line, column = Lines(text).at(lone.start())
        message = f"character {lone.start():,} is half of a surrogate pair, which is no text"
        findings.add("encoding", Place("$", line, column), message)
        return False
    return True


def _decoded(content: bytes, findings: Findings, limits: ReadingLimits) -> str | None:
    if len(content) > limits.size:
        _too_large(findings, f"{len(content):,} bytes", limits)
        return None
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8"))
    if not mark and b"\0" in content[:4]:
        message = "it has zero bytes at its beginning, as UTF-16 and UTF-32 have, but no byte order mark"
        findings.add("encoding", Place("$", 1, 1), message, "save it as UTF-8")
        return None
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        before = content[len(mark) : len(mark) + error.start].decode(encoding, "replace")
        line, column = Lines(before).at(len(before))
        at = error.start + len(mark)
        message = f"byte {at:,} (0x{content[at]:02x}) is not {encoding.upper()}: {error.reason}"
        findings.add("encoding", Place("$", line, column), message, "save it as UTF-8")
        return None


def _too_large(findings: Findings, found: str, limits: ReadingLimits) -> None:
    message = f"it is too large: at most {limits.size:,} bytes, found {found}"
    findings.add("too-large", Place(), message, "keep bulk out of definitions: hand it over as input")
