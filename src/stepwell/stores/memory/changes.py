"""How does a change take effect in memory? Checked first, then done whole: nothing can fail in its middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from stepwell.errors import Fenced, StepwellBug, StepwellError, StoreUnusable
from stepwell.model.entries import AnyEntry
from stepwell.model.lifecycle import TERMINAL
from stepwell.model.shelf import ShelfChange
from stepwell.stores.memory import shelf
from stepwell.stores.memory.content import Driving, MemoryData, Terms
from stepwell.stores.protocol import Append, Message, NewMessage, NewRun, RunRow, Stored
from stepwell.stores.rules import (
    ABOUT_A_WAIT,
    first_row,
    gives_up,
    let_in_at,
    no_such_wait,
    refusal,
    wake_after,
    wakes,
)
from stepwell.stores.shelves import Fence
from stepwell.stores.tables import Event, NewEvent

T = TypeVar("T")

Hook = Callable[[str], None]


class Changes:
    """The half of the store that writes. `data` may be shared with other store objects."""

    def __init__(self, data: MemoryData, url: str) -> None:
        self.url = url
        self.data = data
        self._open = False
        self._mine: Driving | None = None
        self._own_changes = 0
        self._hook: Hook | None = None

    def _create(self, run: NewRun) -> RunRow:
        known = self.data.runs.get(run.run_id)
        if known is not None:
            return known
        self._check_owner(run)
        self._at("rows")
        row = self._add_if_free(run)
        self._changed()
        return row

    def _append(self, append: Append) -> None:
        row = self.data.runs.get(append.run_id)
        fence = (append.epoch, append.seq, self._mine.worker if self._mine is not None else None)
        if row is None or row.owner is None or (row.epoch, row.next_seq, row.owner) != fence:
            found = "gone" if row is None else f"at epoch {row.epoch}, seq {row.next_seq}, owner {row.owner}"
            raise Fenced(f"run {append.run_id} is {found}; an append under {fence} is refused: drop the run")
        strange = [
            id for id in append.consumed if (m := self.data.mailbox.get(id)) is None or m.run_id != append.run_id
        ]
        if strange:
            raise StepwellBug(f"run {append.run_id} consumes messages that are not in its mailbox: {strange}")
        self._at("rows")
        self._at("entries")
        if append.events:
            self._at("published")
        if append.posts:
            self._at("posted")
        self._at("commit")
        # Nothing below can fail: this is the transaction.
        self.data.put(
            msgspec.structs.replace(
                row,
                status=append.status,
                next_seq=append.seq + len(append.entries),
                updated_at=append.at,
                finished_at=append.finished_at,
                wake_at=wake_after(append),
                owner=None if gives_up(append) else row.owner,
                claims=0 if append.progress or gives_up(append) else row.claims,
                held_until=None if append.status in TERMINAL else row.held_until,
            )
        )
        self._write(append.run_id, append.epoch, append.seq, append.entries, append.blobs)
        for id in append.consumed:
            del self.data.mailbox[id]
        for child in append.children:
            if child.run_id not in self.data.runs:
                self._add_if_free(child)
        self._note_waits(append)
        for event in append.events:
            self.data.publish(event)
        self._put_messages(append.posts)
        self._wake_if_unseen(append)
        self._changed()

    def _note_waits(self, append: Append) -> None:
        for wait in append.opened:
            self.data.waits[wait.id] = wait
        for id in append.closed:
            self.data.waits.pop(id, None)
        if append.status in TERMINAL:
            self.data.close_waits_of(append.run_id)

    def _post(self, message: NewMessage) -> Message | None:
        self._at("posted")
        posted = self._put_message(message)
        self._changed()
        return posted

    def _put_messages(self, messages: Sequence[NewMessage]) -> None:
        for message in messages:
            try:
                self._put_message(message)
            except StepwellError:  # the addressee has ended, is gone, or asks no more: that must not stop the sender
                pass

    def _put_message(self, message: NewMessage) -> Message | None:
        row = self.data.row(message.run_id, self.url)
        identity = (message.run_id, message.kind, message.name, message.key)
        if message.key and identity in self.data.posted:
            return None
        pausing = message.kind == "resume" and any(m.kind == "pause" for m in self.data.mailbox_of(row.run_id))
        error = refusal(message.kind, row.run_id, row.status, owned=row.owner is not None, pausing=pausing)
        if error is not None:
            raise error
        if message.kind in ABOUT_A_WAIT:
            wait = self.data.waits.get(message.name)
            if wait is None or wait.run_id != message.run_id:
                raise no_such_wait(message)
        self.data.last_message += 1
        posted = Message(
            self.data.last_message,
            message.run_id,
            message.kind,
            message.name,
            message.body,
            message.at,
            message.by,
        )
        self.data.mailbox[posted.id] = posted
        if message.key:
            self.data.posted[identity] = posted
        if message.kind == "input" and message.wake_at is not None:
            self._put_off(row, message.wake_at)
        elif wakes(row, message.kind):
            self.data.wake(row, message.at)
        return posted

    def _put_off(self, row: RunRow, until: int) -> None:
        """A run that has not begun begins at another time, or waits in its queue from another time on."""
        if row.held_until is not None:
            self.data.put(msgspec.structs.replace(row, held_until=until))
        else:
            self.data.put(msgspec.structs.replace(row, wake_at=until))

    def _wake_if_unseen(self, append: Append) -> None:
        """A run given up while there is a message or an event that its owner has not seen is due again."""
        row = self.data.runs[append.run_id]
        if row.status in TERMINAL or not append.release:
            return
        unseen = any(
            message.id > append.seen and wakes(row, message.kind) for message in self.data.mailbox_of(append.run_id)
        )
        if unseen or self._has_unheard(append):
            self.data.wake(row, append.at)

    def _has_unheard(self, append: Append) -> bool:
        heard = append.heard
        return bool(heard) and any(
            event.topic in heard and event.position > heard[event.topic] for event in self.data.events.values()
        )

    def _publish(self, event: NewEvent) -> Event | None:
        self._at("published")
        published = self.data.publish(event)
        self._changed()
        return published

    def _transact(
        self,
        run_id: str,
        epoch: int,
        work: Callable[[Any], NewMessage],  # Any: as in `transact`
    ) -> Message:
        row = self.data.runs.get(run_id)
        if row is None or self._mine is None or (row.owner, row.epoch) != (self._mine.worker, epoch):
            raise Fenced(f"run {run_id} is not owned under epoch {epoch}: nothing was done for it; drop the run")
        from stepwell.stores.memory.transact import transaction  # SQLite is loaded by those who use it

        with transaction(self.data, run_id, work) as done:
            message = done.message
            known = self.data.posted.get((message.run_id, message.kind, message.name, message.key))
            if known is not None and message.key:
                done.keeps = False  # it was done before
                return known
            self._at("commit")
            posted = self._post(message)
            assert posted is not None
        return posted

    # -- small parts --------------------------------------------------------------------------------------------
    def _add_if_free(self, run: NewRun) -> RunRow:
        """Create the run, unless its id or its unique key is taken: then the row of who has it."""
        known = self.data.runs.get(run.run_id)
        if known is None and not run.takes_over:
            known = self.data.holder(run)
        if known is not None:
            return known
        self._add(run)
        return self.data.runs[run.run_id]

    def _add(self, run: NewRun) -> None:
        row = first_row(run)
        self.data.last_run += 1
        self.data.put(row)
        self.data.terms[run.run_id] = Terms(
            self.data.last_run, run.awaited, run.unique, run.unique_until, let_in_at(run)
        )
        if run.unique:
            if run.takes_over:
                self.data.free_key(run.unique)
            self.data.keys.setdefault(run.unique, []).append(run.run_id)
        self.data.journals[run.run_id] = []
        self._write(run.run_id, row.epoch, 1, run.entries, run.blobs)
        if row.status not in TERMINAL:
            self.data.waits.update({wait.id: wait for wait in run.opened})
        self._put_messages(run.messages)

    def _write(
        self, run_id: str, epoch: int, seq: int, entries: Sequence[AnyEntry], blobs: Mapping[str, bytes]
    ) -> None:
        self.data.journals[run_id] += [Stored(seq + n, epoch, entry) for n, entry in enumerate(entries)]
        for digest, body in blobs.items():
            self.data.blobs.setdefault(digest, body)

    def _wanted(self, workflows: Sequence[str]) -> list[RunRow]:
        names = frozenset(workflows)
        return [row for row in self.data.runs.values() if row.owner is None and row.workflow in names]

    def _drives(self, worker: str) -> bool:
        mine = self._mine
        return mine is not None and mine is self.data.driving and mine.worker == worker

    def _shelve(self, changes: Sequence[ShelfChange], fence: Fence | None) -> None:
        shelf.refuse_fenced(self.data, fence, None if self._mine is None else self._mine.worker)
        for point in ("rows", "commit"):
            self._at(point)
        shelf.change(self.data, changes)
        self._changed()

    def _check_owner(self, run: NewRun) -> None:
        if run.owner is not None and not self._drives(run.owner):
            raise Fenced(f"run {run.run_id}: worker {run.owner} does not drive store {self.url}")

    def _changed(self) -> None:
        self.data.changes += 1
        self._own_changes += 1

    def _at(self, point: str) -> None:
        if self._hook is not None:
            self._hook(point)

    def _check(self) -> None:
        if not self._open:
            raise StoreUnusable(f"store {self.url} is closed: open it first")

    def _done(self, change: Callable[[], T], *, fails_with: type[Exception] = StepwellError) -> asyncio.Future[T]:
        self._check()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(change())
        except fails_with as error:
            future.set_exception(error)
        return future
