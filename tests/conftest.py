"""What holds for every test."""

from __future__ import annotations

import gc

import pytest


def pytest_collection_finish() -> None:
    """The tests themselves are no garbage: thousands of them made each collection, asked for or not, take long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def young_heap() -> None:
    """For tests that collect garbage: what others have left in memory is not gone through each time."""
    gc.collect()
    gc.freeze()
