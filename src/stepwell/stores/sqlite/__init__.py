"""A store in one SQLite file: one writer thread, durable commits in groups, readers beside it."""

from stepwell.stores.sqlite.store import SqliteStore, from_url

__all__ = ["SqliteStore", "from_url"]
