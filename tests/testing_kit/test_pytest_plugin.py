"""Does the plug-in give tests a bench, and show what happened when they fail?"""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FLOWS = """
from stepwell import ctx, task, workflow

@task
async def charge(order: str) -> str:
    raise RuntimeError("no test may reach the bank")

@workflow
async def order_flow(order: str) -> str:
    reference = await charge(order)
    await ctx.signal("approved")
    return reference
"""

TESTS = """
import pytest
from flows import charge, order_flow
from stepwell.testing import Bench, returns

@pytest.mark.bench(stubs={charge: returns("ref-1")}, at="2027-03-01T09:00:00Z")
def test_that_passes(bench):
    run = bench.start(order_flow, "o-7")
    run.signal("approved")
    assert run.result() == "ref-1"
    assert bench.now.year == 2027

@pytest.mark.bench(stubs={charge: returns("ref-1")})
def test_that_fails(bench):
    bench.start(order_flow, "o-8")
    assert False

def test_with_a_bench_of_its_own():
    with Bench(stubs={charge: returns("ref-1")}) as bench:
        bench.start(order_flow, "o-9", id="mine")
    assert False

def test_without_a_bench():
    assert False

@pytest.mark.bench(stubs={charge: returns("ref-1")})
def test_that_fails_before_its_crash_point(bench):
    bench.crash_at("nothing")
    assert False

def test_whose_crash_point_never_strikes(bench):
    bench.crash_at("chrage")

@pytest.mark.bench("2027")
def test_that_is_set_up_wrongly(bench):
    pass
"""


@pytest.fixture
def outcome(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.RunResult:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(flows=FLOWS, test_flows=TESTS)
    return pytester.runpytest_inprocess("-p", "stepwell.testing.plugin", "-p", "no:cacheprovider", "--strict-markers")


def test_each_test_has_a_bench_of_its_own(outcome: pytest.RunResult) -> None:
    outcome.assert_outcomes(passed=2, failed=4, errors=2)


def test_the_report_of_a_failed_test_shows_the_journals_of_its_runs(outcome: pytest.RunResult) -> None:
    outcome.stdout.fnmatch_lines(
        [
            "*_ test_that_fails _*",
            "*- stepwell journals -*",
            "run order_flow-1 of order_flow: waiting for signal approved",
            '  1  +0 ms  run.created * {"order":"o-8"}',
            "  5  +0 ms  wait.started    signal:approved#1  waits for signal 'approved'",
            "*_ test_with_a_bench_of_its_own _*",
            "run mine of order_flow: waiting for signal approved",
            "*_ test_without_a_bench _*",
        ]
    )
    assert outcome.stdout.str().count("- stepwell journals -") == 2


def test_a_test_that_has_failed_hears_nothing_of_its_crash_points(outcome: pytest.RunResult) -> None:
    text = outcome.stdout.str()
    assert "crash_at('chrage', 'after') never struck" in text
    assert "crash_at('nothing'" not in text.replace('bench.crash_at("nothing")', "")


def test_wrong_settings_are_refused(outcome: pytest.RunResult) -> None:
    outcome.stdout.fnmatch_lines(["*the settings of @pytest.mark.bench(…) are given by name*"])
