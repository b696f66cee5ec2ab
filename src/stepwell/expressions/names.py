"""What does a name in an expression stand for? Scopes, and the references that are found before anything runs."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

_PLAIN = re.compile(r"[^\W\d][\w-]*")

SAID = 12
"""How many names, or mistakes, an error lists at most."""


class Reference(NamedTuple):
    """One place in an expression that looks something up: `{{ list.urls[0] }}` is root `list`, path `("urls", 0)`.

    `defaulted` says that nothing there is no error: a `??` follows it, or JSONLogic asks with a default, or whether it
    exists. `text` is how it was written; `offset` is where, from 0, in the text that `at` leads to inside the value.
    `before` are the lookups that stand before it in its chain of `??`: it is made only when they found nothing.
    """

    root: str
    path: tuple[str | int, ...] = ()
    defaulted: bool = False
    text: str = ""
    offset: int = 0
    at: tuple[str | int, ...] = ()
    before: tuple[Reference, ...] = ()


class Failed(dict[str, object]):
    """What a root name stands for that has failed: of it only its `error` is there, and by itself it is nothing."""


class Names(Protocol):
    """What the root names of expressions stand for at one place of a run."""

    def lookup(self, name: str, /) -> object:
        """The value of a root name: plain JSON data, mappings and sequences that are only read.

        Raises:
            LookupError: nothing has this name here; its text, if any, says why.
        """


@runtime_checkable
class Listed(Protocol):
    """Names that can also say which there are, for the texts of errors."""

    def known(self) -> Iterable[str]:
        """All root names, the nearest first."""


class MappingNames:
    """The keys of a mapping are the names."""

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = values

    def lookup(self, name: str) -> object:
        """The value under this key.

        Raises:
            LookupError: there is none.
        """
        return self.values[name]

    def known(self) -> Iterable[str]:
        """The keys."""
        return tuple(self.values)


class ChainNames:
    """A scope inside another: what `inner` does not have is looked up in `outer`."""

    __slots__ = ("inner", "outer")

    def __init__(self, inner: Names, outer: Names) -> None:
        self.inner = inner
        self.outer = outer

    def lookup(self, name: str) -> object:
        """The value in the nearest scope that has the name.

        Raises:
            LookupError: neither has it.
        """
        try:
            return self.inner.lookup(name)
        except LookupError:
            return self.outer.lookup(name)

    def known(self) -> Iterable[str]:
        """The names of both that can say them, each once."""
        found = [name for scope in (self.inner, self.outer) if isinstance(scope, Listed) for name in scope.known()]
        return tuple(dict.fromkeys(found))


def spelled(root: str, path: Iterable[str | int]) -> str:
    """A path as it is written in expressions and in JSONPath: `a.b[0]["odd name"]`."""
    text = root
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        elif _PLAIN.fullmatch(key):
            text += f".{key}" if text else key
        else:
            text += json.dumps(shortened(key, 60), ensure_ascii=False).join("[]")
    return text


def listed(names: Sequence[str]) -> str:
    """The names, as an error says them."""
    said = ", ".join(shortened(name, 60) for name in names[:SAID])
    return said + (f" and {len(names) - SAID:,} more" if len(names) > SAID else "")


def suggestion(wanted: str, known: Sequence[str]) -> str:
    """` (did you mean …?)`, when one of the names is like the one that was wanted."""
    near = difflib.get_close_matches(wanted[:100], known[:1000], n=1) if wanted else []
    return f" (did you mean {shortened(near[0], 60)!r}?)" if near else ""


def shortened(text: str, limit: int) -> str:
    """The text, cut after so many characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
