"""What becomes of a graph that is paused, cancelled, crashed, answered, retried, forked and begun in its middle."""

from __future__ import annotations

from typing import Any

import pytest
from playing import Attempt, Played, breaks, lasts, play

from stepwell.errors import RequestRefused
from stepwell.model.entries import ValueRecorded

DIAMOND = """
stepwell: 1
id: diamond
nodes:
  a: {task: a}
  b: {task: b, needs: a}
  c: {task: c, needs: a}
  d: {task: d, needs: [b, c], inputs: {b: "{{ b }}", c: "{{ c }}"}}
  e: {task: e, needs: d}
"""

TWO_WAITS = """
stepwell: 1
id: two-waits
nodes:
  left: {wait_signal: left}
  after_left: {task: after_left, needs: left}
  right: {wait_signal: right}
  after_right: {task: after_right, needs: right}
  both: {task: both, needs: [after_left, after_right]}
"""

REVIEW = """
stepwell: 1
id: review
nodes:
  write: {task: write}
  other: {task: other}
  ask: {human: "Publish?", needs: write}
  publish: {task: publish, needs: ask, inputs: {how: "{{ ask }}"}}
  sorry: {task: sorry, needs: "ask:error"}
  last: {task: last, needs: [publish, sorry, other]}
"""


def runs_of(played: Played, id: str) -> list[Attempt]:
    return [attempt for attempt in played.attempts if attempt.run == id]


# -- cancelling and pausing -------------------------------------------------------------------------------------------


def test_a_run_that_was_cancelled_has_not_failed_though_an_attempt_in_flight_does() -> None:
    played = play(
        "stepwell: 1\nid: g\nnodes: {a: {task: a}, b: {task: b, needs: a}}",
        {"a": breaks(after=5)},
        then=[("2s", lambda run: run.run.cancel())],
    )
    assert played.status == "cancelled"
    assert played.order == ["a"]


def test_a_cancelled_run_ends_everything_that_is_open_in_it() -> None:
    played = play(
        """
        stepwell: 1
        id: g
        nodes:
          each: {map: [1, 2], do: {act: {task: act}}}
          rounds: {loop: {for: 2}, do: {word: {wait_signal: word}}}
          last: {task: last, needs: [each, rounds]}
        """,
        {"act": lasts(60)},
        then=[("2s", lambda run: run.run.cancel())],
    )
    assert played.status == "cancelled"
    assert played.how("act") == ["cancelled", "cancelled"]
    assert not played.run.waiting_for


def test_an_attempt_is_not_tried_again_after_its_run_was_cancelled() -> None:
    played = play(
        "stepwell: 1\nid: g\nnodes: {a: {task: a, retry: {attempts: 5, first: 10s, jitter: false}}}",
        {"a": breaks()},
        then=[("5s", lambda run: run.run.cancel())],
    )
    assert played.status == "cancelled"
    assert played.times("a") == 1


def test_a_paused_run_begins_nothing_and_goes_on_from_where_it_was() -> None:
    def is_still(run: Played) -> None:
        assert run.order == ["a", "b", "c"]
        assert run.status == "paused"
        run.run.resume()

    played = play(DIAMOND, {"b": lasts(3)}, then=[("2s", lambda run: run.run.pause()), ("1h", is_still)])
    assert played.order == ["a", "b", "c", "d", "e"]
    assert played.began("d") == [3600]


def test_a_run_that_has_ended_does_nothing_when_it_is_resumed() -> None:
    def refused(run: Played) -> None:
        with pytest.raises(RequestRefused):
            run.run.resume()

    played = play(DIAMOND, then=[("1h", refused)])
    assert played.order == ["a", "b", "c", "d", "e"]


# -- waits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("left", "right"), ("right", "left")])
def test_of_two_waits_each_goes_on_by_itself_in_any_order(first: str, second: str) -> None:
    def half(run: Played) -> None:
        assert run.order == [f"after_{first}"]
        assert run.run.waiting_for == (f"signal {second}",)
        run.signal(second)

    played = play(TWO_WAITS, then=[("10s", lambda run: run.signal(first)), ("20s", half)])
    assert played.order == [f"after_{first}", f"after_{second}", "both"]
    assert played.began("both") == [21]


def test_a_wait_is_kept_at_once_while_other_branches_still_run() -> None:
    played = play(
        REVIEW,
        {"other": lasts(60)},
        then=[("5s", lambda run: run.run.answer("loudly"))],
    )
    assert played.began("publish") == [5]
    assert played.inputs("publish") == [{"how": "loudly"}]
    assert played.times("sorry") == 0
    assert played.began("last") == [60]


def test_a_question_that_is_taken_back_leaves_by_its_way_for_errors() -> None:
    played = play(REVIEW, then=[("5s", lambda run: run.run.withdraw())])
    assert played.times("publish") == 0
    assert played.began("sorry") == [5]
    assert played.began("last") == [6]


def test_an_answer_after_a_crash_does_only_what_comes_after_the_question() -> None:
    played = play(
        REVIEW,
        then=[("5s", lambda run: run.bench.crash()), ("9s", lambda run: run.run.answer("softly"))],
    )
    assert sorted(played.order) == ["last", "other", "publish", "write"]
    assert played.began("publish") == [9]


def test_a_wait_in_an_item_holds_up_that_item_only() -> None:
    played = play(
        """
        stepwell: 1
        id: g
        nodes:
          each:
            map: [one, two]
            do:
              ask: {human: "Take {{ item }}?"}
              take: {task: take, needs: ask, inputs: {what: "{{ item }}", answer: "{{ ask }}"}}
          last: {task: last, needs: each}
        """,
        then=[
            ("5s", lambda run: run.run.answer("yes", prompt="two")),
            ("9s", lambda run: run.run.answer("no", prompt="one")),
        ],
    )
    assert played.inputs("take") == [{"what": "two", "answer": "yes"}, {"what": "one", "answer": "no"}]
    assert played.began("take") == [5, 9]
    assert played.began("last") == [10]


# -- answers that are given early -------------------------------------------------------------------------------------


def test_the_first_answer_of_a_run_is_the_one_that_counts() -> None:
    played = play(
        """
        stepwell: 1
        id: g
        nodes:
          quick: {task: quick}
          answer: {respond: "{{ quick }}", needs: quick}
          slow: {task: slow, needs: answer}
          again: {respond: too late, needs: slow}
        """,
        {"slow": breaks(after=9)},
    )
    entries = [stored.entry for stored in played.run.journal]
    answers = [one for one in entries if isinstance(one, ValueRecorded) and one.value == "response"]
    assert [bytes(one.payload) for one in answers] == [b'"quick"']
    assert (answers[0].at - played.run.state.created_at) / 1_000_000 == 1
    assert played.status == "failed"


# -- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [0.5, 1, 1.5, 2.5, 3.5, 4.5, 5.5])
def test_a_crash_at_any_time_repeats_what_was_in_flight_and_nothing_else(second: float) -> None:
    played = play(DIAMOND, {"b": lasts(3)}, then=[(f"{int(second * 1000)}ms", lambda run: run.bench.crash())])
    done = [attempt.task for attempt in played.attempts if attempt.how == "done"]
    assert sorted(done) == ["a", "b", "c", "d", "e"]
    assert len(played.attempts) - len(done) <= 2
    assert played.inputs("d")[-1] == {"b": "b", "c": "c"}
    assert played.status == "completed"


@pytest.mark.parametrize("second", [1, 3, 5, 7, 9, 11])
def test_a_crash_in_loops_and_maps_repeats_no_item_that_is_done(second: int) -> None:
    graph = """
    stepwell: 1
    id: g
    nodes:
      rounds:
        loop: {for: 3}
        do:
          each:
            map: [1, 2, 3]
            concurrency: 2
            do:
              odd: {condition: {"==": [{"%": [{var: item}, 2]}, 1]}, next: {"true": act, "false": skip}}
              act: {task: act, inputs: {n: "{{ item }}"}}
              skip: {noop: {}}
          last: {task: last, needs: each}
    result: "{{ rounds.results }}"
    """
    tasks = {"act": lasts(2, lambda n: n * 10)}
    played = play(graph, tasks, then=[(f"{second}s", lambda run: run.bench.crash())])
    done = [attempt.step for attempt in played.attempts if attempt.how == "done"]
    assert len(done) == len(set(done)) == 9
    assert played.result == ["last", "last", "last"]


# -- retrying ---------------------------------------------------------------------------------------------------------


def retry_at(moment: str) -> tuple[str, Any]:
    return moment, lambda run: run.run.retry()


def test_a_retried_run_goes_on_from_the_node_that_failed() -> None:
    played = play(DIAMOND, {"c": [breaks(), lasts(1)], "b": lasts(3)}, then=[retry_at("1m")])
    assert played.order == ["a", "b", "c", "c", "d", "e"]
    assert played.began("c") == [1, 60]
    assert played.began("d") == [61]
    assert played.status == "completed"


def test_a_retried_run_tries_all_nodes_again_that_had_failed() -> None:
    played = play(DIAMOND, {"c": [breaks(), lasts(1)], "b": [breaks(after=2), lasts(1)]}, then=[retry_at("1m")])
    assert played.began("b") == [1, 60]
    assert played.began("c") == [1, 60]
    assert played.began("d") == [61]


def test_a_retried_run_keeps_the_ways_that_it_has_taken() -> None:
    played = play(
        """
        stepwell: 1
        id: g
        nodes:
          ask: {task: ask}
          way: {condition: "{{ ask }}", needs: ask, next: {"true": a, "false": b}}
          a: {task: a}
          b: {task: b}
          last: {task: last, needs: [a, b]}
        """,
        {"ask": [True, False], "a": [breaks(), lasts(1)]},
        then=[retry_at("1m")],
    )
    assert played.order == ["ask", "a", "a", "last"]
    assert played.skipped == ["b#1"]


def test_a_retried_run_goes_on_inside_the_iteration_and_the_item_that_failed() -> None:
    played = play(
        """
        stepwell: 1
        id: g
        nodes:
          rounds:
            loop: {for: 2}
            do:
              each: {map: [1, 2], do: {act: {task: act, inputs: {n: "{{ item }}"}}}}
          last: {task: last, needs: rounds}
        """,
        {"act": [lasts(1), lasts(1), lasts(1), breaks(), lasts(1)]},
        then=[retry_at("1m")],
    )
    assert [attempt.inputs["n"] for attempt in played.of("act")] == [1, 2, 1, 2, 2]
    assert played.began("act") == [0, 0, 1, 1, 60]
    assert played.began("last") == [61]
    assert played.status == "completed"


# -- beginning again in the middle ------------------------------------------------------------------------------------


def fork_before(step: str) -> Any:
    async def forked(app: Any, id: str) -> None:
        await app.fork(id, before=step, new_id="again")

    return lambda run: run.bench.verb(forked(run.bench.app, run.run.id), None)


@pytest.mark.parametrize(
    ("step", "again"),
    [("a#1", "abcde"), ("b#1", "bcde"), ("c#1", "bcde"), ("d#1", "de"), ("e#1", "e")],
)
def test_a_fork_before_a_node_does_that_node_again_and_what_had_not_been_done_by_then(step: str, again: str) -> None:
    played = play(DIAMOND, {"b": [lasts(1, "old"), lasts(1, "new")]}, then=[("1m", fork_before(step))], until="2m")
    assert "".join(sorted(attempt.task for attempt in runs_of(played, "again"))) == again
    assert played.bench.handle("again").status == "completed"


def test_a_fork_inside_an_iteration_keeps_the_iterations_before_it() -> None:
    played = play(
        """
        stepwell: 1
        id: g
        nodes:
          rounds:
            loop: {for: 3}
            do:
              act: {task: act, inputs: {i: "{{ loop.iteration }}"}}
              then: {task: then, needs: act}
          last: {task: last, needs: rounds, inputs: {all: "{{ rounds.results }}"}}
        """,
        {"then": [1, 2, 3, 20, 30]},
        then=[("1m", fork_before("rounds:2/then#1"))],
        until="2m",
    )
    again = runs_of(played, "again")
    assert [attempt.task for attempt in again] == ["then", "act", "then", "last"]
    assert again[-1].inputs == {"all": [1, 20, 30]}


def test_a_fork_inside_an_item_keeps_the_other_items() -> None:
    played = play(
        """
        stepwell: 1
        id: g
        nodes:
          each: {map: [a, b, c], concurrency: 1, do: {act: {task: act, inputs: {what: "{{ item }}"}}}}
          last: {task: last, needs: each, inputs: {all: "{{ each.results }}"}}
        """,
        {"act": [1, 2, 3, 30]},
        then=[("1m", fork_before("each:3/act#1"))],
        until="2m",
    )
    again = runs_of(played, "again")
    assert [attempt.inputs for attempt in again] == [{"what": "c"}, {"all": [1, 2, 30]}]


def test_a_run_that_is_run_again_does_everything_anew() -> None:
    async def again(app: Any, id: str) -> None:
        await app.rerun(id, new_id="again")

    played = play(
        DIAMOND, then=[("1m", lambda run: run.bench.verb(again(run.bench.app, run.run.id), None))], until="2m"
    )
    assert [attempt.task for attempt in runs_of(played, "again")] == ["a", "b", "c", "d", "e"]
