"""Every store keeps the promises of the protocol; the suite is the one that is shipped for stores of others."""

from __future__ import annotations

from pathlib import Path

from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.stores.protocol import Store
from stepwell.stores.sqlite import SqliteStore
from stepwell.testing.conformance import StoreSuite


class TestMemoryStore(StoreSuite):
    backs_up = False

    def make_store(self) -> Store:
        shared: MemoryData = self.__dict__.setdefault("shared", MemoryData())
        return MemoryStore(shared)


class TestSqliteStore(StoreSuite):
    def make_store(self) -> Store:
        return SqliteStore(self.folder / "runs.db")

    def open_copy(self, path: Path) -> Store:
        return SqliteStore(path)


class TestSqliteStoreCommittingInline(TestSqliteStore):
    """The same on the short way that single changes take when nothing else is going on."""

    def make_store(self) -> Store:
        store = SqliteStore(self.folder / "runs.db")
        store.inline_commits = True
        return store
