"""What became of the nodes of a graph's run: for trees, for lines of people, and for the progress of a run."""

from __future__ import annotations

import asyncio

import click
import msgspec

from stepwell import Stepwell, graph_workflow, task
from stepwell.cli.parts.nodes import Nodes
from stepwell.cli.parts.nodetree import as_json, tree_lines
from stepwell.model.entries import (
    AnyEntry,
    DefinitionPatched,
    NodePassed,
    ScopeClosed,
    ScopeOpened,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.observe.telling import tell
from stepwell.observe.visits import Visits, told_first

FLOW = """
stepwell: 1
id: looked-at
nodes:
  each:
    map: {count: 3, tolerate: 1}
    do:
      work: {task: work, inputs: {n: "{{ map.index }}"}}
      big: {condition: {">": [{var: work}, 0]}}
      none: {noop: {}, needs: "big:false"}
  twice:
    loop: {for: 2}
    do: {wait: {wait: 1ms}}
    needs: each
  both: {parallel: {branches: {left: {a: {noop: {}}}, right: {b: {noop: {}}}}}, needs: twice}
  never: {noop: {}, needs: both, if: false}
"""


@task
async def work(n: int) -> int:
    if n == 1:
        raise ValueError("one is refused")
    return n


def entries_of_run() -> list[AnyEntry]:
    async def run() -> list[AnyEntry]:
        async with Stepwell("memory://") as app:
            handle = await app.start(graph_workflow(FLOW, tasks=[work]))
            await handle.result()
            return [one.entry for one in await app.entries(handle.id)]

    return asyncio.run(run())


def test_the_nodes_of_a_run_are_a_tree_of_containers_items_turns_and_branches() -> None:
    visits = Visits()
    for entry in entries_of_run():
        visits.add(entry)
    lines = [click.unstyle(line) for line in tree_lines(visits, 0)]
    bare = [line.split("  ")[0] if "ms" in line else line for line in lines]  # how long it took is left out
    assert bare[0] == "each"
    assert "map of 3, 1 failed" in lines[0]
    assert [line for line in bare if line.startswith(("├", "└"))] == [
        *("├ 1", "├ 2  failed", "└ 3"),
        *("├ 1", "└ 2"),
        *("├ left", "└ right"),
    ]
    assert "│ ├ big  → false" in lines and "  └ none  skipped" in lines
    assert any("work  failed: ValueError: one is refused" in line for line in lines)
    assert lines[-1] == "never  skipped: its condition is false"
    document = as_json(visits.root)
    assert [one["node"] for one in document] == ["each", "twice", "both", "never"]
    msgspec.json.encode(document)


def test_of_many_items_those_that_need_a_look_are_shown_and_the_others_counted() -> None:
    visits = Visits()
    visits.add(ScopeOpened(at=0, path=StepPath((), "each", 1), type="map", total=30))
    for number in range(1, 31):
        path = StepPath((("each", number),), "work", 1)
        visits.add(StepStarted(at=number, path=path))
        if number == 20:
            visits.add(StepFailed(at=number, path=path, error=Failure("ValueError", "x")))
        elif number != 25:
            visits.add(StepCompleted(at=number, path=path))
    (each,) = visits.root.visits
    chosen, rest = told_first(each.scopes, 4)
    assert [place.label for place in chosen] == ["1", "2", "20", "25"]
    assert rest == {"completed": 26}
    lines = [click.unstyle(line) for line in tree_lines(visits, 40)]
    assert lines[-1] == "└ … 25 more: 25 completed"
    assert len(tree_lines(visits, 40, everything=True)) == 61


def test_entries_of_graphs_read_well() -> None:
    path = StepPath((("each", 2),), "ask", 1)
    told = [
        tell(StepSkipped(at=0, path=path)),
        tell(StepSkipped(at=0, path=path, reason="its condition is false")),
        tell(NodePassed(at=0, path=path)),
        tell(NodePassed(at=0, path=path, ports=("true", "odd"))),
        tell(ScopeOpened(at=0, path=path, type="map", total=1200)),
        tell(ScopeClosed(at=0, path=path, ports=("error",))),
        tell(ScopeClosed(at=0, path=path)),
        tell(DefinitionPatched(at=0, digest="0123456789abcdef", by="ann", reason="late order")),
        tell(StepCompleted(at=0, path=path, port="again")),
    ]
    assert told == [
        "skipped: no path that was taken leads here",
        "skipped: its condition is false",
        "passed",
        "passed, left by true, odd",
        "map of 1,200 opened",
        "closed, left by error",
        "closed: it failed, or was cancelled",
        "nodes and edges added by ann, definition 0123456789ab: late order",
        "attempt 1 completed, left by again",
    ]


def test_the_progress_of_a_run_counts_the_nodes_of_its_own_body() -> None:
    nodes = Nodes(["each", "twice", "both", "never"])
    entries = entries_of_run()
    opened = next(number for number, one in enumerate(entries) if isinstance(one, ScopeOpened))
    for entry in entries[: opened + 1]:
        nodes.add(entry)
    assert nodes.as_json() == {"total": 4, "done": 0, "skipped": 0, "failed": [], "running": ["each"]}
    for entry in entries[opened + 1 :]:
        nodes.add(entry)
    assert nodes.as_json() == {"total": 4, "done": 3, "skipped": 1, "failed": [], "running": []}
    definition = msgspec.json.encode({"nodes": [{"id": "late"}, {"id": "each"}]})
    nodes.add(DefinitionPatched(at=0, definition=msgspec.Raw(definition)))
    assert (nodes.behind, nodes.total) == (4, 5)
