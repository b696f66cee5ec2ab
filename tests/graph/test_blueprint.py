"""Is a definition drawn with all its nodes, edges and boxes, and a run's way through it as it went?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stepwell.graph.definition import BodyDef, Definition, EdgeDef, NodeDef
from stepwell.graph.parse import load
from stepwell.model.entries import (
    AnyEntry,
    DefinitionPatched,
    NodePassed,
    RunFailed,
    RunUpgraded,
    ScopeClosed,
    ScopeOpened,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    WaitStarted,
    WaitTimedOut,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.nodes.registry import NodeTypes
from stepwell.observe.blueprint import blueprint
from stepwell.observe.diagram import dot, mermaid
from stepwell.observe.picture import Picture
from stepwell.observe.sketch import plain, sketch
from stepwell.observe.trail import Trail

TYPES = NodeTypes.standard()

FLOW = """
stepwell: 1
id: shop
title: Choose products
triggers: [{schedule: "0 6 * * *"}]
nodes:
  list: {task: list_products, retry: {attempts: 5}}
  each:
    needs: list
    map: "{{ list.urls }}"
    do:
      page: {task: fetch}
      image: {task: resize, needs: page, if: "{{ page.ok }}"}
  check: {condition: {">": [{var: each.total}, 3]}, needs: each}
  review: {human: {prompt: "Publish?"}, needs: "check:true"}
  few: {noop: {}, needs: "check:false"}
  rescue: {log: "oops", needs: ["list:error", "each:error"]}
"""

TRIES = """
stepwell: 1
id: tries
nodes:
  safe:
    type: try
    with:
      do: {a: {noop: {}}}
      catch: [{errors: [ValueError], as: err, do: {c: {log: "oops"}}}]
      finally: {d: {noop: {}}}
  pay: {task: pay, needs: safe, compensate: {refund: {task: refund}}}
  again: {condition: true, needs: pay}
edges: [{from: again, port: "true", to: safe, back: true, max_visits: 3}]
"""


def drawn(text: str, entries: Sequence[AnyEntry] | None = None, status: str = "") -> Picture:
    trail = None
    if entries is not None:
        trail = Trail()
        for entry in entries:
            trail.add(entry)
    return blueprint(load(text, TYPES), trail, status=status)


def ids(picture: Picture) -> dict[str, str]:
    return {node.label: node.id for node in picture.nodes if node.label}


def edges(picture: Picture) -> set[tuple[str, str]]:
    """Edges by the labels of nodes, joins left out."""
    names = {node.id: node.label for node in picture.nodes}
    follows: dict[str, list[str]] = {}
    for source, target in picture.edges:
        follows.setdefault(source, []).append(target)

    def ends(id: str) -> list[str]:
        return [names[id]] if names[id] else [end for inner in follows.get(id, ()) for end in ends(inner)]

    return {
        (names[source], end)
        for source in follows
        if names[source]
        for target in follows[source]
        for end in ends(target)
    }


def at(*scope: tuple[str, int], name: str, occurrence: int = 1) -> StepPath:
    return StepPath(scope, name, occurrence)


# -- the definition ---------------------------------------------------------------------------------------------------


def test_each_edge_of_a_definition_is_drawn_containers_from_their_head_to_their_end() -> None:
    assert edges(drawn(FLOW)) == {
        ("shop", "list"),
        ("list", "each"),
        ("each", "page"),
        ("page", "image"),
        ("image", "check"),
        ("image", "rescue"),
        ("check", "review"),
        ("check", "few"),
        ("list", "rescue"),
        ("review", "end"),
        ("few", "end"),
        ("rescue", "end"),
    }


def test_edges_lead_forwards_in_the_order_of_the_nodes_and_those_that_lead_back_stand_apart() -> None:
    for text in (FLOW, TRIES):
        picture = drawn(text)
        place = {node.id: number for number, node in enumerate(picture.nodes)}
        assert all(place[source] < place[target] for source, target in picture.edges)
    names = ids(picture)
    assert picture.backs == [(names["again"], names["safe"])]
    assert picture.labels[picture.backs[0]] == "true again ≤3"


def test_ports_other_than_out_stand_on_their_edges() -> None:
    picture = drawn(FLOW)
    names = ids(picture)
    assert picture.labels[names["check"], names["few"]] == "false"
    assert picture.labels[names["check"], names["review"]] == "true"
    assert picture.labels[names["list"], names["rescue"]] == "error"
    assert (names["shop"], names["list"]) not in picture.labels


def test_a_container_is_a_box_around_what_is_in_it() -> None:
    picture = drawn(FLOW)
    [box] = picture.groups
    assert box.label == "each: map"
    assert {node.label for node in picture.nodes if node.group == box.id} == {"each", "page", "image", ""}


def test_the_bodies_of_a_try_stand_in_their_order_and_say_what_they_are_for() -> None:
    picture = drawn(TRIES)
    assert [group.label for group in picture.groups] == ["safe: try", "do", "catch.0", "finally", "compensate pay"]
    names = ids(picture)
    labels = set(picture.labels.values())
    assert {"catch ValueError", "finally", "compensate"} <= labels
    assert picture.labels[names["pay"], names["refund"]] == "compensate"
    assert ("pay", "refund") in edges(picture)


def test_a_node_says_what_it_does_and_what_is_special_about_it() -> None:
    told = {node.label: node.details for node in drawn(FLOW).nodes}
    assert told["shop"] == ["Choose products", "schedule 0 6 * * *"]
    assert told["list"] == ["task list_products", "5 attempts"]
    assert told["each"] == ["map {{ list.urls }}"]
    assert told["image"] == ["task resize", "if {{ page.ok }}"]
    assert told["review"] == ["human Publish?"]


def test_definitions_are_written_as_mermaid_and_dot() -> None:
    names = ids(drawn(FLOW))
    text = mermaid(drawn(FLOW))
    assert text.startswith("flowchart TD\n")
    assert 'subgraph g1["each: map"]' in text
    assert f'{names["check"]} -->|"false"| {names["few"]}' in text
    assert f'{names["check"]}{{"check' in text
    text = dot(drawn(TRIES))
    assert text.startswith('digraph "tries" {')
    assert 'label="true again ≤3", style=dashed, constraint=false' in text
    assert text.count("{") == text.count("}")


def test_definitions_are_drawn_on_a_terminal_and_in_ascii() -> None:
    rows = sketch(drawn(FLOW))
    assert [row.node.label for row in rows if row.node is not None and row.node.label][:4] == [
        "shop",
        "list",
        "each",
        "page",
    ]
    assert all(plain(row.lanes).isascii() for row in rows)


def test_a_definition_with_cycles_that_nothing_marks_is_drawn_all_the_same() -> None:
    nodes = {name: NodeDef(id=name, type="noop") for name in "abc"}
    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "c"), ("c", "nowhere")]
    body = BodyDef(nodes=nodes, edges=tuple(EdgeDef(source=one, target=other) for one, other in pairs))
    picture = blueprint(Definition(id="round", body=body))
    assert {node.label for node in picture.nodes} >= {"a", "b", "c"}
    assert len(picture.backs) == 2


def test_a_chain_of_many_nodes_is_drawn_without_recursion() -> None:
    nodes = {f"n{n}": NodeDef(id=f"n{n}", type="noop") for n in range(5000)}
    links = tuple(EdgeDef(source=f"n{n}", target=f"n{n + 1}") for n in range(4999))
    picture = blueprint(Definition(id="long", body=BodyDef(nodes=nodes, edges=links)))
    assert len(picture.nodes) == 5002 and len(sketch(picture)) == 5002


def test_an_empty_body_is_a_line_from_beginning_to_end() -> None:
    assert edges(blueprint(Definition(id="empty"))) == {("empty", "end")}


# -- the way of a run -------------------------------------------------------------------------------------------------

WALKED: list[AnyEntry] = [
    StepStarted(at=1, path=at(name="list")),
    StepFailed(at=2, path=at(name="list"), error=Failure("E", "busy"), retry_at=3),
    StepStarted(at=3, path=at(name="list"), attempt=2),
    StepCompleted(at=4, path=at(name="list"), attempt=2),
    ScopeOpened(at=4, path=at(name="each"), type="map", total=2),
    StepStarted(at=5, path=at(("each", 1), name="page")),
    StepStarted(at=5, path=at(("each", 2), name="page")),
    StepCompleted(at=6, path=at(("each", 1), name="page")),
    StepSkipped(at=6, path=at(("each", 1), name="image"), reason="its condition is false"),
    StepCompleted(at=7, path=at(("each", 2), name="page")),
    StepStarted(at=7, path=at(("each", 2), name="image")),
    StepCompleted(at=8, path=at(("each", 2), name="image")),
    ScopeClosed(at=8, path=at(name="each"), ports=("out",)),
    NodePassed(at=8, path=at(name="check"), ports=("true",)),
    StepSkipped(at=8, path=at(name="few")),
    StepSkipped(at=8, path=at(name="rescue")),
    WaitStarted(at=8, path=at(name="review"), wait="input"),
]


def test_each_node_shows_what_became_of_it() -> None:
    picture = drawn(FLOW, WALKED, status="waiting")
    status = {node.label: node.status for node in picture.nodes if node.label}
    assert status == {
        "shop": "completed",
        "list": "completed",
        "each": "completed",
        "page": "completed",
        "image": "completed",
        "check": "completed",
        "review": "waiting",
        "few": "skipped",
        "rescue": "skipped",
        "waiting": "waiting",
    }
    told = {node.label: node.details for node in picture.nodes}
    assert told["list"][-1] == "1 retry"
    assert told["page"][-1] == "2 completed"
    assert told["image"][-1] == "1 completed, 1 skipped"


def test_the_edges_that_were_taken_are_known() -> None:
    picture = drawn(FLOW, WALKED)
    assert picture.taken is not None
    names = {node.id: node.label for node in picture.nodes}
    taken = {(names[source], names[target]) for source, target in picture.taken}
    assert {("shop", "list"), ("list", "each"), ("check", "review")} <= taken
    assert not {("check", "few"), ("list", "rescue")} & taken
    assert "==>" in mermaid(picture) and "penwidth=2" in dot(picture)


def test_without_a_run_nothing_is_taken_and_nothing_has_a_status() -> None:
    picture = drawn(FLOW)
    assert picture.taken is None
    assert {node.status for node in picture.nodes} == {""}


@pytest.mark.parametrize("again", ["", "#2"])
def test_nodes_in_the_bodies_of_a_container_are_found_however_often_it_ran(again: str) -> None:
    entries = [
        ScopeOpened(at=1, path=at(name="safe", occurrence=2), type="try"),
        NodePassed(at=2, path=at((f"safe{again}.do", 1), name="a")),
        NodePassed(at=3, path=at((f"safe{again}.catch.0", 1), name="c")),
        NodePassed(at=4, path=at((f"safe{again}.finally", 1), name="d")),
    ]
    status = {node.label: node.status for node in drawn(TRIES, entries).nodes}
    assert (status["a"], status["c"], status["d"], status["safe"]) == (*["completed"] * 3, "running")


def test_a_failed_step_shows_its_error_and_a_late_wait_its_time_limit() -> None:
    entries: list[AnyEntry] = [
        StepStarted(at=1, path=at(name="list")),
        StepFailed(at=2, path=at(name="list"), error=Failure("ValueError", "no such shop")),
        WaitStarted(at=2, path=at(name="review"), wait="input"),
        WaitTimedOut(at=3, path=at(name="review")),
        RunFailed(at=4, error=Failure("ValueError", "no such shop")),
    ]
    picture = drawn(FLOW, entries)
    nodes = {node.label: node for node in picture.nodes}
    assert nodes["list"].status == "failed" and "no such shop" in nodes["list"].details[-1]
    assert nodes["review"].status == "timed_out"
    assert nodes["failed"].kind == "end"


def test_a_trail_knows_the_version_and_the_patch_that_hold_last() -> None:
    trail = Trail()
    trail.add(DefinitionPatched(at=1, digest="d1"))
    assert trail.patch is not None and trail.patch.digest == "d1"
    trail.add(RunUpgraded(at=2, version="2+abc"))
    assert (trail.version, trail.patch) == ("2+abc", None)
