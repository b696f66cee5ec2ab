"""Where journals live: the protocol, and one file per store. `open_store(url)` finds the file by the URL's scheme."""

from stepwell.stores.opening import open_store

__all__ = ["open_store"]
