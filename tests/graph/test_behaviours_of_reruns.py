"""What is done again, and what is taken over, when a run of a graph begins again at one of its nodes."""

from __future__ import annotations

from typing import Any

import pytest
from playing import Attempt, Played, breaks, lasts, pattern, play

from stepwell.errors import ArgumentError, RequestRefused

SIBLINGS = """
stepwell: 1
id: siblings
nodes:
  a: {task: a}
  b: {task: b, needs: a}
  c: {task: c, needs: a}
  d: {task: d, needs: b}
  e: {task: e, needs: [c, d], inputs: {c: "{{ c }}", d: "{{ d }}"}}
  alone: {task: alone}
"""

CHOICE = """
stepwell: 1
id: choice
nodes:
  ask: {task: ask}
  way: {condition: "{{ ask }}", needs: ask, next: {"true": yes_part, "false": no_part}}
  yes_part: {task: yes_part}
  no_part: {task: no_part}
  last: {task: last, needs: [yes_part, no_part]}
"""

LOOP = """
stepwell: 1
id: looped
nodes:
  before: {task: before}
  rounds:
    loop: {for: 3}
    needs: before
    do:
      act: {task: act, inputs: {i: "{{ loop.iteration }}", last: "{{ loop.last ?? 'none' }}"}}
      then: {task: then, needs: act}
  last: {task: last, needs: rounds, inputs: {all: "{{ rounds.results }}"}}
"""

MAP = """
stepwell: 1
id: mapped
nodes:
  list: {task: list}
  each:
    map: "{{ list }}"
    needs: list
    do:
      act: {task: act, inputs: {what: "{{ item }}"}}
      then: {task: then, needs: act, inputs: {what: "{{ item }}"}}
  last: {task: last, needs: each, inputs: {all: "{{ each.results }}"}}
"""


CHANGED = """
stepwell: 1
id: siblings
nodes:
  a: {task: a}
  c: {task: c, needs: a}
  d: {task: better_d, needs: a}
  e: {task: e, needs: [c, d], inputs: {c: "{{ c }}", d: "{{ d }}"}}
  f: {task: f, needs: e}
  alone: {task: alone}
"""


def again(
    graph: Any, node: str, tasks: dict[str, Any] | None = None, *, changed: str = "", **more: Any
) -> tuple[Played, list[Attempt]]:
    """Play a graph to its end, begin again at a node, and give what was done the second time."""

    async def rerun(app: Any, id: str) -> None:
        version = (await app.deploy(changed)).digest if changed else ""
        await app.rerun_from(id, node, new_id="again", version=version)

    def begin(run: Played) -> None:
        run.bench.verb(rerun(run.bench.app, run.run.id), None)

    played = play(graph, tasks, then=[("1h", begin)], until="2h", **more)
    return played, [attempt for attempt in played.attempts if attempt.run == "again"]


def names(attempts: list[Attempt]) -> list[str]:
    return sorted(attempt.task for attempt in attempts)


@pytest.mark.parametrize(
    ("node", "done"),
    [
        ("a", ["a", "b", "c", "d", "e"]),
        ("b", ["b", "d", "e"]),
        ("c", ["c", "e"]),
        ("d", ["d", "e"]),
        ("e", ["e"]),
        ("alone", ["alone"]),
    ],
)
def test_a_node_and_all_that_follows_it_is_done_again_and_nothing_beside_it(node: str, done: list[str]) -> None:
    played, attempts = again(SIBLINGS, node)
    assert names(attempts) == done
    assert played.bench.handle("again").status == "completed"


def test_what_is_done_again_has_the_old_outputs_of_what_is_not() -> None:
    _, attempts = again(SIBLINGS, "d", {"c": ["old c", "new c"], "d": ["old d", "new d"]})
    assert attempts[-1].inputs == {"c": "old c", "d": "new d"}


def test_a_choice_that_is_made_again_may_go_the_other_way() -> None:
    played, attempts = again(CHOICE, "ask", {"ask": [True, False]})
    assert names(attempts) == ["ask", "last", "no_part"]
    assert [attempt.task for attempt in played.attempts if attempt.run != "again"] == ["ask", "yes_part", "last"]


def test_a_choice_that_is_taken_over_stays_as_it_was() -> None:
    _, attempts = again(CHOICE, "last", {"ask": [True, False]})
    assert names(attempts) == ["last"]


def test_a_node_that_was_skipped_is_skipped_again() -> None:
    played, attempts = again(CHOICE, "no_part", {"ask": True})
    assert names(attempts) == ["last"]
    assert played.bench.handle("again").status == "completed"


def test_a_loop_as_a_whole_begins_again_with_its_first_iteration() -> None:
    _, attempts = again(LOOP, "rounds")
    assert names(attempts) == ["act"] * 3 + ["last"] + ["then"] * 3


@pytest.mark.parametrize(
    ("node", "order", "results"),
    [
        ("rounds:1/act", ["act", "then", "act", "then", "act", "then", "last"], [10, 20, 30]),
        ("rounds:2/act", ["act", "then", "act", "then", "last"], [1, 10, 20]),
        ("rounds:2/then", ["then", "act", "then", "last"], [1, 10, 20]),
        ("rounds:3/then", ["then", "last"], [1, 2, 10]),
    ],
)
def test_an_iteration_begins_again_and_those_before_it_are_kept(
    node: str, order: list[str], results: list[int]
) -> None:
    _, attempts = again(LOOP, node, {"then": [1, 2, 3, 10, 20, 30]})
    assert [attempt.task for attempt in attempts] == order
    assert attempts[-1].inputs == {"all": results}


@pytest.mark.parametrize(
    ("node", "order", "what"),
    [("each:2/act", ["act", "then", "last"], "b"), ("each:3/then", ["then", "last"], "c")],
)
def test_an_item_begins_again_and_the_others_are_kept(node: str, order: list[str], what: str) -> None:
    _, attempts = again(MAP, node, {"list": lambda: ["a", "b", "c"], "then": lambda what: what.upper()})
    assert [attempt.task for attempt in attempts] == order
    assert {attempt.inputs["what"] for attempt in attempts[:-1]} == {what}
    assert attempts[-1].inputs == {"all": ["A", "B", "C"]}


def test_a_map_begins_again_with_the_items_that_its_source_gives_now() -> None:
    _, attempts = again(MAP, "list", {"list": [["a", "b"], ["x"]], "then": lambda what: what.upper()})
    assert [attempt.task for attempt in attempts] == ["list", "act", "then", "last"]
    assert attempts[-1].inputs == {"all": ["X"]}


def test_a_run_that_failed_begins_again_before_what_failed() -> None:
    played, attempts = again(SIBLINGS, "b", {"d": [breaks(), lasts(1)]})
    assert played.status == "failed"
    assert names(attempts) == ["b", "d", "e"]
    assert played.bench.handle("again").status == "completed"


def test_a_cycle_begins_again_at_its_first_time_round() -> None:
    _, attempts = again(
        pattern(10),
        "review",
        {"review": ["rewrite", "accept", "no"]},
        input={"has_draft": True},
    )
    assert [attempt.task for attempt in attempts] == ["review", "shelve"]


@pytest.mark.parametrize(("node", "done"), [("d", ["better_d", "e", "f"]), ("e", ["e", "f"]), ("f", ["f"])])
def test_a_run_begins_again_under_another_version_with_what_both_have(node: str, done: list[str]) -> None:
    played, attempts = again(SIBLINGS, node, changed=CHANGED, others=[CHANGED])
    assert names(attempts) == done
    assert played.bench.handle("again").status == "completed"


def test_the_first_run_is_left_as_it_was() -> None:
    played, _ = again(SIBLINGS, "a")
    before = [attempt for attempt in played.attempts if attempt.run != "again"]
    assert len(before) == 6
    assert played.status == "completed"
    assert max(stored.entry.at for stored in played.run.journal) - played.run.state.created_at == 4_000_000


@pytest.mark.parametrize("node", ["nowhere", "rounds:1/nowhere", "before:1/act"])
def test_what_is_no_node_of_the_run_is_refused(node: str) -> None:
    with pytest.raises((ArgumentError, RequestRefused)):
        again(LOOP, node)
