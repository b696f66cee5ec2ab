"""What holds for every test."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """The tests themselves are no garbage: thousands of them made each collection, asked for or not, take a second."""
    gc.collect()
    gc.freeze()
