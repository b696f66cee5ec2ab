"""A store that ends with the process."""

from stepwell.stores.memory.content import MemoryData
from stepwell.stores.memory.store import MemoryStore, from_url

__all__ = ["MemoryData", "MemoryStore", "from_url"]
