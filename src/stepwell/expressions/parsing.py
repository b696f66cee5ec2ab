"""What does a text with `{{ templates }}` say? A list of literal texts and expressions; nothing is looked up.

The grammar, in full:

```
text       = ( literal | "\\{{" | "{{" expression "}}" )*
expression = operand ( "??" operand )*
operand    = path | string | number | true | false | null
path       = name ( "." name | "[" ( string | integer ) "]" )*
```

A name is letters, digits, `_` and `-`, and starts with a letter or `_`. Strings are written as in JSON, in double or
single quotes. There are no calls, no arithmetic and no attributes. Directly before `{{`, a pair of backslashes is one
backslash and a single one makes the `{{` literal; everywhere else a backslash is itself.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple, NoReturn, TypeAlias

from stepwell.expressions.names import shortened

LONGEST_SOURCE: Final = 64 * 1024
"""How many characters a text with templates may have."""

MOST_EXPRESSIONS: Final = 1000
"""How many templates one text may have."""


class Path(NamedTuple):
    """`a.b[0]`: root `a`, keys `("b", 0)`."""

    root: str
    keys: tuple[str | int, ...]
    text: str
    offset: int


class Literal(NamedTuple):
    """A value that is written out."""

    value: str | int | float | bool | None


Operand: TypeAlias = Path | Literal


class Expression(NamedTuple):
    """Operands in order of preference: the first that is there and not null is the value."""

    operands: tuple[Operand, ...]
    text: str
    offset: int


Part: TypeAlias = str | Expression


class Malformed(Exception):
    """A text is no template; `offset` is where in it, from 0."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


_OPEN = re.compile(r"(?<!\\)(\\*)\{\{")
_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
      (?P<name>[^\W\d][\w-]*)
    | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<mark>\?\?|\}\}|\.|\[|\])
    | (?P<end>\Z)
    | (?P<other>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS: Final = {"true": True, "false": False, "null": None}
_NO_ARITHMETIC = "there is no arithmetic here; use JSONLogic in a `transform` node"
_HINTS: Final = {
    "(": "functions cannot be called",
    "|": 'there are no filters; a default is written `{{ path ?? "text" }}`',
    "?": "write `??` for a default",
    ":": "a choice is written as JSONLogic",
    "=": "a comparison is written as JSONLogic",
    "<": "a comparison is written as JSONLogic",
    ">": "a comparison is written as JSONLogic",
    "!": "a comparison is written as JSONLogic",
    "&": "a condition is written as JSONLogic",
    "{": "write `\\{{` where `{{` is meant as text",
    "%": "write `\\{{` where `{{` is meant as text",
    "$": "a name starts with a letter",
    "@": "a name starts with a letter",
    '"': "the text is not closed",
    "'": "the text is not closed",
    **dict.fromkeys("+-*/", _NO_ARITHMETIC),
}
_QUOTED = re.compile(r"\\(.)|\"", re.DOTALL)


def parse(source: str) -> list[Part]:
    """The parts of a text, in order; literal parts are never empty and never stand side by side.

    Raises:
        Malformed: it is not written as the grammar says, or is longer than the budgets.
    """
    if len(source) > LONGEST_SOURCE:
        raise Malformed(f"a text with templates has at most {LONGEST_SOURCE:,} characters, this has {len(source):,}", 0)
    parts: list[Part] = []
    literal: list[str] = []
    position = count = 0
    while found := _OPEN.search(source, position):
        slashes = len(found[1])
        literal.append(source[position : found.start()] + "\\" * (slashes // 2))
        if slashes % 2:
            literal.append("{{")
            position = found.end()
            continue
        count += 1
        if count > MOST_EXPRESSIONS:
            raise Malformed(f"there are more than {MOST_EXPRESSIONS:,} templates in one text", found.start())
        if before := "".join(literal):
            parts.append(before)
        literal.clear()
        expression = _Reader(source, found.end()).expression()
        parts.append(expression)
        position = expression.offset + len(expression.text)
    if rest := "".join(literal) + source[position:]:
        parts.append(rest)
    return parts


def escaped(text: str) -> str:
    """The source of a text that renders to exactly this, whatever is in it."""
    return _OPEN.sub(lambda found: found[1] * 2 + "\\{{", text)


class _Reader:
    """Reads one expression, from behind its `{{` to behind its `}}`."""

    def __init__(self, source: str, start: int) -> None:
        self.source = source
        self.start = start
        self._next(start)

    def expression(self) -> Expression:
        operands = [self._operand()]
        while self.text == "??":
            self._next(self.end)
            operands.append(self._operand())
        if self.text != "}}" or self.kind != "mark":
            self._refuse(
                "expected `??` or `}}`" if isinstance(operands[-1], Literal) else "expected `.`, `[`, `??` or `}}`"
            )
        offset = self.start - 2
        return Expression(tuple(operands), self.source[offset : self.end], offset)

    def _next(self, position: int) -> None:
        found = _TOKEN.match(self.source, position)
        assert found and found.lastgroup  # its last alternatives match anything
        self.kind = found.lastgroup
        self.text = found[self.kind]
        self.offset, self.end = found.span(self.kind)

    def _operand(self) -> Operand:
        kind, text = self.kind, self.text
        if kind == "name":
            if text in _WORDS:
                self._next(self.end)
                return Literal(_WORDS[text])
            return self._path()
        if kind == "number":
            number = self._number()
            self._next(self.end)
            return Literal(number)
        if kind == "string":
            value = self._string()
            self._next(self.end)
            return Literal(value)
        self._refuse("expected a path such as `input.name`, or a value")

    def _path(self) -> Path:
        root, offset, behind = self.text, self.offset, self.end
        keys: list[str | int] = []
        self._next(behind)
        while self.kind == "mark" and self.text in (".", "["):
            if self.text == ".":
                self._next(self.end)
                if self.kind != "name":
                    number = " (an element of a list is written `[0]`)" if self.kind == "number" else ""
                    self._refuse(f'expected a name after "."{number}')
                keys.append(self.text)
            else:
                keys.append(self._subscript())
            behind = self.end
            self._next(behind)
        return Path(root, tuple(keys), self.source[offset:behind], offset)

    def _subscript(self) -> str | int:
        self._next(self.end)
        key: str | int
        if self.kind == "string":
            key = self._string()
        elif self.kind == "number" and isinstance(number := self._number(), int):
            key = number
        else:
            self._refuse('expected `["name"]` or `[0]`')
        self._next(self.end)
        if self.text != "]" or self.kind != "mark":
            self._refuse("expected `]`")
        return key

    def _number(self) -> int | float:
        text = self.text
        if text.lstrip("-").isdigit():
            if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
                self._refuse("expected a number of 64 bits")
            return int(text)
        if (number := float(text)) in (float("inf"), float("-inf")):
            self._refuse("expected a number that is not so large")
        return number

    def _string(self) -> str:
        body = self.text[1:-1]
        if self.text[0] == "'":
            body = _QUOTED.sub(lambda found: "'" if found[1] == "'" else found[0] if found[1] else '\\"', body)
        try:
            value: str = json.loads(f'"{body}"', strict=False)
            value.encode()  # half of a surrogate pair is no text
        except ValueError:
            self._refuse("expected a text as JSON writes it (a backslash is `\\\\`, a line's end `\\n`)")
        return value

    def _refuse(self, expected: str) -> NoReturn:
        if self.kind == "end":
            raise Malformed(
                f"{expected}, but the text ends: `{{{{` has no `}}}}` (write `\\{{{{` where `{{{{` is meant as text)",
                self.offset,
            )
        hint = _HINTS.get(self.text, "") if self.kind == "other" else ""
        found = f"found `{shortened(self.text, 40)}`"
        raise Malformed(f"{expected}, {found}" + (f" ({hint})" if hint else ""), self.offset)
