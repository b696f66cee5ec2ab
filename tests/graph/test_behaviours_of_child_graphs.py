"""Graphs that start graphs: what a parent sees of its child's end, and what becomes of a child when its parent ends."""

from __future__ import annotations

from playing import Played, breaks, lasts, play

CHILD = """
stepwell: 1
id: child
input: {type: object, properties: {n: {type: integer}}}
nodes:
  work: {task: work, inputs: {n: "{{ input.n }}"}}
result: {n: "{{ input.n }}", got: "{{ work }}"}
"""


def test_a_child_is_given_its_input_and_gives_its_result() -> None:
    played = play(
        """
        stepwell: 1
        id: parent
        nodes:
          start: {workflow: child, inputs: {n: 5}}
          last: {task: last, needs: start, inputs: {got: "{{ start.got }}"}}
        """,
        {"work": lasts(3, lambda n: n * 2)},
        others=[CHILD],
    )
    assert played.inputs("last") == [{"got": 10}]
    assert played.began("last") == [3]
    assert [child.status for child in played.run.children] == ["completed"]


def test_a_child_that_fails_is_a_failure_of_its_node() -> None:
    played = play(
        """
        stepwell: 1
        id: parent
        nodes:
          start: {workflow: child, inputs: {n: 5}}
          good: {task: good, needs: start}
          sorry: {task: sorry, needs: "start:error"}
        """,
        {"work": breaks()},
        others=[CHILD],
    )
    assert played.order == ["work", "sorry"]
    assert played.status == "completed"


def test_a_child_for_each_item_in_a_sliding_window() -> None:
    played = play(
        """
        stepwell: 1
        id: parent
        nodes:
          each:
            map: [1, 2, 3]
            concurrency: 2
            do: {start: {workflow: child, inputs: {n: "{{ item }}"}}}
        result: "{{ each.results }}"
        """,
        {"work": [lasts(5), lasts(1), lasts(1)]},
        others=[CHILD],
    )
    assert played.began("work") == [0, 0, 1]
    assert [one["n"] for one in played.result] == [1, 2, 3]


def test_a_child_is_cancelled_with_the_node_that_waits_for_it() -> None:
    played = play(
        """
        stepwell: 1
        id: parent
        nodes:
          start: {workflow: child, inputs: {n: 5}}
          stop: {wait: 2s, cancels: [start]}
          last: {task: last, needs: [start, stop]}
        """,
        {"work": lasts(60)},
        others=[CHILD],
        until="10s",
    )
    assert played.how("work") == ["cancelled"]
    assert [child.status for child in played.run.children] == ["cancelled"]
    assert played.began("last") == [2]


def test_a_child_that_is_to_be_left_alone_outlives_its_parent() -> None:
    played = play(
        """
        stepwell: 1
        id: parent
        nodes:
          start: {workflow: child, on_cancel: abandon, inputs: {n: 5}}
        """,
        {"work": lasts(60)},
        others=[CHILD],
        then=[("5s", lambda run: run.run.cancel())],
        until="2m",
    )
    assert played.status == "cancelled"
    assert played.how("work") == ["done"]
    assert [child.status for child in played.run.children] == ["completed"]


def test_a_child_that_nobody_waits_for_goes_on_beside_its_parent() -> None:
    played = play(
        """
        stepwell: 1
        id: parent
        nodes:
          start: {workflow: child, wait: false, inputs: {n: 5}}
          last: {task: last, needs: start}
        """,
        {"work": lasts(60)},
        others=[CHILD],
        until="2m",
    )
    assert played.began("last") == [0]
    assert played.length == 1
    assert played.how("work") == ["done"]


def test_a_crash_repeats_no_child_that_is_done() -> None:
    def crash(run: Played) -> None:
        run.bench.crash()

    played = play(
        """
        stepwell: 1
        id: parent
        nodes:
          rounds:
            loop: {for: 3}
            do: {start: {workflow: child, inputs: {n: "{{ loop.index }}"}}}
        result: "{{ rounds.iterations }}"
        """,
        {"work": lasts(2)},
        others=[CHILD],
        then=[("3s", crash)],
    )
    assert [attempt.how for attempt in played.of("work")] == ["done", "in flight", "done", "done"]
    assert played.result == 3
    assert len(played.run.children) == 3
