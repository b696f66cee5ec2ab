"""Who may use a thing, and who may change it? Several share a lock on its side file, or one has it alone.

The lock belongs to the open file and ends with its process, however that ends. On Windows nothing is shared: there a
program that is running cannot be removed anyway.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


class Hold:
    """A lock that is held on a side file; `take` one, and `release` it.

    A process that was given its `descriptor` goes on holding it, should this one die.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, shared: bool) -> Hold | None:
        """Take the lock; None when somebody else has it and this one wants it alone.

        To share it blocks the thread until whoever has it alone lets go: a build that is about to end, or a removal.

        Raises:
            OSError: the side file cannot be made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _lock(descriptor, shared):
                os.close(descriptor)
                return None
            if _is_there(path, descriptor):
                return cls(path, descriptor)
            os.close(descriptor)  # whoever had it has removed the file: what was locked is no lock any more

    def release(self, *, remove: bool = False) -> None:
        """Let go, once; with `remove` the side file goes too, for which it must be held alone."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self.descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, shared: bool) -> bool:
        if shared:
            return True
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int, shared: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
