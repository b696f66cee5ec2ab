"""A store's URL begins with the store's name; the name is looked up among the stores that are there, never imported.

A store is a module or package of `stepwell.stores` with a function `from_url(url: str) -> Store`, or the same thing
registered by another distribution under the entry point group `stepwell.stores`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast

from stepwell.errors import StoreUnusable
from stepwell.stores.protocol import Store

FromUrl: TypeAlias = Callable[[str], Store]

ENTRY_POINTS = "stepwell.stores"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+._-]+)://")
"""At least two letters before the colon, so that `C:\\runs.db` is a path."""


def open_store(url: str) -> Store:
    """Return the store at `url`; nothing is touched before its `open`.

    `sqlite:///relative.db`, `sqlite:////absolute.db` and a plain path name a SQLite file; `memory://` is a store
    that ends with the process.

    Raises:
        StoreUnusable: the URL names no store that is installed, or one that cannot be at such a place.
    """
    scheme = _SCHEME.match(url)
    name = scheme[1].lower() if scheme else "sqlite"
    found = _own(name) or _installed(name)
    if found is None:
        known = ", ".join(f"{one}://" for one in known_stores())
        raise StoreUnusable(
            f"store {url!r}: nothing here is called {name!r}; use one of {known}, or the path of a file"
        )
    return found(url)


def known_stores() -> list[str]:
    """The names that a store's URL may begin with, in alphabetical order."""
    own = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if _own(module.name)}
    from importlib import metadata  # slow to load, and only for stores that others wrote

    return sorted(own | {point.name for point in metadata.entry_points(group=ENTRY_POINTS)})


def _own(name: str) -> FromUrl | None:
    if name not in {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}:
        return None
    module = importlib.import_module(f"stepwell.stores.{name}")
    return cast(FromUrl | None, getattr(module, "from_url", None))  # a module's attribute has no type


def _installed(name: str) -> FromUrl | None:
    from importlib import metadata

    for point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        return cast(FromUrl, point.load())  # an entry point's target has no type
    return None
