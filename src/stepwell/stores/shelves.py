"""What every store promises of shelves, where node types keep what is no part of a journal; part of `Store`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from stepwell.errors import CorruptJournal
from stepwell.model.shelf import ShelfChange, Values

Fence: TypeAlias = tuple[str, int]
"""A run, and the epoch under which it must be owned by who writes."""


class Shelves(Protocol):
    """The part of a store that keeps bytes for owners by key. The rules of `stores.protocol` hold for it, too."""

    def shelve(self, changes: Sequence[ShelfChange], *, fence: Fence | None = None) -> asyncio.Future[None]:
        """Carry the changes out, in order and in one transaction.

        What is put for a run that does not exist is kept until it is cleared; what is put for one that does is deleted
        with it. With `fence`, raises `Fenced`, and nothing is written, when this store object does not own that run
        under that epoch.
        """

    async def shelved(self, owner: str, prefix: str, *, last_first: bool = False, limit: int = 1_000_000) -> Values:
        """Keys that begin with `prefix`, with their values, by the code points of the keys or in reverse.

        Raises `CorruptJournal` when a value is not what was put.
        """

    async def shelved_at(self, owner: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The values under these keys, where there are any. Raises as `shelved` does."""

    async def shelf_owners(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """Who has something on a shelf, in order, behind `after`."""


class RunShelf:
    """A store's shelves as an attempt gets to them: nothing is written once its run belongs to another worker."""

    def __init__(self, shelves: Shelves, run_id: str, epoch: int) -> None:
        self._shelves = shelves
        self._fence = (run_id, epoch)

    def shelve(self, changes: Sequence[ShelfChange]) -> asyncio.Future[None]:
        """See `Shelf.shelve`."""
        return self._shelves.shelve(changes, fence=self._fence)

    async def shelved(self, owner: str, prefix: str, *, last_first: bool = False, limit: int = 1_000_000) -> Values:
        """See `Shelf.shelved`."""
        return await self._shelves.shelved(owner, prefix, last_first=last_first, limit=limit)

    async def shelved_at(self, owner: str, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Shelf.shelved_at`."""
        return await self._shelves.shelved_at(owner, keys)

    async def shelf_owners(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """See `Shelf.shelf_owners`."""
        return await self._shelves.shelf_owners(after=after, limit=limit)


def altered(place: object, owner: str, key: str) -> CorruptJournal:
    """The refusal to hand out a value that is not what was put."""
    return CorruptJournal(
        f"store {place}: what is kept for {owner} under {key!r} is not what was put; restore a backup"
    )
