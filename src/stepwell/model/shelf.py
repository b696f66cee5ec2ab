"""What is kept for a run beside its journal? Bytes under keys, which node types put there: its shelf.

A shelf is for what is no fact of the run, and would be large or hard to read in its journal: the state of a foreign
engine, for one. What stands there outlives attempts and crashes, and goes when the run is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    import asyncio

LAST: Final = chr(0x10FFFF)
"""No key has this character: a prefix and this stand behind all keys with the prefix."""


class Put(msgspec.Struct, frozen=True, gc=False):
    """Let `value` stand under `key` on the shelf of `owner`; with `if_new` what stands there already stays.

    An owner is a run id, or any other text that begins with no run's id: what has no run is never deleted by itself.
    """

    owner: str
    key: str
    value: bytes
    if_new: bool = False


class Clear(msgspec.Struct, frozen=True, gc=False):
    """Take away what stands on the shelf of `owner` under keys that begin with `prefix`."""

    owner: str
    prefix: str = ""


ShelfChange: TypeAlias = Put | Clear

Values: TypeAlias = list[tuple[str, bytes]]
"""Keys and what stands under them, in order."""


class Shelf(Protocol):
    """Shelves, as a node type gets to them and as a store keeps them. Keys are in the order of their code points."""

    def shelve(self, changes: Sequence[ShelfChange]) -> asyncio.Future[None]:
        """Carry the changes out, in order and in one transaction, durable before the future is done.

        Raises:
            Fenced: the attempt's run belongs to another worker now; nothing was written.
            StoreFull: there is no room.
        """

    async def shelved(self, owner: str, prefix: str, *, last_first: bool = False, limit: int = 1_000_000) -> Values:
        """Keys that begin with `prefix`, with their values, in order or in reverse.

        Raises:
            CorruptJournal: a value is not what was put.
        """

    async def shelved_at(self, owner: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The values under these keys, where there are any. Raises as `shelved` does."""

    async def shelf_owners(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """Who has something on a shelf, in order, behind `after`."""
