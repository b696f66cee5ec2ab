"""What the label of a run says about where its graph and its tasks are."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwell.cli.parts.graphs import file_in, is_graph_label, label_of, tasks_in


@pytest.mark.parametrize(
    ("label", "is_graph", "file", "tasks"),
    [
        ("/shop/flow.yaml", True, "/shop/flow.yaml", ()),
        ("/my shop/flow.json --tasks /my shop/tasks.py", True, "/my shop/flow.json", ("/my shop/tasks.py",)),
        ("numbers", True, None, ()),
        ("numbers --tasks shop.tasks --tasks /a.py:fetch", True, None, ("shop.tasks", "/a.py:fetch")),
        ("/shop/flows.py:main", False, None, ()),
        ("shop.flows:main", False, None, ()),
        (r"C:\shop\flows.py:main", False, None, ()),
    ],
)
def test_a_label_tells_graphs_from_functions_and_has_all_places(
    label: str, is_graph: bool, file: str | None, tasks: tuple[str, ...]
) -> None:
    assert is_graph_label(label) is is_graph
    assert tasks_in(label) == tasks
    if is_graph:
        assert file_in(label) == (None if file is None else Path(file))
        assert label_of(label.split(" --tasks ")[0], tasks) == label
