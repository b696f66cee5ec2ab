"""How does a transaction reach the disk, and what becomes of it when something goes wrong?

Changes are committed together when they fit together, else each by itself. No COMMIT or ROLLBACK is given blindly:
many errors of SQLite have rolled back already. An outcome that is not known is found out by reading.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final

from stepwell.errors import StoreBusy, StoreError, StoreFull
from stepwell.stores.sqlite.changes import Change
from stepwell.stores.sqlite.checkpoints import Checkpoints
from stepwell.stores.sqlite.group import Group, Holdings, Hook, duplicate
from stepwell.stores.sqlite.locks import FileLock
from stepwell.stores.sqlite.session import Session
from stepwell.stores.sqlite.trouble import is_busy, is_fsync, is_full, translated

BUSY_SECONDS: Final = 5.0
BUSY_TRIES: Final = 3

REFUSALS_FOR_ROOM: Final = 3
"""So many changes in a row without room, each by itself, and the rest of the group is not tried."""


class Committer:
    """The connection that writes. Not for two threads at once: its owner holds a lock around every call."""

    def __init__(self, session: Session, turn: FileLock, read_session: Callable[[], Session]) -> None:
        self.holdings = Holdings()
        self.hook: Hook | None = None
        self.checkpoints = Checkpoints(session)
        self.broken: StoreError | None = None
        self.session = session
        self.turn = turn
        self._connection = session.connection
        self._read_session = read_session

    def commit(self, changes: Sequence[Change]) -> None:
        """Commit the changes together if they fit together, else each by itself; every one has its outcome or error."""
        try:
            self._begin()
        except StoreError as error:
            fail(changes, error)
            return
        self._commit_begun(changes)

    def commit_at_once(self, change: Change) -> bool:
        """Commit a single change if nobody else is writing; false, and nothing done, when somebody is."""
        if self.broken is not None or not self.turn.try_acquire():
            return False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            self.turn.release()
            return False
        self._commit_begun([change])
        return True

    def shorten_log(self, how: Callable[[], None]) -> None:
        """Checkpoint in this process's turn, or not at all when another has it."""
        if self.broken is not None or not self.turn.try_acquire():
            return
        try:
            how()
        except sqlite3.Error as error:
            if is_fsync(error):
                self.broken = translated(error, self.session.path)
            # Anything else keeps its place in the log, and is tried again when more has been written.
        finally:
            self.turn.release()

    def data_version(self) -> int | None:
        """A number that differs when another connection has committed; None when it cannot be read right now."""
        try:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:  # somebody recovers the file: look again next time
            return None

    def _commit_begun(self, changes: Sequence[Change]) -> None:
        try:
            self._try_together(changes)
        except Exception as error:
            self._roll_back()
            self._note(error)
            if self.broken is not None:
                fail(changes, self.broken)
            elif len(changes) == 1:
                changes[0].error = self._explained(error, changes[0])
            else:
                self.turn.release()
                self._commit_apart(changes, in_one=not _of_the_file(error))
        except BaseException as error:
            self._roll_back()
            fail(changes, StoreError(f"store {self.session.path}: interrupted by {error!r}"))
            raise
        finally:
            self.turn.release()

    def _try_together(self, changes: Sequence[Change]) -> None:
        group = Group(self.session, self.holdings, self.hook)
        if len(changes) == 1:
            group.carry_one(changes[0])
        else:
            group.carry_out(changes)
        self._end(group)

    def _commit_apart(self, changes: Sequence[Change], *, in_one: bool) -> None:
        """Run each change by itself, so that only those that are wrong get an error.

        In one transaction with savepoints; or in a transaction each, after trouble with the file, until it is clear
        that there is no room for any.
        """
        for change in changes:
            change.outcome, change.error = None, None
        if in_one and self._commit_in_savepoints(changes):
            return
        without_room = 0
        for place, change in enumerate(changes):
            change.outcome, change.error = None, None
            self.commit([change])
            without_room = without_room + 1 if isinstance(change.error, StoreFull) else 0
            if self.broken is not None or without_room == REFUSALS_FOR_ROOM:
                error = self.broken or change.error
                assert error is not None
                fail(changes[place + 1 :], error)
                return

    def _commit_in_savepoints(self, changes: Sequence[Change]) -> bool:
        """False when the transaction as a whole failed, after which nothing of it is in the file."""
        execute = self._connection.execute
        try:
            self._begin()
            group = Group(self.session, self.holdings, self.hook)
            for change in changes:
                mark = group.mark()
                execute("SAVEPOINT stepwell_change")
                try:
                    group.carry_one(change)
                except Exception as error:
                    if _of_the_file(error):
                        raise
                    execute("ROLLBACK TO stepwell_change")
                    group.undo(mark)
                    change.error = self._explained(error, change)
                execute("RELEASE stepwell_change")
            self._end(group)
        except Exception as error:
            self._roll_back()
            self._note(error)
            return False
        finally:
            self.turn.release()
        return True

    def _begin(self) -> None:
        """Begin a transaction that may write, waiting for other processes.

        Raises:
            StoreBusy: another process kept the file locked all the time.
        """
        if self.broken is not None:
            raise self.broken
        for _ in range(BUSY_TRIES):
            # The side file makes it fair: SQLite's own waiting lets one writer starve another.
            if not self.turn.acquire(BUSY_SECONDS):
                continue
            try:
                if self._wait_to_begin():
                    return
            except sqlite3.Error as error:
                self.turn.release()
                raise translated(error, self.session.path) from error
            self.turn.release()
        raise StoreBusy(
            f"store {self.session.path}: another process kept it locked for {BUSY_SECONDS * BUSY_TRIES:g} seconds; "
            "nothing was written: see who has the file open, and whether it is frozen"
        )

    def _wait_to_begin(self) -> bool:
        """Begin although somebody who does not know of the side file may have the lock."""
        deadline = time.monotonic() + BUSY_SECONDS
        pause = 0.001
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise
                if time.monotonic() > deadline:
                    return False
                time.sleep(pause)
                pause = min(pause * 2, 0.02)
            else:
                return True

    def _end(self, group: Group) -> None:
        """Commit. When that fails, find out by reading whether it has happened all the same."""
        group.at("commit")
        try:
            self._connection.execute("COMMIT")
            group.at("committed")
        except sqlite3.Error as error:
            if is_fsync(error) or self._connection.in_transaction or not self._landed(group):
                raise
        self.checkpoints.wrote(group.rows_written, group.bytes_written)
        group.finish()

    def _landed(self, group: Group) -> bool:
        """Whether the transaction is in the file. If even that cannot be read, nothing more is promised."""
        session = None
        try:
            session = self._read_session()
            return group.landed(session)
        except sqlite3.Error as error:
            self.broken = StoreError(
                f"store {self.session.path}: cannot tell whether a commit succeeded: {error}; "
                "this store object stops for good: start the process again"
            )
            raise self.broken from error
        finally:
            if session is not None:
                session.connection.close()

    def _roll_back(self) -> None:
        # Many errors have rolled back already, and a second ROLLBACK would be an error of its own.
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self.broken = translated(error, self.session.path)

    def _note(self, error: Exception) -> None:
        if isinstance(error, sqlite3.Error) and is_full(error):
            self.checkpoints.hurry()
        if isinstance(error, sqlite3.Error) and is_fsync(error):
            self.broken = translated(error, self.session.path)

    def _explained(self, error: Exception, change: Change) -> Exception:
        if isinstance(error, sqlite3.IntegrityError):
            return duplicate(error, change, self.session.path)
        if isinstance(error, sqlite3.Error):
            return translated(error, self.session.path)
        return error


def fail(changes: Sequence[Change], error: BaseException) -> None:
    """Give all these changes the same error."""
    for change in changes:
        change.outcome, change.error = None, error


def _of_the_file(error: Exception) -> bool:
    """Trouble with the file, and not with what a change asked for."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError)
