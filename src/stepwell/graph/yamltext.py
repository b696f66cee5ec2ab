"""How is YAML read with the place of every part? By one pass over the parser's events, without recursion.

PyYAML makes the events, by way of libyaml where that is there (five times faster). What plain words mean is decided
here (see `reading`): PyYAML's own loader follows YAML 1.1, in which `no` is false, `012` is ten and a date is no text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from stepwell.graph.places import Marks, segment
from stepwell.graph.walking import NUMBER, Json, Walk

if TYPE_CHECKING:
    from collections.abc import Callable

_STR: Final = "tag:yaml.org,2002:str"
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NOT_FINITE: Final = re.compile(r"[-+]?(?:\.inf|\.Inf|\.INF|Infinity)|\.nan|\.NaN|\.NAN|NaN")
_ELSEWHERE: Final = re.compile(
    r"(?i:y|n|yes|no|on|off|true|false|null|~|=|<<|[-+]?(?:\.inf|infinity)|\.?nan)|[-+.]?[0-9][-+0-9a-fxo_.:,T Z]*"
)
"""Plain words that some reader takes for something else than text."""

_NUMERIC: Final = frozenset("0123456789+-.NI")
"""How plain words begin that may be numbers, or no numbers."""

_HINTS: Final = (
    ("cannot start any token", "YAML is indented by spaces, not tabs; text that begins with a sign needs quotes"),
    ("mapping values are not allowed", "text with ': ' in it needs quotes"),
    ("could not find expected ':'", "is a ':' missing, or a space behind it?"),
    ("did not find expected", "is the indentation right, and every bracket and quote closed?"),
    ("undefined alias", "text that begins with * needs quotes"),
    ("found unexpected end of stream", "a quote or bracket is not closed"),
)


class _Anchored:
    """What an anchor names: the value, and what it adds when it stands somewhere else too. Open: None levels."""

    __slots__ = ("characters", "levels", "marks", "value", "values")

    def __init__(self, values: int, characters: int) -> None:
        self.value: Json = None
        self.marks: Marks = 0
        self.levels = -1
        self.values = values
        self.characters = characters


class _Frame:
    """A mapping or list that is not closed yet; `key` is the one whose value comes next (None: a key comes)."""

    __slots__ = ("anchored", "deepest", "held", "is_map", "key", "key_at", "marks", "opened")

    def __init__(self, held: Json, opened: int, anchored: _Anchored | None) -> None:
        self.held = held
        self.is_map = type(held) is dict
        self.marks: Json = type(held)()
        self.opened = opened
        self.key: str | None = None
        self.key_at = 0
        self.anchored = anchored
        self.deepest = 1


def reads_as_text(word: str) -> bool:
    """Whether a plain word is text, for this reader and for those of YAML 1.1 and 1.2."""
    return word not in _CONSTANTS and not _ELSEWHERE.fullmatch(word)


def walk_yaml(text: str, walk: Walk) -> None:
    """Walk through `text` and hand its data to `walk`.

    Raises:
        Stopped: it is no YAML, over a limit, or uses what is refused; `walk` has the problem.
    """
    import yaml

    reader = _Reader(text, walk)
    try:
        reader.run()
    except yaml.reader.ReaderError as error:
        at = reader.character(error.position)
        message = f"the character U+{_code(error, text, at):04X} cannot stand in YAML"
        walk.stop("syntax", at, message, "write it as an escape")
    except yaml.MarkedYAMLError as error:
        problem = (error.problem or "it cannot be read").replace("found character that cannot", "this character cannot")
        context = f" {error.context}" if error.context else ""
        hint = next((hint for sign, hint in _HINTS if sign in problem), "")
        mark = error.problem_mark or error.context_mark
        walk.stop("syntax", mark.index if mark else 0, f"this is not YAML: {problem}{context}", hint, reader.path())


def _events(text: str) -> Callable[[], Any]:  # Any: PyYAML's events have no types
    import yaml

    if yaml.__with_libyaml__:
        return yaml.CSafeLoader(text.encode()).get_event
    return yaml.SafeLoader(text).get_event


class _Reader:
    def __init__(self, text: str, walk: Walk) -> None:
        self.text = text
        self.walk = walk
        self.frames: list[_Frame] = []
        self.anchors: dict[str, _Anchored] = {}
        self.values = 0
        self.characters = 0
        self.documents = 0

    def run(self) -> None:
        from yaml import events as kinds

        get = _events(self.text)
        while (event := get()) is not None:
            kind = type(event)
            if kind is kinds.ScalarEvent:
                self._scalar(event)
            elif kind is kinds.MappingStartEvent:
                self._open({}, event)
            elif kind is kinds.SequenceStartEvent:
                self._open([], event)
            elif kind is kinds.MappingEndEvent or kind is kinds.SequenceEndEvent:
                self._close()
            elif kind is kinds.AliasEvent:
                self._alias(event)
            elif kind is kinds.DocumentStartEvent:
                self.documents += 1
                if self.documents > 1:
                    message = "a second document begins here"
                    self.walk.stop("several-documents", event.start_mark.index, message, "put it in a file of its own")
            elif kind is kinds.StreamEndEvent:
                self.walk.is_done = True

    def _scalar(self, event: Any) -> None:  # Any: as above
        at, word = event.start_mark.index, event.value
        frame = self.frames[-1] if self.frames else None
        is_plain = event.implicit[0] and event.tag is None
        if event.tag is not None and event.tag != _STR:
            self._tag(event)
        self._count(at, len(word))
        if frame is not None and frame.is_map and frame.key is None:
            self._key(frame, word, at, is_plain)
            if event.anchor is not None:
                self._anchor_scalar(event.anchor, word, at, len(word))
            return
        value = self._plain(word, at) if is_plain else word
        if event.anchor is not None:
            self._anchor_scalar(event.anchor, value, at, len(word))
        self._put(value, at, None)

    def _plain(self, word: str, at: int) -> Json:
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if word[0] in _NUMERIC:
            if NUMBER.fullmatch(word):
                return self.walk.number(word, at, self.path())
            if _NOT_FINITE.fullmatch(word):
                self.walk.not_finite(word, at, self.path())
        return word

    def _key(self, frame: _Frame, word: str, at: int, is_plain: bool) -> None:
        if is_plain:
            if word == "<<":
                message = "merge keys (<<) are not part of the format"
                self.walk.stop("merge-key", at, message, "write it out", self.path())
            if type(self._plain(word, at)) is not str:
                shown = word or "nothing"
                message = f"a key must be text; found {shown}"
                self.walk.stop("key-not-text", at, message, f'write "{word}", in quotes', self.path())
        frame.key, frame.key_at = word, at

    def _open(self, held: Json, event: Any) -> None:  # Any: as above
        at = event.start_mark.index
        frame = self.frames[-1] if self.frames else None
        if event.tag is not None:
            self._tag(event)
        if frame is not None and frame.is_map and frame.key is None:
            hint = "use text as keys"
            if event.flow_style and self.text[frame.opened : frame.opened + 2] == "{{":
                hint = 'a template needs quotes: "{{ … }}"'
            self.walk.stop("key-not-text", at, f"a key must be text; found a {_named(held)}", hint, self.path())
        if len(self.frames) >= self.walk.limits.depth:
            self.walk.too_deep(at, self.path())
        anchored = None
        if event.anchor is not None:
            anchored = self.anchors[event.anchor] = _Anchored(self.values, self.characters)
        self._count(at, 1)
        self.frames.append(_Frame(held, at, anchored))

    def _close(self) -> None:
        frame = self.frames.pop()
        if frame.anchored is not None:
            anchored = frame.anchored
            anchored.value, anchored.marks = frame.held, (frame.opened, frame.marks)
            anchored.levels = frame.deepest
            anchored.values = self.values - anchored.values
            anchored.characters = self.characters - anchored.characters
        self._put(frame.held, frame.opened, frame.marks, frame.deepest)

    def _alias(self, event: Any) -> None:  # Any: as above
        at = event.start_mark.index
        anchored = self.anchors.get(event.anchor)
        frame = self.frames[-1] if self.frames else None
        if anchored is None:
            message = f"nothing before this has the anchor &{event.anchor}"
            self.walk.stop("alias", at, message, "text that begins with * needs quotes", self.path())
        if anchored.levels < 0:
            self.walk.stop("alias", at, f"*{event.anchor} stands for what it is part of", "write it out", self.path())
        self._count(at, anchored.characters, anchored.values)
        if frame is not None and frame.is_map and frame.key is None:
            self.walk.stop("key-not-text", at, "a key must be text; found an alias", "write it out", self.path())
        if len(self.frames) + anchored.levels > self.walk.limits.depth:
            self.walk.too_deep(at, self.path())
        marks = anchored.marks
        self._put(anchored.value, at, marks[1] if type(marks) is tuple else None, anchored.levels)

    def _put(self, value: Json, at: int, marks: Json, levels: int = 0) -> None:
        """Put a value where it belongs; of a mapping the place is its key's."""
        if not self.frames:
            self.walk.data, self.walk.marks = value, at if marks is None else (at, marks)
            return
        frame = self.frames[-1]
        if levels >= frame.deepest:
            frame.deepest = levels + 1
        if not frame.is_map:
            frame.held.append(value)
            frame.marks.append(at if marks is None else (at, marks))
            return
        key = frame.key
        if key in frame.held:
            first = frame.marks[key]
            self.walk.twice(str(key), frame.key_at, first if type(first) is int else first[0], self.path())
        else:
            frame.held[key] = value
            frame.marks[key] = frame.key_at if marks is None else (frame.key_at, marks)
        frame.key = None

    def _anchor_scalar(self, name: str, value: Json, at: int, characters: int) -> None:
        anchored = self.anchors[name] = _Anchored(1, characters + 1)
        anchored.value, anchored.marks, anchored.levels = value, at, 0

    def _count(self, at: int, characters: int, values: int = 1) -> None:
        self.values += values
        self.characters += characters
        if self.values > self.walk.limits.values:
            self.walk.too_many(at, self.path())
        if self.characters > self.walk.limits.characters:
            message = f"with its aliases written out it is larger than {self.walk.limits.characters:,} characters"
            self.walk.stop("too-large", at, message, "keep bulk out of definitions", self.path())

    def _tag(self, event: Any) -> None:  # Any: as above
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        message = f"the tag {tag[:60]} is refused: definitions are plain data"
        self.walk.stop("tag", event.start_mark.index, message, "take it away", self.path())

    def path(self) -> str:
        """Where the walk is, as a JSONPath."""
        path = "$"
        for frame in self.frames:
            if not frame.is_map:
                path += segment(len(frame.held))
            elif frame.key is not None:
                path += segment(frame.key)
        return path

    def character(self, position: int) -> int:
        """The offset in characters for what a reader's error calls a position."""
        import yaml

        if not yaml.__with_libyaml__:
            return min(position, max(len(self.text) - 1, 0))
        return len(self.text.encode()[:position].decode("utf-8", "ignore"))


def _named(held: Json) -> str:
    return "mapping" if type(held) is dict else "list"


def _code(error: Any, text: str, at: int) -> int:  # Any: as above
    if isinstance(error.character, int) and error.character > 0:
        return error.character
    return ord(text[at]) if at < len(text) else 0
