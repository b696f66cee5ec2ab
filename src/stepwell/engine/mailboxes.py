"""What comes for the runs in an engine's memory: messages of this process at once, those of others by polling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepwell.errors import StoreError
from stepwell.model.ids import SECOND
from stepwell.stores.protocol import Message, Store

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine

POLL = SECOND // 10
"""How often an engine looks for what other processes have put into the store (microseconds)."""

REMEMBERED = 10_000
"""How many taken messages are remembered, newest first, to know them when the store shows them once more."""


class Mailboxes:
    """Reads the mailboxes of one engine's runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last_read = {id(engine.store): 0, id(engine.volatile): 0}
        self._unread: set[int] = set()
        self._is_reading = False
        self._used_up: dict[tuple[str, int], None] = {}  # in the order in which they were taken

    def used_up(self, run_id: str, messages: Sequence[int]) -> None:
        """These messages are taken; an answer of the store that has been on its way since may still show them."""
        self._used_up.update(((run_id, message), None) for message in messages)
        while len(self._used_up) > REMEMBERED:
            del self._used_up[next(iter(self._used_up))]

    def heard(self, message: Message, *, in_order: bool = False) -> None:
        """A message is in a mailbox; `in_order` says that all earlier ones of its run were told before.

        One that this process has posted waits its turn when another process may have posted before it: messages are
        taken in the order in which they were accepted.
        """
        if (message.run_id, message.id) in self._used_up:
            return
        if not in_order and (self._unread or self._is_reading or self._engine.store.changed()):
            self._others_wrote()
            self.read_soon(self._engine.volatile)
            return
        runner = self._engine.runners.get(message.run_id)
        if runner is not None and not runner.is_leaving:
            runner.inbox.receive(message, in_order=in_order)
            return
        self._engine.claims.keep_early(message)

    async def keep_polling(self) -> None:
        while True:
            await self._engine.nap(self._engine.clock.now() + POLL)
            if self._engine.store.changed():
                self._others_wrote()

    def _others_wrote(self) -> None:
        """Another process has written to the store, perhaps: look at all that it may have been about."""
        self.read_soon(self._engine.store)
        self._engine.topics.read_soon()
        self._engine.graphs.stale()
        self._engine.queueing.look_at_all()
        self._engine.scheduling.look()

    def read_soon(self, store: Store) -> None:
        """Look into the mailboxes of this engine's runs; calls that come meanwhile share the next look."""
        self._unread.add(id(store))
        if not self._is_reading:
            self._is_reading = True
            self._engine.chore(self._read_messages())

    async def _read_messages(self) -> None:
        try:
            while self._unread:
                for store in (self._engine.store, self._engine.volatile):
                    if id(store) in self._unread:
                        self._unread.discard(id(store))
                        await self._read_mailboxes(store)
                self._engine.claims.look()
        finally:
            self._is_reading = False

    async def _read_mailboxes(self, store: Store) -> None:
        try:
            messages = await store.messages(after=self._last_read[id(store)], owner=self._engine.worker)
        except StoreError as error:
            if not error.retryable:
                raise
            self._engine.degraded(error)
            self._unread.add(id(store))
            await self._engine.nap(self._engine.clock.now() + self._engine.store_retry)
            return
        for message in messages:
            self._last_read[id(store)] = message.id
            self.heard(message, in_order=True)
