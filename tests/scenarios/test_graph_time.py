"""What time is it in a graph? The journal's, so that a rebuilt run goes the same ways."""

from __future__ import annotations

from typing import Any

from stepwell import graph_workflow
from stepwell.model.entries import NodePassed
from stepwell.testing import Bench

TIMES: dict[str, Any] = {
    "stepwell": 1,
    "id": "times",
    "result": {"before": "{{ before.at }}", "after": "{{ after.at }}", "late": "{{ late }}"},
    "nodes": {
        "before": {"transform": {"value": {"at": "{{ run.now }}"}}},
        "pause": {"wait": "2h", "needs": "before"},
        "after": {"transform": {"value": {"at": "{{ run.now }}"}}, "needs": "pause"},
        "late": {"condition": {">": [{"var": "run.now"}, {"var": "before.at"}]}, "needs": "after"},
    },
}


def test_a_graph_reads_the_time_of_the_journal_before_and_after_a_crash_alike() -> None:
    with Bench([graph_workflow(TIMES)]) as bench:
        run = bench.start(graph_workflow(TIMES), {})
        bench.advance("1h")
        bench.crash()
        found: Any = run.result()
        assert found["after"][:13] > found["before"][:13]
        assert found["late"] is True
        passed = [one.entry for one in run.journal if isinstance(one.entry, NodePassed)]
        assert len(passed) == 3  # what was recomputed after the crash came to the same
