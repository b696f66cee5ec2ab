"""A run's messages on this side of the store: each once, in order, with the payloads that they point to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.children import ChildBody
from stepwell.stores.protocol import Message

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner


class Inbox:
    """What was received for one run and not yet taken."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._known: dict[int, None] = {}  # dicts, for empty sets and deques cost ten times as much, in every run
        self._waiting: deque[Message] | None = None
        self._fetching: dict[int, None] = {}
        self._last = 0

    @property
    def has_some(self) -> bool:
        """Whether a message waits to be taken."""
        return bool(self._waiting)

    @property
    def is_fetching(self) -> bool:
        """Whether a message waits for its payload."""
        return bool(self._fetching)

    def receive(self, message: Message, *, in_order: bool = False) -> None:
        """A message of the run's mailbox; one that is known already is ignored.

        `in_order` says that every earlier one was received before: only such a message proves that none is missing
        up to it. One that this process has posted may overtake another that is still to be read from the store.
        """
        if in_order:
            self._last = max(self._last, message.id)
        if message.id in self._known:
            return
        self._known[message.id] = None
        blob = msgspec.json.decode(message.body, type=ChildBody).output_blob if message.kind == "child" else ""
        if blob:
            self._fetching[message.id] = None
            self._runner.engine.fetch(self._runner.store, blob, lambda data: self._complete(message, blob, data))
        else:
            self._put(message)

    def _complete(self, message: Message, blob: str, data: bytes) -> None:
        if self._runner.gone:
            return
        self._fetching.pop(message.id, None)
        self._runner.body.payloads[blob] = data
        self._put(message)

    def _put(self, message: Message) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(message)
        self._runner.wake()

    def take(self) -> Message | None:
        """The next message, or None."""
        return self._waiting.popleft() if self._waiting else None

    def seen(self) -> int:
        """Up to which message id nothing is missing and nothing still waits to be taken."""
        untaken = min((*self._fetching, *(message.id for message in self._waiting or ())), default=None)
        return self._last if untaken is None else min(self._last, untaken - 1)
