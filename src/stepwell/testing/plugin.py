"""The pytest plug-in: a `bench` for each test that asks for one, and journals in the report of a test that fails.

pytest finds it by itself where Stepwell is installed (entry point `stepwell` of the group `pytest11`). It loads no
engine for tests that do not use one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from stepwell.testing.watching import Shown, opened

if TYPE_CHECKING:
    from stepwell.testing.kit import Bench

SECTION = "stepwell journals"
"""The title of the section in a failed test's report."""

_SHOWN = pytest.StashKey[list[Shown]]()
_FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for `--strict-markers`."""
    config.addinivalue_line("markers", "bench(**settings): what the `bench` fixture gives to stepwell.testing.Bench")


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A `stepwell.testing.Bench` of the test's own, open while the test runs.

    `@pytest.mark.bench(stubs={charge: returns("ref-1")}, at="2027-03-01T09:00:00Z")` sets it up.
    """
    from stepwell.testing.kit import Bench

    marker = request.node.get_closest_marker("bench")
    if marker is not None and marker.args:
        raise pytest.UsageError(f"{request.node.nodeid}: the settings of @pytest.mark.bench(…) are given by name")
    made = Bench(**(marker.kwargs if marker is not None else {}))
    made.open()
    yield made
    if request.node.stash.get(_FAILED, False):
        made.abandon()
    else:
        made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Note which benches the test opens, with or without the fixture."""
    benches: list[Shown] = []
    item.stash[_SHOWN] = benches
    token = opened.set(benches)
    try:
        return (yield)
    finally:
        opened.reset(token)
        del item.stash[_SHOWN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the journals to the report of a failed test."""
    report = yield
    item.stash[_FAILED] = report.failed
    shown = [text for bench in item.stash.get(_SHOWN, []) if report.failed and (text := bench.report())]
    if shown:
        report.sections.append((SECTION, "\n\n".join(shown)))
    return report
