"""Which process may do it? The one that holds the lock on a side file, never on the database itself.

Closing any descriptor of a database file drops all of SQLite's locks in that process, so locks stand on files of
their own. The lock belongs to the open file: two objects in one process exclude each other, and it ends with the
process however that ends. A forked child closes its copy, so that a dead parent does not seem alive.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from pathlib import Path

from stepwell.errors import StoreUnusable

FIRST_PAUSE_SECONDS = 0.0002
LONGEST_PAUSE_SECONDS = 0.005


class FileLock:
    """An exclusive lock on a side file, held until `release`, `close` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = False
        self._descriptor = -1
        _ALL.add(self)

    def try_acquire(self) -> bool:
        """Take the lock if it is free; False when somebody else has it.

        Raises:
            StoreUnusable: the side file cannot be made or written.
        """
        if self.held:
            return True
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                raise StoreUnusable(
                    f"store lock {self.path}: cannot be opened for writing: {error.strerror}; "
                    "give this user the right to write in this folder"
                ) from error
        self.held = _try_lock(self._descriptor)
        return self.held

    def acquire(self, seconds: float) -> bool:
        """Take the lock, waiting up to so long; it blocks the thread, not for use on an event loop."""
        if self.try_acquire():
            return True
        deadline = time.monotonic() + seconds
        pause = FIRST_PAUSE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(pause)
            if self.try_acquire():
                return True
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        return False

    def release(self) -> None:
        """Let go; nothing happens when it is not held."""
        if self.held:
            self.held = False
            _unlock(self._descriptor)

    def close(self) -> None:
        """Let go and close the side file, which stays where it is: removing it would let two hold 'it' at once."""
        self.release()
        self.forget()

    def forget(self) -> None:
        """Close this process's descriptor without unlocking: after a fork the lock is the parent's."""
        descriptor, self._descriptor, self.held = self._descriptor, -1, False
        if descriptor >= 0:
            os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


_ALL: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_ALL):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
