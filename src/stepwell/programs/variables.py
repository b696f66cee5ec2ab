"""`ctx.state` of one run: a mapping whose every change is journaled, and that a rebuild of the body fills again."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from stepwell.model.codec import ValueCodec
from stepwell.model.entries import StateSet

if TYPE_CHECKING:
    from stepwell.programs.body import Body

_ANY = ValueCodec(Any, "a value")


class RunVariables(MutableMapping[str, object]):
    """`ctx.state` as the body sees it; a rebuild sets it again."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._values: dict[str, object] = {}

    def __getitem__(self, key: str) -> object:
        return self._values[key]

    def __setitem__(self, key: str, value: object) -> None:
        self._body.set_state(key, value)
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self._values:
            raise KeyError(key)
        self._body.set_state(key, None, deleted=True)
        del self._values[key]

    def edit(self, edit: StateSet) -> None:
        """Take over a change that the journal has."""
        if edit.deleted:
            self._values.pop(edit.key, None)
        else:
            self._values[edit.key] = _ANY.decode(edit.payload)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
