"""How is JSON read with the place of every part? By one pass over its tokens (RFC 8259), without recursion.

The standard library's reader keeps no places, forgets keys given twice, and takes NaN.
"""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

from stepwell.graph.places import segment
from stepwell.graph.walking import Json, Walk

_TOKEN: Final = re.compile(
    r"[ \t\n\r]*(?:"
    r"(?P<sign>[{}\[\],:])"
    r'|(?P<text>"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![0-9A-Za-z_.+-]))"
    r"|(?P<word>true|false|null)(?![A-Za-z0-9_])"
    r"|(?P<odd>-?(?:NaN|Infinity)(?![A-Za-z0-9_]))"
    r"|(?P<end>\Z))"
)
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_LONE: Final = re.compile("[\ud800-\udfff]")

# What may come next; the words are those of the messages.
_VALUE: Final = "a value"
_ITEM: Final = "a value or ']'"
_KEY: Final = "a key in double quotes"
_MEMBER: Final = "a key in double quotes or '}'"
_COLON: Final = "':' and a value"
_MORE_ITEMS: Final = "',' or ']'"
_MORE_MEMBERS: Final = "',' or '}'"
_NOTHING: Final = "nothing more"

_CLOSED_BY: Final = {"]": (_ITEM, _MORE_ITEMS), "}": (_MEMBER, _MORE_MEMBERS)}


class _Frame:
    """A mapping or list that is not closed yet; `key` is the one whose value comes next."""

    __slots__ = ("held", "key", "key_at", "marks", "opened")

    def __init__(self, held: Json, opened: int) -> None:
        self.held = held
        self.marks: Json = type(held)()
        self.opened = opened
        self.key: str | None = None
        self.key_at = 0


def walk_json(text: str, walk: Walk) -> None:
    """Walk through `text` and hand its data to `walk`.

    Raises:
        Stopped: it is no JSON, or over a limit; `walk` has the problem.
    """
    _Reader(text, walk).run()


class _Reader:
    def __init__(self, text: str, walk: Walk) -> None:
        self.text = text
        self.walk = walk
        self.frames: list[_Frame] = []
        self.next = _VALUE
        self.room = walk.limits.values

    def run(self) -> None:
        match, offset, text = _TOKEN.match, 0, self.text
        while True:
            found = match(text, offset)
            if found is None:
                self._no_token(offset)
            kind = found.lastgroup or ""
            at, offset = found.start(kind), found.end()
            token = found[kind]
            if kind == "sign":
                self._sign(token, at)
            elif kind == "text":
                self._text(token, at)
            elif kind == "number":
                self._value(self.walk.number(token, at, self._path()), at)
            elif kind == "word":
                self._value(_WORDS[token], at)
            elif kind == "odd":
                self.walk.not_finite(token, at, self._path())
            elif self.next is _NOTHING:
                self.walk.is_done = True
                return
            else:
                self._unexpected("the end", at)

    def _sign(self, sign: str, at: int) -> None:
        if sign == "{" or sign == "[":
            self._value({} if sign == "{" else [], at, opens=True)
        elif sign == ",":
            if self.next is _MORE_MEMBERS:
                self.next = _KEY
            elif self.next is _MORE_ITEMS:
                self.next = _VALUE
            else:
                self._unexpected("','", at)
        elif sign == ":":
            if self.next is not _COLON:
                self._unexpected("':'", at)
            self.next = _VALUE
        elif self.next in _CLOSED_BY[sign]:
            self.frames.pop()
            self._after_value()
        else:
            hint = "take the comma away" if self.next in (_KEY, _VALUE) and self._comma_before(at) else ""
            self._unexpected(f"'{sign}'", at, hint)

    def _text(self, token: str, at: int) -> None:
        value = token[1:-1] if "\\" not in token else self._unescaped(token, at)
        if self.next is _KEY or self.next is _MEMBER:
            self._count(at)
            frame = self.frames[-1]
            frame.key, frame.key_at = value, at
            self.next = _COLON
        else:
            self._value(value, at)

    def _value(self, value: Json, at: int, *, opens: bool = False) -> None:
        """Put a value where it belongs; of a mapping the place is its key's."""
        if self.next is not _VALUE and self.next is not _ITEM:
            if self.next in (_KEY, _MEMBER):
                self.walk.stop("key-not-text", at, "a key must be text", "put it in double quotes", self._path())
            self._unexpected("a value", at)
        self._count(at)
        frame = self.frames[-1] if self.frames else None
        if opens and len(self.frames) >= self.walk.limits.depth:
            self.walk.too_deep(at, self._path())
        inner = _Frame(value, at) if opens else None
        if frame is None:
            self.walk.data, self.walk.marks = value, at if inner is None else (at, inner.marks)
        elif type(frame.held) is list:
            frame.held.append(value)
            frame.marks.append(at if inner is None else (at, inner.marks))
        elif frame.key in frame.held:
            first = frame.marks[frame.key]
            self.walk.twice(str(frame.key), frame.key_at, first if type(first) is int else first[0], self._path())
        else:
            frame.held[frame.key] = value
            frame.marks[frame.key] = frame.key_at if inner is None else (frame.key_at, inner.marks)
        if inner is None:
            self._after_value()
            return
        self.frames.append(inner)
        self.next = _MEMBER if type(value) is dict else _ITEM

    def _after_value(self) -> None:
        if not self.frames:
            self.next = _NOTHING
        else:
            self.next = _MORE_ITEMS if type(self.frames[-1].held) is list else _MORE_MEMBERS

    def _count(self, at: int) -> None:
        self.room -= 1
        if self.room < 0:
            self.walk.too_many(at, self._path())

    def _unescaped(self, token: str, at: int) -> str:
        try:
            value = json.loads(token)
        except ValueError as error:
            self.walk.stop("syntax", at, f"this text is not JSON: {str(error).partition(':')[0]}", path=self._path())
        if _LONE.search(value):
            message = "an escape stands for half of a surrogate pair, which is no text"
            self.walk.stop("encoding", at, message, path=self._path())
        return str(value)

    def _comma_before(self, at: int) -> bool:
        return self.text[:at].rstrip().endswith(",")

    def _unexpected(self, found: str, at: int, hint: str = "") -> NoReturn:
        message = f"expected {self.next}, found {found}"
        if found == "the end" and self.frames:
            line, column = self.walk.lines.at(self.frames[-1].opened)
            message += f"; what line {line}, column {column} opens is not closed"
        self.walk.stop("syntax", at, message, hint, self._path())

    def _no_token(self, offset: int) -> NoReturn:
        at = _SPACE.match(self.text, offset).end()  # type: ignore[union-attr]  # it matches nothing too
        found = self.text[at : at + 20].split("\n")[0]
        hint = ""
        if found.startswith('"'):
            hint = "text must end on its line; write line breaks as \\n"
        elif found.startswith("'"):
            hint = "use double quotes"
        elif found.startswith(("//", "/*", "#")):
            hint = "JSON has no comments; YAML has"
        self.walk.stop("syntax", at, f"expected {self.next}, found {found!r}", hint, self._path())

    def _path(self) -> str:
        path = "$"
        for frame in self.frames:
            if type(frame.held) is list:  # what the next frame holds is in it already
                path += segment(len(frame.held) - (frame is not self.frames[-1]))
            elif frame.key is not None:
                path += segment(frame.key)
        return path
