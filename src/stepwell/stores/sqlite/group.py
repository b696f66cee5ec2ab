"""How do many callers' changes become one transaction? By kind, many rows at a time; one by one when one does not fit.

`carry_out` runs changes together: all row updates in one or two statements, all entries in another, and so on. When
the number of rows that moved is not the number of appends, somebody was fenced: `Unequal` is raised, the caller
rolls back and runs each change by itself in a savepoint, where the one that does not fit gets its error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias
from zlib import crc32

import msgspec

from stepwell.errors import CorruptJournal, Fenced, StepwellBug, StepwellError
from stepwell.model.lifecycle import TERMINAL, Status
from stepwell.stores.protocol import Message, NewMessage
from stepwell.stores.rules import first_row, gives_up, let_in_at, wake_after
from stepwell.stores.sqlite import events, keys, posting, waits
from stepwell.stores.sqlite.batch import Batch
from stepwell.stores.sqlite.changes import Appending, Call, Change, Creation, Posting
from stepwell.stores.sqlite.rows import row_values, run_row
from stepwell.stores.sqlite.session import Session
from stepwell.stores.tables import Event, NewEvent

Hook: TypeAlias = Callable[[str], None]
Proof: TypeAlias = tuple[str, tuple[object, ...], tuple[object, ...] | None]
"""A query, its values, and the row (or that there is none) when the transaction is in the file."""


class Unequal(Exception):
    """Fewer rows moved than there are appends: one of the group does not fit."""


class Owned(msgspec.Struct, frozen=True, gc=False):
    """What the owner remembers of a run it owns: its number, and the row's columns that appends seldom change."""

    number: int
    status: Status
    sleeps: bool
    held: bool = False


Mark: TypeAlias = tuple[dict[str, "Owned | None"], int, Proof | None, bool]


class Holdings:
    """What this store object drives, and as whom; changed only by committed groups."""

    def __init__(self) -> None:
        self.worker: str | None = None
        self.generation = 0
        self.owned: dict[str, Owned] = {}

    def lost(self) -> None:
        """Forget everything: another drives."""
        self.worker = None
        self.generation = 0
        self.owned.clear()


class Group:
    """One transaction being made. `finish` must follow its commit; a group that is rolled back is thrown away."""

    def __init__(self, session: Session, holdings: Holdings, hook: Hook | None = None) -> None:
        self.session = session
        self.holdings = holdings
        self.rows_written = 0
        self.bytes_written = 0
        self.proof: Proof | None = None
        self._is_sure = False
        self._hook = hook
        self._taken: dict[str, Owned | None] = {}
        self._next_run: int | None = None
        self._checked = False
        self._after: list[Callable[[], None]] = []

    # -- the whole ----------------------------------------------------------------------------------------------
    def carry_out(self, changes: Sequence[Change]) -> None:
        """Run the changes together. Those of one run take effect in their order.

        Raises `Unequal` when one of them must be refused for its fence; refusals of posts are noted as their error.
        """
        batch = Batch()
        for change in changes:
            if isinstance(change, Call):
                self._carry(batch)
                batch = Batch()
                change.outcome = change.function(self)
            elif not batch.add(change):
                self._carry(batch)
                batch = Batch()
                batch.add(change)
        self._carry(batch)

    def carry_one(self, change: Change) -> None:
        """Run one change by itself and raise what is wrong with it."""
        try:
            if not (isinstance(change, Appending) and self._append_plain(change)):
                self.carry_out([change])
        except Unequal:
            assert isinstance(change, Appending)
            raise self._why_fenced(change) from None

    def finish(self) -> None:
        """Remember what the committed transaction took and gave up."""
        for run_id, owned in self._taken.items():
            if owned is None:
                self.holdings.owned.pop(run_id, None)
            else:
                self.holdings.owned[run_id] = owned
        for function in self._after:
            function()

    def after_commit(self, function: Callable[[], None]) -> None:
        """Have `function` called when the transaction has been committed."""
        self._after.append(function)

    def landed(self, session: Session) -> bool:
        """Whether this transaction is in the file, as another connection sees it; false when it changed nothing."""
        if self.proof is None:
            return False
        name, values, expected = self.proof
        row = session.one(name, values)
        return row == expected

    def prove(self, proof: Proof, *, sure: bool = True) -> None:
        """Choose what tells that the transaction is in the file.

        One that is not `sure`, since it may have been so before, does not take the place of one that is.
        """
        if sure or not self._is_sure:
            self.proof, self._is_sure = proof, sure

    def at(self, point: str) -> None:
        """A point at which a test may break the transaction."""
        if self._hook is not None:
            self._hook(point)

    def mark(self) -> Mark:
        """What `undo` needs to forget a change that was rolled back to a savepoint."""
        return dict(self._taken), len(self._after), self.proof, self._is_sure

    def undo(self, mark: Mark) -> None:
        """Go back to a `mark`."""
        self._taken, after, self.proof, self._is_sure = mark
        del self._after[after:]

    # -- ownership ----------------------------------------------------------------------------------------------
    def require_driving(self, worker: str | None) -> None:
        """Refuse a worker that does not drive any more; asks the file once in a transaction."""
        holdings = self.holdings
        if worker is None or holdings.worker != worker:
            raise Fenced(f"store {self.session.path}: worker {worker} does not drive it; nothing was written")
        if not self._checked:
            if self.session.one("still_driving", (holdings.generation,)) is None:
                raise Fenced(
                    f"store {self.session.path}: another process drives it since worker {worker} was silent past its "
                    "lease; nothing was written: drop its runs"
                )
            self._checked = True

    def take(self, run_id: str, owned: Owned) -> None:
        """Note that the run is owned once this commits."""
        self._taken[run_id] = owned

    def _owned(self, run_id: str) -> Owned | None:
        if run_id in self._taken:
            return self._taken[run_id]
        return self.holdings.owned.get(run_id)

    # -- the parts ----------------------------------------------------------------------------------------------
    def _carry(self, batch: Batch) -> None:
        if batch.creates:
            self.create(batch.creates)
        if batch.appends:
            self._append(list(batch.appends.values()))
        if batch.posts:
            self._post(batch.posts, strict=True)

    def create(self, creations: Sequence[Creation]) -> None:
        """Insert the runs whose ids and unique keys are free; the others get the rows of those who have them."""
        session = self.session
        known = {
            row[1]: run_row(row[1:])
            for row in session.among("runs_named", [creation.new.run_id for creation in creations])
        }
        unique = keys.Keys(session, [creation.new for creation in creations])
        fresh: list[Creation] = []
        for creation in creations:
            new = creation.new
            there = known.get(new.run_id) or unique.holder(new)
            if there is not None:
                creation.outcome = there
                continue
            if new.owner is not None:
                self.require_driving(new.owner)
            creation.outcome = known[new.run_id] = row = first_row(new)
            unique.take(new, row)
            fresh.append(creation)
        if not fresh:
            return
        if self._next_run is None:
            last = session.one("last_run")
            assert last is not None
            self._next_run = int(last[0]) + 1
        first = self._next_run
        self._next_run += len(fresh)
        numbers = range(first, self._next_run)
        unique.free()
        session.insert("insert_runs", [
            (
                number,
                *row_values(creation.outcome),
                let_in_at(creation.new),
                creation.new.awaited,
                *unique.columns(creation.new),
            )
            for number, creation in zip(numbers, fresh, strict=True)
            if creation.outcome is not None
        ])  # fmt: skip
        self.at("rows")
        self._write(fresh, numbers)
        for number, creation in zip(numbers, fresh, strict=True):
            if creation.new.owner is not None:
                self.take(creation.new.run_id, Owned(number, creation.new.status, False))
        self._begin_elsewhere(fresh, numbers)
        self.prove(("run_exists", (fresh[0].new.run_id,), (1,)))

    def _begin_elsewhere(self, creations: Sequence[Creation], numbers: Sequence[int]) -> None:
        """Give runs that began elsewhere their open waits and their messages."""
        opened = [
            (wait, number)
            for number, creation in zip(numbers, creations, strict=True)
            if creation.new.opened and creation.new.status not in TERMINAL
            for wait in creation.new.opened
        ]
        if opened:
            waits.open_for(self.session, opened)
        told = {creation.new.run_id: creation for creation in creations if creation.new.messages}
        if told:
            messages = [message for creation in told.values() for message in creation.new.messages]
            self._post([Posting(message, None) for message in messages], strict=False)
            for row in self.session.among("runs_named", list(told)):
                told[row[1]].outcome = run_row(row[1:])

    def publish(self, news: Sequence[NewEvent]) -> list[Event | None]:
        """Store events, and wake who waits for them; those that are there already give None."""
        stored = events.store(self.session, news)
        fresh = [event for event in stored if event is not None]
        if fresh:
            self.rows_written += len(fresh)
            self.bytes_written += sum(len(event.body) for event in fresh)
            self.prove(("event_exists", (fresh[-1].position,), (1,)))
            self.at("published")
        return stored

    def post(self, message: NewMessage) -> Message:
        """Post one message, which was not posted before."""
        one = Posting(message, None)
        self._post([one], strict=True)
        if one.error is not None:
            raise one.error
        assert one.outcome is not None
        return one.outcome

    def _write(self, changes: Sequence[Creation | Appending], numbers: Sequence[int]) -> None:
        """Insert the entries of runs with these numbers, and the blobs that go with them."""
        rows = [(number, *row) for number, change in zip(numbers, changes, strict=True) for row in change.rows]
        if rows:
            self.session.insert("insert_entries", rows)
            self.rows_written += len(rows)
        for change in changes:
            self.bytes_written += change.size
            blobs = change.new.blobs if isinstance(change, Creation) else change.append.blobs
            for digest, body in blobs.items():
                self.session.run("insert_blob", (digest, len(body), crc32(body), body))
        uses = [(number, digest) for number, change in zip(numbers, changes, strict=True) for digest in change.digests]
        if uses:
            self.session.insert("insert_uses", uses)
        self.at("entries")

    def _append(self, lines: Sequence[list[Appending]]) -> None:
        """Move the rows of the runs forward under their fence, then insert what belongs to them.

        Each line is the appends of one run, in order, each beginning where the one before ended.
        """
        self._move(lines)
        self.at("rows")
        appends = [appending for line in lines for appending in line]
        numbers = [self._number(appending) for appending in appends]
        self._write(appends, numbers)
        self._consume(appends, numbers)
        children = [child for appending in appends for child in appending.children]
        if children:
            self.create(children)
        self._note_waits(lines)
        published = [event for appending in appends for event in appending.append.events]
        if published:
            self.publish(published)
        posts = [Posting(message, None) for appending in appends for message in appending.append.posts]
        if posts:
            self._post(posts, strict=False)
        self._prove(lines)
        self._wake_unseen(lines)

    def _append_plain(self, change: Appending) -> bool:
        """The short way for a single append of entries to a run that just goes on; false when it is not one.

        It takes two thirds of the time, which is most of what a chain of steps costs beside the disk.
        """
        append, holdings = change.append, self.holdings
        owned = self._owned(append.run_id)
        if (
            owned is None
            or not change.plain
            or owned.sleeps
            or append.status != owned.status
            or append.wake_at is not None
        ):
            return False
        following = append.seq + len(change.rows)
        number, worker = owned.number, holdings.worker
        if not self.session.run(
            "advance_one", (following, append.at, number, append.epoch, append.seq, append.status, worker)
        ):
            raise Unequal
        self.at("rows")
        self.session.insert("insert_entries", [(number, *row) for row in change.rows])
        self.at("entries")
        self.rows_written += len(change.rows)
        self.bytes_written += change.size
        self.proof = ("run_position", (number,), (following, append.status, worker, append.at))
        return True

    def _move(self, lines: Sequence[list[Appending]]) -> None:
        going: list[tuple[object, ...]] = []
        changing: list[tuple[object, ...]] = []
        left: list[int] = []
        for line in lines:
            first, last = line[0].append, line[-1].append
            owned = self._owned(first.run_id)
            if owned is None:
                raise Unequal
            following = last.seq + len(last.entries)
            row = (owned.number, first.epoch, first.seq, following, last.status, last.at)
            ends, wake_at = gives_up(last), wake_after(last)
            progress = any(appending.append.progress for appending in line)
            if (
                owned.status == last.status
                and progress
                and not (ends or owned.sleeps)
                and wake_at is None
                and following > first.seq
                and last.finished_at is None
            ):
                going.append(row)
                continue
            changing.append((*row, wake_at, last.finished_at, ends, progress))
            self._taken[first.run_id] = Owned(owned.number, last.status, wake_at is not None, owned.held)
            if owned.held and last.status in TERMINAL:
                left.append(owned.number)
        tail = (self.holdings.worker,)
        moved = self.session.update("advance_going", going, tail) if going else 0
        moved += self.session.update("advance", changing, tail) if changing else 0
        if left:
            self.session.among("leave_queues", left)
        if moved != len(lines):
            raise Unequal

    def _prove(self, lines: Sequence[list[Appending]]) -> None:
        """What tells that appends are in the file: an entry, or else an open wait, or else a row that changed."""
        for line in lines:
            for appending in reversed(line):
                if appending.rows:
                    seq, epoch, *_ = appending.rows[-1]
                    self.prove(("entry_exists", (self._number(line[0]), seq), (epoch,)))
                    return
        last, worker = lines[0][-1].append, self.holdings.worker
        if last.opened and last.opened[-1].id not in last.closed and last.status not in TERMINAL:
            wait = last.opened[-1]
            self.prove(("open_wait_at", (wait.id,), (wait.at, wait.name, wait.body)), sure=False)
        else:
            row = (last.seq, last.status, None if gives_up(last) else worker, last.at)
            self.prove(("run_position", (self._number(lines[0][-1]),), row), sure=False)

    def _number(self, appending: Appending) -> int:
        owned = self._owned(appending.append.run_id)
        assert owned is not None
        return owned.number

    def _consume(self, appends: Sequence[Appending], numbers: Sequence[int]) -> None:
        taken = [
            (id, number, appending.append.seq)
            for number, appending in zip(numbers, appends, strict=True)
            for id in appending.append.consumed
        ]
        if taken and self.session.update("consume", taken) != len(taken):
            if len(appends) > 1:
                raise Unequal
            raise StepwellBug(
                f"run {appends[0].append.run_id} consumes messages that are not in its mailbox: "
                f"{list(appends[0].append.consumed)}"
            )

    def _note_waits(self, lines: Sequence[list[Appending]]) -> None:
        """Open and close waits, if there is one to open or close."""
        changing = [
            ([appending.append for appending in line], self._number(line[0]))
            for line in lines
            if line[-1].append.status in TERMINAL or any(one.append.opened or one.append.closed for one in line)
        ]
        if changing:
            waits.note(self.session, ((number, appends) for appends, number in changing))

    def _wake_unseen(self, lines: Sequence[list[Appending]]) -> None:
        """A run that is given up while something came that its owner was not shown is due again: no lost wake-up."""
        released, listening = [], []
        for line in lines:
            last, run_id = line[-1].append, line[-1].append.run_id
            if not gives_up(last):
                continue
            owned = self._owned(run_id)
            assert owned is not None
            if last.status not in TERMINAL:
                released.append((owned.number, last.seen, last.at))
                listening += [(owned.number, topic, heard, last.at) for topic, heard in last.heard.items()]
            self._taken[run_id] = None
        if released:
            self.session.update("wake_unseen", released)
        if listening:
            self.session.update("wake_unheard", listening)

    def _post(self, postings: Sequence[Posting], *, strict: bool) -> None:
        posted = posting.post(self.session, postings, strict=strict)
        if posted:
            self.rows_written += len(posted)
            self.bytes_written += sum(len(message.body) for message in posted)
            self.prove(("message_exists", (posted[-1].id,), (1,)))
            self.at("posted")

    def _why_fenced(self, change: Appending) -> StepwellError:
        append = change.append
        there = self.session.one("run", (append.run_id,))
        worker = self.holdings.worker
        asked = f"epoch {append.epoch}, seq {append.seq}, worker {worker}"
        if there is None:
            return Fenced(f"run {append.run_id} is not in {self.session.path}; the append under {asked} was refused")
        row = run_row(there)
        found = f"epoch {row.epoch}, seq {row.next_seq}, owner {row.owner}"
        return Fenced(f"run {append.run_id} is at {found}; the append under {asked} was refused: drop the run")


def duplicate(error: sqlite3.IntegrityError, change: Change, path: object) -> StepwellError:
    """An entry stands where the row says that the journal ends."""
    if isinstance(change, Appending):
        return CorruptJournal(
            f"run {change.append.run_id}: an entry stands at seq {change.append.seq} or later already, where its row "
            f"says that the journal ends ({error}); check store {path}"
        )
    return StepwellBug(f"store {path}: {error}")
