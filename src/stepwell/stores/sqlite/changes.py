"""What can be asked of the writer: one object per caller's transaction, with the future that it completes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

from stepwell.model.entries import encode
from stepwell.stores.digests import form_of
from stepwell.stores.protocol import Append, Message, NewMessage, NewRun, RunRow
from stepwell.stores.rules import gives_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.model.entries import AnyEntry
    from stepwell.stores.sqlite.group import Group

EntryRow: TypeAlias = tuple[int, int, str, bytes, int]
"""seq, epoch, kind, body, checksum."""


class Creation:
    """A run to create."""

    __slots__ = ("digests", "error", "future", "new", "outcome", "rows", "size")

    def __init__(self, new: NewRun, future: asyncio.Future[RunRow] | None) -> None:
        self.new = new
        self.future = future
        self.rows, self.digests, self.size = encoded(new.entries, 1, 1 if new.owner is not None else 0)
        self.size += sum(map(len, new.blobs.values()))
        if new.messages:
            self.size += sum(len(message.body) for message in new.messages)
        self.outcome: RunRow | None = None
        self.error: BaseException | None = None


class Appending:
    """An append."""

    __slots__ = ("append", "children", "digests", "error", "future", "outcome", "rows", "size")

    def __init__(self, append: Append, future: asyncio.Future[None]) -> None:
        self.append = append
        self.future = future
        self.rows, self.digests, self.size = encoded(append.entries, append.seq, append.epoch)
        self.children = tuple([Creation(child, None) for child in append.children]) if append.children else ()
        if self.children:
            self.size += sum(child.size for child in self.children)
        if append.blobs:
            self.size += sum(map(len, append.blobs.values()))
        if append.events:
            self.size += sum(len(event.body) for event in append.events)
        self.outcome: None = None
        self.error: BaseException | None = None

    @property
    def plain(self) -> bool:
        """Whether it is entries that bring the run forward, and nothing else."""
        append = self.append
        return bool(self.rows) and not (
            not append.progress
            or self.digests
            or append.consumed
            or append.children
            or append.posts
            or append.blobs
            or gives_up(append)
            or append.finished_at is not None
            or append.opened
            or append.closed
            or append.events
        )


class Posting:
    """A message to put into a mailbox."""

    __slots__ = ("error", "future", "message", "outcome", "size")

    def __init__(self, message: NewMessage, future: asyncio.Future[Message | None] | None) -> None:
        self.message = message
        self.future = future
        self.size = len(message.body)
        self.outcome: Message | None = None
        self.error: BaseException | None = None


class Call:
    """Anything else: a function of the group, run alone and in its place."""

    __slots__ = ("error", "function", "future", "outcome", "size")

    def __init__(self, function: Callable[[Group], object], future: asyncio.Future[Any], *, size: int = 0) -> None:
        self.function = function
        self.future = future  # of whatever the function returns; the caller knows the type
        self.size = size
        self.outcome: object = None
        self.error: BaseException | None = None


Change: TypeAlias = Creation | Appending | Posting | Call


def encoded(entries: Sequence[AnyEntry], seq: int, epoch: int) -> tuple[list[EntryRow], Sequence[str], int]:
    """The entries as rows of the journal from `seq` on, the digests they refer to, and their bytes."""
    rows: list[EntryRow] = []
    digests: tuple[str, ...] = ()
    size = 0
    for entry in entries:
        kind, fields = form_of(entry)
        body = encode(entry)
        rows.append((seq, epoch, kind, body, crc32(body, seq)))
        for field in fields:
            if digest := getattr(entry, field):
                digests = (*digests, digest)
        size += len(body)
        seq += 1
    return rows, digests, size


def settle(changes: Sequence[Change]) -> None:
    """Complete the futures of changes that are done; on the loop's thread."""
    for change in changes:
        future = change.future
        if future is None or future.done():
            continue
        if change.error is not None:
            future.set_exception(change.error)
        else:
            future.set_result(change.outcome)  # type: ignore[arg-type]  # outcome and future are of one kind by class
